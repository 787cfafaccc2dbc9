/* One connection to PostgreSQL on the loop, in pipeline mode, that comes back by itself.
 *
 * A link connects in the thread pool, prepares the statements of its table there, and then belongs
 * to the loop. Requests are sent as they come, each its own transaction that ends with its own
 * Sync; replies come in the order of sending, after the commit. When the connection is lost, or a
 * reply is overdue, the link takes another connection, after 50 ms at first and at most 2 s later
 * on, for ever. An idle link asks `SELECT 1` now and then, so that it knows.
 *
 * A reply is overdue when the request has been the oldest one under way for the reply timeout. The
 * server cancels a statement sooner than that, which fails alone (PG_SLOW) and leaves the
 * connection and its neighbours as they are. So does a request whose own deadline is over: it may
 * only have waited for its turn.
 *
 * Every request ends with exactly one call of its callback, never before pg_send has returned.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "store/pg_failure.h"
#include "store/pg_params.h"
#include "store/pg_rows.h"

struct pg_statement {
    const char *name;
    const char *sql;
    int repeat_parameter; /* the bool $n that becomes true when a request is sent again; 0: none */
    enum pg_type types[PG_MAX_PARAMS + 1]; /* of $1, $2, …; ends with 0 */
};

struct pg_link;

struct pg_link_options {
    uv_loop_t *loop;
    const char *conninfo;                  /* a libpq URI or connection string; copied */
    const struct pg_statement *statements; /* outlives the link; may be NULL */
    int statement_count;
    const char *const *channels; /* to LISTEN on, NULL at the end; outlives the link; may be NULL */
    int reply_timeout_ms;        /* an overdue reply replaces the connection; 0: 10 s */
    int ping_period_ms;          /* an idle link asks `SELECT 1` this often; 0: 5 s */

    /* The callbacks may be NULL. `ensure` runs in a worker thread before each attempt to connect,
     * perhaps in several links' workers at once; a failure counts as a failed attempt. */
    int (*ensure)(void *context, struct error *error);
    /* The link came up; or it was lost or could not be made (once an outage, with the reason). */
    void (*on_state)(void *context, struct pg_link *link, bool up, const char *reason);
    void (*on_notify)(void *context, const char *channel, const char *payload);
    /* The reply to this statement is overdue: it is cancelled. */
    void (*on_overdue)(void *context, const char *statement);
    void *context;
};

/* Begins to connect; never fails: see on_state. */
struct pg_link *pg_link_open(const struct pg_link_options *options);

enum pg_send_flags {
    /* Safe to send twice: kept when the connection is lost or the failure is PG_RETRY or
     * PG_RESOURCE, and sent again after a pause until its deadline. */
    PG_REPEATABLE = 1,
    /* May wait for a link that is down. Without it such a request fails with PG_AWAY, unless the
     * link is being made for the first time. */
    PG_WAIT = 2,
    /* Goes before all that waits. */
    PG_FIRST = 4,
    /* With PG_REPEATABLE: changes nothing, so that a connection that breaks fails it at once, as if
     * it had not been sent. After a reply that was overdue, which may be another's, it goes again.
     */
    PG_READ = 8,
};

struct pg_call {
    int statement; /* index in the link's table */
    unsigned flags;
    int deadline_ms; /* for all sendings together; 0: none but the link's reply timeout for each */
};

/* One of `rows` and `failure` is NULL. Both are valid until the callback returns. */
typedef void (*pg_reply_cb)(void *context, const struct pg_rows *rows,
                            const struct pg_failure *failure);

/* Takes the bytes of `params` (NULL where there are none) and leaves it empty. After pg_link_close
 * the request may fail as late as in pg_link_free. */
void pg_send(struct pg_link *link, const struct pg_call *call, struct pg_params *params,
             pg_reply_cb on_reply, void *context);

struct pg_link_stats {
    bool up;
    int waiting;   /* requests not sent yet, or to be sent again */
    int in_flight; /* requests whose reply has not come */
    uint64_t sent;
    uint64_t replies;
    uint64_t reconnects; /* connections made after the first */
    int64_t up_since_us; /* clock_boot_us(), valid while up */
    char last_error[512];
};
const struct pg_link_stats *pg_link_stats(const struct pg_link *link);

/* Fails what is still there with PG_AWAY and gives the connection up. From on_closed on, the link
 * has nothing to do with the loop, and waits for pg_link_free. */
void pg_link_close(struct pg_link *link, void (*on_closed)(void *context), void *context);
void pg_link_free(struct pg_link *link);
