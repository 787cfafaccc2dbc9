/* What directord and its launcher, directord-exec, say to each other.
 *
 * The launcher does what posix_spawn cannot: it enters the attempt's control group, takes on the
 * identity of a user, and becomes the task's program. It also does what may take for ever: it
 * enters the task's directory, seeks the program and runs it, which an unreachable file system does
 * not let anyone do, so that a task hangs and not the daemon. It is left out where none of this can
 * be (see program_find_near). Its command line is
 *
 *     directord-exec VERSION GROUP USER GROUP CWD PROGRAM ARGUMENT…
 *
 * with empty texts for what is not wanted. The environment is the task's with a mark before each
 * name, so that it means nothing to the launcher itself (LD_PRELOAD would), which may be root; only
 * the DIRECTOR_ names stand as they are, since processes are known by them. On descriptor
 * SPAWN_REPORT, which the program does not get, the launcher writes why it failed: a positive errno
 * value, a blank and the text for people. End of file without a word means that the program runs.
 */
#pragma once

#include "base/error.h"
#include "base/memory.h"
#include "executor/spawn.h"

enum launch_argument {
    LAUNCH_VERSION = 1,
    LAUNCH_CGROUP,
    LAUNCH_USER,
    LAUNCH_GROUP,
    LAUNCH_CWD,
    LAUNCH_PROGRAM /* and all that follow it */
};

#define LAUNCH_ENV_MARK '+'
/* Of the names that the mark is not put before. */
#define LAUNCH_ENV_OURS "DIRECTOR_"

struct launch {
    const char *launcher; /* its file */
    const char *cgroup;   /* the directory of a group, or NULL */
    const char *user;     /* a name or a number, or NULL: the daemon's */
    const char *group;    /* likewise; NULL: the user's */
    const char *cwd;      /* of the program */
};

/* Makes a request for the program into one for the launcher that will run it; memory comes from
 * `arena`. */
void launch_wrap(const struct launch *launch, struct arena *arena, struct spawn_request *request);
/* Reads a report back; returns its negative errno value. */
int launch_read_report(const char *report, struct error *error);
