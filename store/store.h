/* The store: this daemon's connections to PostgreSQL, and one call for each SQL function and query.
 *
 * Launches, claims, the engine's other calls, reads by id, lists and the output of tasks (logs.h)
 * have connections of their own, so that none waits behind the others and PostgreSQL works on them
 * side by side; a further one listens for hints. Everything that writes is safe to send twice and
 * is sent again when its connection is lost. Calls answer through a callback on the loop, never
 * before they return. What the engine must act upon (claimed tasks, attempts to stop, …) comes
 * through `on_answer`, whichever call brought it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "base/id.h"
#include "store/answer.h"
#include "store/batcher.h"
#include "store/pg_failure.h"
#include "store/pg_link.h"

struct store_options {
    uv_loop_t *loop;
    const char *conninfo; /* copied */
    int reply_timeout_ms;
    int max_batch;
    int64_t clock_offset_us; /* the database's clock less ours, as measured at the start */
    const char *spool_path;  /* see spool.h; copied */
    size_t max_spool;
    /* See struct pg_link_options. */
    int (*ensure)(void *context, struct error *error);
    void *ensure_context;
};

/* Why a daemon hints to the others. */
enum store_hints {
    HINT_READY = 1, /* tasks may be claimed */
    HINT_STOP = 2,  /* attempts that others hold must be stopped */
};

/* Who acts on what the calls bring; set once by the engine before its first call. */
struct store_events {
    /* Slots that a call about to be sent may fill with claimed tasks: at most `want`, 0 for none.
     */
    int (*reserve)(void *context, int want);
    /* The call has answered: the reservation is over, its claimed tasks come through on_answer
     * right after. */
    void (*release)(void *context, int count);
    void (*on_answer)(void *context, const struct answer *answer);
    /* Another daemon hints, for reasons of enum store_hints. */
    void (*on_hint)(void *context, unsigned hints);
    /* The engine's connection works, for the first time or again. */
    void (*on_up)(void *context);
    void *context;
};

struct store *store_open(const struct store_options *options);
void store_set_events(struct store *store, const struct store_events *events);
/* Fails what is under way; frees the store right after `on_closed`. */
void store_close(struct store *store, void (*on_closed)(void *context), void *context);

/* Are reads and launches possible now? And since when has the engine's connection worked and the
 * database's clock not been set forward (monotonic, boot time; 0 when it does not work)? */
bool store_is_up(const struct store *store);
/* Calls back when store_is_up has become true; one caller, of a store that is not up yet. */
void store_await_up(struct store *store, void (*on_up)(void *context), void *context);
int64_t store_steady_since_us(const struct store *store);
const char *store_last_error(const struct store *store);
/* The database's wall clock, by the last measurement; a change of our own does not move it. */
int64_t store_now_us(const struct store *store);
int64_t store_clock_offset_us(const struct store *store);
struct id_maker *store_id_maker(struct store *store);

/* --- the engine's calls ---------------------------------------------------------------------- */

/* The caller's, until on_done. */
struct store_launch {
    struct batch_item item;
    struct id id; /* made by id_make_workflow at created_us, database time */
    int64_t created_us;
    int64_t definition;        /* its id in the database */
    struct json_span payload;  /* checked JSON */
    const char *comment;       /* may be NULL */
    struct id relaunched_from; /* null id: none */
    const char *principal;     /* with a key: its user, "" without login */
    const char *key;           /* idempotency key, may be NULL */
    struct json_span request;  /* with a key: what a repeat must equal */
    /* Committed, when both are NULL. `answer` is REFUSED or DUPLICATE. */
    void (*on_done)(struct store_launch *launch, const struct answer *answer,
                    const struct pg_failure *failure);
};
/* Waits while the connection is away only if it was sent before; otherwise fails with PG_AWAY. */
void store_launch(struct store *store, struct store_launch *launch);
/* Of a call that names a version of a definition: there is no such row (any more). */
bool store_is_unregistered(const struct pg_failure *failure);
/* Launches that wait for their commit. */
int store_launches_open(const struct store *store);

/* Where an attempt's end stands on its way to the disk; see spool.h. */
struct store_spooling {
    enum { SPOOLING_HELD, SPOOLING_WRITING, SPOOLING_SAVED } state;
    uint64_t since_ms; /* of the loop's clock */
    struct store_finish *prev;
    struct store_finish *next;
};

