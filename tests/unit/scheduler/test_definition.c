/* Workflow files in, compiled definitions or errors out. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "scheduler/action.h"
#include "scheduler/definition_load.h"
#include "tests/unit/unit.h"

static struct definition_set *load_files(const char *const *texts, int count,
                                         const struct definition_set *previous)
{
    struct definition_file files[4] = {0};
    static char names[4][8] = {"w/a.yml", "w/b.yml", "w/c.yml", "w/d.yml"};
    int used = 0;
    for (int i = 0; i < count; i++)
        if (texts[i])
            files[used++] = (struct definition_file){
                .name = names[i], .text = (char *)(uintptr_t)texts[i], .size = strlen(texts[i])};
    return definitions_load_files(files, used, &definition_limits_default, previous);
}

static struct definition_set *load(const char *text)
{
    return load_files(&text, 1, NULL);
}

static void print_problems(const struct definition_problem *problems, int count, struct buffer *out)
{
    char text[DEFINITION_PROBLEM_TEXT_SIZE];
    for (int i = 0; i < count; i++) {
        definition_problem_format(&problems[i], text);
        buffer_printf(out, "%s%s", i ? "\n" : "", text);
    }
}

/* `A B@queue:A G:A,B !success:H` */
static void print_tasks(const struct definition *definition, struct buffer *out)
{
    for (int i = 0; i < definition->task_count; i++) {
        static const char *const roles[] = {"", "!success:", "!failure:"};
        const struct definition_task *task = &definition->tasks[i];
        buffer_printf(out, "%s%s%s", i ? " " : "", roles[task->role], task->key);
        if (strcmp(task->queue, "default") != 0)
            buffer_printf(out, "@%s", task->queue);
        for (int k = 0; k < task->previous_count; k++)
            buffer_printf(out, "%c%s", k ? ',' : ':', definition->tasks[task->previous[k]].key);
    }
}

/* --- tasks ------------------------------------------------------------------------------------ */

#define LIBRARY \
    "tasks: {A: {noop: true}, B: {noop: true}, C: {noop: true}, D: {noop: true, queue: qd}}\n"

static const struct order {
    const char *workflow;
    const char *expected;
} orders[] = {
    {"tasks: []", ""},
    {"tasks: [A, B, C]", "A B:A C:B"},
    {"tasks: [A, A, B]", "A A:A B:A"},
    {"tasks: [A, G: {type: group, tasks: [B, C]}, A]", "A B:A C:A A:B,C"},
    {"tasks: [G: {type: group, tasks: [A, B]}, H: {type: group, tasks: [C, A]}]",
     "A B C:A,B A:A,B"},
    {"tasks: [G: {type: group, tasks: [H: {type: chain, tasks: [A, B]}, C]}]", "A B:A C"},
    {"tasks: [A, B, C: {depends_on: [A]}]", "A B:A C:A"},
    {"tasks: [A, X: {task: B, depends_on: []}, Y: {task: B, depends_on: [X, A]}]", "A X Y:X,A"},
    {"tasks: [X: {depends_on: [G], task: A}, G: {type: group, depends_on: [], tasks: [B, C]}]",
     "B C X:B,C"},
    {"tasks: [X: {command: [ls]}]", "X"},
    /* Queues: the task's own, the one of customs, the workflow's. */
    {"{tasks: [A, B], queue: q}", "A@q B@q:A"},
    {"{tasks: [A, B, D], queue: {default: q, customs: {B: r, D: s}}}", "A@q B@r:A D@qd:B"},
    {"{tasks: [A, B], queue: {customs: {B: r}}}", "A B@r:A"},
    {"{tasks: [X: {task: D, queue: x}]}", "X@x"},
    /* Hooks. */
    {"{tasks: [A], hooks: {failure: B, success: A}, queue: {customs: {B: r}}}",
     "A !success:A !failure:B@r"},
    {"{tasks: [], hooks: {failure: D}}", "!failure:D@qd"},
};

START_TEST(execution_order)
{
    const struct order *row = &orders[_i];
    char *text = mem_format("%sx.y: %s%s%s", LIBRARY, row->workflow[0] == '{' ? "" : "{",
                            row->workflow, row->workflow[0] == '{' ? "" : "}");
    struct definition_set *set = load(text);
    struct buffer out = {0};
    print_problems(set->errors, set->error_count, &out);
    if (set->definition_count)
        print_tasks(set->definitions[0], &out);
    ck_assert_msg(strcmp(buffer_text(&out), row->expected) == 0, "%s\n     got: %s\nexpected: %s",
                  row->workflow, buffer_text(&out), row->expected);
    buffer_done(&out);
    definition_set_free(set);
    free(text);
}
END_TEST

/* --- actions -----------------------------------------------------------------------------------
 */

