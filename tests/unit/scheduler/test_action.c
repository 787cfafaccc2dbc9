/* Compiled actions read back, and templates filled in. */
#include <errno.h>
#include <string.h>

#include "scheduler/action.h"
#include "tests/unit/unit.h"

static struct json_span span(const char *text)
{
    return (struct json_span){text, text ? strlen(text) : 0};
}

/* --- reading ------------------------------------------------------------------------------------
 */

START_TEST(every_member)
{
    static const char text[] =
        "{\"command\":[\"a\",\"b "
        "c\"],\"cpu_quota\":150,\"cwd\":\"/tmp\",\"env\":{\"A\":\"1\",\"B\":\"\"},"
        "\"grace_ms\":0,\"group\":\"staff\",\"log_limit\":2048,\"memory_max\":1048576,\"result\":"
        "\"none\","
        "\"retry\":{\"backoff\":1.5,\"exit_codes\":[2,75],\"interval_ms\":1000,\"limit\":3,"
        "\"max_interval_ms\":60000},\"tasks_max\":8,\"timeout_ms\":250,\"user\":\"nobody\"}";
    struct arena arena = {0};
    struct action action;
    ck_assert_int_eq(action_parse(text, &arena, &action, NULL), 0);
    ck_assert(!action.noop);
    ck_assert_str_eq(action.command[1], "b c");
    ck_assert_ptr_null(action.command[2]);
    ck_assert_ptr_null(action.script);
    ck_assert_str_eq(action.cwd, "/tmp");
    ck_assert_int_eq(action.env_count, 2);
    ck_assert_str_eq(action.env[1].name, "B");
    ck_assert_int_eq(action.grace_ms, 0);
    ck_assert_str_eq(action.group, "staff");
    ck_assert_str_eq(action.user, "nobody");
    ck_assert_int_eq(action.log_limit, 2048);
    ck_assert_int_eq(action.limits.cpu_quota, 150);
    ck_assert_int_eq(action.limits.memory_max, 1048576);
    ck_assert_int_eq(action.limits.tasks_max, 8);
    ck_assert_int_eq(action.result, RESULT_NONE);
    ck_assert_int_eq(action.timeout_ms, 250);
    ck_assert_int_eq(action.retry.limit, 3);
    ck_assert(action.retry.backoff == 1.5);
    ck_assert_int_eq(action.retry.interval_ms, 1000);
    ck_assert_int_eq(action.retry.max_interval_ms, 60000);
    ck_assert_int_eq(action.retry.exit_code_count, 2);
    ck_assert_int_eq(action.retry.exit_codes[1], 75);
    arena_done(&arena);
}
END_TEST

START_TEST(defaults)
{
    struct arena arena = {0};
    struct action action;
    ck_assert_int_eq(action_parse("{\"script\":\"x\"}", &arena, &action, NULL), 0);
    ck_assert_str_eq(action.shell[0], "/bin/sh");
    ck_assert_str_eq(action.shell[1], "-e");
    ck_assert_ptr_null(action.shell[2]);
    ck_assert_int_eq(action.grace_ms, 10000);
    ck_assert_int_eq(action.timeout_ms, 0);
    ck_assert_int_eq(action.log_limit, 0);
    ck_assert_int_eq(action.limits.cpu_quota, 0);
    ck_assert_int_eq(action.limits.memory_max, 0);
    ck_assert_int_eq(action.limits.tasks_max, 0);
    ck_assert_int_eq(action.result, RESULT_FD);
    ck_assert_int_eq(action.retry.limit, 0);
    ck_assert_int_eq(action.retry.interval_ms, 10000);
    ck_assert_int_eq(action.retry.max_interval_ms, 3600000);
    ck_assert(action.retry.backoff == 1.0);
    ck_assert_ptr_null(action.retry.exit_codes);
    ck_assert_int_eq(action_parse(NULL, &arena, &action, NULL), 0);
    ck_assert(action.noop);
    arena_done(&arena);
}
END_TEST

