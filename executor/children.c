#include "executor/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/memory.h"
#include "executor/proc.h"

enum child_role {
    CHILD_LEADER,  /* its family waits for it */
    CHILD_IGNORED, /* somebody else waits for it */
    CHILD_UNKNOWN, /* adopted, its environment not yet seen */
    CHILD_MEMBER,  /* adopted, of a family */
    CHILD_STRANGER /* adopted, of none */
};

struct child {
    pid_t pid;
    enum child_role role;
    struct family *family;  /* of a leader or member */
    int64_t met_at_mono_us; /* of an adopted one */
    bool was_terminated;    /* has had its SIGTERM */
    UT_hash_handle hh;
};

/* A process in the middle of execve shows an empty environment, as does one that was started with
 * none. */
#define EXEC_LASTS_US 100000
/* Deaths bring new orphans: so many times a sweep looks again before it leaves the rest to the next
 * one. */
#define MAX_PASSES 4

static struct child *find(const struct children *children, pid_t pid)
{
    struct child *child;
    HASH_FIND_INT(children->table, &pid, child);
    return child;
}

static struct child *add(struct children *children, pid_t pid, enum child_role role)
{
    struct child *child = find(children, pid);
    if (!child) {
        child = mem_new(1, sizeof *child);
        child->pid = pid;
        HASH_ADD_INT(children->table, pid, child);
    }
    child->role = role;
    return child;
}

static void drop(struct children *children, struct child *child)
{
    HASH_DEL(children->table, child);
    free(child);
}

void children_init(struct children *children)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", getpid(), getpid());
    *children = (struct children){.list_fd = open(path, O_RDONLY | O_CLOEXEC)};
}

void children_done(struct children *children)
{
    struct child *child, *next;
    HASH_ITER(hh, children->table, child, next)
    drop(children, child);
    if (children->list_fd >= 0)
        close(children->list_fd);
    buffer_done(&children->text);
}

void children_add_family(struct children *children, struct family *family)
{
    add(children, family->leader, CHILD_LEADER)->family = family;
}

void children_remove_family(struct children *children, struct family *family)
{
    struct child *child, *next;
    HASH_ITER(hh, children->table, child, next)
    {
        if (child->family != family)
            continue;
        if (child->role == CHILD_LEADER) {
            drop(children, child);
        } else {
            child->role = CHILD_STRANGER;
            child->family = NULL;
        }
    }
}

void children_ignore(struct children *children, pid_t pid)
{
    add(children, pid, CHILD_IGNORED);
}

void children_forget(struct children *children, pid_t pid)
{
    struct child *child = find(children, pid);
    if (child && child->role == CHILD_IGNORED)
        drop(children, child);
}

void family_signal(struct family *family, int signal)
{
    kill(-family->leader, signal);
    if (signal == SIGTERM)
        kill(-family->leader, SIGCONT);
}

/* --- reading /proc -------------------------------------------------------------------------- */

/* Has it begun to exit? Then its environment is gone, but its own children may not be ours yet.
 * They are once it is a zombie, which it stays where somebody traces it. */
static bool is_exiting(struct children *children, pid_t pid)
{
    const unsigned exiting = 0x4; /* PF_EXITING of the kernel's sched.h */
    unsigned flags = 0;
    char state = 0;
    if (!proc_read(pid, "stat", 4096, &children->text))
        return false;
    /* PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS: the name may hold anything (proc(5)). */
    const char *behind_name = strrchr(buffer_text(&children->text), ')');
    return behind_name && sscanf(behind_name, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) == 2 &&
           (flags & exiting) != 0 && state != 'Z';
}

/* --- whose is it? --------------------------------------------------------------------------- */

static struct family *family_of_session(const struct children *children, pid_t pid)
{
    const struct child *leader = find(children, getsid(pid));
    return leader && leader->role == CHILD_LEADER ? leader->family : NULL;
}

static bool carries(const struct family *family, const char *task, const char *attempt)
{
    return family->task_mark && family->attempt_mark && strcmp(family->task_mark, task) == 0 &&
           strcmp(family->attempt_mark, attempt) == 0;
}

static struct family *family_of_environment(struct children *children)
{
    const char *task = proc_find_entry(&children->text, FAMILY_TASK_MARK);
    const char *attempt = proc_find_entry(&children->text, FAMILY_ATTEMPT_MARK);
    if (!task || !attempt)
        return NULL;
    for (struct child *child = children->table; child; child = child->hh.next)
        if (child->role == CHILD_LEADER && carries(child->family, task, attempt))
            return child->family;
    return NULL;
}

