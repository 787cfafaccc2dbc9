#include "scheduler/action.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>

static const char *const default_shell[] = {"/bin/sh", "-e", NULL};

static int malformed(struct error *error, const char *member)
{
    return error_set(error, -EINVAL, "the stored action has a '%s' that is not understood", member);
}

/* --- one reader a type: a member that is missing leaves the default --------------------------- */

static int take_text(const cJSON *object, const char *member, struct arena *arena,
                     const char **text, struct error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, member);
    if (!item)
        return 0;
    if (!cJSON_IsString(item))
        return malformed(error, member);
    *text = arena_text(arena, item->valuestring);
    return 0;
}

static int take_int(const cJSON *object, const char *member, int64_t *value, struct error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, member);
    if (!item)
        return 0;
    if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > 0x1p53)
        return malformed(error, member);
    *value = (int64_t)item->valuedouble;
    return 0;
}

static int take_texts(const cJSON *object, const char *member, struct arena *arena,
                      const char *const **texts, struct error *error)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, member);
    if (!list)
        return 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) == 0)
        return malformed(error, member);
    const char **answer = arena_new(arena, (size_t)cJSON_GetArraySize(list) + 1, sizeof *answer);
    const cJSON *item;
    size_t count = 0;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item))
            return malformed(error, member);
        answer[count++] = arena_text(arena, item->valuestring);
    }
    *texts = answer;
    return 0;
}

static int take_env(const cJSON *object, struct arena *arena, struct action *action,
                    struct error *error)
{
    const cJSON *env = cJSON_GetObjectItemCaseSensitive(object, "env");
    if (!env)
        return 0;
    if (!cJSON_IsObject(env))
        return malformed(error, "env");
    struct action_variable *variables =
        arena_new(arena, (size_t)cJSON_GetArraySize(env) + 1, sizeof *variables);
    const cJSON *item;
    cJSON_ArrayForEach(item, env)
    {
        if (!cJSON_IsString(item))
            return malformed(error, "env");
        variables[action->env_count++] = (struct action_variable){
            arena_text(arena, item->string), arena_text(arena, item->valuestring)};
    }
    action->env = variables;
    return 0;
}

static int take_result(const cJSON *object, struct action *action, struct error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "result");
    if (!item)
        return 0;
    if (!cJSON_IsString(item))
        return malformed(error, "result");
    if (strcmp(item->valuestring, "stdout") == 0)
        action->result = RESULT_STDOUT;
    else if (strcmp(item->valuestring, "none") == 0)
        action->result = RESULT_NONE;
    else
        return malformed(error, "result");
    return 0;
}

static int take_exit_codes(const cJSON *retry, struct arena *arena, struct action_retry *answer,
                           struct error *error)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(retry, "exit_codes");
    if (!list)
        return 0;
    if (!cJSON_IsArray(list))
        return malformed(error, "exit_codes");
    int *codes = arena_new(arena, (size_t)cJSON_GetArraySize(list) + 1, sizeof *codes);
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item))
            return malformed(error, "exit_codes");
        codes[answer->exit_code_count++] = item->valueint;
    }
    answer->exit_codes = codes;
    return 0;
}

static int take_retry(const cJSON *object, struct arena *arena, struct action_retry *answer,
                      struct error *error)
{
    const cJSON *retry = cJSON_GetObjectItemCaseSensitive(object, "retry");
    if (!retry)
        return 0;
    if (!cJSON_IsObject(retry))
        return malformed(error, "retry");
    const cJSON *backoff = cJSON_GetObjectItemCaseSensitive(retry, "backoff");
    if (backoff && !(cJSON_IsNumber(backoff) && backoff->valuedouble >= 1))
        return malformed(error, "backoff");
    if (backoff)
        answer->backoff = backoff->valuedouble;
    int64_t limit = 0;
    int status = take_int(retry, "limit", &limit, error);
    answer->limit = limit < INT32_MAX ? (int)limit : INT32_MAX;
    if (status == 0)
        status = take_int(retry, "interval_ms", &answer->interval_ms, error);
    if (status == 0)
        status = take_int(retry, "max_interval_ms", &answer->max_interval_ms, error);
    return status < 0 ? status : take_exit_codes(retry, arena, answer, error);
}

/* --- the whole -------------------------------------------------------------------------------- */

static int take_run(const cJSON *object, struct arena *arena, struct action *action,
                    struct error *error)
{
    int status = take_texts(object, "command", arena, &action->command, error);
    if (status == 0)
        status = take_text(object, "script", arena, &action->script, error);
    if (status == 0)
        status = take_texts(object, "shell", arena, &action->shell, error);
    if (status == 0 && !action->command == !action->script)
        status = error_set(error, -EINVAL,
                           "the stored action has neither or both of command and script");
    return status;
}

static int take_members(const cJSON *object, struct arena *arena, struct action *action,
                        struct error *error)
{
    int status = take_run(object, arena, action, error);
    if (status == 0)
        status = take_env(object, arena, action, error);
    if (status == 0)
        status = take_text(object, "cwd", arena, &action->cwd, error);
    if (status == 0)
        status = take_text(object, "user", arena, &action->user, error);
    if (status == 0)
        status = take_text(object, "group", arena, &action->group, error);
    if (status == 0)
        status = take_int(object, "grace_ms", &action->grace_ms, error);
    if (status == 0)
        status = take_int(object, "timeout_ms", &action->timeout_ms, error);
    if (status == 0)
        status = take_int(object, "log_limit", &action->log_limit, error);
    if (status == 0)
        status = take_result(object, action, error);
    if (status == 0)
        status = take_int(object, "cpu_quota", &action->limits.cpu_quota, error);
    if (status == 0)
        status = take_int(object, "memory_max", &action->limits.memory_max, error);
    if (status == 0)
        status = take_int(object, "tasks_max", &action->limits.tasks_max, error);
    return status < 0 ? status : take_retry(object, arena, &action->retry, error);
}

int action_parse(const char *json, struct arena *arena, struct action *action, struct error *error)
{
    struct action read = {
        .shell = default_shell,
        .grace_ms = ACTION_GRACE_MS,
        .result = RESULT_FD,
        .retry = {.interval_ms = ACTION_RETRY_INTERVAL_MS,
                  .backoff = 1.0,
                  .max_interval_ms = ACTION_RETRY_MAX_INTERVAL_MS},
    };
    if (!json || *json == '\0') {
        read.noop = true;
        *action = read;
        return 0;
    }
    cJSON *object = cJSON_Parse(json);
    int status = cJSON_IsObject(object)
                     ? take_members(object, arena, &read, error)
                     : error_set(error, -EINVAL, "the stored action is no JSON object");
    cJSON_Delete(object);
    if (status == 0)
        *action = read;
    return status;
}