START_TEST(malformed)
{
    static const char *const texts[] = {
        "x",
        "[]",
        "{}",
        "{\"command\":[]}",
        "{\"command\":\"ls\"}",
        "{\"command\":[1]}",
        "{\"command\":[\"a\"],\"script\":\"b\"}",
        "{\"script\":1}",
        "{\"script\":\"a\",\"env\":[]}",
        "{\"script\":\"a\",\"env\":{\"A\":1}}",
        "{\"script\":\"a\",\"grace_ms\":-1}",
        "{\"script\":\"a\",\"grace_ms\":\"1\"}",
        "{\"script\":\"a\",\"result\":\"fd4\"}",
        "{\"script\":\"a\",\"retry\":3}",
        "{\"script\":\"a\",\"retry\":{\"backoff\":0}}",
        "{\"script\":\"a\",\"retry\":{\"exit_codes\":[null]}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct arena arena = {0};
        struct action action = {.timeout_ms = 7};
        struct error error = {0};
        ck_assert_msg(action_parse(texts[i], &arena, &action, &error) == -EINVAL, "%s", texts[i]);
        ck_assert_str_ne(error.text, "");
        ck_assert_int_eq(action.timeout_ms, 7); /* unchanged */
        arena_done(&arena);
    }
}
END_TEST

/* --- templates ----------------------------------------------------------------------------------
 */

#define PAYLOAD                                               \
    "{\"day\":\"to\\u00e9\\n\",\"n\":12.50,\"o\":{\"a\":[1, " \
    "\"x\"]},\"e\":\"\",\"t\":true,\"z\":null}"
#define RESULTS                                                                                \
    "{\"A\":{\"c\":1,\"b\":{\"c\":2}},\"A.b\":{\"c\":3},\"N\":null,\"S\":\"text\",\"L\":[10,{" \
    "\"k\":\"v\"}]}"

static const struct row {
    const char *template;
    const char *expected; /* or the name of what is missing */
    bool missing;
} rows[] = {
    {"plain", "plain", false},
    {"{{ payload.day }}", "to\xc3\xa9\n", false},
    {"{{payload.n}}", "12.50", false},
    {"a{{ payload.n }}b{{\tpayload.t }}c", "a12.50btruec", false},
    {"{{ payload.o }}", "{\"a\":[1, \"x\"]}", false},
    {"{{ payload.o.a }} {{ payload.o.a.1 }}", "[1, \"x\"] x", false},
    {"<{{ payload.e }}>{{ payload.z }}", "<>null", false},
    {"{{ results.S }}", "text", false},
    {"{{ results.N }}", "null", false},
    {"{{ results.L.0 }}{{ results.L.1.k }}", "10v", false},
    /* A key with dots goes before a path. */
    {"{{ results.A.c }}", "1", false},
    {"{{ results.A.b.c }}", "3", false},
    {"{{ results.A.b }}", "{\"c\":3}", false},
    /* Not ours. */
    {"{{ payload }}", "{{ payload }}", false},
    {"{{ results }} {{ foo.bar }} {{.Name}} {{", "{{ results }} {{ foo.bar }} {{.Name}} {{", false},
    {"{{ payload.a b }} {{ payload. }} {{ payload.n }",
     "{{ payload.a b }} {{ payload. }} {{ payload.n }", false},
    {"{{{ payload.n }}}", "{12.50}", false},
    {"{{ x {{ payload.n }} }}", "{{ x 12.50 }}", false},
    {"{{ payloads.n }} {{ Payload.n }}", "{{ payloads.n }} {{ Payload.n }}", false},
    /* A value is text, not another template. */
    {"{{ payload.x }}", "payload.x", true},
    {"{{ payload.n.x }}", "payload.n.x", true},
    {"{{ payload.o.a.2 }}", "payload.o.a.2", true},
    {"{{ results.B }}", "results.B", true},
    {"{{ results.A.x }}", "results.A.x", true},
    {"{{ payload.n }} {{ results.S.x }}", "results.S.x", true},
    {"{{ payload..n }}", "payload..n", true},
};

