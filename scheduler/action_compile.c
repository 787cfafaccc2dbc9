#include "scheduler/action_compile.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/action.h"
#include "scheduler/yaml_json.h"
#include "scheduler/yaml_read.h"

const char *const action_keys[] = {"command", "cpu_quota", "cwd",        "env",   "grace",
                                   "group",   "log_limit", "memory_max", "noop",  "queue",
                                   "result",  "retry",     "script",     "shell", "tasks_max",
                                   "timeout", "user",      NULL};

/* The kernel's bound for one argument or variable (MAX_ARG_STRLEN), less the NUL at its end. */
#define MAX_ARGUMENT (128 * 1024 - 1)
/* What is kept of a log is held in memory while the task runs. */
#define MIN_LOG_LIMIT 1024
#define MAX_LOG_LIMIT INT64_C(67108864) /* 64 MiB */
/* Less than this holds hardly a shell; more than that no machine. */
#define MIN_MEMORY (INT64_C(1) << 20)
#define MAX_MEMORY (INT64_C(1) << 50)
#define MAX_CPU_PERCENT 100000
#define MAX_TASKS 4194304 /* the kernel's PID_MAX_LIMIT */
#define MAX_RETRIES 10000
#define MAX_BACKOFF 1000

/* Writes a value's member, key and all, or nothing when the value is wrong or its default. */
typedef void (*member_writer)(struct json_writer *writer, const char *member,
                              const struct yaml_node *node, struct report *report);

static const char *read_argument(const struct yaml_node *node, const char *what,
                                 struct report *report)
{
    const char *text = read_text(report, node, what);
    if (text && strlen(text) > MAX_ARGUMENT) {
        report_error(report, node,
                     "%s is longer than 128 KiB, the most that a program can be given", what);
        return NULL;
    }
    return text;
}

static void write_strings(struct json_writer *writer, const char *member,
                          const struct yaml_node *node, const char *what, struct report *report)
{
    if (!read_list(report, node, what))
        return;
    json_key(writer, member);
    json_begin_array(writer);
    for (int i = 0; i < node->count; i++) {
        const char *text = read_argument(node->items[i], i ? "an argument" : what, report);
        if (text && i == 0 && *text == '\0')
            report_error(report, node->items[i], "%s begins with an empty text: expected a program",
                         what);
        json_string(writer, text ? text : "");
    }
    json_end_array(writer);
}

static void write_command(struct json_writer *writer, const char *member,
                          const struct yaml_node *node, struct report *report)
{
    if (node->kind == YAML_TEXT)
        report_error(report, node,
                     "'command' is text: expected a list of arguments such as [ls, -l], or "
                     "'script' for a shell");
    else
        write_strings(writer, member, node, "'command'", report);
}

static void write_shell(struct json_writer *writer, const char *member,
                        const struct yaml_node *node, struct report *report)
{
    write_strings(writer, member, node, "'shell'", report);
}

static void write_script(struct json_writer *writer, const char *member,
                         const struct yaml_node *node, struct report *report)
{
    const char *text = read_argument(node, "'script'", report);
    if (text && text[strspn(text, " \t\r\n")] == '\0')
        report_error(report, node, "'script' is empty: expected text for the shell");
    else if (text)
        json_key_string(writer, member, text);
}

static void write_path(struct json_writer *writer, const char *member, const struct yaml_node *node,
                       struct report *report)
{
    const char *text = read_some_text(report, node, "'cwd'");
    if (text && *text != '/' && strncmp(text, "{{", 2) != 0)
        report_error(report, node, "'cwd' is '%s': expected an absolute path", text);
    else if (text)
        json_key_string(writer, member, text);
}

static void write_identity(struct json_writer *writer, const char *member,
                           const struct yaml_node *node, struct report *report)
{
    const char *text =
        read_some_text(report, node, strcmp(member, "user") == 0 ? "'user'" : "'group'");
    if (text)
        json_key_string(writer, member, text);
}

static void write_duration_ms(struct json_writer *writer, const char *member,
                              const struct yaml_node *node, const char *what, int64_t normally_ms,
                              struct report *report)
{
    int64_t us;
    if (!read_duration(report, node, what, &us))
        return;
    int64_t ms = us / 1000 + (us % 1000 != 0);
    if (ms != normally_ms)
        json_key_int(writer, member, ms);
}

static void write_grace(struct json_writer *writer, const char *member,
                        const struct yaml_node *node, struct report *report)
{
    write_duration_ms(writer, member, node, "'grace'", ACTION_GRACE_MS, report);
}

static void write_timeout(struct json_writer *writer, const char *member,
                          const struct yaml_node *node, struct report *report)
{
    int64_t us;
    if (!read_duration(report, node, "'timeout'", &us))
        return;
    if (us == 0)
        report_error(report, node, "'timeout' is 0: expected more, or leave it out for none");
    else
        json_key_int(writer, member, us / 1000 + (us % 1000 != 0));
}

