/* Processes of tasks that outlived their daemon.
 *
 * Every process of a task carries DIRECTOR_NODE, the id of the daemon's incarnation that started
 * it. A daemon notes its ids in the state directory before it starts anything; whoever holds the
 * directory's lock next knows that those daemons are dead, with no database to ask, and ends what
 * carries their ids. What has wiped its environment is not found.
 */
#pragma once

#include "base/error.h"
#include "base/id.h"

#define LEFTOVERS_MARK "DIRECTOR_NODE="

/* Notes an id. The note outlives this process, not the machine: neither do processes. */
int leftovers_note(const char *state_dir, const struct id *node, struct error *error);
/* Kills every process, this one excepted, that carries a noted id, until four looks in a row find
 * none; then forgets the ids. Blocks meanwhile: for some tens of milliseconds, ten seconds at
 * most. Returns the most that were found at one look. -ETIMEDOUT when some do not die, or do not
 * show whose they are, and the ids stay for the next time. */
int leftovers_kill(const char *state_dir, struct error *error);
