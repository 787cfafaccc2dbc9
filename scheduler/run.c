/* One attempt: from the claimed row, through the executor, to its committed end. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "scheduler/engine_internal.h"

/* Between tries to start a process that the machine had no room for: at first, doubled each time,
 * and at most. */
#define NO_ROOM_MS 500
#define NO_ROOM_LAST_MS 10000

static void finish_run(struct run *run);
static void start_run(struct run *run);
static void on_start(void *context);
static void on_output(struct attempt *attempt, enum output_stream stream, const char *text,
                      size_t size, int64_t at_us, void *context);

/* --- finding --------------------------------------------------------------------------------- */

/* The key is hashed as bytes, so its padding must be zero. */
static struct store_held held_key(const struct id *workflow, int position, int attempt)
{
    struct store_held key;
    memset(&key, 0, sizeof key);
    key.workflow = *workflow;
    key.position = position;
    key.attempt = attempt;
    return key;
}

struct run *run_find(struct engine *engine, const struct id *workflow, int position, int attempt)
{
    struct store_held key = held_key(workflow, position, attempt);
    struct run *run;
    HASH_FIND(hh, engine->runs, &key, sizeof key, run);
    return run;
}

/* --- what it runs with ----------------------------------------------------------------------- */

char *run_home_directory(void)
{
    const char *home = getenv("HOME");
    if (home != NULL && *home != '\0')
        return mem_text(home);
    const struct passwd *entry = getpwuid(geteuid());
    return mem_text(entry == NULL ? "/" : entry->pw_dir);
}

static const char *inherited(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value == NULL || *value == '\0' ? otherwise : value;
}

/* A list of NAME=value where a later one of the same name takes the place of the former. */
struct environment {
    struct arena *arena;
    const char **items; /* NULL at the end */
    size_t count;
};

static void set_item(struct environment *environment, const char *item)
{
    size_t name_size = (size_t)(strchrnul(item, '=') - item) + 1;
    for (size_t i = 0; i < environment->count; i++) {
        if (strncmp(environment->items[i], item, name_size) == 0) {
            environment->items[i] = item;
            return;
        }
    }
    environment->items[environment->count++] = item;
}

static void set_variable(struct environment *environment, const char *name, const char *value)
{
    set_item(environment, arena_format(environment->arena, "%s=%s", name, value));
}

static void set_context(struct environment *environment, const struct engine *engine,
                        const struct answer *claimed)
{
    char text[ID_TEXT_SIZE];
    id_format(&claimed->workflow, text);
    set_variable(environment, "DIRECTOR_WORKFLOW_ID", text);
    struct id task = id_task(&claimed->workflow, claimed->position);
    id_format(&task, text);
    set_variable(environment, "DIRECTOR_TASK_ID", text);
    id_format(&engine->options.node.id, text);
    set_variable(environment, "DIRECTOR_NODE", text);
    set_variable(environment, "DIRECTOR_PROJECT", claimed->project);
    set_variable(environment, "DIRECTOR_WORKFLOW", claimed->name);
    set_variable(environment, "DIRECTOR_TASK_KEY", claimed->key);
    set_item(environment,
             arena_format(environment->arena, "DIRECTOR_ATTEMPT=%d", claimed->attempt));
    set_variable(environment, "DIRECTOR_RESULT", "/dev/fd/3");
    if (claimed->scheduled_us != 0) {
        char at[TIME_TEXT_SIZE];
        time_format(claimed->scheduled_us, at);
        set_variable(environment, "DIRECTOR_SCHEDULED_AT", at);
    }
}

