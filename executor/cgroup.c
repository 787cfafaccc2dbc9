#include "executor/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "executor/proc.h"

/* How long what an earlier daemon left may take to die: so many looks, so far apart. */
#define LAST_LOOKS 200
#define LOOK_NS 10000000
/* Processes may fork while they are moved; then some are still there at the next look. */
#define MOVE_LOOKS 10
/* One signal reaches so many groups and processes: each takes some 25 µs, on the loop. */
#define SIGNAL_MAX_GROUPS 100
#define SIGNAL_MAX_PROCESSES 500
/* The kernel's usual period for cpu.max. */
#define CPU_PERIOD_US 100000

/* --- the files of a group --------------------------------------------------------------------- */

/* As a shell's `echo TEXT > FILE` does: the kernel refuses to make files that it does not know. */
static int write_file(const char *group, const char *file, const char *text)
{
    char *path = mem_format("%s/%s", group, file);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    free(path);
    if (fd < 0)
        return -errno;
    int code = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return code;
}

/* The file's text as new memory, also when it fails. */
static int read_text(const char *folder, const char *file, char **text)
{
    struct buffer read = {0};
    char *path = mem_format("%s/%s", folder, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    int code = fd < 0 ? -errno : proc_read_all(fd, SIZE_MAX, &read);
    if (fd >= 0)
        close(fd);
    *text = buffer_take(&read);
    return code;
}

/* The same, empty where there is none. */
static char *read_file(const char *folder, const char *file)
{
    char *text;
    read_text(folder, file, &text);
    return text;
}

/* The number behind `key` in a file of lines `KEY NUMBER`, or in one that holds nothing else
 * (without a key); 0 where it says nothing. */
static int64_t read_number(const char *group, const char *file, const char *key)
{
    char *text = read_file(group, file);
    int64_t number = key ? 0 : strtoll(text, NULL, 10);
    char *rest = text;
    for (char *line; key && (line = strsep(&rest, "\n"));)
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ' ')
            number = strtoll(line + strlen(key), NULL, 10);
    free(text);
    return number;
}

static bool is_listed(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (; *words; words += strcspn(words, " \n"), words += strspn(words, " \n"))
        if (strcspn(words, " \n") == n && strncmp(words, word, n) == 0)
            return true;
    return false;
}

/* --- the delegated group ---------------------------------------------------------------------- */

/* Where the hierarchy is mounted: a line of mountinfo (proc(5)) is
 * `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS… - TYPE SOURCE OPTIONS`. New memory or NULL. A
 * mount point with a blank in it, written as \040, is not found. */
static char *find_mount(const char *proc, char **root)
{
    char *text = read_file(proc, "mountinfo");
    char *rest = text, *mount = NULL;
    for (char *line; !mount && (line = strsep(&rest, "\n"));) {
        char *type = strstr(line, " - ");
        if (!type || strncmp(type, " - cgroup2 ", 11) != 0)
            continue;
        if (sscanf(line, "%*s %*s %*s %ms %ms", root, &mount) == 1)
            free(*root);
    }
    free(text);
    return mount;
}

/* The group of the line `0::/…`, as new memory or NULL. */
static char *find_group(const char *proc)
{
    char *text = read_file(proc, "cgroup");
    char *rest = text, *group = NULL;
    for (char *line; !group && (line = strsep(&rest, "\n"));)
        if (strncmp(line, "0::/", 4) == 0)
            group = mem_text(line + 3);
    free(text);
    return group;
}

char *cgroup_of(pid_t pid)
{
    char proc[32];
    snprintf(proc, sizeof proc, "/proc/%d", pid);
    return find_group(proc);
}

/* In a container the mount may show a part of the hierarchy only, `root`. */
static char *join_below(const char *mount, const char *root, const char *group)
{
    size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);
    bool is_below = strncmp(group, root, n) == 0 && (group[n] == '/' || group[n] == '\0');
    return is_below ? mem_format("%s%s", mount, group + n) : NULL;
}

static char *find_own(const char *proc)
{
    char *root = NULL;
    char *mount = find_mount(proc, &root);
    char *group = find_group(proc);
    char *own = mount && group ? join_below(mount, root, group) : NULL;
    if (mount)
        free(root);
    free(mount);
    free(group);
    return own;
}

/* Since systemd 251 everyone may see it, before only root. */
static bool is_delegated(const char *group)
{
    static const char *const names[] = {"user.delegate", "trusted.delegate"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char value = 0;
        if (getxattr(group, names[i], &value, 1) == 1 && value == '1')
            return true;
    }
    return false;
}

int cgroup_find_delegated(const char *proc, char **delegated, struct error *error)
{
    char *own = find_own(proc);
    if (!own)
        return error_set(error, -ENOENT, "there is no control group of version 2");
    if (!is_delegated(own)) {
        error_set(error, -ENOENT, "the control group %s is not delegated", own);
        free(own);
        return -ENOENT;
    }
    *delegated = own;
    return 0;
}

/* --- the tree --------------------------------------------------------------------------------- */