static const struct compiled {
    const char *keys; /* of the item X */
    const char *expected;
} actions[] = {
    {"{command: [echo, 1, true, 1.50, a b, '']}",
     "{\"command\":[\"echo\",\"1\",\"true\",\"1.50\",\"a b\",\"\"]}"},
    {"{script: 'exit 2', shell: [bash, -eu]}",
     "{\"script\":\"exit 2\",\"shell\":[\"bash\",\"-eu\"]}"},
    {"{noop: true}", NULL},
    {"{command: [a], env: {B: 1, A: x}, cwd: /tmp, grace: 1.5s, log_limit: 2048, result: stdout}",
     "{\"command\":[\"a\"],\"cwd\":\"/tmp\",\"env\":{\"A\":\"x\",\"B\":\"1\"},\"grace_ms\":1500,"
     "\"log_limit\":2048,\"result\":\"stdout\"}"},
    {"{command: [a], grace: 10s, result: fd}", "{\"command\":[\"a\"]}"},
    {"{command: [a], user: www-data, group: 33, log_limit: 64KiB, memory_max: 1GiB, cpu_quota: "
     "50%, "
     "tasks_max: 20}",
     "{\"command\":[\"a\"],\"cpu_quota\":50,\"group\":\"33\",\"log_limit\":65536,"
     "\"memory_max\":1073741824,\"tasks_max\":20,\"user\":\"www-data\"}"},
    {"{command: [a], memory_max: 2097152, cpu_quota: '250%'}",
     "{\"command\":[\"a\"],\"cpu_quota\":250,\"memory_max\":2097152}"},
    {"{command: [a], cwd: '{{ payload.dir }}'}",
     "{\"command\":[\"a\"],\"cwd\":\"{{ payload.dir }}\"}"},
    /* What a task's own keys change of the library's. */
    {"{task: L}", "{\"env\":{\"A\":\"1\"},\"script\":\"a\",\"shell\":[\"sh\"]}"},
    {"{task: L, env: {B: 2}}", "{\"env\":{\"B\":\"2\"},\"script\":\"a\",\"shell\":[\"sh\"]}"},
    {"{task: L, script: b}", "{\"env\":{\"A\":\"1\"},\"script\":\"b\",\"shell\":[\"sh\"]}"},
    {"{task: L, command: [b]}", "{\"command\":[\"b\"],\"env\":{\"A\":\"1\"}}"},
    {"{task: L, noop: true}", NULL},
};

START_TEST(compiled_actions)
{
    const struct compiled *row = &actions[_i];
    char *text = mem_format(
        "tasks: {L: {script: a, shell: [sh], env: {A: 1}}}\nx.y: {tasks: [X: %s]}", row->keys);
    struct definition_set *set = load(text);
    ck_assert_msg(set->error_count == 0, "%s: %s", row->keys,
                  set->error_count ? set->errors[0].text : "");
    const char *action = set->definitions[0]->tasks[0].action;
    ck_assert_pstr_eq(action, row->expected);
    struct arena arena = {0};
    struct action parsed;
    ck_assert_int_eq(action_parse(action, &arena, &parsed, NULL), 0);
    ck_assert_int_eq(parsed.noop, row->expected == NULL);
    arena_done(&arena);
    definition_set_free(set);
    free(text);
}
END_TEST

/* --- schedules ---------------------------------------------------------------------------------
 */

static const struct periodic {
    const char *periodic;
    const char *identities;
    const char *warnings;
} periodics[] = {
    {"{interval: 90}", "interval:90s", ""},
    {"{interval: 1m30s}", "interval:90s", ""},
    {"{interval: 0.5}", "interval:500ms", ""},
    {"{crontab: '0 3 * * *'}", "crontab:0 3 * * * UTC", ""},
    {"{crontab: '0 3 * * mon', timezone: Europe/Paris}", "crontab:0 3 * * 1 Europe/Paris", ""},
    {"{crontab: '@daily', name: nightly}", "nightly", ""},
    {"[{interval: 5}, {crontab: '@hourly'}, {interval: 5, name: other}]",
     "interval:5s crontab:0 * * * * UTC other", ""},
    {"{schedule: 60}", "interval:60s",
     "w/a.yml:2:29: 'schedule' is the old spelling: write 'interval: 60' instead"},
    {"{schedule: '0 3 1 * *'}", "crontab:0 3 * * 1 UTC",
     "w/a.yml:2:29: 'schedule' is the old spelling: write 'crontab: \"0 3 * * 1\"' instead"},
    {"{crontab: '0 0 1 * 1'}", "crontab:0 0 1 * 1 UTC",
     "w/a.yml:2:38: both day fields are restricted, and a day that matches either is enough: write "
     "'day_match: any' if that is meant, 'day_match: all' if both must match"},
    {"{crontab: '0 0 1 * 1', day_match: any}", "crontab:0 0 1 * 1 UTC", ""},
    {"{crontab: '0 0 1 * 1', day_match: all}", "crontab:0 0 1 * 1 UTC", ""},
    {"{interval: 5, timezone: UTC}", "interval:5s",
     "w/a.yml:2:42: 'timezone' means nothing to an interval, which follows elapsed time"},
};

