/* This daemon as a node: its row, its heartbeat, and what it learns from it. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "executor/leftovers.h"
#include "scheduler/engine_internal.h"

/* Claims stop before others may declare the node dead: at this part of the lease. */
#define LEASE_PERCENT 80
/* Offsets of the clocks that are worth a warning. */
#define CLOCK_APART_US INT64_C(1000000)
/* Between heartbeats that hints ask for. */
#define BEAT_US 100000
/* Longer than any node has been dead: only what the state directory's lock proves dead is reaped.
 */
#define NOBODY_MS (INT64_C(100) * 365 * 86400 * 1000)

bool node_lease_holds(const struct engine *engine)
{
    return clock_boot_us() - engine->renewed_us <
           engine->options.lease_ms * 1000 * LEASE_PERCENT / 100;
}

/* --- beginning ------------------------------------------------------------------------------- */

static void look_around(struct engine *engine);

static void on_heartbeat(uv_timer_t *timer)
{
    struct engine *engine = timer->data;
    store_retry_finishes(engine->options.store);
    node_beat(engine);
    look_around(engine);
}

static void on_past_reaped(void *context, const struct pg_failure *failure)
{
    struct engine *engine = context;
    (void)failure; /* then its attempts end with its lease */
    CRASH_POINT("past-reaped");
    if (engine->on_started != NULL) {
        void (*on_started)(void *) = engine->on_started;
        engine->on_started = NULL;
        on_started(engine->started_context);
    }
    engine->ready = true;
    engine_claim(engine);
}

static void on_registered(void *context, const struct pg_failure *failure)
{
    struct engine *engine = context;
    if (failure != NULL) {
        engine->rebirth = true; /* with the next heartbeat */
        return;
    }
    if (engine->stopped)
        return; /* its lease runs out */
    CRASH_POINT("registered");
    engine->started = true;
    store_measure_clock(engine->options.store);
    log_info("node registered", log_id("node", &engine->options.node.id));
    store_reap(engine->options.store, NOBODY_MS, engine->reap_pace.now, on_past_reaped, engine);
    CRASH_POINT("reap-sent");
}

static void register_node(struct engine *engine)
{
    struct store_node *node = &engine->options.node;
    struct error error;
    engine->started = engine->rebirth = false;
    node->id = id_random();
    CRASH_POINT("before-note");
    if (leftovers_note(node->state_directory, &node->id, &error) < 0)
        log_warning("should this daemon be killed, the next one will not find its tasks' processes",
                    log_error_text(&error));
    engine->renewed_us = clock_boot_us();
    CRASH_POINT("before-registration");
    store_register_node(engine->options.store, &engine->options.node, on_registered, engine);
    CRASH_POINT("registration-sent");
}

void node_start(struct engine *engine)
{
    uv_timer_start(&engine->heartbeat, on_heartbeat, (uint64_t)engine->options.heartbeat_ms,
                   (uint64_t)engine->options.heartbeat_ms);
    register_node(engine);
}

/* --- heartbeat ------------------------------------------------------------------------------- */

struct beat {
    struct engine *engine;
    int64_t sent_us; /* boot-time clock */
};

/* Once they have differed for two heartbeats: files do not reach all machines at once. */
static void watch_differing(struct engine *engine)
{
    int *differing = &engine->stats.differing;
    if (engine->differing_heard > 0 && *differing > 0 && !engine->differing_warned)
        log_warning("other daemons have other definition files than this one; see GET /api/nodes",
                    log_int("nodes", *differing));
    engine->differing_warned =
        engine->differing_heard > 0 && (engine->differing_warned || *differing > 0);
    *differing = engine->differing_heard;
    engine->differing_heard = 0;
}

static void on_beat(void *context, const struct pg_failure *failure)
{
    struct beat *beat = context;
    struct engine *engine = beat->engine;
    CRASH_POINT("beat-answered");
    engine->beating = false;
    if (failure == NULL) {
        bool lapsed = !node_lease_holds(engine);
        engine->renewed_us = beat->sent_us;
        engine->lapse_told = false;
        watch_differing(engine);
        if (engine->reserved == 0)
            engine->early_count = 0; /* what was claimed is known by now */
        if (lapsed) {
            log_info("lease renewed; claiming again");
            engine_claim(engine);
        }
    }
    free(beat);
    if (engine->beat_again)
        node_beat_soon(engine);
}

