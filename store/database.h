/* What happens once, before the links open: is this a database for us, is its schema ours, what
 * does its clock say. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "store/migration_list.h"

enum database_verdict {
    DATABASE_READY,
    DATABASE_AWAY,    /* cannot be reached yet, or is short of something: try again */
    DATABASE_REFUSED, /* a person has to do what the error says */
};

struct database_facts {
    int server_version;      /* 150020: 15.20 */
    int64_t clock_offset_us; /* add it to clock_wall_us() for the database's time */
};

struct database_options {
    uv_loop_t *loop;
    const char *conninfo;               /* copied */
    const struct migration *migrations; /* ends with a zero element */
    /* As in struct pg_link_options; -EINVAL refuses, another code is DATABASE_AWAY. May be NULL. */
    int (*ensure)(void *context, struct error *error);
    /* `facts` is valid with DATABASE_READY, `error` otherwise. */
    void (*on_verdict)(void *context, enum database_verdict verdict,
                       const struct database_facts *facts, const struct error *error);
    void *context;
};

struct database_check;

/* Runs in the thread pool and calls back once. */
struct database_check *database_check_start(const struct database_options *options);
/* Ends the waiting early: the callback still comes, with DATABASE_AWAY unless it was ready. */
void database_check_stop(struct database_check *check);
