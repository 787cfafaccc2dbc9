/* The executor runs attempts at tasks on the loop and reports how each ended.
 *
 * An attempt is handed over with executor_start, is queued, started soon (processes a few at a
 * time, on threads of libuv's pool, since the kernel keeps whoever starts one for up to some
 * milliseconds) and ends in exactly one call of its on_end. That call comes when nothing of the
 * attempt is left: its process is reaped, and so is whatever it left behind (its process group, its
 * session, and detached processes that carry its DIRECTOR_TASK_ID and DIRECTOR_ATTEMPT). Only what
 * cannot be killed (a process stuck in the kernel, or one of another user's) ends by deadline
 * instead, and says so. No callback fires before the call that asked for it has returned.
 *
 * The executor makes the daemon a child subreaper: orphans of its children become children of the
 * daemon. It kills only what it can attribute to an attempt, and reaps every dead child of the main
 * thread: nobody else waits for one of these by its number. What wipes its environment and detaches
 * itself cannot be attributed and escapes, unless attempts have control groups (options.cgroups):
 * nothing escapes these.
 *
 * One executor a process, on the main thread; SIGPIPE is ignored, descriptors 0 to 2 are open, and
 * the threads of libuv's pool have been made, which aborts where there is none to be had.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "executor/cgroup.h"
#include "executor/log_ring.h"

struct executor;
struct attempt;

struct executor_options {
    /* Time that sweeps, and as much that starts and the ends of those that were stopped before
     * theirs, may take in one turn of the loop; 0: 2,000. */
    int64_t turn_budget_us;
    int64_t kill_wait_ms;  /* from SIGKILL to giving up on what does not die; 0: 5,000 */
    int64_t start_wait_ms; /* until a start that does not come back is warned of; 0: 10,000 */
    /* These two outlive the executor. */
    const struct cgroup_tree *cgroups; /* where attempts get control groups; NULL: they have none */
    const char *launcher; /* the file of directord-exec, see executor/launch.h; NULL: not there */
};

/* `options` may be NULL. */
struct executor *executor_new(uv_loop_t *loop, const struct executor_options *options);

typedef void (*executor_close_cb)(void *context);
/* Kills what still runs (each reports its end first, as STOP_NODE_STOPPING), then frees the
 * executor and calls `done` (may be NULL). Takes at most kill_wait_ms, and what a start takes that
 * is under way. */
void executor_close(struct executor *executor, executor_close_cb done, void *context);

enum executor_kind {
    EXECUTOR_PROCESS, /* a program as a process of its own */
    EXECUTOR_NOOP,    /* nothing: ends with success in the next turn of the loop */
};

enum result_source {
    RESULT_FD,     /* JSON written to file descriptor 3 */
    RESULT_STDOUT, /* standard output: as JSON if it is, else as a JSON string */
    RESULT_NONE,   /* always null */
};

/* Why an attempt was stopped; echoed in its end. */
enum stop_reason {
    STOP_NONE,
    STOP_TIMED_OUT, /* the executor's own: spec.timeout_ms is over */
    STOP_CANCELED,
    STOP_NODE_STOPPING,
    STOP_FENCED, /* the attempt is no longer this node's */
};

enum attempt_outcome {
    ATTEMPT_SUCCESS,
    ATTEMPT_FAILED,       /* exit status other than 0, or a signal */
    ATTEMPT_SPAWN_FAILED, /* missing, not executable, arguments too long, no such directory … */
    ATTEMPT_BAD_RESULT,   /* exit status 0, but the result is no JSON or too large */
    ATTEMPT_TIMED_OUT,
    ATTEMPT_STOPPED, /* by attempt_stop; also when it was never started */
    ATTEMPT_NO_ROOM, /* never ran, for lack of pids, descriptors or memory: try again later */
};