/* Settles the role of an unknown child, unless it is too early to say. */
static void judge(struct children *children, struct child *child)
{
    child->family = family_of_session(children, child->pid);
    if (!child->family) {
        bool readable = proc_read(child->pid, "environ", PROC_MAX_ENVIRONMENT, &children->text);
        if (readable && children->text.size == 0 &&
            (is_exiting(children, child->pid) ||
             clock_mono_us() - child->met_at_mono_us < EXEC_LASTS_US))
            return;
        if (readable)
            child->family = family_of_environment(children);
    }
    child->role = child->family ? CHILD_MEMBER : CHILD_STRANGER;
}

/* --- the sweep ------------------------------------------------------------------------------ */

static void meet_adopted(struct children *children)
{
    if (children->list_fd < 0 || lseek(children->list_fd, 0, SEEK_SET) < 0 ||
        !proc_read_all(children->list_fd, SIZE_MAX, &children->text))
        return;
    const char *at = buffer_text(&children->text);
    char *end;
    for (long pid = strtol(at, &end, 10); end != at; pid = strtol(at, &end, 10)) {
        at = end;
        if (!find(children, (pid_t)pid))
            add(children, (pid_t)pid, CHILD_UNKNOWN)->met_at_mono_us = clock_mono_us();
    }
}

static bool is_adopted(const struct child *child)
{
    return child->role >= CHILD_UNKNOWN;
}

/* The CPU time of processes adds up; of memory only the largest one's is known. */
static void add_usage(struct family *family, const struct rusage *usage)
{
    int64_t peak_bytes = (int64_t)usage->ru_maxrss * 1024;
    family->cpu_us += (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * US_PER_SECOND +
                      usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
    if (family->peak_memory_bytes < peak_bytes)
        family->peak_memory_bytes = peak_bytes;
}

void family_reap_leader(struct family *family)
{
    struct rusage usage;
    if (wait4(family->leader, NULL, WNOHANG, &usage) == family->leader)
        add_usage(family, &usage);
}

/* True when it was dead, or was no child any more. */
static bool reap(const struct child *child)
{
    struct rusage usage;
    pid_t pid = wait4(child->pid, NULL, WNOHANG, &usage);
    if (pid == child->pid && child->family)
        add_usage(child->family, &usage);
    return pid == child->pid || (pid < 0 && errno == ECHILD);
}

static void signal_member(struct child *child)
{
    int signal = child->family->signal;
    if (signal == SIGKILL) {
        /* A group of this number can only be its own, since the number is taken until it is reaped.
         */
        kill(-child->pid, SIGKILL);
        kill(child->pid, SIGKILL);
    } else if (signal != 0 && !child->was_terminated) {
        child->was_terminated = true;
        if (getpgid(child->pid) == child->family->leader)
            return; /* told with its group */
        kill(child->pid, signal);
        kill(child->pid, SIGCONT);
    }
}

static void count_survivors_anew(struct children *children)
{
    for (struct child *child = children->table; child; child = child->hh.next)
        if (child->role == CHILD_LEADER)
            child->family->survivors = 0;
}

struct picture {
    bool deaths;   /* some died, and may have left us their own children since we looked */
    bool unknowns; /* of some the family is not known yet */
};

static struct picture pass(struct children *children)
{
    struct picture picture = {0};
    struct child *child, *next;
    meet_adopted(children);
    count_survivors_anew(children);
    HASH_ITER(hh, children->table, child, next)
    {
        if (!is_adopted(child))
            continue;
        if (reap(child)) {
            drop(children, child);
            picture.deaths = true;
            continue;
        }
        if (child->role == CHILD_UNKNOWN) {
            judge(children, child);
            picture.unknowns |= child->role == CHILD_UNKNOWN;
            picture.deaths |= child->role == CHILD_STRANGER; /* it may be a zombie */
        }
        if (child->role == CHILD_MEMBER) {
            child->family->survivors++;
            signal_member(child);
        }
    }
    return picture;
}

bool children_sweep(struct children *children)
{
    struct picture picture = {.deaths = true};
    for (int i = 0; i < MAX_PASSES && picture.deaths; i++)
        picture = pass(children);
    return !picture.deaths && !picture.unknowns;
}