static const char *const *make_environment(struct run *run, const struct action_start *start,
                                           const char *user, const struct answer *claimed)
{
    const struct engine *engine = run->engine;
    size_t settings = 0;
    while (engine->options.task_env[settings] != NULL)
        settings++;
    struct environment environment = {.arena = &run->arena};
    environment.items =
        arena_new(&run->arena, settings + (size_t)start->env_count + 16, sizeof *environment.items);
    set_variable(&environment, "PATH",
                 inherited("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    if (user == NULL) /* else the launcher knows */
        set_variable(&environment, "HOME", engine->home);
    set_variable(&environment, "LANG", inherited("LANG", "C.UTF-8"));
    set_variable(&environment, "TZ", inherited("TZ", "UTC"));
    for (size_t i = 0; i < settings; i++)
        set_item(&environment, engine->options.task_env[i]);
    for (int i = 0; i < start->env_count; i++)
        set_variable(&environment, start->env[i].name, start->env[i].value);
    set_context(&environment, engine, claimed); /* last: these cannot be overridden */
    return environment.items;
}

static void write_workflow(struct json_writer *json, const struct answer *claimed)
{
    json_begin_object(json);
    json_key_time(json, "created", claimed->created_us);
    json_key(json, "fullname");
    char *fullname = mem_format("%s.%s", claimed->project, claimed->name);
    json_string(json, fullname);
    free(fullname);
    json_key_id(json, "id", &claimed->workflow);
    json_key_string(json, "name", claimed->name);
    json_key_bool(json, "periodic", claimed->periodic);
    json_key_string(json, "project", claimed->project);
    json_key(json, "scheduled");
    if (claimed->scheduled_us == 0)
        json_null(json);
    else
        json_time(json, claimed->scheduled_us);
    json_end_object(json);
}

static void write_task(struct json_writer *json, const struct answer *claimed)
{
    struct id task = id_task(&claimed->workflow, claimed->position);
    json_begin_object(json);
    json_key_int(json, "attempt", claimed->attempt);
    json_key_id(json, "id", &task);
    json_key_string(json, "key", claimed->key);
    json_end_object(json);
}

/* The document on standard input: {"args", ["outcome",] "payload", "results", "task", "workflow"}.
 */
static struct json_span make_input(struct run *run, const struct answer *claimed)
{
    struct buffer out = {0};
    struct json_writer json;
    json_writer_init(&json, &out);
    json_begin_object(&json);
    json_key_raw(&json, "args", claimed->args.text, claimed->args.size);
    if (claimed->outcome.text != NULL)
        json_key_raw(&json, "outcome", claimed->outcome.text, claimed->outcome.size);
    json_key_raw(&json, "payload", claimed->payload.text, claimed->payload.size);
    json_key_raw(&json, "results", claimed->results.text, claimed->results.size);
    json_key(&json, "task");
    write_task(&json, claimed);
    json_key(&json, "workflow");
    write_workflow(&json, claimed);
    json_end_object(&json);
    buffer_add_char(&out, '\n');
    struct json_span input = {arena_text_n(&run->arena, out.data, out.size), out.size};
    buffer_done(&out);
    return input;
}

static int prepare(struct run *run, const struct answer *claimed, struct error *error)
{
    struct action action;
    struct action_start start = {0};
    if (claimed->args.text == NULL)
        return error_set(error, -E2BIG,
                         "the results of its predecessors are %lld bytes, more than "
                         "DIRECTOR_MAX_INPUT (%lld)",
                         (long long)claimed->oversize,
                         (long long)run->engine->options.node.max_input);
    const char *text = arena_text_n(&run->arena, claimed->action.text, claimed->action.size);
    int code = action_parse(text, &run->arena, &action, error);
    if (code == 0)
        code =
            action_expand(&action, claimed->payload, claimed->results, &run->arena, &start, error);
    if (code < 0)
        return code;
    run->retry = action.retry;
    run->input = make_input(run, claimed);
    run->spec = (struct attempt_spec){
        .kind = EXECUTOR_PROCESS,
        .argv = start.argv,
        .envp = make_environment(run, &start, action.user, claimed),
        .cwd = start.cwd,
        .user = action.user,
        .group = action.group,
        .limits = action.limits,
        .result = action.result,
        .max_result_bytes = run->engine->options.max_result,
        .log_limit =
            action.log_limit > 0 ? (size_t)action.log_limit : run->engine->options.log_limit,
        .timeout_ms = action.timeout_ms,
        .grace_ms = action.grace_ms,
        .on_start = on_start,
        .on_output = on_output,
    };
    return 0;
}

/* --- its end --------------------------------------------------------------------------------- */

static void on_committed(struct store_finish *finish)
{
    struct run *run = (struct run *)((char *)finish - offsetof(struct run, finish));
    struct engine *engine = run->engine;
    CRASH_POINT("finished");
    engine->running--;
    engine->ending--;
    HASH_DEL(engine->runs, run);
    free(run->result);
    free(run);
    if (engine->ready || engine->backlog)
        engine_claim_soon(engine);
    engine_check_stopped(engine);
}

static void wait_no_longer(struct run *run)
{
    run->engine->waiting -= run->waited_ms > 0;
    run->waited_ms = 0;
}

static void finish_run(struct run *run)
{
    struct engine *engine = run->engine;
    wait_no_longer(run);
    *(run->finish.success ? &engine->stats.succeeded : &engine->stats.failed) += 1;
    arena_done(&run->arena);
    run->spec = (struct attempt_spec){0};
    run->finish.on_done = on_committed;
    engine->ending++;
    store_finish(engine->options.store, &run->finish);
    CRASH_POINT("finish-sent");
    engine_check_stopped(engine);
}

static struct log_field log_known(const char *key, int number, int unknown)
{
    return number == unknown ? log_text(key, NULL) : log_int(key, number);
}

/* `text`, the exception's, is cut where it is long. */
static void log_failure(const struct run *run, const char *reason, int exit_status, int signal,
                        const char *text)
{
    struct id task = id_task(&run->held.workflow, run->held.position);
    struct error error;
    error_set(&error, 0, "%s", text);
    log_info("task did not succeed", log_id("workflow", &run->held.workflow),
             log_text("project", run->project), log_text("name", run->name), log_id("task", &task),
             log_text("key", run->key), log_int("attempt", run->held.attempt),
             log_known("exit_status", exit_status, -1), log_known("signal", signal, 0),
             log_text("reason", reason), log_error_text(&error));
}

/* Could not be started at all: what the person must know is the exception. */
static void fail_run(struct run *run, const char *reason, const struct error *error)
{
    struct buffer out = {0};
    struct json_writer json;
    json_writer_init(&json, &out);
    json_begin_object(&json);
    json_key(&json, "exception");
    json_string_lossy(&json, error->text, strlen(error->text));
    json_key_string(&json, "traceback", "");
    json_end_object(&json);
    size_t size = out.size;
    run->result = buffer_take(&out);
    run->finish.result = (struct json_span){run->result, size};
    run->finish.reason = reason;
    run->finish.exit_status = -1;
    log_failure(run, reason, -1, 0, error->text);
    finish_run(run);
}

/* `exit_codes` concerns ordinary exits: with it, time-outs and signals are not tried again. */
static bool is_retryable(const struct run *run, const struct attempt_end *end)
{
    if (end->why == STOP_NODE_STOPPING || run->retry.exit_codes == NULL)
        return end->why != STOP_CANCELED;
    for (int i = 0; end->outcome == ATTEMPT_FAILED && i < run->retry.exit_code_count; i++) {
        if (run->retry.exit_codes[i] == end->exit_status)
            return true;
    }
    return false;
}

static const char *end_reason(const struct attempt_end *end)
{
    switch (end->outcome) {
    case ATTEMPT_SPAWN_FAILED:
        return "spawn_failed";
    case ATTEMPT_BAD_RESULT:
        return "bad_result";
    case ATTEMPT_TIMED_OUT:
        return "timed_out";
    case ATTEMPT_STOPPED:
        return end->why == STOP_NODE_STOPPING ? "node_stopped" : "canceled_by_user";
    default:
        return NULL;
    }
}

static void log_unsuccessful(const struct run *run, const struct attempt_end *end)
{
    struct json_span result = {end->result, end->result_size};
    struct json_span exception = {0};
    if (result.text != NULL)
        exception = json_member(result, "exception", strlen("exception"));
    char *text = exception.text == NULL ? NULL : json_unescape(exception, NULL);
    log_failure(run, end_reason(end), end->exit_status, end->signal, text == NULL ? "" : text);
    free(text);
}

static void log_end(const struct run *run, const struct attempt_end *end)
{
    struct id task = id_task(&run->held.workflow, run->held.position);
    if (end->left_behind)
        log_warning("a process of the task could not be killed and may still run",
                    log_id("task", &task), log_int("attempt", run->held.attempt));
    if (end->outcome == ATTEMPT_SUCCESS)
        log_debug("task succeeded", log_id("task", &task), log_int("attempt", run->held.attempt));
    else
        log_unsuccessful(run, end);
}

static void on_room(uv_timer_t *timer)
{
    struct run *run = timer->data;
    run->later = NULL;
    uv_close((uv_handle_t *)timer, (uv_close_cb)free);
    start_run(run);
}

/* Once for all that wait because of it: the texts differ, by program and control group. */
static void warn_of_no_room(struct run *run, const struct attempt_end *end)
{
    struct id task = id_task(&run->held.workflow, run->held.position);
    uint64_t cause = UINT64_C(1) << (-end->error % 64);
    if (run->engine->no_room_said & cause)
        return;
    run->engine->no_room_said |= cause;
    log_warning("no room for another process now; trying again", log_id("task", &task),
                log_text("result", end->result));
}

static void wait_for_room(struct run *run, const struct attempt_end *end)
{
    warn_of_no_room(run, end);
    run->engine->waiting += run->waited_ms == 0;
    run->waited_ms = run->waited_ms == 0 ? NO_ROOM_MS : run->waited_ms * 2;
    if (run->waited_ms > NO_ROOM_LAST_MS)
        run->waited_ms = NO_ROOM_LAST_MS;
    run->later = mem_new(1, sizeof *run->later);
    run->later->data = run;
    uv_timer_init(run->engine->options.loop, run->later);
    uv_timer_start(run->later, on_room, run->waited_ms, 0);
}

static void on_start(void *context)
{
    struct run *run = context;
    wait_no_longer(run);
    if (run->engine->waiting == 0)
        run->engine->no_room_said = 0;
}

static void on_output(struct attempt *attempt, enum output_stream stream, const char *text,
                      size_t size, int64_t at_us, void *context)
{
    struct run *run = context;
    (void)stream, (void)text, (void)size, (void)at_us; /* all that is in the attempt's log */
    if (run->log == NULL)
        run->log = run_log_open(run->engine->logs, &run->held, attempt_log(attempt));
    run_log_touch(run->log);
}

static void on_log_written(void *context)
{
    finish_run(context);
}

/* Does the end have to wait until the log is written? */
static bool end_log(struct run *run, struct attempt *attempt)
{
    if (run->log == NULL)
        return false;
    struct log_ring ring = attempt_take_log(attempt);
    struct run_log *log = run->log;
    run->log = NULL;
    return run_log_end(log, &ring, on_log_written, run);
}

static void on_attempt_end(struct attempt *attempt, struct attempt_end *end, void *context)
{
    struct run *run = context;
    run->attempt = NULL;
    if (end->outcome == ATTEMPT_NO_ROOM) { /* so it has printed nothing */
        wait_for_room(run, end);
        if (run->stop != STOP_NONE) /* which has changed nothing, since it had ended already */
            run_stop(run, run->stop);
        return;
    }
    CRASH_POINT("exited");
    log_end(run, end);
    run->result = end->result;
    end->result = NULL;
    run->finish.success = end->outcome == ATTEMPT_SUCCESS;
    run->finish.retryable = is_retryable(run, end);
    run->finish.result =
        (struct json_span){run->result, run->result == NULL ? 0 : end->result_size};
    run->finish.reason = end_reason(end);
    run->finish.exit_status = end->exit_status;
    run->finish.signal = end->signal;
    run->finish.peak_memory_bytes = end->peak_memory_bytes;
    run->finish.cpu_us = end->cpu_us;
    if (!end_log(run, attempt))
        finish_run(run);
}

/* --- its beginning --------------------------------------------------------------------------- */

static void start_run(struct run *run)
{
    struct attempt_spec spec = run->spec;
    if (run->input.text != NULL) {
        spec.input = mem_text_n(run->input.text, run->input.size);
        spec.input_size = run->input.size;
    }
    if (run->waited_ms == 0)
        run->engine->stats.started++;
    run->attempt = executor_start(run->engine->options.executor, &spec, on_attempt_end, run);
}

void run_begin(struct engine *engine, const struct answer *claimed)
{
    struct run *run = mem_new(1, sizeof *run);
    struct error error;
    run->engine = engine;
    run->held = held_key(&claimed->workflow, claimed->position, claimed->attempt);
    run->finish.workflow = claimed->workflow;
    run->finish.position = claimed->position;
    run->finish.attempt = claimed->attempt;
    HASH_ADD(hh, engine->runs, held, sizeof run->held, run);
    engine->running++;
    if (claimed->action.text == NULL) {
        run->spec.kind = EXECUTOR_NOOP;
        start_run(run);
        return;
    }
    run->project = arena_text(&run->arena, claimed->project);
    run->name = arena_text(&run->arena, claimed->name);
    run->key = arena_text(&run->arena, claimed->key);
    if (prepare(run, claimed, &error) < 0)
        fail_run(run, "spawn_failed", &error);
    else
        start_run(run);
}

static void stop_waiting(struct run *run, enum stop_reason why)
{
    struct error error;
    uv_close((uv_handle_t *)run->later, (uv_close_cb)free);
    run->later = NULL;
    error_set(&error, -ECANCELED, "stopped while it waited for room for a process");
    run->finish.retryable = why == STOP_NODE_STOPPING;
    fail_run(run, why == STOP_NODE_STOPPING ? "node_stopped" : "canceled_by_user", &error);
}

void run_stop(struct run *run, enum stop_reason why)
{
    if (run->stop == STOP_NONE)
        run->stop = why;
    if (run->attempt != NULL)
        attempt_stop(run->attempt, why);
    else if (run->later != NULL)
        stop_waiting(run, run->stop);
}

void run_stop_all(struct engine *engine, enum stop_reason why)
{
    struct run *run, *next;
    HASH_ITER(hh, engine->runs, run, next)
    run_stop(run, why);
}