static void watch_lease(struct engine *engine)
{
    if (engine->lapse_told || node_lease_holds(engine))
        return;
    engine->lapse_told = true;
    log_warning("the lease has lapsed; no task is claimed until a heartbeat is answered");
}

/* The database's clock decides what is due, so a wrong one of ours does no harm; but somebody
 * should know. */
static void watch_clock(struct engine *engine)
{
    int64_t offset_us = store_clock_offset_us(engine->options.store);
    bool apart = offset_us > CLOCK_APART_US || offset_us < -CLOCK_APART_US;
    if (apart && !engine->clock_warned)
        log_warning("this machine's clock and the database's are apart; the database's counts",
                    log_int("offset_ms", offset_us / 1000));
    engine->clock_warned = apart;
}

/* A daemon whose own connection was broken may have missed the others' heartbeats, and heartbeats
 * by a clock that was then set forward look old: so it waits a whole lease. */
static bool may_reap(const struct engine *engine)
{
    int64_t since_us = store_steady_since_us(engine->options.store);
    return since_us != 0 && clock_boot_us() - since_us > engine->options.lease_ms * 1000;
}

static void on_reaped(void *context, const struct pg_failure *failure)
{
    struct engine *engine = context;
    engine->reaping = false;
    if (failure == NULL)
        pace_faster(&engine->reap_pace);
    else if (failure->class == PG_SLOW)
        pace_slower(&engine->reap_pace, engine->reap_pace.now);
    if (failure == NULL && engine->reap_again)
        node_reap(engine);
}

void node_reap(struct engine *engine)
{
    engine->reap_again = engine->reaping;
    if (engine->reaping)
        return;
    engine->reaping = true;
    store_reap(engine->options.store, may_reap(engine) ? engine->options.lease_ms : NOBODY_MS,
               engine->reap_pace.now, on_reaped, engine);
}

static bool is_alive(const struct engine *engine)
{
    return engine->started && !engine->rebirth && !engine->signed_off;
}

/* What is done beside a heartbeat, and need not be done for a hint. */
static void look_around(struct engine *engine)
{
    if (!is_alive(engine))
        return;
    watch_lease(engine);
    store_measure_clock(engine->options.store);
    watch_clock(engine);
    node_reap(engine);
}

void node_beat(struct engine *engine)
{
    if (engine->stopped)
        return;
    if (engine->rebirth && engine->running == 0) {
        register_node(engine);
        return;
    }
    engine->beat_again = engine->beating;
    if (!is_alive(engine) || engine->beating)
        return;
    engine->beating = true;
    engine->beaten_us = clock_mono_us();
    struct store_held *held = mem_new((size_t)engine->running + 1, sizeof *held);
    int count = 0;
    for (struct run *run = engine->runs; run != NULL; run = run->hh.next)
        held[count++] = run->held;
    struct beat *beat = mem_new(1, sizeof *beat);
    *beat = (struct beat){engine, clock_boot_us()};
    store_heartbeat(engine->options.store, engine->draining ? "draining" : "active", engine->digest,
                    held, count, on_beat, beat);
    CRASH_POINT("beat-sent");
    free(held);
}

static void on_beat_due(uv_timer_t *timer)
{
    node_beat(timer->data);
}

void node_beat_soon(struct engine *engine)
{
    int64_t wait_us = engine->beaten_us + BEAT_US - clock_mono_us();
    if (!engine->stopped && !uv_is_active((uv_handle_t *)&engine->beat))
        uv_timer_start(&engine->beat, on_beat_due, wait_us > 0 ? (uint64_t)wait_us / 1000 + 1 : 0,
                       0);
}

void node_is_dead(struct engine *engine)
{
    if (engine->rebirth)
        return;
    log_error("another daemon has declared this node dead; stopping its tasks and beginning anew",
              log_id("node", &engine->options.node.id));
    engine->rebirth = true;
    run_stop_all(engine, STOP_FENCED);
}
