#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "scheduler/engine_internal.h"

/* While there is a backlog a claim waits until one slot in so many is free, but not longer than
 * this: a claim for two tasks costs the database half as much as one for twenty. */
#define GATHER_SLOTS 8
#define GATHER_MS 2
/* The most tasks that one call claims, or ends of nodes that died: with more it would come near to
 * DIRECTOR_QUERY_TIMEOUT where the database is slow, and its answer carries the input of them all.
 */
#define CALL_TASKS 1000
/* After a claim that skipped workflows which another transaction held. */
#define AGAIN_MS 10
/* Hints to other daemons: at most ten a second, since NOTIFY takes a lock that the whole cluster
 * shares. */
#define HINT_US 100000
/* Attempts to stop that were not claimed yet as far as this daemon knows: more than this many at a
 * time are left to the heartbeat. */
#define EARLY_MAX 1024
/* How long the database may take for the last ends and logs when the daemon stops; then the ends
 * are left in the spool. */
#define LAST_ENDS_MS 10000

bool engine_accepts(const struct engine *engine)
{
    return engine->started && !engine->stopping && !engine->draining && !engine->rebirth &&
           node_lease_holds(engine);
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int free_slots(const struct engine *engine)
{
    int slots = engine->options.node.slots - engine->running - engine->reserved;
    return slots > 0 ? slots : 0;
}

/* --- claiming -------------------------------------------------------------------------------- */

struct claim {
    struct engine *engine;
    int slots;
};

static void on_claimed(void *context, const struct pg_failure *failure)
{
    struct claim *claim = context;
    struct engine *engine = claim->engine;
    engine->claiming = false;
    engine->backlog = failure == NULL && engine->taken >= claim->slots;
    if (failure == NULL) {
        pace_faster(&engine->claim_pace);
    } else if (failure->class == PG_SLOW) {
        pace_slower(&engine->claim_pace, claim->slots);
        engine->ready = true;
    }
    free(claim);
    if (engine->ready || engine->backlog)
        engine_claim_soon(engine);
}

void engine_claim(struct engine *engine)
{
    int slots = smaller(free_slots(engine), engine->claim_pace.now);
    if (engine->claiming || slots == 0 || !engine_accepts(engine) ||
        !(engine->ready || engine->backlog))
        return;
    struct claim *claim = mem_new(1, sizeof *claim);
    *claim = (struct claim){engine, slots};
    engine->claiming = true;
    engine->ready = false;
    engine->reserved += slots;
    CRASH_POINT("before-claim");
    store_claim(engine->options.store, slots, on_claimed, claim);
    CRASH_POINT("claim-sent");
}

static void on_poll(uv_timer_t *timer)
{
    struct engine *engine = timer->data;
    engine->ready = true;
    engine_claim(engine);
}

static void on_again(uv_timer_t *timer)
{
    struct engine *engine = timer->data;
    engine->ready = engine->ready || engine->skipped;
    engine->skipped = false;
    engine_claim(engine);
}

void engine_claim_soon(struct engine *engine)
{
    if (engine->stopping)
        return;
    bool few = free_slots(engine) < engine->options.node.slots / GATHER_SLOTS;
    if (!engine->backlog || !few)
        uv_timer_start(&engine->again, on_again, 0, 0);
    else if (!uv_is_active((uv_handle_t *)&engine->again))
        uv_timer_start(&engine->again, on_again, GATHER_MS, 0);
}

/* Somebody else holds workflows whose tasks are due: they are asked for again, but not in a tight
 * loop. */
static void on_skipped(struct engine *engine)
{
    engine->skipped = true;
    if (!engine->stopping)
        uv_timer_start(&engine->again, on_again, AGAIN_MS, 0);
}

/* The heartbeat tells what is to be stopped. */
static void on_hint(void *context, unsigned hints)
{
    struct engine *engine = context;
    if (hints & HINT_STOP)
        node_beat_soon(engine);
    if (hints & HINT_READY) {
        engine->ready = true;
        engine_claim(engine);
    }
}

/* After an outage nothing waits for a timer. */
static void on_up(void *context)
{
    struct engine *engine = context;
    if (engine->started && !node_lease_holds(engine))
        node_beat(engine);
    engine->ready = true;
    engine_claim(engine);
}

static int on_reserve(void *context, int own)
{
    struct engine *engine = context;
    if (engine->backlog || !engine_accepts(engine))
        return 0;
    int slots = smaller(free_slots(engine), CALL_TASKS - smaller(own, CALL_TASKS));
    engine->reserved += slots;
    return own + slots;
}

static void on_settled(uv_timer_t *timer)
{
    engine_check_stopped(timer->data);
}

static void on_release(void *context, int count)
{
    struct engine *engine = context;
    engine->reserved -= count;
    engine->taken = 0; /* the call's answers come right behind */
    if (engine->stopping)
        uv_timer_start(&engine->settled, on_settled, 0, 0);
    else if (!engine->claiming && (engine->ready || engine->backlog))
        engine_claim_soon(engine); /* a claim asks again itself */
}

static void on_hint_due(uv_timer_t *timer)
{
    struct engine *engine = timer->data;
    engine->hinted_us = clock_mono_us();
    store_hint(engine->options.store, engine->hints);
    engine->hints = 0;
}

static void hint_others(struct engine *engine, enum store_hints why)
{
    engine->hints |= why;
    int64_t wait_us = engine->hinted_us + HINT_US - clock_mono_us();
    if (uv_is_active((uv_handle_t *)&engine->hint))
        return;
    if (wait_us <= 0 || engine->stopped)
        on_hint_due(&engine->hint);
    else
        uv_timer_start(&engine->hint, on_hint_due, (uint64_t)wait_us / 1000 + 1, 0);
}

/* --- answers --------------------------------------------------------------------------------- */

/* A cancel can be answered before the launch that claimed: their connections differ. */
static void stop_early(struct engine *engine, const struct answer *answer)
{
    if (engine->early_count == EARLY_MAX)
        return;
    if (engine->early == NULL)
        engine->early = mem_new(EARLY_MAX, sizeof *engine->early);
    engine->early[engine->early_count++] =
        (struct store_held){answer->workflow, answer->position, answer->attempt};
}

static bool stopped_early(struct engine *engine, const struct answer *claimed)
{
    for (int i = 0; i < engine->early_count; i++) {
        const struct store_held *early = &engine->early[i];
        if (id_compare(&early->workflow, &claimed->workflow) == 0 &&
            early->position == claimed->position && early->attempt == claimed->attempt) {
            engine->early[i] = engine->early[--engine->early_count];
            return true;
        }
    }
    return false;
}

static void on_stop(struct engine *engine, const struct answer *answer)
{
    struct run *run = run_find(engine, &answer->workflow, answer->position, answer->attempt);
    if (run != NULL)
        run_stop(run, STOP_CANCELED);
    else if (id_compare(&answer->node, &engine->options.node.id) == 0)
        stop_early(engine, answer);
    else
        hint_others(engine, HINT_STOP);
}

static void on_claimed_task(struct engine *engine, const struct answer *answer)
{
    if (run_find(engine, &answer->workflow, answer->position, answer->attempt) != NULL)
        return; /* a repeated batch names it again */
    if (id_compare(&answer->node, &engine->options.node.id) != 0)
        return; /* claimed in a former life, which was declared dead: it is lost, or will be */
    if (!node_lease_holds(engine))
        return; /* we slept: it may be another's by now; if not, the heartbeat gives it back */
    CRASH_POINT("claimed");
    engine->taken++;
    run_begin(engine, answer);
    bool canceled = engine->early_count > 0 && stopped_early(engine, answer);
    if (canceled || engine->grace_over)
        run_stop(run_find(engine, &answer->workflow, answer->position, answer->attempt),
                 canceled ? STOP_CANCELED : STOP_NODE_STOPPING);
}

static void on_ended(struct engine *engine, const struct answer *answer)
{
    engine->stats.workflows_ended++;
    log_info("workflow ended", log_id("workflow", &answer->workflow),
             log_text("project", answer->project), log_text("name", answer->name),
             log_text("status", answer->status), log_text("reason", answer->reason));
}

static void on_left(struct engine *engine)
{
    bool any_queue = strcmp(engine->options.node.queues[0], "*") == 0;
    engine->ready = true;
    if (!any_queue || free_slots(engine) == 0 || !engine_accepts(engine))
        hint_others(engine, HINT_READY);
    engine_claim_soon(engine);
}

static void on_later(struct engine *engine, const struct answer *answer)
{
    int64_t delay_us = answer->at_us - store_now_us(engine->options.store);
    uint64_t delay_ms = delay_us > 0 ? (uint64_t)(delay_us + 999) / 1000 : 0;
    bool sooner = uv_is_active((uv_handle_t *)&engine->later) &&
                  uv_timer_get_due_in(&engine->later) <= delay_ms;
    if (!sooner && !engine->stopping)
        uv_timer_start(&engine->later, on_poll, delay_ms, 0);
}

static void on_dead(struct engine *engine, const struct answer *answer)
{
    if (id_compare(&answer->node, &engine->options.node.id) == 0) {
        node_is_dead(engine);
        return;
    }
    log_warning("node declared dead: its heartbeat was overdue; its attempts end as node_lost",
                log_id("node", &answer->node));
}

static void on_answer(void *context, const struct answer *answer)
{
    struct engine *engine = context;
    struct run *run;
    switch (answer->kind) {
    case ANSWER_CLAIMED:
        on_claimed_task(engine, answer);
        break;
    case ANSWER_ENDED:
        on_ended(engine, answer);
        break;
    case ANSWER_STOP:
        on_stop(engine, answer);
        break;
    case ANSWER_LOST:
        run = run_find(engine, &answer->workflow, answer->position, answer->attempt);
        if (run != NULL)
            run_stop(run, STOP_FENCED);
        break;
    case ANSWER_ROOM:
        CRASH_POINT("room-heard");
        store_admit(engine->options.store, answer->project, answer->name, NULL, NULL);
        CRASH_POINT("admit-sent");
        break;
    case ANSWER_LEFT:
        on_left(engine);
        break;
    case ANSWER_LATER:
        on_later(engine, answer);
        break;
    case ANSWER_DRAINING:
        engine_drain(engine);
        break;
    case ANSWER_DIFFERS:
        engine->differing_heard = (int)answer->count;
        break;
    case ANSWER_SKIPPED:
        on_skipped(engine);
        break;
    case ANSWER_DEAD:
        on_dead(engine, answer);
        break;
    case ANSWER_MORE:
        node_reap(engine);
        break;
    default: /* what concerns one caller went to it */
        break;
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static void on_logs_written(void *context)
{
    engine_check_stopped(context);
}

struct engine *engine_new(const struct engine_options *options)
{
    struct engine *engine = mem_new(1, sizeof *engine);
    engine->options = *options;
    engine->home = run_home_directory();
    pace_init(&engine->claim_pace, CALL_TASKS);
    pace_init(&engine->reap_pace, CALL_TASKS);
    uv_timer_t *const timers[] = {&engine->poll,  &engine->again,   &engine->settled,
                                  &engine->later, &engine->hint,    &engine->heartbeat,
                                  &engine->beat,  &engine->deadline};
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(options->loop, timers[i]);
        timers[i]->data = engine;
    }
    engine->logs = log_writer_new(&(struct log_writer_options){.loop = options->loop,
                                                               .store = options->store,
                                                               .on_idle = on_logs_written,
                                                               .context = engine});
    store_set_events(options->store, &(struct store_events){.reserve = on_reserve,
                                                            .release = on_release,
                                                            .on_answer = on_answer,
                                                            .on_hint = on_hint,
                                                            .on_up = on_up,
                                                            .context = engine});
    return engine;
}

static void on_replayed(void *context)
{
    node_start(context);
}

void engine_start(struct engine *engine, void (*on_started)(void *context), void *context)
{
    engine->on_started = on_started;
    engine->started_context = context;
    uv_timer_start(&engine->poll, on_poll, (uint64_t)engine->options.poll_ms,
                   (uint64_t)engine->options.poll_ms);
    store_replay(engine->options.store, on_replayed, engine);
}

void engine_drain(struct engine *engine)
{
    if (engine->draining)
        return;
    engine->draining = true;
    log_info("draining: what runs is finished, nothing new is taken",
             log_int("tasks", engine->running));
    node_beat(engine);
}

void engine_set_digest(struct engine *engine, const char *digest)
{
    snprintf(engine->digest, sizeof engine->digest, "%s", digest);
}

static void report_stopped(struct engine *engine)
{
    void (*on_stopped)(void *) = engine->on_stopped;
    if (on_stopped == NULL)
        return;
    engine->on_stopped = NULL;
    engine->stopped = true;
    if (uv_is_active((uv_handle_t *)&engine->hint))
        on_hint_due(&engine->hint);
    uv_timer_stop(&engine->hint);
    uv_timer_stop(&engine->deadline);
    uv_timer_stop(&engine->heartbeat);
    uv_timer_stop(&engine->beat);
    log_writer_stop(engine->logs);
    on_stopped(engine->stopped_context);
}

static void on_ends_overdue(uv_timer_t *timer);

static void on_stop_beat(void *context, const struct pg_failure *failure)
{
    (void)failure;
    report_stopped(context);
}

/* What was printed by attempts whose ends are committed, while the logs' connection was away. */
static bool awaits_logs(const struct engine *engine)
{
    return !engine->forgoes_logs && !log_writer_is_idle(engine->logs) &&
           store_is_up(engine->options.store);
}

static void forgo_logs(struct engine *engine)
{
    engine->forgoes_logs = true;
    uv_timer_start(&engine->deadline, on_ends_overdue, LAST_ENDS_MS, 0);
    engine_check_stopped(engine);
}

static void on_ends_overdue(uv_timer_t *timer)
{
    struct engine *engine = timer->data;
    if (engine->running == 0 && awaits_logs(engine)) {
        forgo_logs(engine);
        return;
    }
    if (engine->running > 0)
        log_warning("the database did not take the last results in time",
                    log_int("attempts", engine->running));
    report_stopped(engine);
}

/* A node that has signed off owns nothing any more, so calls under way that may claim tasks for it
 * come first. */
void engine_check_stopped(struct engine *engine)
{
    if (!engine->stopping || engine->stopped || engine->running > engine->ending)
        return;
    bool may_claim = engine->reserved > 0 && store_is_up(engine->options.store);
    if (may_claim)
        return;
    if (!engine->awaits_ends)
        uv_timer_start(&engine->deadline, on_ends_overdue, LAST_ENDS_MS, 0);
    engine->awaits_ends = true;
    if (engine->running > 0 || engine->signed_off || awaits_logs(engine))
        return;
    engine->signed_off = true;
    store_heartbeat(engine->options.store, "stopped", engine->digest, NULL, 0, on_stop_beat,
                    engine);
}

static void on_grace_over(uv_timer_t *timer)
{
    struct engine *engine = timer->data;
    if (engine->running > 0 && !engine->grace_over)
        log_warning("stopping the tasks that still run", log_int("tasks", engine->running));
    engine->grace_over = true;
    run_stop_all(engine, STOP_NODE_STOPPING);
    int64_t longest_ms = LAST_ENDS_MS;
    for (struct run *run = engine->runs; run != NULL; run = run->hh.next) {
        if (run->spec.grace_ms + LAST_ENDS_MS > longest_ms)
            longest_ms = run->spec.grace_ms + LAST_ENDS_MS;
    }
    uv_timer_start(&engine->deadline, on_ends_overdue, (uint64_t)longest_ms, 0);
}

void engine_stop(struct engine *engine, int64_t grace_ms, void (*on_stopped)(void *context),
                 void *context)
{
    engine->stopping = true;
    engine->on_stopped = on_stopped;
    engine->stopped_context = context;
    uv_timer_stop(&engine->poll);
    uv_timer_stop(&engine->again);
    uv_timer_stop(&engine->later);
    if (!engine->started) {
        report_stopped(engine);
        return;
    }
    if (engine->running > 0)
        log_info("waiting for running tasks", log_int("tasks", engine->running),
                 log_int("grace_ms", grace_ms));
    uv_timer_start(&engine->deadline, on_grace_over, (uint64_t)grace_ms, 0);
    engine_check_stopped(engine);
}

void engine_hurry(struct engine *engine)
{
    if (engine->awaits_ends && (!store_is_up(engine->options.store) || awaits_logs(engine))) {
        on_ends_overdue(&engine->deadline);
        return;
    }
    if (!engine->grace_over)
        on_grace_over(&engine->deadline);
    executor_kill_all(engine->options.executor, STOP_NODE_STOPPING);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct engine *engine = handle->data;
    if (--engine->handles_left > 0)
        return;
    void (*on_closed)(void *) = engine->on_closed;
    void *context = engine->closed_context;
    free(engine->early);
    free(engine->home);
    free(engine);
    on_closed(context);
}

void engine_close(struct engine *engine, void (*on_closed)(void *context), void *context)
{
    engine->on_closed = on_closed;
    engine->closed_context = context;
    log_writer_close(engine->logs);
    uv_timer_t *const timers[] = {&engine->poll,  &engine->again,   &engine->settled,
                                  &engine->later, &engine->hint,    &engine->heartbeat,
                                  &engine->beat,  &engine->deadline};
    engine->handles_left = sizeof timers / sizeof *timers;
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        uv_close((uv_handle_t *)timers[i], on_handle_closed);
}

struct engine_stats engine_stats(const struct engine *engine)
{
    struct engine_stats stats = engine->stats;
    stats.node = engine->options.node.id;
    stats.slots = engine->options.node.slots;
    stats.running = engine->running;
    stats.backlog = engine->backlog;
    stats.draining = engine->draining || engine->stopping;
    stats.lease = engine->started && !engine->rebirth && node_lease_holds(engine);
    return stats;
}