static int make_group(const char *path, struct error *error)
{
    if (mkdir(path, 0755) == 0)
        return 0;
    return error_set(error, -errno, "cannot make the control group %s: %s", path, strerror(errno));
}

static int make_lasting_group(const char *path, struct error *error)
{
    return access(path, F_OK) == 0 ? 0 : make_group(path, error);
}

/* Only those that are gone are left out; what cannot be moved shows when controllers are handed
 * down. */
static void move_processes(const char *from, const char *to)
{
    for (int look = 0; look < MOVE_LOOKS; look++) {
        char *pids = read_file(from, "cgroup.procs");
        bool empty = *pids == '\0';
        char *rest = pids;
        for (char *pid; (pid = strsep(&rest, "\n"));)
            if (*pid != '\0')
                write_file(to, "cgroup.procs", pid);
        free(pids);
        if (empty)
            return;
    }
}

/* From the delegated group to `tasks`, and from there to the attempts'. */
static bool hand_down(const char *delegated, const char *tasks, const char *controller)
{
    char *available = read_file(delegated, "cgroup.controllers");
    char *text = mem_format("+%s", controller);
    bool done = is_listed(available, controller) &&
                write_file(delegated, "cgroup.subtree_control", text) == 0 &&
                write_file(tasks, "cgroup.subtree_control", text) == 0;
    free(available);
    free(text);
    return done;
}

static void end_former_tasks(const char *tasks)
{
    cgroup_kill(tasks);
    for (int look = 0; look < LAST_LOOKS && cgroup_is_populated(tasks); look++)
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    DIR *folder = opendir(tasks);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        char *group = mem_format("%s/%s", tasks, entry->d_name);
        cgroup_remove(group);
        free(group);
    }
    if (folder)
        closedir(folder);
}

static int64_t smaller_limit(int64_t limit, const char *folder, const char *file)
{
    int64_t other = read_number(folder, file, NULL); /* 0 also for "max" */
    return other > 0 && other < limit ? other : limit;
}

/* Half of the processes and threads that there may be: whatever tasks fork, the database can still
 * open sessions. */
static void leave_room(const char *delegated, const char *tasks)
{
    char text[32];
    int64_t limit = smaller_limit(INT64_MAX, "/proc/sys/kernel", "pid_max");
    limit = smaller_limit(limit, "/proc/sys/kernel", "threads-max");
    limit = smaller_limit(limit, delegated, "pids.max");
    snprintf(text, sizeof text, "%" PRId64, limit / 2);
    write_file(tasks, "pids.max", text);
}

static int divide(const char *delegated, const char *daemon, struct cgroup_tree *tree,
                  struct error *error)
{
    int code = make_lasting_group(daemon, error);
    if (code == 0)
        code = make_lasting_group(tree->tasks, error);
    if (code < 0)
        return code;
    char *kill = mem_format("%s/cgroup.kill", tree->tasks);
    bool can_kill = access(kill, W_OK) == 0;
    free(kill);
    if (!can_kill)
        return error_set(error, -ENOSYS, "the control group %s has no cgroup.kill (Linux 5.14)",
                         tree->tasks);
    end_former_tasks(tree->tasks);
    move_processes(delegated, daemon);
    tree->has_cpu = hand_down(delegated, tree->tasks, "cpu");
    tree->has_memory = hand_down(delegated, tree->tasks, "memory");
    tree->has_pids = hand_down(delegated, tree->tasks, "pids");
    if (tree->has_pids)
        leave_room(delegated, tree->tasks);
    return 0;
}

int cgroup_tree_open(const char *delegated, struct cgroup_tree *tree, struct error *error)
{
    struct cgroup_tree made = {.tasks = mem_format("%s/tasks", delegated)};
    char *daemon = mem_format("%s/daemon", delegated);
    int code = divide(delegated, daemon, &made, error);
    free(daemon);
    if (code < 0)
        cgroup_tree_done(&made);
    else
        *tree = made;
    return code;
}

void cgroup_tree_done(struct cgroup_tree *tree)
{
    free(tree->tasks);
    *tree = (struct cgroup_tree){0};
}

/* --- a group of an attempt -------------------------------------------------------------------- */

/* One limit: the key of the definition, its controller, and what is written where. */
static int set_limit(const char *group, const char *key, bool possible, const char *file,
                     const char *text, struct error *error)
{
    if (!possible)
        return error_set(error, -ENOTSUP,
                         "'%s' cannot be kept: the daemon has no delegated control group with the "
                         "%.*s controller",
                         key, (int)strcspn(file, "."), file);
    int code = write_file(group, file, text);
    if (code < 0)
        error_set(error, code, "cannot set '%s': %s/%s: %s", key, group, file, strerror(-code));
    return code;
}

/* Should the kernel have to kill for memory, it takes all of the attempt: a script that goes on
 * without the program that it was waiting for tells nobody why. */