/* The caller's, until on_done, which comes once the end is committed (or is known to mean nothing
 * any more), or the store is closed. */
struct store_finish {
    struct batch_item item;         /* the store's own, … */
    struct store_spooling spooling; /* … like this … */
    struct id node;                 /* … and this: whose attempt it was */
    struct id workflow;
    int position;
    int attempt;
    bool success;
    bool retryable;            /* may be tried again if the task's retry limit allows */
    struct json_span result;   /* checked JSON; none: null */
    const char *reason;        /* may be NULL */
    int exit_status;           /* -1: none */
    int signal;                /* 0: none */
    int64_t peak_memory_bytes; /* 0: not known; like cpu_us */
    int64_t cpu_us;
    void (*on_done)(struct store_finish *finish);
};
/* Waits as long as it takes. While the database does not take it, it is in the spool, too; what is
 * there when the store is closed is for the next daemon. */
void store_finish(struct store *store, struct store_finish *finish);
/* Sends those again that took the database too long, or that it refused for a reason which may
 * pass. */
void store_retry_finishes(struct store *store);
/* Commits what an earlier daemon left in the spool; before store_register_node. */
void store_replay(struct store *store, void (*on_replayed)(void *context), void *context);

/* One decided instant, or many of them collapsed into one row. */
struct store_fire {
    int64_t scheduled_us;
    const char *outcome; /* `ran`, `late` or `collapsed` */
    int64_t count;       /* collapsed: how many instants … */
    int64_t until_us;    /* … through this one */
    struct id id;        /* ran: of its workflow */
    int64_t created_us;
};

/* A schedule's decisions; the caller's, until on_done. */
struct store_firing {
    struct batch_item item;
    int64_t schedule;
    bool by_hand;      /* fires at once, also while paused; the cursor stays */
    int64_t seen_us;   /* the cursor that the decisions begin behind */
    int64_t cursor_us; /* where it goes */
    int64_t delay_us;  /* how long after its nominal time a fire is due */
    int64_t definition;
    struct json_span payload;
    const struct store_fire *fires;
    int fire_count;
    /* Where the schedule's cursor stands now; 0 when there is no such schedule; -1 when the call
     * failed with `failure`. */
    void (*on_done)(struct store_firing *firing, int64_t cursor_us,
                    const struct pg_failure *failure);
    /* Once for each of its fires that has a row, before on_done; may be NULL. */
    void (*on_fired)(struct store_firing *firing, const struct answer *fired);
    int64_t answered_cursor_us; /* the store's own */
};
void store_fire(struct store *store, struct store_firing *firing);
/* What is fired between these two, in one turn of the loop, goes together. */
void store_fires_hold(struct store *store);
void store_fires_send(struct store *store);

/* `on_done` may be NULL; answers went through on_answer before it. */
typedef void (*store_done_cb)(void *context, const struct pg_failure *failure);

/* Claims up to `slots` tasks, which the caller has reserved; released as for the batches. */
void store_claim(struct store *store, int slots, store_done_cb on_done, void *context);
/* Answers come to `each` (CANCELED, FINAL or MISSING) and to on_answer (STOP, ROOM). */
void store_cancel(struct store *store, const struct id *workflow, const char *reason,
                  answer_cb each, store_done_cb on_done, void *context);
void store_admit(struct store *store, const char *project, const char *name, store_done_cb on_done,
                 void *context);
/* Ends up to `limit` runs that are past their time limit. */
void store_expire(struct store *store, int limit, store_done_cb on_done, void *context);
/* A new instance `id` of a workflow that ended without success, taking over what succeeded. `each`
 * gets REFUSED, MISSING or FINAL when there is none to be made. */
void store_relaunch_failed(struct store *store, const struct id *id, const struct id *original,
                           int64_t created_us, answer_cb each, store_done_cb on_done,
                           void *context);
/* Hints to other daemons, for reasons of enum store_hints; not sent more often than the caller
 * asks.
 */
void store_hint(struct store *store, unsigned hints);

/* --- nodes ----------------------------------------------------------------------------------- */

struct store_node {
    struct id id;
    const char *host;
    const char *boot_id;
    const char *state_directory;
    struct id directory_id;
    const char *version;
    const char *const *queues; /* NULL at the end */
    int slots;
    int64_t max_input;
};
/* From now on the calls are those of this node. */
void store_register_node(struct store *store, const struct store_node *node, store_done_cb on_done,
                         void *context);
