#include <errno.h>
#include <string.h>

#include "daemon/options.h"
#include "tests/unit/unit.h"

enum { MOST = 6 };

static int parse(const char *const arguments[MOST], struct options *options, struct error *error)
{
    static char name[] = "directord", *argv[MOST + 2];
    int argc = 1;
    argv[0] = name;
    while (argc <= MOST && arguments[argc - 1]) {
        argv[argc] = (char *)arguments[argc - 1]; /* getopt only moves the pointers */
        argc++;
    }
    argv[argc] = NULL;
    return options_parse(argc, argv, options, error);
}

START_TEST(understands)
{
    static const struct {
        const char *arguments[MOST];
        enum options_action action;
        const char *config, *check_dir;
        int next_count;
    } rows[] = {
        {{NULL}, OPTIONS_RUN, NULL, NULL, 0},
        {{"--config", "a"}, OPTIONS_RUN, "a", NULL, 0},
        {{"--config=a"}, OPTIONS_RUN, "a", NULL, 0},
        {{"--check"}, OPTIONS_CHECK, NULL, NULL, 0},
        {{"--check", "d"}, OPTIONS_CHECK, NULL, "d", 0},
        {{"--config=a", "--check", "d"}, OPTIONS_CHECK, "a", "d", 0},
        {{"--check", "--", "-d"}, OPTIONS_CHECK, NULL, "-d", 0},
        {{"--next", "* * * * *", "--count", "3"}, OPTIONS_NEXT, NULL, NULL, 3},
        {{"--next", "--help"}, OPTIONS_NEXT, NULL, NULL, 1},
        {{"--help"}, OPTIONS_HELP, NULL, NULL, 0},
        {{"--version"}, OPTIONS_VERSION, NULL, NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct options options;
        struct error error = {0};
        ck_assert_msg(parse(rows[i].arguments, &options, &error) == 0, "row %zu: %s", i,
                      error.text);
        ck_assert_msg(options.action == rows[i].action && options.next_count == rows[i].next_count,
                      "row %zu", i);
        ck_assert_pstr_eq(options.config, rows[i].config);
        ck_assert_pstr_eq(options.check_dir, rows[i].check_dir);
    }
}
END_TEST

START_TEST(refuses)
{
    static const struct {
        const char *arguments[MOST];
        const char *expected;
    } rows[] = {
        {{"--confg", "a"}, "unknown option --confg (did you mean --config?)"},
        {{"-x"}, "unknown option -x (directord --help lists them)"},
        {{"-xy", "z"}, "unknown option -x (directord --help lists them)"},
        {{"--config"}, "--config needs a value"},
        {{"serve"}, "unexpected argument 'serve'"},
        {{"--check", "a", "b"}, "--check takes one directory, not also 'b'"},
        {{"--check", "--version"}, "only one of --check, --next, --help and --version"},
        {{"--help=x"}, "unknown option --help=x (did you mean --help?)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct options options;
        struct error error = {0};
        ck_assert_msg(parse(rows[i].arguments, &options, &error) == -EINVAL, "row %zu was taken",
                      i);
        ck_assert_msg(strcmp(error.text, rows[i].expected) == 0, "row %zu: found %s", i,
                      error.text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tests = tcase_create("options");
    tcase_add_test(tests, understands);
    tcase_add_test(tests, refuses);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