struct attempt_end {
    enum attempt_outcome outcome;
    enum stop_reason why; /* for TIMED_OUT and STOPPED, else STOP_NONE */
    int error;            /* for SPAWN_FAILED and NO_ROOM: -EAGAIN …, else 0 */
    int exit_status;      /* -1 where there is none (a signal, never ran, did not die) */
    int signal;           /* that ended the process, else 0 */
    /* JSON text, NUL-terminated, or NULL for null. Success: the task's result. Anything else: an
     * object {"exception": "exit status 2", "traceback": "last lines of standard error"}. Freed
     * after on_end, unless on_end took it and left NULL. */
    char *result;
    size_t result_size;
    int64_t started_us; /* wall clock; both 0 when nothing was started */
    int64_t ended_us;
    bool left_behind; /* something of it could not be killed in time and may still live */
    /* Of all its processes; 0 where it is not known. Without a control group the peak is that of
     * the largest one, known when it is above the daemon's own: a process begins with the peak of
     * the one that it was spawned from (getrusage(2), ru_maxrss). */
    int64_t peak_memory_bytes;
    int64_t cpu_us;
};

/* The attempt is valid until this returns; its log (attempt_log) too. */
typedef void (*attempt_end_cb)(struct attempt *attempt, struct attempt_end *end, void *context);
/* The program runs. Before the end of an attempt that is a process, unless that never ran. */
typedef void (*attempt_start_cb)(void *context);
/* Output as it is read, in order. */
typedef void (*attempt_output_cb)(struct attempt *attempt, enum output_stream stream,
                                  const char *text, size_t size, int64_t at_us, void *context);

#define ATTEMPT_MAX_RESULT_BYTES (1024 * 1024)
#define ATTEMPT_LOG_LIMIT (1024 * 1024)

/* What to run. Zeroed fields have the meaning in brackets. Everything is copied, except `input`,
 * which is taken. For EXECUTOR_NOOP only `kind` counts. */
struct attempt_spec {
    enum executor_kind kind;
    /* At least a program, NULL at the end. Without a `/` it is sought in the PATH of envp. */
    const char *const *argv;
    const char *const *envp; /* the whole environment, `KEY=VALUE`, NULL at the end [none] */
    const char *cwd;         /* [/] */
    const char *user;  /* a name or a number; HOME is set if envp has none [the daemon's own] */
    const char *group; /* likewise [the user's] */
    struct cgroup_limits limits; /* [none] */
    char *input; /* for standard input, malloc'ed: the executor frees it [end of file at once] */
    size_t input_size;
    enum result_source result;
    size_t max_result_bytes; /* [ATTEMPT_MAX_RESULT_BYTES] */
    size_t log_limit;        /* bytes of output kept [ATTEMPT_LOG_LIMIT] */
    int64_t timeout_ms;      /* [no limit] */
    int64_t grace_ms;        /* between SIGTERM and SIGKILL [SIGKILL at once] */
    /* These get the context of executor_start [nobody listens]. */
    attempt_start_cb on_start;
    attempt_output_cb on_output;
};

/* Never fails: what is wrong is reported by `on_end`. The attempt lives until that has returned. */
struct attempt *executor_start(struct executor *executor, const struct attempt_spec *spec,
                               attempt_end_cb on_end, void *context);

/* SIGTERM (and SIGCONT) to all of it, after its grace SIGKILL. One that is still queued ends
 * without having been started, one whose start is under way has it as soon as it runs. The first
 * reason stays; stopping what ends already changes nothing.
 */
void attempt_stop(struct attempt *attempt, enum stop_reason why);
/* SIGKILL now, also in the middle of a grace. */
void attempt_kill(struct attempt *attempt, enum stop_reason why);
/* What was kept of its output, so far or in the end. */
const struct log_ring *attempt_log(const struct attempt *attempt);
/* Takes it over, in on_end; the attempt keeps nothing more. Freed with log_ring_done. */
struct log_ring attempt_take_log(struct attempt *attempt);
/* The process, or 0 before its start and for kinds without one. */
pid_t attempt_pid(const struct attempt *attempt);

/* Attempts whose end has not been reported: queued, running or being stopped. */
size_t executor_count(const struct executor *executor);
void executor_kill_all(struct executor *executor, enum stop_reason why);