struct store_held {
    struct id workflow;
    int position;
    int attempt;
};
/* `state`: active, draining or stopped. */
void store_heartbeat(struct store *store, const char *state, const char *digest,
                     const struct store_held *held, int count, store_done_cb on_done,
                     void *context);
/* Ends up to `limit` attempts that dead nodes hold; MORE says that there are others. */
void store_reap(struct store *store, int64_t lease_ms, int limit, store_done_cb on_done,
                void *context);
struct node_row {
    struct id id;
    const char *host;
    const char *version;
    struct pg_array queues; /* texts */
    int64_t slots;
    const char *state; /* active, draining, stopped or dead */
    const char *digest;
    int64_t started_us;
    int64_t heartbeat_us;
    int64_t running;
};
typedef void (*node_row_cb)(void *context, const struct node_row *row);
/* Newest first. */
void store_list_nodes(struct store *store, int64_t limit, int64_t offset, node_row_cb each,
                      store_done_cb on_done, void *context);
/* `each` gets the node as it is now, if there is one. */
void store_drain_node(struct store *store, const struct id *node, node_row_cb each,
                      store_done_cb on_done, void *context);

/* --- clearing away --------------------------------------------------------------------------- */

/* `on_cleared` gets how many rows went, at most about `limit`, or why none did. */
typedef void (*cleared_cb)(void *context, int64_t count, const struct pg_failure *failure);
void store_clear_workflows(struct store *store, int default_offset, int limit,
                           cleared_cb on_cleared, void *context);
void store_clear_history(struct store *store, const int64_t *loaded, int loaded_count,
                         int64_t fires_age_ms, int limit, cleared_cb on_cleared, void *context);

/* Measures the clocks' offset anew. */
void store_measure_clock(struct store *store);

/* --- definitions ----------------------------------------------------------------------------- */

/* `json` as register_definitions and register_schedules in migrations/0006_definitions.sql take it.
 * `each` is called for every element in order, then on_done. */
void store_register_definitions(struct store *store, struct json_span json,
                                void (*each)(void *context, int place, int64_t id),
                                store_done_cb on_done, void *context);
void store_register_schedules(struct store *store, struct json_span json,
                              void (*each)(void *context, int place, int64_t id, int64_t anchor_us,
                                           int64_t cursor_us),
                              store_done_cb on_done, void *context);
struct store_file {
    const char *name;
    const char *text; /* NULL: the file is there, but its text is not to be remembered */
    size_t size;
};
void store_remember_files(struct store *store, const char *host, const char *directory,
                          const struct store_file *files, int count, store_done_cb on_done,
                          void *context);
void store_recall_files(struct store *store, const char *host, const char *directory,
                        void (*each)(void *context, const struct store_file *file),
                        store_done_cb on_done, void *context);

/* --- reading --------------------------------------------------------------------------------- */

/* Valid until the callback returns. Instants are 0 and text NULL where there is nothing. */
struct workflow_row {
    struct id id;
    const char *project;
    const char *name;
    const char *status;
    bool periodic;
    int64_t created_us;
    int64_t updated_us;
    int64_t started_us;
    int64_t finished_us;
    int64_t scheduled_us;
    struct id relaunched_from;
    const char *reason;
    const char *comment;
    struct json_span payload; /* none when it was not asked for */
};

struct task_row {
    int position;
    const char *key;
    const char *status;
    bool is_hook;
    int attempt;
    const char *queue;
    struct id node;
    int64_t created_us;
    int64_t updated_us;
    int64_t started_us;
    int64_t finished_us;
    const char *reason;
    struct json_span result;
    struct pg_array previous; /* positions */
};

/* `row` is NULL when there is none. */
typedef void (*workflow_cb)(void *context, const struct workflow_row *row,
                            const struct pg_failure *failure);
void store_find_workflow(struct store *store, const struct id *id, bool with_payload,
                         workflow_cb on_row, void *context);