static void write_log_limit(struct json_writer *writer, const char *member,
                            const struct yaml_node *node, struct report *report)
{
    int64_t limit;
    if (read_size(report, node, "'log_limit'", MIN_LOG_LIMIT, MAX_LOG_LIMIT, &limit))
        json_key_int(writer, member, limit);
}

static void write_memory_max(struct json_writer *writer, const char *member,
                             const struct yaml_node *node, struct report *report)
{
    int64_t bytes;
    if (read_size(report, node, "'memory_max'", MIN_MEMORY, MAX_MEMORY, &bytes))
        json_key_int(writer, member, bytes);
}

static void write_cpu_quota(struct json_writer *writer, const char *member,
                            const struct yaml_node *node, struct report *report)
{
    int64_t percent;
    if (read_percentage(report, node, "'cpu_quota'", MAX_CPU_PERCENT, &percent))
        json_key_int(writer, member, percent);
}

static void write_tasks_max(struct json_writer *writer, const char *member,
                            const struct yaml_node *node, struct report *report)
{
    int64_t count;
    if (read_integer(report, node, "'tasks_max'", 1, MAX_TASKS, &count))
        json_key_int(writer, member, count);
}

static void write_result(struct json_writer *writer, const char *member,
                         const struct yaml_node *node, struct report *report)
{
    static const char *const words[] = {"fd", "stdout", "none", NULL};
    int choice = read_choice(report, node, "'result'", words);
    if (choice > 0)
        json_key_string(writer, member, words[choice]);
}

/* --- env -------------------------------------------------------------------------------------- */

static bool is_variable_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    return *name != '\0' && !(*name >= '0' && *name <= '9') && name[strspn(name, letters)] == '\0';
}

/* What every task gets from the daemon cannot be had otherwise. */
static bool is_ours(const char *name)
{
    static const char *const ours[] = {
        "DIRECTOR_ATTEMPT",  "DIRECTOR_NODE",         "DIRECTOR_PROJECT",
        "DIRECTOR_RESULT",   "DIRECTOR_SCHEDULED_AT", "DIRECTOR_TASK_ID",
        "DIRECTOR_TASK_KEY", "DIRECTOR_WORKFLOW",     "DIRECTOR_WORKFLOW_ID"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i]) == 0)
            return true;
    return false;
}

static void check_variable(const struct yaml_node *key, struct report *report)
{
    if (!is_variable_name(key->text))
        report_error(report, key, "'%s' is no name of a variable: expected letters, digits and '_'",
                     key->text);
    else if (is_ours(key->text))
        report_error(report, key, "'%s' is set by the daemon: expected another name", key->text);
}

static void write_env(struct json_writer *writer, const char *member, const struct yaml_node *node,
                      struct report *report)
{
    if (node->kind != YAML_MAPPING) {
        report_error(report, node, "'env' is %s: expected a mapping such as {LC_ALL: C}",
                     yaml_kind_text(node->kind));
        return;
    }
    struct yaml_pair *pairs = yaml_pairs_sorted(node);
    json_key(writer, member);
    json_begin_object(writer);
    for (int i = 0; i < node->count; i++) {
        check_variable(pairs[i].key, report);
        const char *text = read_argument(pairs[i].value, "a variable's value", report);
        json_key_string(writer, pairs[i].key->text, text ? text : "");
    }
    json_end_object(writer);
    free(pairs);
}

/* --- retry ------------------------------------------------------------------------------------ */

static void write_exit_codes(struct json_writer *writer, const struct yaml_node *node,
                             struct report *report)
{
    if (!read_list(report, node, "'exit_codes'"))
        return;
    json_key(writer, "exit_codes");
    json_begin_array(writer);
    for (int i = 0; i < node->count; i++) {
        int64_t code;
        if (read_integer(report, node->items[i], "an exit code", 1, 255, &code))
            json_int(writer, code);
    }
    json_end_array(writer);
}

static void write_retry_limit(struct json_writer *writer, const struct yaml_node *node,
                              struct report *report)
{
    int64_t limit;
    if (read_integer(report, node, "the limit of 'retry'", 0, MAX_RETRIES, &limit))
        json_key_int(writer, "limit", limit);
}

static void write_retry_members(struct json_writer *writer, const struct yaml_node *node,
                                struct report *report)
{
    double factor;
    const struct yaml_node *value = yaml_member(node, "backoff");
    if (value && read_decimal(report, value, "'backoff'", 1, MAX_BACKOFF, &factor)) {
        json_key(writer, "backoff");
        yaml_json(writer, value, YAML_JSON_AS_WRITTEN, report);
    }
    if ((value = yaml_member(node, "exit_codes")))
        write_exit_codes(writer, value, report);
    if ((value = yaml_member(node, "interval")))
        write_duration_ms(writer, "interval_ms", value, "'interval'", ACTION_RETRY_INTERVAL_MS,
                          report);
    if ((value = yaml_member(node, "limit")))
        write_retry_limit(writer, value, report);
    if ((value = yaml_member(node, "max_interval")))
        write_duration_ms(writer, "max_interval_ms", value, "'max_interval'",
                          ACTION_RETRY_MAX_INTERVAL_MS, report);
}

