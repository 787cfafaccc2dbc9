/* What this machine gives to tasks: the launcher and control groups. And the end of what an earlier
 * daemon on the state directory has left running. */
#pragma once

#include "executor/cgroup.h"

struct machine {
    char *launcher;             /* the file of directord-exec, NULL where there is none */
    struct cgroup_tree cgroups; /* empty where no group was delegated */
};

/* To be called by the holder of the state directory's lock, before any child is started: children
 * are born into the control group that the daemon has moved to. What is missing is logged, and
 * fails nothing but the tasks that need it. Blocks, for up to seven seconds when something does not
 * die. */
void machine_prepare(struct machine *machine, const char *state_dir);
void machine_done(struct machine *machine);
