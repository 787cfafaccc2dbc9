/* The replay: the ends of attempts that an earlier daemon left in the spool are committed in its
 * name, before this one is a node. */
#pragma once

#include "store/store.h"

struct replay;

/* The ends under way have been answered: goes on with those that follow, if this was all. */
void replay_go_on(struct store *store);
/* The database does not take this one. */
void replay_refuse(struct store *store, struct store_finish *finish);
/* Frees what a closed store leaves of it. */
void replay_free(struct replay *replay);
