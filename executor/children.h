/* The children of the daemon: whose they are, and what to do with those that it adopted.
 *
 * As a child subreaper the daemon becomes the parent of whatever its children leave behind when
 * they die. No process id of a child is used again before the daemon has reaped it, so that a table
 * by pid is exact. An adopted process belongs to a family when it is in the session of the family's
 * leader, or carries the family's marks in its environment. Anything alive that a dead leader left
 * has an ancestor among the adopted ones: when none of them is of the family, nothing is left of
 * it.
 *
 * Where the kernel has no /proc/PID/task/PID/children (CONFIG_PROC_CHILDREN), adopted processes are
 * not seen.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"

/* The processes of one attempt. The leader is not reaped while the family is known, so that its
 * number, which is the number of its session and group, stays its own. */
struct family {
    pid_t leader;
    const char *task_mark;     /* `DIRECTOR_TASK_ID=…`, NULL: attributed by session only */
    const char *attempt_mark;  /* `DIRECTOR_ATTEMPT=…` */
    int signal;                /* what adopted members get when met: 0, SIGTERM (once) or SIGKILL */
    size_t survivors;          /* adopted members alive at the last sweep */
    int64_t cpu_us;            /* of the reaped ones, and of those that they had waited for */
    int64_t peak_memory_bytes; /* of the largest one of them */
};

#define FAMILY_TASK_MARK "DIRECTOR_TASK_ID="
#define FAMILY_ATTEMPT_MARK "DIRECTOR_ATTEMPT="

struct children {
    int list_fd; /* /proc/PID/task/PID/children, -1 where there is none */
    struct child *table;
    struct buffer text; /* what was read last from /proc */
};

void children_init(struct children *children);
void children_done(struct children *children);
void children_add_family(struct children *children, struct family *family);
void children_remove_family(struct children *children, struct family *family);
/* Children that somebody else waits for. */
void children_ignore(struct children *children, pid_t pid);
void children_forget(struct children *children, pid_t pid);
/* Signals the leader's process group. SIGTERM is followed by SIGCONT, since stopped processes could
 * not act on it. */
void family_signal(struct family *family, int signal);
/* Gives up the leader's number, once it is dead. */
void family_reap_leader(struct family *family);
/* Meets newly adopted processes, reaps dead ones, signals those of families that have a signal, and
 * counts survivors. False when the picture was still changing: then no family may be taken for
 * gone, and another sweep is due soon. */
bool children_sweep(struct children *children);