START_TEST(schedules)
{
    const struct periodic *row = &periodics[_i];
    char *text = mem_format("%sx.y: {tasks: [], periodic: %s}", LIBRARY, row->periodic);
    struct definition_set *set = load(text);
    struct buffer out = {0};
    struct buffer warnings = {0};
    print_problems(set->errors, set->error_count, &out);
    print_problems(set->warnings, set->warning_count, &warnings);
    for (int i = 0; set->definition_count && i < set->definitions[0]->schedule_count; i++)
        buffer_printf(&out, "%s%s", i ? " " : "", set->definitions[0]->schedules[i].identity);
    ck_assert_msg(strcmp(buffer_text(&out), row->identities) == 0, "%s: %s", row->periodic,
                  buffer_text(&out));
    ck_assert_str_eq(buffer_text(&warnings), row->warnings);
    buffer_done(&warnings);
    buffer_done(&out);
    definition_set_free(set);
    free(text);
}
END_TEST

/* Every key of a workflow, to the field. */
START_TEST(all_keys)
{
    struct definition_set *set =
        load("tasks: {A: {command: [ls]}}\n"
             "\n"
             "shop.etl.daily:\n"
             "  tasks: [A]\n"
             "  periodic:\n"
             "    - {interval: 1h, jitter: 30s, catchup: all, catchup_window: 2d, payload: {b: "
             "1.0, a: [x]},\n"
             "       start_at: 2026-01-01T00:00:00Z, end_at: \"2026-02-01T00:00:00+01:00\"}\n"
             "    - {crontab: '0 3 * * *', timezone: Europe/Paris, catchup: none}\n"
             "  concurrency: {limit: 2, overlap: replace}\n"
             "  retention: {offset: 100}\n"
             "  description: Loads\n"
             "  labels: {team: shop, cost: 12}\n");
    struct buffer out = {0};
    print_problems(set->errors, set->error_count, &out);
    ck_assert_str_eq(buffer_text(&out), "");
    const struct definition *definition = definition_set_find(set, "shop.etl.daily");
    ck_assert_str_eq(definition->project, "shop");
    ck_assert_str_eq(definition->name, "etl.daily");
    ck_assert_str_eq(definition->file, "w/a.yml");
    ck_assert_int_eq(definition->line, 3);
    ck_assert_int_eq(definition->concurrency_limit, 2);
    ck_assert_int_eq(definition->overlap, OVERLAP_REPLACE);
    ck_assert_int_eq(definition->retention_offset, 100);
    ck_assert_str_eq(definition->description, "Loads");
    ck_assert_str_eq(definition->labels, "{\"cost\":\"12\",\"team\":\"shop\"}");

    const struct definition_schedule *first = &definition->schedules[0];
    ck_assert_int_eq(definition->schedule_count, 2);
    ck_assert_str_eq(first->payload, "{\"b\":1.0,\"a\":[\"x\"]}");
    ck_assert_int_eq(first->jitter_us, 30 * US_PER_SECOND);
    ck_assert_int_eq(first->catchup, CATCHUP_ALL);
    ck_assert_int_eq(first->catchup_window_us, 48 * 3600 * US_PER_SECOND);
    ck_assert_int_eq(first->trigger.start_us, 1767225600 * US_PER_SECOND);
    ck_assert_int_eq(first->trigger.end_us, 1769900400 * US_PER_SECOND);
    ck_assert_str_eq(definition->schedules[1].payload, "{}");
    ck_assert_int_eq(definition->schedules[1].catchup, CATCHUP_NONE);

    for (int i = 0; i < definition->document_count; i++)
        buffer_printf(&out, "%s=%s\n", definition->document[i].key, definition->document[i].value);
    ck_assert_str_eq(
        buffer_text(&out),
        "concurrency={\"limit\":2,\"overlap\":\"replace\"}\n"
        "description=\"Loads\"\n"
        "labels={\"cost\":12,\"team\":\"shop\"}\n"
        "periodic=[{\"catchup\":\"all\",\"catchup_window\":\"2d\","
        "\"end_at\":\"2026-02-01T00:00:00+01:00\",\"interval\":\"1h\",\"jitter\":\"30s\","
        "\"payload\":{\"a\":[\"x\"],\"b\":1.0},\"start_at\":\"2026-01-01T00:00:00Z\"},"
        "{\"catchup\":\"none\",\"crontab\":\"0 3 * * *\",\"timezone\":\"Europe/Paris\"}]\n"
        "retention={\"offset\":100}\n"
        "tasks=[\"A\"]\n");
    buffer_done(&out);
    definition_set_free(set);
}
END_TEST