/* An attempt that began. */
struct attempt_row {
    int position;
    int attempt;
    struct id node;
    int64_t started_us;
    int64_t finished_us;
    int exit_status;           /* -1: none */
    int signal;                /* 0: none */
    int64_t peak_memory_bytes; /* 0: not known; like cpu_us */
    int64_t cpu_us;
    const char *reason;
    struct json_span result;
};
/* Pages of workflows and the tasks of one are read in slices of about so many bytes, so that
 * neither PostgreSQL's reply nor what is made of it is ever much larger: only when a single row is,
 * which then is a slice of its own. A megabyte is the usual bound of a payload and of a result. */
#define STORE_SLICE_BYTES (1024 * 1024)
/* More rows than these are not looked at for a quick reply, which has to know beforehand that they
 * fit. */
#define STORE_QUICK_ROWS 1000
#define STORE_QUICK_TASKS 128

/* The end of a slice, whose rows went to `each`. */
struct store_slice {
    bool is_cut; /* rows that were asked for are left */
    struct id
        page_end; /* the workflow at the page's limit; null id: none, or it was not looked for */
};
/* One of `slice` and `failure` is NULL. */
typedef void (*store_slice_cb)(void *context, const struct store_slice *slice,
                               const struct pg_failure *failure);

typedef void (*task_row_cb)(void *context, const struct task_row *row);
/* The first tasks in execution order. As quick as can be, for what fits into one slice: it is cut
 * where a result is large. */
void store_find_tasks(struct store *store, const struct id *workflow, task_row_cb each,
                      store_slice_cb on_slice, void *context);

/* Where the tasks of a workflow go on. */
struct task_place {
    int position; /* behind this task; -1: from the first one on */
    int attempt;  /* behind this attempt of it; 0: behind the task itself */
};
/* The next tasks; with `each_attempt` (may be NULL) each is followed by its attempts, by number. At
 * most `limit` of both. */
void store_slice_tasks(struct store *store, const struct id *workflow, struct task_place after,
                       int64_t limit, task_row_cb each,
                       void (*each_attempt)(void *context, const struct attempt_row *row),
                       store_slice_cb on_slice, void *context);

/* NULL, 0 or the null id: any. */
struct workflow_filter {
    bool with_payload;
    const char *project;
    const char *name;
    const char *const *statuses; /* NULL at the end */
    const bool *periodic;
    int64_t created_after_us;
    int64_t created_before_us;
    const char *comment; /* a part of it */
    struct id before;    /* workflows older than this one … */
    struct id until;     /* … and none older than this one; only in slices */
    int64_t limit;
    int64_t offset;
};
typedef void (*workflow_row_cb)(void *context, const struct workflow_row *row);
/* Newest first. As quick as can be, for a page that fits into one slice: it is cut where a payload
 * is large. */
void store_list_workflows(struct store *store, const struct workflow_filter *filter,
                          workflow_row_cb each, store_slice_cb on_slice, void *context);
/* As many as fit into a slice. */
void store_slice_workflows(struct store *store, const struct workflow_filter *filter,
                           workflow_row_cb each, store_slice_cb on_slice, void *context);

struct schedule_row {
    int64_t id;
    const char *project;
    const char *name;
    const char *identity;
    const char *trigger;
    const char *timezone;
    const char *catchup;
    const char *comment;
    const char *state; /* active, paused or removed */
    int64_t last_us;
};

struct fire_row {
    int64_t schedule;
    int64_t scheduled_us;
    const char *outcome;
    struct id workflow;
    int64_t count; /* collapsed only, like until_us */
    int64_t until_us;
    int64_t decided_us;
};

/* Those of a workflow, or the one with the id; all of them when both are unset. */
struct schedule_choice {
    int64_t id;           /* 0: not by id */
    const char *fullname; /* NULL: not by name */
};

typedef void (*schedule_row_cb)(void *context, const struct schedule_row *row);

void store_list_schedules(struct store *store, const struct schedule_choice *choice, int64_t limit,
                          int64_t offset, schedule_row_cb each, store_done_cb on_done,
                          void *context);
/* Pauses or resumes them; `each` gets them as they are now. `comment` may be NULL. */
void store_pause_schedules(struct store *store, const struct schedule_choice *choice, bool paused,
                           const char *comment, schedule_row_cb each, store_done_cb on_done,
                           void *context);
/* Newest first. */
void store_list_fires(struct store *store, const struct schedule_choice *choice, int64_t limit,
                      int64_t offset, void (*each)(void *context, const struct fire_row *row),
                      store_done_cb on_done, void *context);
