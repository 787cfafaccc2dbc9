/* The private PostgreSQL: a server of the daemon's own, for whoever has none to point at.
 *
 * It lies in `<state>/postgresql`, is made at the first start, listens on a unix socket in there
 * and nowhere else, and runs as an unprivileged user when the daemon is root, as the daemon's user
 * otherwise. A server that outlived a killed daemon is used as it is, and stopped at the end like
 * one that we started.
 *
 * A start and a stop block for as long as PostgreSQL takes: call them before the loop runs and
 * after it has ended.
 */
#pragma once

#include "base/error.h"

struct postgres;

/* Makes the cluster if there is none, and starts the server unless it runs. `state_dir` is the path
 * that state_dir_open gave, whose lock the caller holds: nobody else touches the cluster. `bin_dir`
 * holds PostgreSQL's programs; empty, they are found where Debian puts them, or in PATH. NULL and
 * the reason when it does not work: -EINVAL before somebody changes something; -EINTR when a signal
 * asks to stop meanwhile, which is logged: the server is stopped, too. */
struct postgres *postgres_start(const char *state_dir, const char *bin_dir, struct error *error);
/* The connection string for libpq. */
const char *postgres_conninfo(const struct postgres *postgres);
/* Starts the server again if it is gone; cheap when it runs, and returns after seconds at most
 * (-ETIMEDOUT: it is still starting, ask again). For the thread pool, before each attempt to
 * connect; several threads may call. */
int postgres_ensure(struct postgres *postgres, struct error *error);
/* Nobody needs the server any more: calls of postgres_ensure, also those under way, return -EINTR.
 * NULL is fine. */
void postgres_give_up(struct postgres *postgres);
/* Stops the server, also one that is just starting: open sessions are ended and the data written
 * out; past the deadline, at once, which is logged, and the next start recovers. Frees `postgres`;
 * NULL is fine. */
void postgres_stop(struct postgres *postgres);
