/* directord: reads the command line and the settings, then does the one thing that was asked for.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "daemon/settings.h"
#include "scheduler/definition_load.h"
#include "scheduler/next.h"

/* What goes wrong before the log is set up is for whoever typed the command, or for the journal. */
static enum exit_status complain(enum exit_status status, const struct error *error)
{
    fprintf(stderr, "directord: %s\n", error->text);
    return status;
}

static enum exit_status run(struct settings *settings, const char *config)
{
    log_start(settings->log_level, settings->log_format);
    for (size_t i = 0; i < settings->warnings.count; i++)
        log_warning("setting without effect", log_text("reason", settings->warnings.items[i]));
    return daemon_run(settings, config);
}

static enum exit_status check(const struct settings *settings, const char *dir)
{
    return definitions_check(dir ? dir : settings->workflows_dir, &settings->file_limits) == 0
               ? EXIT_STATUS_OK
               : EXIT_STATUS_FAILURE;
}

static enum exit_status load_and_act(const struct options *options)
{
    struct settings settings;
    struct error error = {0};
    if (settings_load(options->config, (const char *const *)environ, &settings, &error) < 0)
        return complain(EXIT_STATUS_CONFIG, &error);
    enum exit_status status = options->action == OPTIONS_CHECK
                                  ? check(&settings, options->check_dir)
                                  : run(&settings, options->config);
    settings_done(&settings);
    return status;
}

int main(int argc, char *argv[])
{
    struct options options;
    struct error error = {0};
    if (options_parse(argc, argv, &options, &error) < 0)
        return complain(EXIT_STATUS_USAGE, &error);

    switch (options.action) {
    case OPTIONS_HELP:
        options_help(stdout);
        return EXIT_STATUS_OK;
    case OPTIONS_VERSION:
        puts("directord " DIRECTORD_VERSION);
        return EXIT_STATUS_OK;
    case OPTIONS_NEXT:
        return next_print(options.next_count, options.next_arguments, stdout, stderr);
    case OPTIONS_CHECK:
    case OPTIONS_RUN:
        return load_and_act(&options);
    }
    return EXIT_STATUS_FAILURE;
}