static int set_limits(const struct cgroup_tree *tree, const char *group,
                      const struct cgroup_limits *limits, struct error *error)
{
    char text[64];
    int code = 0;
    if (limits->memory_max > 0) {
        snprintf(text, sizeof text, "%" PRId64, limits->memory_max);
        code = set_limit(group, "memory_max", tree->has_memory, "memory.max", text, error);
    }
    if (code == 0 && limits->cpu_quota > 0) {
        snprintf(text, sizeof text, "%" PRId64 " %d", limits->cpu_quota * CPU_PERIOD_US / 100,
                 CPU_PERIOD_US);
        code = set_limit(group, "cpu_quota", tree->has_cpu, "cpu.max", text, error);
    }
    if (code == 0 && limits->tasks_max > 0) {
        snprintf(text, sizeof text, "%" PRId64, limits->tasks_max);
        code = set_limit(group, "tasks_max", tree->has_pids, "pids.max", text, error);
    }
    if (code == 0 && tree->has_memory)
        write_file(group, "memory.oom.group", "1");
    return code;
}

int cgroup_make(const struct cgroup_tree *tree, const char *name,
                const struct cgroup_limits *limits, char **group, struct error *error)
{
    static const struct cgroup_tree none;
    if (!tree || !tree->tasks) {
        *group = NULL;
        return set_limits(&none, NULL, limits, error);
    }
    char *path = mem_format("%s/%s", tree->tasks, name);
    int code = make_group(path, error);
    if (code == 0) {
        code = set_limits(tree, path, limits, error);
        if (code < 0)
            cgroup_remove(path);
    }
    if (code == 0)
        *group = path;
    else
        free(path);
    return code;
}

int cgroup_join(const char *group, struct error *error)
{
    int code = write_file(group, "cgroup.procs", "0");
    if (code < 0)
        error_set(error, code, "cannot enter the control group %s: %s", group, strerror(-code));
    return code;
}

/* All that is to be signalled is listed first, so that what a signal makes somebody start to clean
 * up with is left alone. */
struct listing {
    char *groups[SIGNAL_MAX_GROUPS]; /* the uppermost first, which is the caller's */
    size_t group_count;
    pid_t pids[SIGNAL_MAX_PROCESSES];
    size_t pid_count;
};

static void list_processes(struct listing *listing, const char *group, pid_t told)
{
    char *text = read_file(group, "cgroup.procs");
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        if (pid > 0 && getpgid(pid) != told && listing->pid_count < SIGNAL_MAX_PROCESSES)
            listing->pids[listing->pid_count++] = pid;
    }
    free(text);
}

static void list_groups_below(struct listing *listing, const char *group)
{
    DIR *folder = opendir(group);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            listing->group_count < SIGNAL_MAX_GROUPS)
            listing->groups[listing->group_count++] = mem_format("%s/%s", group, entry->d_name);
    if (folder)
        closedir(folder);
}

/* Is the process in the group of that name, or below it? The name is an attempt's: there is no
 * other one. */
static bool is_in_group(pid_t pid, const char *name)
{
    char *path = cgroup_of(pid), *rest = path, *part = NULL;
    while ((part = strsep(&rest, "/")) && strcmp(part, name) != 0)
        continue;
    free(path);
    return part != NULL;
}

/* The process is held by its descriptor before its group is looked up, so that no other one of the
 * same number is met. */
static void signal_member(pid_t pid, const char *name, int signal)
{
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        return;
    if (is_in_group(pid, name)) {
        pidfd_send_signal(pidfd, signal, NULL, 0);
        if (signal == SIGTERM)
            pidfd_send_signal(pidfd, SIGCONT, NULL, 0); /* stopped ones could not act on it */
    }
    close(pidfd);
}

void cgroup_signal(const char *group, int signal, pid_t told)
{
    struct listing listing = {.groups = {mem_text(group)}, .group_count = 1};
    const char *name = strrchr(group, '/') + 1;
    for (size_t i = 0; i < listing.group_count; i++) {
        list_processes(&listing, listing.groups[i], told);
        list_groups_below(&listing, listing.groups[i]);
    }
    for (size_t i = 0; i < listing.pid_count; i++)
        signal_member(listing.pids[i], name, signal);
    for (size_t i = 0; i < listing.group_count; i++)
        free(listing.groups[i]);
}

int cgroup_kill(const char *group)
{
    return write_file(group, "cgroup.kill", "1");
}

bool cgroup_is_populated(const char *group)
{
    char *text;
    int code = read_text(group, "cgroup.events", &text);
    bool populated = code < 0 ? code != -ENOENT && code != -ENODEV : !strstr(text, "populated 0");
    free(text);
    return populated;
}

struct cgroup_usage cgroup_read_usage(const char *group)
{
    return (struct cgroup_usage){
        .peak_memory_bytes = read_number(group, "memory.peak", NULL), /* since Linux 5.19 */
        .cpu_us = read_number(group, "cpu.stat", "usage_usec"),
        .oom_kills = read_number(group, "memory.events", "oom_kill"),
    };
}

/* The files are the kernel's, and go with their directory. */
static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    remove(path);
    return 0;
}

void cgroup_remove(const char *group)
{
    if (rmdir(group) < 0 && errno != ENOENT)
        nftw(group, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}