START_TEST(defaults)
{
    struct definition_set *set = load("x.y: {tasks: [], concurrency: {}}\nx.z: {tasks: []}");
    ck_assert_int_eq(set->definition_count, 2);
    ck_assert_int_eq(set->definitions[0]->concurrency_limit, 1);
    ck_assert_int_eq(set->definitions[0]->overlap, OVERLAP_QUEUE);
    ck_assert_int_eq(set->definitions[1]->concurrency_limit, 0);
    ck_assert_int_eq(set->definitions[1]->retention_offset, RETENTION_DEFAULT);
    ck_assert_int_eq(set->definitions[1]->task_count, 0);
    ck_assert_ptr_null(set->definitions[1]->description);
    ck_assert_int_eq(definition_hook(set->definitions[1], TASK_HOOK_FAILURE), -1);
    definition_set_free(set);
}
END_TEST

/* --- errors ------------------------------------------------------------------------------------
 */

static const struct wrong {
    const char *text;
    const char *errors;
} wrongs[] = {
    {"[]", "w/a.yml:1:1: the file is a list: expected a mapping of workflows, and 'tasks'"},
    {"task: {}",
     "w/a.yml:1:1: unknown key 'task': expected a workflow's name, project.name, or 'tasks'"},
    {"x.: {tasks: []}", "w/a.yml:1:1: the workflow 'x.' has half a name: expected project.name"},
    {"x.a b: {tasks: []}", "w/a.yml:1:1: a workflow's name is 'x.a b': expected a name of letters, "
                           "digits, '_', '.' and '-'"},
    {"x.y: [A]", "w/a.yml:1:6: 'x.y' is a list: expected a mapping"},
    {"x.y: {}", "w/a.yml:1:1: the workflow has no 'tasks': expected a list, [] for none"},
    {"x.y: {tasks: A}",
     "w/a.yml:1:14: 'tasks' is text: expected a list of tasks, groups and chains"},
    {"x.y: {tasks: [], retension: 1}",
     "w/a.yml:1:18: unknown key 'retension' in 'x.y' (did you mean 'retention'?): expected "
     "concurrency, description, "
     "hooks, labels, periodic, queue, retention, schema, tasks or timeout"},
    {"tasks: {LOAD: {noop: true}}\nx.y: {tasks: [LAOD]}",
     "w/a.yml:2:15: unknown task 'LAOD' (did you mean 'LOAD'?): expected one of the task library"},
    {"x.y: {tasks: [{A: {task: B}}, [C], {D: 1}, {E: {noop: true}, F: {}}]}",
     "w/a.yml:1:26: unknown task 'B': expected one of the task library\n"
     "w/a.yml:1:31: an item is a list: expected the name of a task or NAME: {…}\n"
     "w/a.yml:1:40: the item 'D' is a number: expected a mapping such as {type: group, tasks: "
     "[…]}\n"
     "w/a.yml:1:62: a second key 'F' in the item 'E': expected one name, its keys indented below "
     "it"},
    {"x.y: {tasks: [{G: {type: group, tasks: []}}, {H: {type: chain}}, {I: {type: grup}}]}",
     "w/a.yml:1:40: the group 'G' is empty: expected a list with something in it\n"
     "w/a.yml:1:47: the chain 'H' has no 'tasks': expected a list\n"
     "w/a.yml:1:77: 'type' is 'grup' (did you mean 'group'?): expected group or chain"},
    {"x.y: {tasks: [{A: {noop: true, depends_on: [B]}}, {B: {noop: true}}]}",
     "w/a.yml:1:16: the tasks wait for each other: A → B → A"},
    {"x.y: {tasks: [{A: {noop: true}}, {A: {noop: true}}, {B: {noop: true, depends_on: [A, AB, "
     "B]}}]}",
     "w/a.yml:1:83: 'A' stands 2 times in the workflow: expected a name that stands once, since it "
     "could mean either\n"
     "w/a.yml:1:86: unknown item 'AB' in 'depends_on': expected one of this workflow\n"
     "w/a.yml:1:90: 'B' depends on itself: expected other items"},
    /* Actions. */
    {"tasks: {A: {}}", "w/a.yml:1:12: the task 'A' says nothing to run: expected 'command', "
                       "'script' or 'noop: true'"},
    {"tasks: {A: {command: ls}}", "w/a.yml:1:22: 'command' is text: expected a list of arguments "
                                  "such as [ls, -l], or 'script' for a shell"},
    {"tasks: {A: {command: [ls], script: x}}",
     "w/a.yml:1:13: both 'command' and 'script': expected one of them"},
    {"tasks: {A: {noop: false, cwd: tmp}}",
     "w/a.yml:1:19: 'noop' is not true: expected true, or leave it out\n"
     "w/a.yml:1:26: 'cwd' means nothing to a noop: expected one or the other\n"
     "w/a.yml:1:31: 'cwd' is 'tmp': expected an absolute path"},
    {"tasks: {A: {command: [ls, ~, [], 010], env: [x]}}",
     "w/a.yml:1:27: an argument is nothing: expected text\n"
     "w/a.yml:1:30: an argument is a list: expected text\n"
     "w/a.yml:1:34: '010' begins with a zero, which some read as octal: quote it, or write it "
     "without the zero\n"
     "w/a.yml:1:45: 'env' is a list: expected a mapping such as {LC_ALL: C}"},
    {"tasks: {A: {script: ' ', env: {'A=B': 1, DIRECTOR_NODE: 1}, log_limit: 5}}",
     "w/a.yml:1:21: 'script' is empty: expected text for the shell\n"
     "w/a.yml:1:32: 'A=B' is no name of a variable: expected letters, digits and '_'\n"
     "w/a.yml:1:42: 'DIRECTOR_NODE' is set by the daemon: expected another name\n"
     "w/a.yml:1:72: 'log_limit' is 5: expected a size from 1KiB to 64MiB"},
    {"tasks: {A: {command: [a], user: '', memory_max: 1MB, cpu_quota: 50, tasks_max: 0}}",
     "w/a.yml:1:33: 'user' is empty: expected text\n"
     "w/a.yml:1:49: 'memory_max' is 1MB: expected a size from 1MiB to 1048576GiB\n"
     "w/a.yml:1:65: 'cpu_quota' is 50: expected a percentage from 1% to 100000%\n"
     "w/a.yml:1:80: 'tasks_max' is 0: expected a whole number from 1 to 4194304"},
    {"tasks: {A: {command: [a], group: [], memory_max: 5k, cpu_quota: 0%, tasks_max: many}}",
     "w/a.yml:1:34: 'group' is a list: expected text\n"
     "w/a.yml:1:50: 'memory_max' is 5k: expected a size from 1MiB to 1048576GiB\n"
     "w/a.yml:1:65: 'cpu_quota' is 0%: expected a percentage from 1% to 100000%\n"
     "w/a.yml:1:80: 'tasks_max' is many: expected a whole number from 1 to 4194304"},
    {"tasks: {A: {noop: true, user: root, memory_max: 1MiB}}",
     "w/a.yml:1:25: 'user' means nothing to a noop: expected one or the other\n"
     "w/a.yml:1:37: 'memory_max' means nothing to a noop: expected one or the other"},
    {"tasks: {A: {noop: true, queue: [q]}}\nx.y: {tasks: [A], queue: {customs: {A: [r]}}}",
     "w/a.yml:1:32: 'queue' is a list: expected text\n"
     "w/a.yml:2:40: a queue's name is a list: expected text"},
    /* Periodic. */
    {"x.y: {tasks: [], periodic: {}}",
     "w/a.yml:1:28: no trigger in 'periodic': expected 'interval' or 'crontab'"},
    {"x.y: {tasks: [], periodic: {crontab: '0 0 30 2 *'}}",
     "w/a.yml:1:38: never fires: none of its months has such a day of month"},
    {"x.y: {tasks: [], periodic: {crontab: '@daily', timezone: Europe/Pari}}",
     "w/a.yml:1:58: unknown time zone 'Europe/Pari' (did you mean 'Europe/Paris'?)"},
    {"x.y: {tasks: [], periodic: {interval: 5, crontab: '@daily', payload: 3}}",
     "w/a.yml:1:42: both 'interval' and 'crontab': expected one of them\n"
     "w/a.yml:1:70: 'payload' is a number: expected a mapping"},
    {"x.y: {tasks: [], periodic: [{interval: 60}, {interval: 1m}]}",
     "w/a.yml:1:45: the schedule 'interval:60s' stands in line 1 already: expected a 'name' that "
     "tells them apart"},
    {"x.y: {tasks: [], periodic: {interval: 5, payload: {a: .inf}}}",
     "w/a.yml:1:55: JSON has no number '.inf': leave it out or quote it"},
    {"x.y: {tasks: [], periodic: {interval: 5, start_at: 2026-02-01T00:00:00Z, end_at: "
     "2026-01-01T00:00:00Z}}",
     "w/a.yml:1:82: end_at '2026-01-01T00:00:00Z' is before start_at '2026-02-01T00:00:00Z'"},
    /* Words without a deed. */
    {"x.y: {tasks: [], timeout: 5m, schema: x, deadline: 1}",
     "w/a.yml:1:31: 'schema' is not supported yet\n"
     "w/a.yml:1:42: 'deadline' is not supported yet"},
    {"tasks: {A: {noop: true, when: x}}\nx.y: {tasks: [{B: {type: approval}}, {C: {type: "
     "workflow}}]}",
     "w/a.yml:1:25: 'when' is not supported yet\n"
     "w/a.yml:2:26: type 'approval' is not supported yet\n"
     "w/a.yml:2:49: type 'workflow' is not supported yet"},
};

