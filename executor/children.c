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
#include <utlist.h>

#include "base/clock.h"
#include "base/memory.h"
#include "executor/cgroup.h"
#include "executor/proc.h"

enum child_role {
    CHILD_LEADER,  /* its family waits for it */
    CHILD_UNKNOWN, /* adopted, its environment not yet seen */
    CHILD_MEMBER,  /* adopted, of a family */
    CHILD_STRANGER /* adopted, of none */
};

struct child {
    pid_t pid;
    enum child_role role;
    struct family *family;  /* of a leader or member */
    int64_t met_at_mono_us; /* of an adopted one */
    bool is_exiting;        /* an unknown one that has begun to exit: these two are set */
    unsigned long long started_ticks;
    struct child *next_exiting;
    bool was_terminated; /* has had its SIGTERM */
    unsigned look;       /* the last one that has come to it */
    UT_hash_handle hh;
};

/* A process in the middle of execve shows an empty environment, as does one that was started with
 * none. */
#define EXEC_LASTS_US 100000
/* Deaths bring new orphans: so many times a sweep looks again before it leaves the rest to the next
 * one. */
#define MAX_LOOKS 4

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

void children_await_family(struct children *children, struct family *family)
{
    family->awaited_since_us = clock_mono_us();
    LL_PREPEND2(children->awaited, family, next_awaited);
    if (family->name)
        HASH_ADD_KEYPTR(hh, children->by_name, family->name, strlen(family->name), family);
}

static void await_no_more(struct children *children, struct family *family)
{
    if (family->awaited_since_us == 0)
        return;
    family->awaited_since_us = 0;
    LL_DELETE2(children->awaited, family, next_awaited);
}

void children_add_family(struct children *children, struct family *family)
{
    await_no_more(children, family);
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
    await_no_more(children, family);
    if (family->name)
        HASH_DEL(children->by_name, family);
    family->name = NULL;
}

const struct family *children_longest_awaited(const struct children *children)
{
    const struct family *family, *longest = NULL;
    LL_FOREACH2(children->awaited, family, next_awaited)
    {
        if (!longest || family->awaited_since_us < longest->awaited_since_us)
            longest = family;
    }
    return longest;
}

void family_signal(struct family *family, int signal)
{
    kill(-family->leader, signal);
    if (signal == SIGTERM)
        kill(-family->leader, SIGCONT);
}

void family_terminate_descendants(struct family *family)
{
    family->told_count = descendants_terminate(family->leader, family->told);
}

static bool was_told(const struct family *family, pid_t pid)
{
    for (size_t i = 0; i < family->told_count; i++)
        if (family->told[i] == pid)
            return true;
    return false;
}

/* --- reading /proc -------------------------------------------------------------------------- */

/* What cannot be read for lack of descriptors or memory stays as it is, for the next look. */
static bool is_read(struct children *children, int code)
{
    children->is_blind |= code < 0 && !proc_is_verdict(code);
    return code == 0;
}

/* Has it begun to exit? Then its environment is gone, but its own children may not be ours yet.
 * They are once it is a zombie, which it stays where somebody traces it. */
static bool is_exiting(const struct proc_stat *stat)
{
    const unsigned exiting = 0x4; /* PF_EXITING of the kernel's sched.h */
    return (stat->flags & exiting) != 0 && stat->state != 'Z';
}

static void meet_adopted(struct children *children)
{
    if (children->list_fd < 0)
        return;
    if (lseek(children->list_fd, 0, SEEK_SET) < 0 ||
        proc_read_all(children->list_fd, SIZE_MAX, &children->text) < 0) {
        children->is_blind = true;
        return;
    }
    const char *at = buffer_text(&children->text);
    char *end;
    for (long pid = strtol(at, &end, 10); end != at; pid = strtol(at, &end, 10)) {
        at = end;
        if (!find(children, (pid_t)pid))
            add(children, (pid_t)pid, CHILD_UNKNOWN)->met_at_mono_us = clock_mono_us();
    }
}

/* --- whose is it? --------------------------------------------------------------------------- */

static struct family *family_of_session(const struct children *children, pid_t pid)
{
    const struct child *leader = find(children, getsid(pid));
    return leader && leader->role == CHILD_LEADER ? leader->family : NULL;
}

/* Also of a group that the task has made below its own. */
static struct family *family_of_group(const struct children *children, pid_t pid)
{
    struct family *family = NULL;
    char *path = cgroup_of(pid), *rest = path;
    for (char *name; !family && (name = strsep(&rest, "/"));)
        HASH_FIND_STR(children->by_name, name, family);
    free(path);
    return family;
}

static struct family *family_of_environment(struct children *children)
{
    struct family *family = NULL;
    const char *task = proc_find_entry(&children->text, FAMILY_TASK_MARK);
    const char *attempt = proc_find_entry(&children->text, FAMILY_ATTEMPT_MARK);
    if (!task || !attempt)
        return NULL;
    char *name =
        mem_format("%s.%s", task + strlen(FAMILY_TASK_MARK), attempt + strlen(FAMILY_ATTEMPT_MARK));
    HASH_FIND_STR(children->by_name, name, family);
    free(name);
    return family;
}

