/* Control groups (cgroup v2): one for each attempt, below the group that was delegated to the
 * daemon.
 *
 *     <delegated>               where the daemon was started; without processes afterwards
 *     ├── daemon                the daemon and its private PostgreSQL
 *     └── tasks                 at most half of the processes that there may be
 *         └── <task>.<attempt>  with limits, if the definition says so
 *
 * A group that hands controllers down holds no processes itself (cgroups(7), "no internal
 * processes"), hence the leaf of the daemon's own. A process leaves its group neither by forking
 * nor by detaching nor by wiping its environment, so that the kill of a group reaches everything.
 *
 * Groups are known by their directories. What is written are small files of the kernel's, without
 * waiting for a disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Where attempts get their groups. Zeroed: there is no such place. */
struct cgroup_tree {
    char *tasks;  /* the directory of the group above theirs, or NULL */
    bool has_cpu; /* which controllers they have */
    bool has_memory;
    bool has_pids;
};

/* The path of a process's group in the hierarchy, as new memory; NULL when there is none, or the
 * process is gone. */
char *cgroup_of(pid_t pid);
/* Finds the directory of this process's own group, as new memory, if it was delegated: systemd
 * says so by an extended attribute. `proc` is /proc/self. -ENOENT when there is no cgroup v2 or no
 * delegation. */
int cgroup_find_delegated(const char *proc, char **delegated, struct error *error);
/* Makes the groups drawn above, moves every process of the delegated one into `daemon`, hands down
 * the controllers that there are, and kills and removes what an earlier daemon left in `tasks`,
 * for which it waits two seconds at most. -ENOSYS before Linux 5.14. */
int cgroup_tree_open(const char *delegated, struct cgroup_tree *tree, struct error *error);
/* Frees the memory; the groups stay. */
void cgroup_tree_done(struct cgroup_tree *tree);

/* For all processes of an attempt together; 0: none. */
struct cgroup_limits {
    int64_t memory_max; /* bytes */
    int64_t cpu_quota;  /* percent of one CPU */
    int64_t tasks_max;  /* processes and threads */
};

/* Makes a group with limits; `*group` is its directory as new memory, or NULL where there is no
 * tree (or `tree` is NULL). -ENOTSUP for a limit that nothing would keep: it is never ignored.
 * -EEXIST when there is a group of that name: whose processes would share the new one's fate. */
int cgroup_make(const struct cgroup_tree *tree, const char *name,
                const struct cgroup_limits *limits, char **group, struct error *error);
/* Moves the calling process into the group. */
int cgroup_join(const char *group, struct error *error);
/* Signals each process of the group and of those below it once, but for those in the process group
 * `told`. With more than 500 processes or 100 groups, the rest is not signalled. */
void cgroup_signal(const char *group, int signal, pid_t told);
/* SIGKILL to all of it, also to what is just being forked. Fails for lack of a descriptor, too. */
int cgroup_kill(const char *group);
/* Is a process alive in it, or in a group below? Yes where nothing can be read, for lack of a
 * descriptor, but no when there is no such group. */
bool cgroup_is_populated(const char *group);

/* What its processes have used, dead ones included; 0 where the kernel does not say. */
struct cgroup_usage {
    int64_t peak_memory_bytes;
    int64_t cpu_us;
    int64_t oom_kills; /* processes that were killed for lack of memory */
};
struct cgroup_usage cgroup_read_usage(const char *group);
/* Removes the group, and those that its processes made below it. In vain while it is populated. */
void cgroup_remove(const char *group);
