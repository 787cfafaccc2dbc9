/* What the executor and its kinds of attempts share. Private to this folder.
 *
 * A kind is one file with one `struct attempt_kind`, listed in executor.c. An attempt's way:
 * `prepare` copies what the start will need → queued → `start` → attempt_report (on_end is called)
 * → attempt_release (memory is freed). An attempt that is stopped while queued is reported without
 * `start`.
 */
#pragma once

#include <uv.h>

#include "executor/children.h"
#include "executor/executor.h"

struct attempt {
    struct executor *executor;
    const struct attempt_kind *kind;
    struct attempt *prev, *next; /* among all attempts */
    struct attempt *next_queued;
    attempt_end_cb on_end;
    void *context;
    enum stop_reason why; /* the first reason to stop it */
    bool started;
    bool reported;
};

/* How soon an attempt needs another sweep. */
enum sweep_need {
    SWEEP_NONE,
    SWEEP_GRACE, /* what it leaves behind until the leader ends is to be told, too */
    SWEEP_SOON,
};

struct attempt_kind {
    size_t size;     /* of its struct, which begins with a struct attempt */
    bool slow_start; /* few are under way at once; the end of a start is told by attempt_started */
    /* Takes over what the spec gives. */
    void (*prepare)(struct attempt *attempt, const struct attempt_spec *spec);
    /* Called from the loop; may report the end itself. */
    void (*start)(struct attempt *attempt);
    /* For attempts that are started and not reported; may find that it ends already. NULL when
     * starts report the end themselves. */
    void (*stop)(struct attempt *attempt, enum stop_reason why);
    void (*kill)(struct attempt *attempt, enum stop_reason why);
    /* After each sweep of the children, for started ones. May be NULL. */
    enum sweep_need (*swept)(struct attempt *attempt);
    /* The executor closes, and this one was reported with something left behind: release it. */
    void (*abandon)(struct attempt *attempt);
    /* Frees what the attempt owns, not the attempt. May be NULL. */
    void (*done)(struct attempt *attempt);
    /* Its log; and another has taken that over. Both NULL for a kind without output. */
    const struct log_ring *(*log)(const struct attempt *attempt);
    void (*forget_log)(struct attempt *attempt);
    pid_t (*pid)(const struct attempt *attempt);
};

extern const struct attempt_kind process_kind;
extern const struct attempt_kind noop_kind;

/* One read's worth, shared by all attempts: nothing in it outlives the call. */
#define EXECUTOR_SCRATCH_BYTES (64 * 1024)

struct attempt_queue {
    struct attempt *first, *last;
};

struct executor {
    uv_loop_t *loop;
    struct executor_options options;
    uv_idle_t turn; /* active while there is something to do in the next turn */
    uv_timer_t sweep_timer;
    struct children children;
    int spare_fd; /* given up for each sweep, which opens one file at a time; -1: somebody took it
                   */
    struct attempt *attempts;
    struct attempt_queue quick; /* all start in the next turn */
    struct attempt_queue slow;  /* a few at once */
    int starting;               /* of these */
    bool start_hangs;           /* and it was said */
    size_t count;
    bool sweep_wanted;
    bool sweep_goes_on; /* its time was up: the rest of it comes in the next turn */
    uint64_t sweep_delay_ms;
    bool closing;
    executor_close_cb on_closed;
    void *close_context;
    char scratch[EXECUTOR_SCRATCH_BYTES];
};

/* Tells the caller; end->result is freed unless it was taken. Once an attempt. */
void attempt_report(struct attempt *attempt, struct attempt_end *end);
/* The last act; never before attempt_report. */
void attempt_release(struct attempt *attempt);
/* A slow start is over, with whatever outcome. */
void attempt_started(struct attempt *attempt);
/* Reports and releases one that was stopped before anything of it ran. */
void attempt_report_unstarted(struct attempt *attempt);
/* Asks for a sweep of the children in the next turn. */
void executor_sweep_soon(struct executor *executor);
/* The exception's text of an attempt that was stopped. */
const char *stop_reason_text(enum stop_reason why);