/* Is it too early to say whose an unknown child is, whose environment is empty? */
static bool is_changing(struct children *children, struct child *child)
{
    struct proc_stat stat;
    bool known = is_read(children, proc_read_stat(child->pid, &children->text, &stat));
    if (known && is_exiting(&stat)) {
        child->is_exiting = true;
        child->started_ticks = stat.started_ticks;
        LL_PREPEND2(children->exiting, child, next_exiting);
    }
    return children->is_blind || child->is_exiting ||
           clock_mono_us() - child->met_at_mono_us < EXEC_LASTS_US;
}

/* May it be in the session of a leader whose number nobody has told us yet? */
static bool may_be_awaited(const struct children *children, const struct child *child)
{
    const struct family *family;
    LL_FOREACH2(children->awaited, family, next_awaited)
    {
        if (family->awaited_since_us <= child->met_at_mono_us)
            return true;
    }
    return false;
}

/* Settles the role of an unknown child, unless it is too early to say. */
static void judge(struct children *children, struct child *child)
{
    child->is_exiting = false;
    child->family = family_of_session(children, child->pid);
    if (!child->family)
        child->family = family_of_group(children, child->pid);
    if (!child->family) {
        bool known = is_read(
            children, proc_read(child->pid, "environ", PROC_MAX_ENVIRONMENT, &children->text));
        if (!known && children->is_blind)
            return;
        if (known && children->text.size == 0 && is_changing(children, child))
            return;
        if (known)
            child->family = family_of_environment(children);
    }
    if (child->family)
        child->role = CHILD_MEMBER;
    else if (!may_be_awaited(children, child))
        child->role = CHILD_STRANGER;
}

/* --- one child ------------------------------------------------------------------------------ */

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
        if (getpgid(child->pid) == child->family->leader || was_told(child->family, child->pid))
            return; /* with its group, or when its parent lived */
        kill(child->pid, signal);
        kill(child->pid, SIGCONT);
    }
}

static void look_at(struct children *children, struct child *child)
{
    bool was_unknown = child->role == CHILD_UNKNOWN;
    bool is_dead = reap(child);
    if (!is_dead && was_unknown)
        judge(children, child);
    if (child->role == CHILD_MEMBER)
        child->family->members++;
    if (!is_dead && child->role == CHILD_MEMBER)
        signal_member(child);
    /* Who has just become a stranger may be a zombie. */
    children->has_unknowns |=
        was_unknown && child->role != CHILD_MEMBER && (is_dead || !child->is_exiting);
    children->has_deaths |=
        is_dead ? child->role != CHILD_STRANGER : was_unknown && child->role == CHILD_STRANGER;
    if (is_dead)
        drop(children, child);
}

/* --- the sweep ------------------------------------------------------------------------------ */

static void begin_look(struct children *children)
{
    children->look++;
    children->is_looking = true;
    children->is_blind = children->has_unknowns = children->has_deaths = false;
    children->exiting = NULL;
    for (struct child *child = children->table; child; child = child->hh.next) {
        if (child->role != CHILD_LEADER)
            continue;
        child->family->is_judged = child->family->leader_ended;
        child->family->members = 0;
    }
    meet_adopted(children);
}

/* False when the time was up before all had their turn. */
static bool go_on_looking(struct children *children, int64_t until_mono_us)
{
    struct child *child, *next;
    HASH_ITER(hh, children->table, child, next)
    {
        if (child->role == CHILD_LEADER || child->look == children->look)
            continue;
        child->look = children->look;
        look_at(children, child);
        if (clock_mono_us() >= until_mono_us)
            return false;
    }
    return true;
}

/* 0 when it cannot be read. */
static unsigned long long leader_started(struct children *children, struct family *family)
{
    struct proc_stat stat;
    if (family->started_ticks == 0 &&
        is_read(children, proc_read_stat(family->leader, &children->text, &stat)))
        family->started_ticks = stat.started_ticks;
    return family->started_ticks;
}

/* Not if it came when the family was alone, or is older than the leader. */
static bool may_be_exiting(struct children *children, struct family *family)
{
    const struct child *child;
    LL_FOREACH2(children->exiting, child, next_exiting)
    {
        if (child->met_at_mono_us <= family->alone_since_us &&
            child->started_ticks >= leader_started(children, family))
            return true;
    }
    return false;
}

/* All that the dead leader and dead members have left us was in the list of this look, and no
 * member was among it. What is unknown may be one in the middle of execve, or have died as such,
 * but not for longer than that lasts: whatever is empty then has nothing to do with the family.
 * Only who has begun to exit may take his time. */
static void decide(struct children *children, struct family *family)
{
    if (!family->is_judged || family->members > 0) {
        family->alone_since_us = 0;
        family->is_gone = false;
        return;
    }
    int64_t now_us = clock_mono_us();
    if (family->alone_since_us == 0)
        family->alone_since_us = now_us;
    bool may_be_its_own =
        (children->has_unknowns && now_us - family->alone_since_us < EXEC_LASTS_US) ||
        may_be_exiting(children, family);
    family->is_gone = !children->is_blind && !may_be_its_own;
}

static void end_look(struct children *children)
{
    children->is_looking = false;
    for (struct child *child = children->table; child; child = child->hh.next)
        if (child->role == CHILD_LEADER)
            decide(children, child->family);
}

bool children_sweep(struct children *children, int64_t until_mono_us)
{
    for (int i = 0; i < MAX_LOOKS; i++) {
        if (!children->is_looking)
            begin_look(children);
        if (!go_on_looking(children, until_mono_us))
            return false;
        end_look(children);
        if (!children->has_deaths)
            break;
    }
    return true;
}
