/* The replay: the ends of attempts that an earlier daemon left in the spool are committed in its
 * name, before this one is a node. */
#pragma once

#include "store/store.h"

struct replay;

/* So many of its ends are committed; after the last one under way it goes on. */
void replay_settle(struct store *store, int count);
/* The database does not take this one. */
void replay_refuse(struct store *store, struct store_finish *finish);
/* Frees what a closed store leaves of it. */
void replay_free(struct replay *replay);
