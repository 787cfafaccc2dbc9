/* What the files that make up the engine share. */
#pragma once

#include <uthash.h>

#include "base/memory.h"
#include "base/pace.h"
#include "scheduler/action.h"
#include "scheduler/engine.h"
#include "scheduler/log_writer.h"

/* An attempt that this node holds: from its claim until its end is committed. */
struct run {
    struct engine *engine;
    struct store_held held; /* the key in engine->runs; padding zeroed */
    struct store_finish finish;
    struct attempt *attempt; /* NULL before its start and after its end */
    struct run_log *log;     /* NULL until it has printed something, and after its end */
    struct arena arena;      /* what it was started with; emptied at its end */
    const char *project;     /* what the log calls it, in the arena; NULL for a noop */
    const char *name;
    const char *key;
    struct attempt_spec spec;
    struct json_span input;
    struct action_retry retry;
    char *result;
    enum stop_reason stop; /* the first one that was heard of */
    uv_timer_t *later;     /* waits for room for a process */
    uint64_t waited_ms;    /* the last time that it did; 0: never, or it has started since */
    UT_hash_handle hh;
};

struct engine {
    struct engine_options options;
    struct log_writer *logs;
    char *home; /* HOME of tasks that run as the daemon's own user */
    struct run *runs;
    int running;           /* slots taken: runs */
    int ending;            /* those of them that have ended, and whose end is not committed */
    int reserved;          /* slots that calls under way may fill */
    int waiting;           /* runs that have found no room for a process, and are not started yet */
    uint64_t no_room_said; /* why: bits by errno; forgotten at a start when nobody waits */
    int taken;             /* tasks claimed by the call that is answered just now */
    bool claiming;
    struct pace claim_pace; /* tasks that one claim asks for */
    bool reaping;           /* a call is under way, … */
    bool reap_again;        /* … and there is more to be done */
    struct pace reap_pace;  /* attempts that one call ends */
    bool backlog;           /* the last claim came back full */
    bool skipped;           /* a claim left out workflows that were locked */
    bool ready;             /* something was left unclaimed by another call */
    bool started;
    bool stopping;
    bool draining;
    uv_timer_t poll;
    uv_timer_t again;   /* a claim, right after the callback under way or a little later */
    uv_timer_t settled; /* while stopping: a call that might have claimed tasks has ended */
    uv_timer_t later;   /* the next attempt of a task that is to be tried again */
    uv_timer_t hint;    /* to other daemons, when the last one was too short ago */
    uv_timer_t heartbeat;
    uv_timer_t beat;     /* one between, asked for by another daemon's hint */
    int64_t beaten_us;   /* monotonic: when the last heartbeat was sent */
    bool beating;        /* a heartbeat is under way */
    bool beat_again;     /* and another one was asked for meanwhile */
    uv_timer_t deadline; /* of stopping */
    int64_t renewed_us;  /* boot-time clock: when the last answered heartbeat was sent */
    bool lapse_told;
    bool clock_warned;
    int differing_heard; /* by the heartbeat that is answered just now */
    bool differing_warned;
    int64_t hinted_us; /* monotonic */
    unsigned hints;    /* to be sent: enum store_hints */
    char digest[80];
    struct store_held *early; /* attempts to stop whose claim has not been heard of yet */
    int early_count;
    bool grace_over;
    bool awaits_ends;  /* nothing runs any more, only the database may be waited for */
    bool forgoes_logs; /* it is not waited for with those that are not written */
    bool signed_off;   /* has said in the tables that it stopped */
    bool stopped;      /* the store may be closed: no timer asks it for anything any more */
    bool rebirth;      /* declared dead, or not registered */
    void (*on_started)(void *context);
    void *started_context;
    void (*on_stopped)(void *context);
    void *stopped_context;
    void (*on_closed)(void *context);
    void *closed_context;
    int handles_left;
    struct engine_stats stats;
};

/* Slots are free and claims are allowed. */
bool engine_accepts(const struct engine *engine);
/* Claims if there is room and a reason. */
void engine_claim(struct engine *engine);
/* The same once the callback under way, and all that it brings, is over. */
void engine_claim_soon(struct engine *engine);
void engine_check_stopped(struct engine *engine);

/* What tasks get as HOME, as new memory; asks the user database, so once at the start. */
char *run_home_directory(void);
/* A claimed task begins. */
void run_begin(struct engine *engine, const struct answer *claimed);
struct run *run_find(struct engine *engine, const struct id *workflow, int position, int attempt);
void run_stop(struct run *run, enum stop_reason why);
void run_stop_all(struct engine *engine, enum stop_reason why);

void node_start(struct engine *engine);
/* The node was declared dead: everything stops, then it registers as a new one. */
void node_is_dead(struct engine *engine);
/* Sends a heartbeat; while one is under way, right after it. */
void node_beat(struct engine *engine);
/* The same for a hint: a tenth of a second after the one before, however many hints there are. */
void node_beat_soon(struct engine *engine);
/* Ends what dead nodes hold; while a call for that is under way, right after it. */
void node_reap(struct engine *engine);
/* The lease has not run out, by a clock that counts suspend. */
bool node_lease_holds(const struct engine *engine);