START_TEST(wrong_files)
{
    const struct wrong *row = &wrongs[_i];
    struct definition_set *set = load(row->text);
    struct buffer out = {0};
    print_problems(set->errors, set->error_count, &out);
    ck_assert_msg(strcmp(buffer_text(&out), row->errors) == 0, "%s\n     got: %s\nexpected: %s",
                  row->text, buffer_text(&out), row->errors);
    ck_assert_int_eq(set->definition_count, 0);
    ck_assert_int_eq(set->files[0].state, DEFINITION_FILE_LEFT_OUT);
    ck_assert_int_eq(set->files[0].error_count, set->error_count);
    buffer_done(&out);
    definition_set_free(set);
}
END_TEST

/* Nobody reads ten thousand errors, and they are not kept either. */
START_TEST(many_errors)
{
    struct buffer text = {0};
    for (int i = 0; i < 5000; i++)
        buffer_printf(&text, "x.w%d: {tasks: [A%d]}\n", i, i);
    struct definition_set *set = load(buffer_text(&text));
    ck_assert_int_eq(set->error_count, 101);
    ck_assert_str_eq(set->errors[100].text, "4900 more errors");
    buffer_done(&text);
    definition_set_free(set);
}
END_TEST

/* --- several files -------------------------------------------------------------------------------
 */

