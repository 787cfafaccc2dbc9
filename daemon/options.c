#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>

#include "base/text.h"
#include "daemon/exit_status.h"
#include "daemon/settings.h"

enum { OPTION_CONFIG = 256, OPTION_CHECK, OPTION_NEXT, OPTION_HELP, OPTION_VERSION };

static const struct option long_options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG}, {"check", no_argument, NULL, OPTION_CHECK},
    {"next", no_argument, NULL, OPTION_NEXT},           {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},     {NULL, 0, NULL, 0},
};
enum { OPTIONS = sizeof long_options / sizeof long_options[0] - 1 };

static int refuse_long(const char *given, struct error *error)
{
    const char *names[OPTIONS];
    for (int i = 0; i < OPTIONS; i++)
        names[i] = long_options[i].name;
    const char *nearest = text_nearest(given + strspn(given, "-"), names, OPTIONS);
    if (nearest)
        return error_set(error, -EINVAL, "unknown option %.100s (did you mean --%s?)", given,
                         nearest);
    return error_set(error, -EINVAL, "unknown option %.100s (directord --help lists them)", given);
}

/* We have no short options; getopt_long takes `-xy` apart and says the letter. */
static int refuse_unknown(const char *given, struct error *error)
{
    if (optopt == 0 || optopt > UCHAR_MAX)
        return refuse_long(given, error);
    return error_set(error, -EINVAL, "unknown option -%c (directord --help lists them)", optopt);
}

/* getopt has taken everything up to the first word that is no option; this is the rest. */
static int take_rest(int count, char *rest[], struct options *options, struct error *error)
{
    switch (options->action) {
    case OPTIONS_NEXT:
        options->next_arguments = rest;
        options->next_count = count;
        return 0;
    case OPTIONS_CHECK:
        if (count > 1)
            return error_set(error, -EINVAL, "--check takes one directory, not also '%.100s'",
                             rest[1]);
        options->check_dir = rest[0];
        return 0;
    default:
        if (count > 0)
            return error_set(error, -EINVAL, "unexpected argument '%.100s'", rest[0]);
        return 0;
    }
}

static int set_action(struct options *options, enum options_action action, struct error *error)
{
    if (options->action != OPTIONS_RUN && options->action != action)
        return error_set(error, -EINVAL, "only one of --check, --next, --help and --version");
    options->action = action;
    return 0;
}

static int take_option(int option, char *argv[], struct options *options, struct error *error)
{
    switch (option) {
    case OPTION_CONFIG:
        options->config = optarg;
        return 0;
    case OPTION_CHECK:
        return set_action(options, OPTIONS_CHECK, error);
    case OPTION_NEXT:
        return set_action(options, OPTIONS_NEXT, error);
    case OPTION_HELP:
        return set_action(options, OPTIONS_HELP, error);
    case OPTION_VERSION:
        return set_action(options, OPTIONS_VERSION, error);
    case ':':
        return error_set(error, -EINVAL, "%.100s needs a value", argv[optind - 1]);
    default:
        return refuse_unknown(argv[optind - 1], error);
    }
}

int options_parse(int argc, char *argv[], struct options *options, struct error *error)
{
    struct options parsed = {0};
    int code = 0, option;
    optind = 0; /* glibc: start anew */
    while (code == 0 && parsed.action != OPTIONS_NEXT &&
           (option = getopt_long(argc, argv, "+:", long_options, NULL)) != -1)
        code = take_option(option, argv, &parsed, error);
    if (code == 0)
        code = take_rest(argc - optind, argv + optind, &parsed, error);
    if (code == 0)
        *options = parsed;
    return code;
}

void options_help(FILE *out)
{
    fprintf(out,
            "Usage: directord [--config FILE]\n"
            "       directord [--config FILE] --check [DIR]\n"
            "       directord --next …\n"
            "\n"
            "Runs the workflows that are defined in a directory of YAML files, in PostgreSQL.\n"
            "\n"
            "  --config FILE  read settings from FILE; the environment wins over it\n"
            "  --check [DIR]  check the definitions in DIR, print what is wrong with them or one\n"
            "                 line for each, and exit with 1 or 0; needs no database\n"
            "  --next …       print when a schedule fires next; `--next --help` says how\n"
            "  --help         print this text\n"
            "  --version      print the version\n"
            "\n"
            "Exit status:\n"
            "  %3d  stopped as asked, or --check found nothing wrong\n"
            "  %3d  --check found errors, or something broke that should not break\n"
            "  %3d  the command line was not understood\n"
            "  %3d  not now: a port or the state directory is in use, PostgreSQL does not start\n"
            "  %3d  not before somebody changes something: a setting, a password, a directory\n"
            "\n"
            "Settings, with their defaults, from the environment or from FILE:\n"
            "\n",
            EXIT_STATUS_OK, EXIT_STATUS_FAILURE, EXIT_STATUS_USAGE, EXIT_STATUS_UNAVAILABLE,
            EXIT_STATUS_CONFIG);
    settings_help(out);
}
