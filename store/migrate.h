/* Brings the schema to the version that this program was built for.
 *
 * Each migration runs once, in a transaction of its own that also writes its row of
 * schema_migrations, under an advisory lock: several daemons may start at once. A migration is
 * never edited once it is released: an applied one with another checksum, and a database that is
 * newer than the program, are refused.
 */
#pragma once

#include "store/migration_list.h"
#include "store/pg_session.h"

/* Blocks: for worker threads. `list` ends with a zero element. 0; or -EAGAIN when the database went
 * away or is short of something and the same call may succeed later; or -EINVAL with what a person
 * has to do. */
int migrate_run(struct pg_session *session, const struct migration *list, struct error *error);