static const struct together {
    const char *files[3];
    const char *definitions; /* loaded */
    const char *errors;
} togethers[] = {
    {{"tasks: {A: {noop: true}}", "x.y: {tasks: [A]}"}, "x.y", ""},
    {{"x.y: {tasks: [A]}", "tasks: {A: {noop: true}}\nx.z: {tasks: []}"}, "x.y x.z", ""},
    {{"x.y: {tasks: []}", "x.y: {tasks: []}\nx.z: {tasks: []}"},
     "x.y",
     "w/b.yml:1:1: the workflow 'x.y' is defined in w/a.yml:1:1 too: expected one definition"},
    {{"tasks: {A: {noop: true}}\nx.y: {tasks: [A]}", "tasks: {A: {noop: true}}"},
     "x.y",
     "w/b.yml:1:9: the task 'A' is defined in w/a.yml:1:9 too: expected one definition"},
    {{"tasks: {A: {noop: 1}}", "x.y: {tasks: [A]}", "x.z: {tasks: []}"},
     "x.z",
     "w/a.yml:1:19: 'noop' is not true: expected true, or leave it out\n"
     "w/b.yml:1:15: the task 'A' is defined in w/a.yml, which has errors: expected a file without"},
    /* From file to file. */
    {{"tasks: {A: {noop: true}}\nx.y: {tasks: [B]}", "tasks: {B: {noop: true}}\nx.z: {tasks: [C]}",
      "tasks: {C: {noop: true}}\nx.w: {tasks: [], foo: 1}"},
     "",
     "w/a.yml:2:15: the task 'B' is defined in w/b.yml, which has errors: expected a file without\n"
     "w/b.yml:2:15: the task 'C' is defined in w/c.yml, which has errors: expected a file without\n"
     "w/c.yml:2:18: unknown key 'foo' in 'x.w': expected concurrency, description, hooks, labels, "
     "periodic, queue, retention, schema, tasks or timeout"},
    {{"x: [", "x.y: {tasks: [A]}"},
     "",
     "w/a.yml:2:1: not valid YAML: while parsing a flow node, did not find expected node content\n"
     "w/b.yml:1:15: unknown task 'A': expected one of the task library (w/a.yml, which may have "
     "it, could not be read)"},
};

static void print_names(const struct definition_set *set, struct buffer *out)
{
    for (int i = 0; i < set->definition_count; i++)
        buffer_printf(out, "%s%s", i ? " " : "", set->definitions[i]->fullname);
}

static void check_set(const struct definition_set *set, const char *definitions, const char *errors)
{
    struct buffer out = {0};
    print_problems(set->errors, set->error_count, &out);
    ck_assert_str_eq(buffer_text(&out), errors);
    buffer_clear(&out);
    print_names(set, &out);
    ck_assert_str_eq(buffer_text(&out), definitions);
    buffer_done(&out);
}

START_TEST(several_files)
{
    const struct together *row = &togethers[_i];
    struct definition_set *set = load_files(row->files, 3, NULL);
    check_set(set, row->definitions, row->errors);
    definition_set_free(set);
}
END_TEST

