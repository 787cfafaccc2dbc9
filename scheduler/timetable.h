/* The timetable: knows when each schedule is due next, and has its fires decided.
 *
 * A heap by due instant and one timerfd on the wall clock, which a change of that clock cancels: no
 * schedule is looked at before it is due, and none is missed when the clock is set or the machine
 * was suspended. Instants are the database's. The database decides: every fire goes through its
 * `fire` function, which moves the schedule's cursor.
 */
#pragma once

#include "scheduler/catalog.h"

struct timetable;

int timetable_new(uv_loop_t *loop, struct store *store, struct timetable **timetable,
                  struct error *error);
/* Takes the catalog's schedules in place of the former ones. One that is still there goes on where
 * it was. The catalog outlives the timetable: it is asked to renew what the database does not
 * know. */
void timetable_set(struct timetable *timetable, struct catalog *catalog);
/* No further fires. */
void timetable_stop(struct timetable *timetable);
/* After the store was closed. */
void timetable_close(struct timetable *timetable, void (*on_closed)(void *context), void *context);

/* The next instant at which the schedule fires (nominal, database time), or 0 when it never does
 * again or is not known. */
int64_t timetable_next_us(const struct timetable *timetable, int64_t schedule_id);
