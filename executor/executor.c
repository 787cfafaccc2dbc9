#include "executor/executor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "executor/attempt.h"
#include "executor/result.h"

#define TURN_BUDGET_US 2000
#define KILL_WAIT_MS 5000
/* Slow starts at once: the next one has begun while the loop is told of the one before. */
#define STARTS_AT_ONCE 2
#define START_WAIT_MS 10000

/* How soon the next sweep comes: at first at once, since what was killed dies within a millisecond,
 * later less often; and when nothing is awaited, to reap orphans. */
#define SWEEP_FIRST_MS 1
#define SWEEP_LAST_MS 32
#define SWEEP_IDLE_MS 2000
/* While somebody has his grace. */
#define SWEEP_GRACE_MS 100

static const struct attempt_kind *const kinds[] = {
    [EXECUTOR_PROCESS] = &process_kind,
    [EXECUTOR_NOOP] = &noop_kind,
};

static void on_turn(uv_idle_t *idle);
static void on_sweep_timer(uv_timer_t *timer);
static void close_if_empty(struct executor *executor);

/* --- the executor --------------------------------------------------------------------------- */

/* Where SIGCHLD is ignored, as a parent may have left it, the kernel reaps and exit statuses are
 * lost. */
static void adopt_orphans(void)
{
    struct sigaction action;
    if (sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
        signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/* Without a descriptor free a sweep would see nothing, and could kill nothing in a group. A thread
 * that starts something may be quicker to take it: then that sweep is in vain, and the next one is
 * not. */
static void keep_spare(struct executor *executor)
{
    if (executor->spare_fd < 0)
        executor->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void lend_spare(struct executor *executor)
{
    if (executor->spare_fd >= 0)
        close(executor->spare_fd);
    executor->spare_fd = -1;
}

struct executor *executor_new(uv_loop_t *loop, const struct executor_options *options)
{
    struct executor *executor = mem_new(1, sizeof *executor);
    executor->loop = loop;
    if (options)
        executor->options = *options;
    if (executor->options.turn_budget_us == 0)
        executor->options.turn_budget_us = TURN_BUDGET_US;
    if (executor->options.kill_wait_ms == 0)
        executor->options.kill_wait_ms = KILL_WAIT_MS;
    if (executor->options.start_wait_ms == 0)
        executor->options.start_wait_ms = START_WAIT_MS;
    executor->turn.data = executor;
    executor->sweep_timer.data = executor;
    uv_idle_init(loop, &executor->turn);
    uv_timer_init(loop, &executor->sweep_timer);
    uv_timer_start(&executor->sweep_timer, on_sweep_timer, SWEEP_IDLE_MS, 0);
    uv_unref((uv_handle_t *)&executor->sweep_timer);
    adopt_orphans();
    children_init(&executor->children);
    executor->spare_fd = -1;
    keep_spare(executor);
    return executor;
}

void executor_close(struct executor *executor, executor_close_cb done, void *context)
{
    struct attempt *attempt, *next;
    executor->closing = true;
    executor->on_closed = done;
    executor->close_context = context;
    executor_kill_all(executor, STOP_NODE_STOPPING);
    DL_FOREACH_SAFE(executor->attempts, attempt, next)
    if (attempt->reported && attempt->kind->abandon)
        attempt->kind->abandon(attempt);
    close_if_empty(executor);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct executor *executor = handle->data;
    executor_close_cb done = executor->on_closed;
    void *context = executor->close_context;
    children_done(&executor->children);
    lend_spare(executor);
    free(executor);
    if (done)
        done(context);
}

static void on_turn_closed(uv_handle_t *handle)
{
    struct executor *executor = handle->data;
    uv_close((uv_handle_t *)&executor->sweep_timer, on_timer_closed);
}

static void close_if_empty(struct executor *executor)
{
    if (!executor->closing || executor->attempts || uv_is_closing((uv_handle_t *)&executor->turn))
        return;
    uv_timer_stop(&executor->sweep_timer); /* a sweep would want the next turn */
    uv_close((uv_handle_t *)&executor->turn, on_turn_closed);
}

size_t executor_count(const struct executor *executor)
{
    return executor->count;
}

void executor_kill_all(struct executor *executor, enum stop_reason why)
{
    struct attempt *attempt, *next;
    DL_FOREACH_SAFE(executor->attempts, attempt, next)
    attempt_kill(attempt, why);
}

/* --- an attempt ----------------------------------------------------------------------------- */

static void queue_push(struct attempt_queue *queue, struct attempt *attempt)
{
    if (queue->last)
        queue->last->next_queued = attempt;
    else
        queue->first = attempt;
    queue->last = attempt;
}

static struct attempt *queue_pop(struct attempt_queue *queue)
{
    struct attempt *attempt = queue->first;
    queue->first = attempt->next_queued;
    if (!queue->first)
        queue->last = NULL;
    return attempt;
}

struct attempt *executor_start(struct executor *executor, const struct attempt_spec *spec,
                               attempt_end_cb on_end, void *context)
{
    const struct attempt_kind *kind = kinds[spec->kind];
    struct attempt *attempt = mem_new(1, kind->size);
    attempt->executor = executor;
    attempt->kind = kind;
    attempt->on_end = on_end;
    attempt->context = context;
    attempt->why = executor->closing ? STOP_NODE_STOPPING : STOP_NONE;
    kind->prepare(attempt, spec);
    DL_APPEND(executor->attempts, attempt);
    executor->count++;
    queue_push(kind->slow_start ? &executor->slow : &executor->quick, attempt);
    uv_idle_start(&executor->turn, on_turn);
    return attempt;
}

void attempt_report(struct attempt *attempt, struct attempt_end *end)
{
    attempt->reported = true;
    attempt->executor->count--;
    attempt->on_end(attempt, end, attempt->context);
    free(end->result);
}

void attempt_release(struct attempt *attempt)
{
    struct executor *executor = attempt->executor;
    DL_DELETE(executor->attempts, attempt);
    if (attempt->kind->done)
        attempt->kind->done(attempt);
    free(attempt);
    close_if_empty(executor);
}

const char *stop_reason_text(enum stop_reason why)
{
    switch (why) {
    case STOP_NONE:
        break;
    case STOP_TIMED_OUT:
        return "timed out";
    case STOP_CANCELED:
        return "canceled";
    case STOP_NODE_STOPPING:
        return "stopped with its node";
    case STOP_FENCED:
        return "stopped because another attempt has taken its place";
    }
    return "stopped";
}

void attempt_report_unstarted(struct attempt *attempt)
{
    struct result result = result_of_failure(stop_reason_text(attempt->why), "", 0);
    struct attempt_end end = {.outcome = ATTEMPT_STOPPED,
                              .why = attempt->why,
                              .exit_status = -1,
                              .result = result.text,
                              .result_size = result.size};
    attempt_report(attempt, &end);
    attempt_release(attempt);
}

void attempt_stop(struct attempt *attempt, enum stop_reason why)
{
    if (attempt->reported)
        return;
    if (attempt->started)
        attempt->kind->stop(attempt, why);
    else if (attempt->why == STOP_NONE)
        attempt->why = why;
}

void attempt_kill(struct attempt *attempt, enum stop_reason why)
{
    if (attempt->started && !attempt->reported)
        attempt->kind->kill(attempt, why);
    else
        attempt_stop(attempt, why);
}

const struct log_ring *attempt_log(const struct attempt *attempt)
{
    static const struct log_ring none;
    return attempt->kind->log ? attempt->kind->log(attempt) : &none;
}

struct log_ring attempt_take_log(struct attempt *attempt)
{
    struct log_ring taken = *attempt_log(attempt);
    if (attempt->kind->forget_log)
        attempt->kind->forget_log(attempt);
    return taken;
}

pid_t attempt_pid(const struct attempt *attempt)
{
    return attempt->kind->pid ? attempt->kind->pid(attempt) : 0;
}

/* --- the turn of the loop ------------------------------------------------------------------- */

static void start_next(struct attempt_queue *queue)
{
    struct attempt *attempt = queue_pop(queue);
    if (attempt->why != STOP_NONE) {
        attempt_report_unstarted(attempt);
    } else {
        attempt->started = true;
        if (attempt->kind->slow_start)
            attempt->executor->starting++;
        attempt->kind->start(attempt);
    }
}

/* Those that are queued now; what their ends start waits for the next turn. */
static void start_quick(struct executor *executor)
{
    struct attempt_queue queue = executor->quick;
    executor->quick = (struct attempt_queue){0};
    while (queue.first)
        start_next(&queue);
}

/* One that was stopped needs no start. */
static bool may_start_slow(const struct executor *executor)
{
    const struct attempt *next = executor->slow.first;
    return next && (next->why != STOP_NONE || executor->starting < STARTS_AT_ONCE);
}

static void start_slow(struct executor *executor)
{
    int64_t end_mono_us = clock_mono_us() + executor->options.turn_budget_us;
    while (may_start_slow(executor)) {
        start_next(&executor->slow);
        if (clock_mono_us() >= end_mono_us)
            break;
    }
}

void attempt_started(struct attempt *attempt)
{
    attempt->executor->starting--;
    uv_idle_start(&attempt->executor->turn, on_turn);
}

/* True when all of the children were seen, whatever was asked for meanwhile. */
static bool sweep_children(struct executor *executor)
{
    if (!executor->sweep_goes_on)
        executor->sweep_wanted = false;
    executor->sweep_goes_on =
        !children_sweep(&executor->children, clock_mono_us() + executor->options.turn_budget_us);
    return !executor->sweep_goes_on;
}

static enum sweep_need tell_swept(struct executor *executor)
{
    enum sweep_need most = SWEEP_NONE;
    struct attempt *attempt, *next;
    DL_FOREACH_SAFE(executor->attempts, attempt, next)
    {
        if (!attempt->started || !attempt->kind->swept)
            continue;
        enum sweep_need need = attempt->kind->swept(attempt);
        most = need > most ? need : most;
    }
    return most;
}

static void plan_sweep(struct executor *executor, enum sweep_need need)
{
    static const uint64_t fixed_ms[] = {
        [SWEEP_NONE] = SWEEP_IDLE_MS, [SWEEP_GRACE] = SWEEP_GRACE_MS};
    uint64_t ms = need == SWEEP_SOON ? executor->sweep_delay_ms : fixed_ms[need];
    uv_timer_start(&executor->sweep_timer, on_sweep_timer, ms, 0);
    if (executor->sweep_delay_ms < SWEEP_LAST_MS)
        executor->sweep_delay_ms *= 2;
}

static void sweep(struct executor *executor)
{
    lend_spare(executor);
    if (sweep_children(executor))
        plan_sweep(executor, tell_swept(executor));
    else
        uv_idle_start(&executor->turn, on_turn);
    keep_spare(executor);
}

/* As the kernel or a disk that does not answer has it: the loop goes on, and who starts nothing
 * must be told. */
static void warn_of_hanging_start(struct executor *executor)
{
    const struct family *family = children_longest_awaited(&executor->children);
    int64_t waited_ms = family ? (clock_mono_us() - family->awaited_since_us) / 1000 : 0;
    bool hangs = family && waited_ms >= executor->options.start_wait_ms;
    if (hangs && !executor->start_hangs)
        log_warning("the start of a task's process does not come back; two of them keep all others "
                    "from starting",
                    log_text("attempt", family->name), log_int("waited_ms", waited_ms));
    executor->start_hangs = hangs;
}

static void on_sweep_timer(uv_timer_t *timer)
{
    warn_of_hanging_start(timer->data);
    sweep(timer->data);
}

void executor_sweep_soon(struct executor *executor)
{
    executor->sweep_wanted = true;
    executor->sweep_delay_ms = SWEEP_FIRST_MS;
    uv_idle_start(&executor->turn, on_turn);
}

/* One sweep serves all attempts that ended in the turn before. */
static void on_turn(uv_idle_t *idle)
{
    struct executor *executor = idle->data;
    if (executor->sweep_wanted || executor->sweep_goes_on)
        sweep(executor);
    start_quick(executor);
    start_slow(executor);
    if (!executor->sweep_wanted && !executor->sweep_goes_on && !executor->quick.first &&
        !may_start_slow(executor))
        uv_idle_stop(idle);
}