/* What a file with errors had loaded before stays, as the very same definitions. */
START_TEST(kept_definitions)
{
    const char *before[] = {"tasks: {A: {noop: true}}\nx.a: {tasks: [A]}", "x.b: {tasks: [A]}",
                            "x.c: {tasks: []}"};
    const char *after[] = {"x.a: {tasks: [A]", "x.b: {tasks: [A, A]}", "x.c: {tasks: []}"};
    struct definition_set *old = load_files(before, 3, NULL);
    struct definition_set *new = load_files(after, 3, old);
    ck_assert_int_eq(new->definition_count, 3);
    ck_assert_ptr_eq(new->definitions[0], old->definitions[0]);
    ck_assert_ptr_eq(new->definitions[1], old->definitions[1]);
    ck_assert_ptr_ne(new->definitions[2], old->definitions[2]);
    ck_assert_int_eq(new->files[0].state, DEFINITION_FILE_KEPT);
    ck_assert_int_eq(new->files[1].state, DEFINITION_FILE_KEPT);
    ck_assert_int_eq(new->files[2].state, DEFINITION_FILE_LOADED);
    definition_set_free(old);
    ck_assert_str_eq(new->definitions[0]->tasks[0].key, "A");
    definition_set_free(new);
}
END_TEST

START_TEST(removed_file)
{
    const char *before[] = {"x.a: {tasks: []}", "x.b: {tasks: []}"};
    const char *after[] = {NULL, "x.b: {"};
    struct definition_set *old = load_files(before, 2, NULL);
    struct definition_set *new = load_files(after, 2, old);
    check_set(new, "x.b",
              "w/b.yml:2:1: not valid YAML: while parsing a flow node, did not find expected node "
              "content");
    definition_set_free(new);
    definition_set_free(old);
}
END_TEST

/* Of two files with one name the newcomer is at fault, wherever it stands. */
START_TEST(newcomers)
{
    const char *before[] = {NULL, "x.b: {tasks: []}"};
    const char *clash[] = {"x.b: {tasks: []}", "x.b: {tasks: []}"};
    const char *broken[] = {"x.b: {tasks: []}", "x.b: {tasks: 1}\n", "x.c: {tasks: []}"};
    const char *no_yaml[] = {"x.b: {tasks: []}", "x.b: {", "x.c: {tasks: []}"};
    struct definition_set *old = load_files(before, 2, NULL);
    struct definition_set *new = load_files(clash, 2, old);
    check_set(
        new, "x.b",
        "w/a.yml:1:1: the workflow 'x.b' is defined in w/b.yml:1:1 too: expected one definition");
    ck_assert_str_eq(new->definitions[0]->file, "w/b.yml");
    definition_set_free(new);

    new = load_files(broken, 3, old);
    check_set(
        new, "x.b x.c",
        "w/a.yml:1:1: the workflow 'x.b' is defined in w/b.yml:1:1 too: expected one definition\n"
        "w/b.yml:1:14: 'tasks' is a number: expected a list of tasks, groups and chains");
    definition_set_free(new);

    new = load_files(no_yaml, 3, old);
    check_set(new, "x.b x.c",
              "w/a.yml:1:1: the workflow 'x.b' is defined in w/b.yml:1 too, which has errors and "
              "keeps its last "
              "good version: expected one definition\n"
              "w/b.yml:2:1: not valid YAML: while parsing a flow node, did not find expected node "
              "content");
    ck_assert_ptr_eq(new->definitions[0], old->definitions[0]);
    definition_set_free(new);
    definition_set_free(old);
}
END_TEST

/* --- robustness ----------------------------------------------------------------------------------
 */

static const char sample[] =
    "tasks:\n"
    "  A: &a {command: [\"a\", 'b'], env: {X: \"1\"}, grace: 1h30m}\n"
    "  B: {<<: *a, result: none}\n"
    "  C: {script: |\n"
    "    echo \"\xc3\xa9\"\n"
    "    }\n"
    "x.y:\n"
    "  tasks:\n"
    "    - A\n"
    "    - G: {type: group, tasks: [A, {H: {type: chain, tasks: [B, A]}}]}\n"
    "    - Z: {task: B, depends_on: [G, H]}\n"
    "  periodic: [{crontab: \"*/5 0-3 * jan mon\", timezone: Europe/Paris, payload: {a: [1, {b: "
    "~}]}}]\n"
    "  queue: {default: q, customs: {Z: r}}\n"
    "  hooks: {success: A, failure: B}\n"
    "  labels: {a: b}\n";

/* A file cut anywhere loads or does not, and never harms. */
START_TEST(every_prefix)
{
    for (size_t size = 0; size < sizeof sample; size++) {
        /* In memory of just that size, so that reading past it is seen. */
        struct definition_file file = {
            .name = (char[]){"w/a.yml"}, .text = mem_text_n(sample, size), .size = size};
        struct definition_set *set =
            definitions_load_files(&file, 1, &definition_limits_default, NULL);
        ck_assert(set->error_count > 0 || set->files[0].state == DEFINITION_FILE_LOADED);
        definition_set_free(set);
        free(file.text);
    }
}
END_TEST

