/* The children of the daemon: whose they are, and what to do with those that it adopted.
 *
 * As a child subreaper the daemon becomes the parent of whatever its children leave behind when
 * they die. No process id of a child is used again before the daemon has reaped it, so that a table
 * by pid is exact. An adopted process belongs to a family when it is in the session of the family's
 * leader, in its control group, or carries its marks in the environment, which is asked for last:
 * the kernel reads it when nobody is changing the process's memory, and the loop waits. Anything
 * alive that a dead leader left has an ancestor among the adopted ones: when none of them is of the
 * family, nothing is left of it.
 *
 * A sweep looks at all of them, some at a time, so that the loop goes on however many there are. It
 * decides for each family by itself: what one of them makes of unknown processes, however fast,
 * holds up no other one for longer than an execve lasts. One that hangs in exit, where nothing
 * tells any more whose it is, may be of each family whose leader is older than it: no other one
 * waits.
 *
 * The list of the adopted is that of the main thread. Leaders are started by other threads, which
 * never end, and are not in it; nor is what a leader makes its own sibling (CLONE_PARENT of
 * clone(2)), which is found in a control group only.
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
#include <uthash.h>

#include "base/buffer.h"
#include "executor/descendants.h"

/* The processes of one attempt. The leader is not reaped while the family is known, so that its
 * number, which is the number of its session and group, stays its own. */
struct family {
    pid_t leader;
    const char *name;          /* TASK.ATTEMPT, NULL: attributed by session only */
    int signal;                /* what adopted members get when met: 0, SIGTERM (once) or SIGKILL */
    bool leader_ended;         /* set by the owner, who waits for it */
    bool is_gone;              /* as the last sweep saw it: the leader has ended, nobody is left */
    int64_t cpu_us;            /* of the reaped ones, and of those that they had waited for */
    int64_t peak_memory_bytes; /* of the largest one of them */

    pid_t told[DESCENDANTS_MAX]; /* descendants that have had their SIGTERM before being adopted */
    size_t told_count;

    int64_t awaited_since_us; /* monotonic; its leader is being started; 0: it is not */
    struct family *next_awaited;

    /* The sweep's own. */
    bool is_judged;         /* the leader had ended before this look began */
    size_t members;         /* that this look has met, those included that died with it */
    int64_t alone_since_us; /* monotonic; since when there were none; 0: there were some */
    unsigned long long started_ticks; /* the leader's start; 0: nobody has asked yet */
    UT_hash_handle hh;
};

/* What these have as values in an environment make the name, which is also that of the family's
 * control group. */
#define FAMILY_TASK_MARK "DIRECTOR_TASK_ID="
#define FAMILY_ATTEMPT_MARK "DIRECTOR_ATTEMPT="

struct children {
    int list_fd; /* /proc/PID/task/PID/children, -1 where there is none */
    struct child *table;
    struct family *by_name;
    struct family *awaited; /* those without a leader yet */
    struct buffer text;     /* what was read last from /proc */

    /* The look that is under way. */
    unsigned look;         /* its number */
    bool is_looking;       /* there is one */
    bool is_blind;         /* something could not be read: it says nothing about anybody */
    bool has_unknowns;     /* of some the family is not known, or never was; the exiting left out */
    bool has_deaths;       /* some died, and may have left us their own children since it began */
    struct child *exiting; /* the unknown ones that have begun to exit */
};

void children_init(struct children *children);
void children_done(struct children *children);
/* The family's leader is about to be started, on another thread: what it leaves behind may be
 * adopted before its number is known here. */
void children_await_family(struct children *children, struct family *family);
/* An awaited one has a leader now. */
void children_add_family(struct children *children, struct family *family);
/* Also an awaited one. */
void children_remove_family(struct children *children, struct family *family);
/* Signals the leader's process group. SIGTERM is followed by SIGCONT, since stopped processes could
 * not act on it. */
void family_signal(struct family *family, int signal);
/* SIGTERM for the leader's descendants outside its process group that are not adopted yet. */
void family_terminate_descendants(struct family *family);
/* The one whose leader has been awaited for longest, or NULL. */
const struct family *children_longest_awaited(const struct children *children);
/* Gives up the leader's number, once it is dead. */
void family_reap_leader(struct family *family);
/* Meets newly adopted processes, reaps dead ones, signals those of families that have a signal, and
 * finds which families are gone. False when the time was up before that: call it again. */
bool children_sweep(struct children *children, int64_t until_mono_us);
