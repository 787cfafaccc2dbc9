/* One request of a link: what is sent, until when, and its reply as it gathers. Includes libpq, so
 * only store/ uses it. */
#pragma once

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/pg_link.h"

/* In place of a statement's index: `SELECT 1`. */
#define PG_PING (-1)

struct pg_request {
    struct pg_request *prev, *next; /* in one of the link's lists (utlist) */
    struct pg_call call;
    struct pg_params params;
    pg_reply_cb on_reply;
    void *context;
    int64_t deadline_us; /* INT64_MAX: none */
    int64_t due_us;      /* waiting: not to be sent before */
    int sendings;
    bool patient;              /* stays while the link is down */
    struct pg_rows rows;       /* of the reply, until its Sync */
    struct pg_failure failure; /* class 0: none */
};

/* Takes the parameters; aborts when they are not those of the statement (NULL for PG_PING). */
struct pg_request *pg_request_new(const struct pg_call *call, const struct pg_statement *statement,
                                  struct pg_params *params, pg_reply_cb on_reply, void *context);
/* Hands the request and its Sync to libpq. False when the connection is broken. */
bool pg_request_transmit(struct pg_request *request, PGconn *connection,
                         const struct pg_statement *statement);
/* Notes one result of the request (not its Sync); takes it. */
void pg_request_take(struct pg_request *request, PGresult *result);
/* Is it to be sent again after its failure? */
bool pg_request_repeats(const struct pg_request *request);
/* Forgets the reply, for another sending. */
void pg_request_reset(struct pg_request *request);
/* Calls back, with the failure or else with the rows, and frees the request, which is in no list
 * any more. */
void pg_request_end(struct pg_request *request, const struct pg_failure *failure);
void pg_request_end_all(struct pg_request *list, const struct pg_failure *failure);
