/* The templates of scheduler/action.h: `{{ payload.a.b }}` and `{{ results.KEY.c }}`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "scheduler/action.h"

struct scope {
    struct json_span payload;
    struct json_span results;
    struct arena *arena;
    struct error *error;
};

/* `root.path` between the braces, blanks around it left out. */
struct reference {
    const char *text;
    size_t size;
    bool is_payload; /* else results */
    const char *path;
    size_t path_size;
    const char *end; /* behind the closing braces */
};

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

/* Reads what stands at "{{"; false when it is none of ours, and stays as it is. */
static bool read_reference(const char *text, struct reference *reference)
{
    static const char payload[] = "payload.";
    static const char results[] = "results.";
    const char *start = skip_blanks(text + 2);
    reference->is_payload = strncmp(start, payload, sizeof payload - 1) == 0;
    if (!reference->is_payload && strncmp(start, results, sizeof results - 1) != 0)
        return false;
    reference->text = start;
    reference->path = start + sizeof payload - 1;
    reference->path_size = strcspn(reference->path, " \t\r\n{}");
    reference->size = sizeof payload - 1 + reference->path_size;
    const char *end = skip_blanks(reference->path + reference->path_size);
    reference->end = end + 2;
    return reference->path_size > 0 && strncmp(end, "}}", 2) == 0;
}

/* A task's key may hold dots, as paths do: `A.b.c` is the key `A.b.c`, else `c` of `A.b`, else
 * `b.c` of `A`. */
static struct json_span find_result(struct json_span results, const char *path, size_t size)
{
    for (size_t key_size = size;; key_size--) {
        if (key_size == 0)
            return (struct json_span){0};
        if (key_size < size && path[key_size] != '.')
            continue;
        struct json_span value = json_member(results, path, key_size);
        if (!value.text)
            continue;
        if (key_size == size)
            return value;
        return json_path(value, path + key_size + 1, size - key_size - 1);
    }
}

static struct json_span find_value(const struct scope *scope, const struct reference *reference)
{
    if (reference->is_payload)
        return json_path(scope->payload, reference->path, reference->path_size);
    if (!scope->results.text || json_kind(scope->results) != JSON_OBJECT)
        return (struct json_span){0};
    return find_result(scope->results, reference->path, reference->path_size);
}

static void add_value(struct buffer *out, struct json_span value)
{
    if (json_kind(value) != JSON_STRING) {
        buffer_add(out, value.text, value.size);
        return;
    }
    size_t size;
    char *text = json_unescape(value, &size);
    buffer_add(out, text, size);
    free(text);
}

static int fill_in(const struct scope *scope, const char *template, struct buffer *out)
{
    for (const char *rest = template;;) {
        const char *braces = strstr(rest, "{{");
        struct reference reference;
        if (!braces) {
            buffer_add_text(out, rest);
            return 0;
        }
        buffer_add(out, rest, (size_t)(braces - rest));
        if (!read_reference(braces, &reference)) {
            buffer_add_char(out, '{'); /* the next one may begin with the second brace */
            rest = braces + 1;
            continue;
        }
        struct json_span value = find_value(scope, &reference);
        if (!value.text)
            return error_set(scope->error, -ENOENT, "{{ %.*s }} has no value", (int)reference.size,
                             reference.text);
        add_value(out, value);
        rest = reference.end;
    }
}

/* The text itself where there is nothing to replace. */
static int expand(const struct scope *scope, const char *template, const char **text)
{
    if (!strstr(template, "{{")) {
        *text = template;
        return 0;
    }
    struct buffer out = {0};
    int status = fill_in(scope, template, &out);
    if (status == 0)
        *text = arena_text(scope->arena, buffer_text(&out));
    buffer_done(&out);
    return status;
}

static int expand_command(const struct scope *scope, const struct action *action,
                          const char *const **argv)
{
    size_t count = 0;
    while (action->command[count])
        count++;
    const char **answer = arena_new(scope->arena, count + 1, sizeof *answer);
    for (size_t i = 0; i < count; i++) {
        int status = expand(scope, action->command[i], &answer[i]);
        if (status < 0)
            return status;
    }
    *argv = answer;
    return 0;
}

static void script_command(const struct scope *scope, const struct action *action,
                           const char *const **argv)
{
    size_t count = 0;
    while (action->shell[count])
        count++;
    const char **answer = arena_new(scope->arena, count + 3, sizeof *answer);
    memcpy(answer, action->shell, count * sizeof *answer);
    answer[count] = "-c";
    answer[count + 1] = action->script;
    *argv = answer;
}

static int expand_env(const struct scope *scope, const struct action *action,
                      struct action_start *start)
{
    start->env_count = action->env_count;
    start->env = arena_new(scope->arena, (size_t)action->env_count + 1, sizeof *start->env);
    for (int i = 0; i < action->env_count; i++) {
        start->env[i].name = action->env[i].name;
        int status = expand(scope, action->env[i].value, &start->env[i].value);
        if (status < 0)
            return status;
    }
    return 0;
}

static int expand_cwd(const struct scope *scope, const struct action *action,
                      struct action_start *start)
{
    if (!action->cwd)
        return 0;
    int status = expand(scope, action->cwd, &start->cwd);
    if (status == 0 && *start->cwd != '/')
        status =
            error_set(scope->error, -EINVAL, "cwd is '%s': expected an absolute path", start->cwd);
    return status;
}

int action_expand(const struct action *action, struct json_span payload, struct json_span results,
                  struct arena *arena, struct action_start *start, struct error *error)
{
    struct scope scope = {payload, results, arena, error};
    struct action_start answer = {0};
    int status = 0;
    if (action->command)
        status = expand_command(&scope, action, &answer.argv);
    else
        script_command(&scope, action, &answer.argv);
    if (status == 0)
        status = expand_env(&scope, action, &answer);
    if (status == 0)
        status = expand_cwd(&scope, action, &answer);
    if (status == 0)
        *start = answer;
    return status;
}
