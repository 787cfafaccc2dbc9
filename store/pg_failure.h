/* Why a statement failed, and what that means: the SQLSTATE policy, in one table. */
#pragma once

#include <stdbool.h>

enum pg_failure_class {
    PG_DATA = 1, /* the item's own fault: it fails with the text, what shared its batch goes again
                    without it */
    PG_RETRY,    /* serialization, deadlock, lock timeout: the same again, a moment later */
    PG_RESOURCE, /* disk, memory, connections: the same again when there is room */
    PG_SLOW,     /* took longer than a statement may: not done, and to be tried with less of it */
    PG_AWAY,     /* connection lost, refused or past its deadline: the outcome is unknown */
    PG_BUG,      /* anything else: the statement and the database do not fit each other */
};

struct pg_failure {
    enum pg_failure_class class;
    bool is_overdue;  /* PG_SLOW, or PG_AWAY after a reply that did not come in time */
    char sqlstate[6]; /* empty where the failure did not come from the server */
    char text[512];   /* one sentence without a final stop */
};

/* The database's own trouble: the same may well go through later. */
bool pg_failure_is_passing(const struct pg_failure *failure);
const char *pg_failure_class_name(enum pg_failure_class class);
void pg_failure_set(struct pg_failure *failure, enum pg_failure_class class, const char *format,
                    ...) __attribute__((format(printf, 3, 4)));
/* Puts "PREFIX: " in front of the text. */
void pg_failure_wrap(struct pg_failure *failure, const char *prefix);

/* Of a result with an error status, and of a connection that could not be made or was lost (libpq's
 * PGresult, PGconn). */
struct pg_result;
struct pg_conn;
void pg_failure_of_result(struct pg_failure *failure, const struct pg_result *result);
void pg_failure_of_connection(struct pg_failure *failure, const struct pg_conn *connection);
