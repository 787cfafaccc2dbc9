/* A connection that one worker thread uses synchronously, where every wait has a deadline: the
 * beginning of a link, and all of a migration. Includes libpq, so only store/ uses it.
 */
#pragma once

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdint.h>

#include "store/pg_failure.h"
#include "store/pg_link.h"

struct pg_session {
    PGconn *connection;         /* NULL while there is none */
    int64_t deadline_us;        /* monotonic; set by the caller before a call that waits */
    int64_t patience_us;        /* the server may say nothing for so long; 0: until the deadline */
    const atomic_bool *give_up; /* true ends every wait early; may be NULL */
};

/* Connects to a server that accepts writes and sets the session up (UTC, UTF8, search path,
 * timeouts). 0 or -1. */
int pg_session_open(struct pg_session *session, const char *conninfo, int statement_timeout_ms,
                    struct pg_failure *failure);
/* Runs SQL with text parameters; without parameters it may be several statements. Returns the last
 * statement's result (text format, PQclear it), or NULL and the failure. */
PGresult *pg_session_query(struct pg_session *session, const char *sql, int parameter_count,
                           const char *const *parameters, struct pg_failure *failure);
/* Turns on pipeline mode and prepares the statements and channels in one round trip. 0 or -1. */
int pg_session_prepare(struct pg_session *session, const struct pg_statement *statements,
                       int statement_count, const char *const *channels,
                       struct pg_failure *failure);
void pg_session_close(struct pg_session *session);