static int expand(const char *template, const char *payload, const char *results,
                  struct arena *arena, const char **text, struct error *error)
{
    const char *command[] = {"echo", template, NULL};
    struct action action = {.command = command};
    struct action_start start = {0};
    int status = action_expand(&action, span(payload), span(results), arena, &start, error);
    if (status == 0) {
        ck_assert_str_eq(start.argv[0], "echo");
        ck_assert_ptr_null(start.argv[2]);
        *text = start.argv[1];
    }
    return status;
}

START_TEST(templates)
{
    const struct row *row = &rows[_i];
    struct arena arena = {0};
    struct error error = {0};
    const char *text = NULL;
    int status = expand(row->template, PAYLOAD, RESULTS, &arena, &text, &error);
    if (row->missing) {
        char *expected = mem_format("{{ %s }} has no value", row->expected);
        ck_assert_msg(status == -ENOENT, "%s: %d %s", row->template, status, text);
        ck_assert_str_eq(error.text, expected);
        free(expected);
    } else {
        ck_assert_msg(status == 0 && strcmp(text, row->expected) == 0, "%s: %s%s", row->template,
                      error.text, text);
    }
    arena_done(&arena);
}
END_TEST

/* Payloads that are no objects, and no results at all. */
START_TEST(other_scopes)
{
    struct arena arena = {0};
    const char *text;
    ck_assert_int_eq(expand("{{ payload.0 }}", "[5]", "{}", &arena, &text, NULL), 0);
    ck_assert_str_eq(text, "5");
    ck_assert_int_eq(expand("{{ payload.a }}", "3", NULL, &arena, &text, NULL), -ENOENT);
    ck_assert_int_eq(expand("{{ payload.a }}", "null", NULL, &arena, &text, NULL), -ENOENT);
    ck_assert_int_eq(expand("{{ results.A }}", "{}", NULL, &arena, &text, NULL), -ENOENT);
    arena_done(&arena);
}
END_TEST

START_TEST(env_cwd_and_script)
{
    static const char text[] =
        "{\"cwd\":\"{{ payload.dir }}/x\",\"env\":{\"A\":\"{{ payload.n }}\"},"
        "\"script\":\"echo {{ payload.n }}\",\"shell\":[\"bash\",\"-e\"]}";
    struct arena arena = {0};
    struct action action;
    struct action_start start;
    struct error error = {0};
    ck_assert_int_eq(action_parse(text, &arena, &action, NULL), 0);
    ck_assert_int_eq(action_expand(&action, span("{\"dir\":\"/srv\",\"n\":1}"), span("{}"), &arena,
                                   &start, &error),
                     0);
    ck_assert_str_eq(start.argv[0], "bash");
    ck_assert_str_eq(start.argv[1], "-e");
    ck_assert_str_eq(start.argv[2], "-c");
    ck_assert_str_eq(start.argv[3], "echo {{ payload.n }}"); /* data never becomes program text */
    ck_assert_ptr_null(start.argv[4]);
    ck_assert_str_eq(start.cwd, "/srv/x");
    ck_assert_int_eq(start.env_count, 1);
    ck_assert_str_eq(start.env[0].name, "A");
    ck_assert_str_eq(start.env[0].value, "1");
    ck_assert_int_eq(action_expand(&action, span("{\"dir\":\"srv\",\"n\":1}"), span("{}"), &arena,
                                   &start, &error),
                     -EINVAL);
    ck_assert_str_eq(error.text, "cwd is 'srv/x': expected an absolute path");
    arena_done(&arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("action");
    TCase *tests = tcase_create("action");
    tcase_add_test(tests, every_member);
    tcase_add_test(tests, defaults);
    tcase_add_test(tests, malformed);
    tcase_add_loop_test(tests, templates, 0, sizeof rows / sizeof *rows);
    tcase_add_test(tests, other_scopes);
    tcase_add_test(tests, env_cwd_and_script);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
