#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/settings.h"
#include "tests/unit/unit.h"

#define STATE "STATE_DIRECTORY=/var/lib/state:/var/lib/other"

/* Loads from one assignment in the environment, or from none. */
static int load_one(const char *assignment, struct settings *settings, struct error *error)
{
    const char *environment[] = {STATE, assignment, NULL};
    return settings_load(NULL, environment, settings, error);
}

/* Loads from a file with this text, and the environment. */
static int load_file(const char *text, const char *const environment[], struct settings *settings,
                     struct error *error)
{
    char path[] = "/tmp/test_settings.XXXXXX";
    int fd = mkstemp(path);
    ck_assert(fd >= 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    int code = settings_load(path, environment, settings, error);
    unlink(path);
    return code;
}

START_TEST(defaults_are_the_documented_ones)
{
    struct settings settings;
    struct error error = {0};
    ck_assert_msg(load_one(NULL, &settings, &error) == 0, "%s", error.text);
    ck_assert_str_eq(settings.database_uri, "");
    ck_assert_str_eq(settings.state_dir, "/var/lib/state");
    ck_assert_str_eq(settings.listen.items[0], "127.0.0.1:8000");
    ck_assert_ptr_null(settings.listen.items[1]);
    ck_assert_int_eq(settings.concurrency, 4 * (int)uv_available_parallelism());
    ck_assert_int_eq(settings.default_retention_offset, -1);
    ck_assert_int_eq(settings.fires_retention_ms, INT64_C(30) * 24 * 3600 * 1000);
    ck_assert_uint_eq(settings.max_body, 1024 * 1024);
    ck_assert_int_eq(settings.idle_timeout_ms, 75000);
    ck_assert_int_eq(settings.log_level, LOG_LEVEL_INFO);
    ck_assert_int_eq(settings.log_format, LOG_FORMAT_LOGFMT);
    ck_assert_uint_eq(settings.warnings.count, 0);
    settings_done(&settings);
}
END_TEST

/* However the directory is written, it is the same one after a restart. */
START_TEST(workflows_dir_in_one_spelling)
{
    static const struct {
        const char *written, *read;
    } rows[] = {
        {"/etc/wf", "/etc/wf"},
        {"/etc/wf/", "/etc/wf"},
        {"//etc///wf//", "/etc/wf"},
        {"/etc/./wf/.", "/etc/wf"},
        {"/etc/x/../wf", "/etc/x/../wf"},
        {"/etc/.wf", "/etc/.wf"},
        {".", "/tmp"},
        {"wf", "/tmp/wf"},
        {"./wf/", "/tmp/wf"},
        {"/", "/"},
    };
    char before[4096];
    ck_assert_ptr_nonnull(getcwd(before, sizeof before));
    ck_assert_int_eq(chdir("/tmp"), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct settings settings;
        struct error error = {0};
        char assignment[100];
        snprintf(assignment, sizeof assignment, "DIRECTOR_WORKFLOWS_DIR=%s", rows[i].written);
        ck_assert_msg(load_one(assignment, &settings, &error) == 0, "%s", error.text);
        ck_assert_msg(strcmp(settings.workflows_dir, rows[i].read) == 0, "%s: %s", rows[i].written,
                      settings.workflows_dir);
        settings_done(&settings);
    }
    ck_assert_int_eq(chdir(before), 0);
}
END_TEST

START_TEST(values_are_read)
{
    static const struct {
        const char *assignment;
        int64_t concurrency, grace_ms, max_body;
        enum log_level level;
    } rows[] = {
        {"DIRECTOR_CONCURRENCY=7", 7, 30000, 1 << 20, LOG_LEVEL_INFO},
        {"DIRECTOR_SHUTDOWN_GRACE=1m30s", 0, 90000, 1 << 20, LOG_LEVEL_INFO},
        {"DIRECTOR_SHUTDOWN_GRACE=0", 0, 0, 1 << 20, LOG_LEVEL_INFO},
        {"DIRECTOR_SHUTDOWN_GRACE=", 0, 30000, 1 << 20, LOG_LEVEL_INFO},
        {"DIRECTOR_CONCURRENCY=", 0, 30000, 1 << 20, LOG_LEVEL_INFO},
        {"DIRECTOR_MAX_BODY=4096", 0, 30000, 4096, LOG_LEVEL_INFO},
        {"DIRECTOR_MAX_BODY=64K", 0, 30000, 65536, LOG_LEVEL_INFO},
        {"DIRECTOR_MAX_BODY=2mib", 0, 30000, 2 << 20, LOG_LEVEL_INFO},
        {"DIRECTOR_LOG_LEVEL=Debug", 0, 30000, 1 << 20, LOG_LEVEL_DEBUG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct settings settings;
        struct error error = {0};
        ck_assert_msg(load_one(rows[i].assignment, &settings, &error) == 0, "%s: %s",
                      rows[i].assignment, error.text);
        int64_t concurrency =
            rows[i].concurrency > 0 ? rows[i].concurrency : 4 * (int)uv_available_parallelism();
        ck_assert_msg(settings.concurrency == concurrency &&
                          settings.shutdown_grace_ms == rows[i].grace_ms &&
                          (int64_t)settings.max_body == rows[i].max_body &&
                          settings.log_level == rows[i].level,
                      "row %zu: %s", i, rows[i].assignment);
        settings_done(&settings);
    }
}
END_TEST

START_TEST(what_is_wrong_is_said)
{
    static const struct {
        const char *assignment;
        const char *expected;
    } rows[] = {
        {"DIRECTOR_CONCURENCY=4", "environment: unknown setting DIRECTOR_CONCURENCY "
                                  "(did you mean DIRECTOR_CONCURRENCY?)"},
        {"DIRECTOR_MY_URL=x",
         "environment: unknown setting DIRECTOR_MY_URL (directord --help lists "
         "them; what tasks shall see is set with DIRECTOR_TASK_ENV_NAME)"},
        {"DIRECTOR_CONCURRENCY=many",
         "environment: DIRECTOR_CONCURRENCY: expected 1 to 10000, not 'many'"},
        {"DIRECTOR_CONCURRENCY=0",
         "environment: DIRECTOR_CONCURRENCY: expected 1 to 10000, not '0'"},
        {"DIRECTOR_CONCURRENCY=4x",
         "environment: DIRECTOR_CONCURRENCY: expected 1 to 10000, not '4x'"},
        {"DIRECTOR_CONCURRENCY=99999999999999999999",
         "environment: DIRECTOR_CONCURRENCY: expected 1 to 10000, not '99999999999999999999'"},
        {"DIRECTOR_MAX_BODY=1MB",
         "environment: DIRECTOR_MAX_BODY: expected 1KiB to 256MiB, not '1MB'"},
        {"DIRECTOR_MAX_INPUT=65MiB",
         "environment: DIRECTOR_MAX_INPUT: expected 1KiB to 64MiB, not '65MiB'"},
        {"DIRECTOR_MAX_BODY=9999999999GiB",
         "environment: DIRECTOR_MAX_BODY: expected 1KiB to 256MiB, not '9999999999GiB'"},
        {"DIRECTOR_HEAD_TIMEOUT=-1s",
         "environment: DIRECTOR_HEAD_TIMEOUT: expected 100ms to 1h, not '-1s'"},
        {"DIRECTOR_LOG_LEVEL=loud",
         "environment: DIRECTOR_LOG_LEVEL: expected debug, info, warning "
         "or error, not 'loud'"},
        {"DIRECTOR_AUTH_ENABLED=maybe",
         "environment: DIRECTOR_AUTH_ENABLED: expected true or false, not 'maybe'"},
        {"DIRECTOR_LISTEN=:80,,:81", "environment: DIRECTOR_LISTEN: ':80,,:81' has an empty entry"},
        {"DIRECTOR_LISTEN=127.0.0.1:80,localhost:8000",
         "DIRECTOR_LISTEN: localhost:8000: expected ADDRESS:PORT (such as 127.0.0.1:8000), "
         "[IPv6]:PORT or unix:/PATH"},
        {"DIRECTOR_SOCKET_MODE=1777",
         "environment: DIRECTOR_SOCKET_MODE: expected 0000 to 0777, not '1777'"},
        {"DIRECTOR_SOCKET_MODE=0690",
         "environment: DIRECTOR_SOCKET_MODE: expected 0000 to 0777, not '0690'"},
        {"DIRECTOR_LEASE=10s", "DIRECTOR_LEASE must be at least three times DIRECTOR_HEARTBEAT"},
        {"DIRECTOR_QUERY_TIMEOUT=30s",
         "DIRECTOR_QUERY_TIMEOUT must be shorter than DIRECTOR_LEASE"},
        {"DIRECTOR_TASK_ENV_=x", "environment: DIRECTOR_TASK_ENV_: expected the name of a variable "
                                 "after DIRECTOR_TASK_ENV_"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct settings settings;
        struct error error = {0};
        ck_assert_msg(load_one(rows[i].assignment, &settings, &error) == -EINVAL,
                      "row %zu was taken: %s", i, rows[i].assignment);
        ck_assert_msg(strcmp(error.text, rows[i].expected) == 0,
                      "row %zu:\nexpected %s\nfound    %s", i, rows[i].expected, error.text);
    }
}
END_TEST

START_TEST(lists_are_split_at_commas)
{
    struct settings settings;
    struct error error = {0};
    ck_assert_int_eq(load_one("DIRECTOR_LISTEN= [::1]:80 ,unix:/run/a b.sock", &settings, &error),
                     0);
    ck_assert_uint_eq(settings.listen.count, 2);
    ck_assert_str_eq(settings.listen.items[0], "[::1]:80");
    ck_assert_str_eq(settings.listen.items[1], "unix:/run/a b.sock");
    ck_assert_ptr_null(settings.listen.items[2]);
    settings_done(&settings);
}
END_TEST

START_TEST(environment_wins_over_the_file)
{
    const char *environment[] = {STATE, "DIRECTOR_QUEUES=a,b",
                                 "DIRECTOR_TASK_ENV_X=from environment", NULL};
    struct settings settings;
    struct error error = {0};
    int code = load_file("DIRECTOR_QUEUES=c\nDIRECTOR_MAX_BATCH=10\n"
                         "DIRECTOR_TASK_ENV_X=from file\nDIRECTOR_TASK_ENV_Y='y y'\n",
                         environment, &settings, &error);
    ck_assert_msg(code == 0, "%s", error.text);
    ck_assert_uint_eq(settings.queues.count, 2);
    ck_assert_str_eq(settings.queues.items[0], "a");
    ck_assert_int_eq(settings.max_batch, 10);
    ck_assert_uint_eq(settings.task_env.count, 2);
    ck_assert_str_eq(settings.task_env.items[0], "X=from environment");
    ck_assert_str_eq(settings.task_env.items[1], "Y=y y");
    settings_done(&settings);
}
END_TEST

START_TEST(an_error_in_the_file_names_its_line)
{
    const char *environment[] = {STATE, NULL};
    struct settings settings;
    struct error error = {0};
    ck_assert_int_eq(load_file("\n# x\nDIRECTOR_LISTN=:80\n", environment, &settings, &error),
                     -EINVAL);
    ck_assert_ptr_nonnull(
        strstr(error.text, ":3: unknown setting DIRECTOR_LISTN (did you mean DIRECTOR_LISTEN?)"));
}
END_TEST

START_TEST(names_of_others_only_warn)
{
    const char *environment[] = {STATE, "DIRECTOR_BROKER_URI=redis://h", "PATH=/bin", NULL};
    struct settings settings;
    struct error error = {0};
    int code = load_file("DIRECTOR_WORKFLOW_ID=1\nPYTHONPATH=x\n", environment, &settings, &error);
    ck_assert_msg(code == 0, "%s", error.text);
    ck_assert_uint_eq(settings.warnings.count, 3);
    ck_assert_str_eq(settings.warnings.items[0],
                     "DIRECTOR_WORKFLOW_ID is set for tasks, by the daemon");
    ck_assert_str_eq(settings.warnings.items[1],
                     "PYTHONPATH in the settings file is not ours, and ignored");
    ck_assert_str_eq(settings.warnings.items[2],
                     "DIRECTOR_BROKER_URI is not needed: tasks are queued in the database");
    settings_done(&settings);
}
END_TEST

START_TEST(a_reload_takes_what_may_change)
{
    const char *before[] = {STATE, NULL};
    const char *after[] = {STATE, "DIRECTOR_SHUTDOWN_GRACE=5s", "DIRECTOR_LISTEN=127.0.0.1:1",
                           NULL};
    struct settings settings, fresh;
    struct error error = {0};
    ck_assert_int_eq(settings_load(NULL, before, &settings, &error), 0);
    ck_assert_int_eq(settings_load(NULL, after, &fresh, &error), 0);
    settings_reload(&settings, &fresh);
    ck_assert_int_eq(settings.shutdown_grace_ms, 5000);
    ck_assert_str_eq(settings.listen.items[0], "127.0.0.1:8000");
    ck_assert_uint_eq(fresh.warnings.count, 1);
    ck_assert_str_eq(fresh.warnings.items[0],
                     "DIRECTOR_LISTEN has changed and waits for a restart");
    settings_done(&settings);
    settings_done(&fresh);
}
END_TEST

/* Every default that `--help` shows can be written as it stands there. */
START_TEST(help_shows_lines_that_can_be_used)
{
    char *help;
    size_t size;
    FILE *out = open_memstream(&help, &size);
    settings_help(out);
    fclose(out);
    char *kept = mem_new(1, size + 1);
    for (char *line = strtok(help, "\n"); line; line = strtok(NULL, "\n")) {
        ck_assert_msg(strlen(line) <= 80 || line[0] == 'D', "too long: %s", line);
        if (line[0] == 'D')
            strcat(strcat(kept, line), "\n");
    }
    const char *environment[] = {STATE, NULL};
    struct settings settings;
    struct error error = {0};
    ck_assert_msg(load_file(kept, environment, &settings, &error) == 0, "%s", error.text);
    settings_done(&settings);
    free(kept);
    free(help);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settings");
    TCase *tests = tcase_create("settings");
    tcase_add_test(tests, defaults_are_the_documented_ones);
    tcase_add_test(tests, workflows_dir_in_one_spelling);
    tcase_add_test(tests, values_are_read);
    tcase_add_test(tests, what_is_wrong_is_said);
    tcase_add_test(tests, lists_are_split_at_commas);
    tcase_add_test(tests, environment_wins_over_the_file);
    tcase_add_test(tests, an_error_in_the_file_names_its_line);
    tcase_add_test(tests, names_of_others_only_warn);
    tcase_add_test(tests, a_reload_takes_what_may_change);
    tcase_add_test(tests, help_shows_lines_that_can_be_used);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