static void write_retry(struct json_writer *writer, const char *member,
                        const struct yaml_node *node, struct report *report)
{
    static const char *const keys[] = {"backoff", "exit_codes",   "interval",
                                       "limit",   "max_interval", NULL};
    bool short_form = node->kind == YAML_INT;
    if (!short_form && !read_mapping(report, node, "'retry'", KEY_OF_OTHER, keys))
        return;
    json_key(writer, member);
    json_begin_object(writer);
    if (short_form)
        write_retry_limit(writer, node, report);
    else
        write_retry_members(writer, node, report);
    json_end_object(writer);
}

/* --- the whole -------------------------------------------------------------------------------- */

/* In the order of the members in the compiled text. */
static const struct {
    const char *key;
    const char *member;
    member_writer write;
} members[] = {
    {"command", "command", write_command},
    {"cpu_quota", "cpu_quota", write_cpu_quota},
    {"cwd", "cwd", write_path},
    {"env", "env", write_env},
    {"grace", "grace_ms", write_grace},
    {"group", "group", write_identity},
    {"log_limit", "log_limit", write_log_limit},
    {"memory_max", "memory_max", write_memory_max},
    {"result", "result", write_result},
    {"retry", "retry", write_retry},
    {"script", "script", write_script},
    {"shell", "shell", write_shell},
    {"tasks_max", "tasks_max", write_tasks_max},
    {"timeout", "timeout_ms", write_timeout},
    {"user", "user", write_identity},
};
#define MEMBER_COUNT (sizeof members / sizeof *members)

static const char *const kinds[] = {"command", "script", "noop"};
#define KIND_COUNT (sizeof kinds / sizeof *kinds)

static int count_kinds(const struct yaml_node *keys)
{
    int count = 0;
    for (size_t i = 0; i < KIND_COUNT; i++)
        count += yaml_member(keys, kinds[i]) != NULL;
    return count;
}

static void check_noop(const struct yaml_node *keys, struct report *report)
{
    read_true(report, yaml_member(keys, "noop"), "'noop'");
    for (size_t i = 0; i < MEMBER_COUNT; i++) {
        const struct yaml_node *key = yaml_member_key(keys, members[i].key);
        if (key)
            report_error(report, key, "'%s' means nothing to a noop: expected one or the other",
                         key->text);
    }
}

static void check_kinds(const struct yaml_node *keys, struct report *report)
{
    const struct yaml_node *command = yaml_member_key(keys, "command");
    const struct yaml_node *shell = yaml_member_key(keys, "shell");
    if (yaml_member(keys, "noop"))
        check_noop(keys, report);
    else if (command && yaml_member(keys, "script"))
        report_error(report, command, "both 'command' and 'script': expected one of them");
    else if (command && shell)
        report_error(report, shell, "'shell' beside 'command': expected it to run a 'script'");
}

void action_check(const struct yaml_node *keys, struct report *report)
{
    struct buffer scratch = {0};
    struct json_writer writer;
    json_writer_init(&writer, &scratch);
    json_begin_object(&writer);
    for (size_t i = 0; i < MEMBER_COUNT; i++) {
        const struct yaml_node *node = yaml_member(keys, members[i].key);
        if (node)
            members[i].write(&writer, members[i].member, node, report);
    }
    buffer_done(&scratch);
    const struct yaml_node *queue = yaml_member(keys, "queue");
    if (queue)
        read_name(report, queue, "'queue'");
    check_kinds(keys, report);
}

static bool is_kind(const char *key)
{
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (strcmp(key, kinds[i]) == 0)
            return true;
    return false;
}

/* Where the library's script is overridden by a command, its shell is of no use either. */
static bool runs_script(struct action_source source)
{
    if (count_kinds(source.own) > 0)
        return yaml_member(source.own, "script") != NULL;
    return yaml_member(source.library, "script") != NULL;
}

const struct yaml_node *action_member(struct action_source source, const char *key)
{
    const struct yaml_node *own = yaml_member(source.own, key);
    if (own)
        return own;
    if (is_kind(key) && count_kinds(source.own) > 0)
        return NULL;
    if (strcmp(key, "shell") == 0 && !runs_script(source))
        return NULL;
    return yaml_member(source.library, key);
}

bool action_is_complete(struct action_source source)
{
    return count_kinds(source.own) + count_kinds(source.library) > 0;
}

const char *action_compile(struct action_source source, struct arena *arena)
{
    if (action_member(source, "noop"))
        return NULL;
    struct buffer text = {0};
    struct json_writer writer;
    json_writer_init(&writer, &text);
    json_begin_object(&writer);
    for (size_t i = 0; i < MEMBER_COUNT; i++) {
        const struct yaml_node *node = action_member(source, members[i].key);
        if (node)
            members[i].write(&writer, members[i].member, node, NULL);
    }
    json_end_object(&writer);
    const char *compiled = arena_text_n(arena, text.data, text.size);
    buffer_done(&text);
    return compiled;
}