/* Small files that stand for much: each is refused or small, in no time. */
START_TEST(bombs)
{
    static const struct {
        const char *head, *each, *tail;
        int count;
        const char *error;
    } cases[] = {
        {"x.y: ", "[", "", 20000, "nested deeper than 32 levels"},
        {"x.y: {tasks: [", "&a A, *a, ", "]}", 20000, "39900 more errors"},
        {"tasks: {A: {noop: true}}\nx.y: {tasks: [", "A, ", "]}", 49000, NULL},
    };
    struct buffer text = {0};
    buffer_add_text(&text, cases[_i].head);
    for (int i = 0; i < cases[_i].count; i++)
        buffer_add_text(&text, cases[_i].each);
    buffer_add_text(&text, cases[_i].tail);
    struct definition_set *set = load(buffer_text(&text));
    if (cases[_i].error)
        ck_assert_str_eq(set->errors[set->error_count - 1].text, cases[_i].error);
    else
        ck_assert_int_eq(set->definitions[0]->task_count, cases[_i].count);
    definition_set_free(set);
    buffer_done(&text);
}
END_TEST

/* A script of 100 KiB named 1,000 times would be 100 MB of stored actions. */
START_TEST(large_actions)
{
    struct buffer text = {0};
    buffer_add_text(&text, "tasks: {A: {script: '");
    for (int i = 0; i < 10000; i++)
        buffer_add_text(&text, "echo hello");
    buffer_add_text(&text, "'}}\nx.y: {tasks: [");
    for (int i = 0; i < 1000; i++)
        buffer_add_text(&text, "A, ");
    buffer_add_text(&text, "]}");
    struct definition_set *set = load(buffer_text(&text));
    ck_assert_int_eq(set->error_count, 1);
    ck_assert_str_eq(set->errors[0].text, "the actions of all tasks in the file are larger than 32 "
                                          "MiB: expected fewer or shorter ones");
    definition_set_free(set);
    buffer_done(&text);
}
END_TEST

/* --- the directory ---------------------------------------------------------------------------- */

static void write_file(const char *dir, const char *name, const char *text)
{
    char *path = mem_format("%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    free(path);
}

static void remove_dir(const char *dir, const char *const *names)
{
    for (; *names; names++) {
        char *path = mem_format("%s/%s", dir, *names);
        remove(path);
        free(path);
    }
    ck_assert_int_eq(rmdir(dir), 0);
}

START_TEST(directory)
{
    static const char *const names[] = {"b.yml", "a.yaml", ".hidden.yml", "c.yml.bak",
                                        "d.yml", "e.yml",  NULL};
    char dir[] = "/tmp/directord-definitions-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    write_file(dir, names[0], "x.b: {tasks: []}");
    write_file(dir, names[1], "x.a: {tasks: []}");
    write_file(dir, names[2], "nonsense");
    write_file(dir, names[3], "nonsense");
    write_file(dir, names[4], "x.d: {tasks: []}    # this one is too long");
    char *fifo = mem_format("%s/%s", dir, names[5]);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    free(fifo);

    struct definition_limits limits = definition_limits_default;
    limits.max_bytes = 20;
    char *given = mem_format("%s//", dir);
    struct definition_set *set = definitions_load(given, &limits, NULL, NULL);
    const char *base = strrchr(dir, '/') + 1;
    char *errors =
        mem_format("%s/d.yml: is larger than 20 bytes\n%s/e.yml: is no regular file", base, base);
    check_set(set, "x.a x.b", errors);
    ck_assert_int_eq(set->file_count, 4);
    free(errors);
    free(given);
    definition_set_free(set);
    remove_dir(dir, names);
}
END_TEST

START_TEST(no_directory)
{
    struct error error = {0};
    ck_assert_ptr_null(
        definitions_load("/nonexistent/w", &definition_limits_default, NULL, &error));
    ck_assert_str_eq(error.text,
                     "cannot read the directory '/nonexistent/w': No such file or directory");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("definition");
    TCase *tests = tcase_create("definition");
    tcase_add_loop_test(tests, execution_order, 0, sizeof orders / sizeof *orders);
    tcase_add_loop_test(tests, compiled_actions, 0, sizeof actions / sizeof *actions);
    tcase_add_loop_test(tests, schedules, 0, sizeof periodics / sizeof *periodics);
    tcase_add_test(tests, all_keys);
    tcase_add_test(tests, defaults);
    tcase_add_loop_test(tests, wrong_files, 0, sizeof wrongs / sizeof *wrongs);
    tcase_add_test(tests, many_errors);
    tcase_add_loop_test(tests, several_files, 0, sizeof togethers / sizeof *togethers);
    tcase_add_test(tests, kept_definitions);
    tcase_add_test(tests, removed_file);
    tcase_add_test(tests, newcomers);
    tcase_add_test(tests, every_prefix);
    tcase_add_loop_test(tests, bombs, 0, 3);
    tcase_add_test(tests, large_actions);
    tcase_add_test(tests, directory);
    tcase_add_test(tests, no_directory);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
