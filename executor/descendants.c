#include "executor/descendants.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "executor/proc.h"

/* From parent to child; each one is asked for its children in turn. */
struct walk {
    pid_t found[DESCENDANTS_MAX + 1]; /* the root first */
    size_t count;
    pid_t *told;
    size_t told_count;
    pid_t group; /* has been told */
    struct buffer text;
};

/* False when it is no child of `parent` any more. The process is held by its descriptor before its
 * parent is looked up, so that no other one of the same number is met. */
static bool terminate(struct walk *walk, pid_t pid, pid_t parent)
{
    struct proc_stat stat;
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        return false;
    bool is_child = proc_read_stat(pid, &walk->text, &stat) == 0 && stat.parent == parent;
    if (is_child && getpgid(pid) != walk->group) {
        pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
        pidfd_send_signal(pidfd, SIGCONT, NULL, 0); /* stopped ones could not act on it */
        walk->told[walk->told_count++] = pid;
    }
    close(pidfd);
    return is_child;
}

static void terminate_children(struct walk *walk, pid_t parent, const char *thread)
{
    char file[64];
    struct buffer list = {0};
    snprintf(file, sizeof file, "task/%.20s/children", thread);
    if (proc_read(parent, file, SIZE_MAX, &list) == 0) {
        const char *at = buffer_text(&list);
        char *end;
        for (long pid = strtol(at, &end, 10); end != at && walk->count <= DESCENDANTS_MAX;
             pid = strtol(at, &end, 10)) {
            at = end;
            if (terminate(walk, (pid_t)pid, parent))
                walk->found[walk->count++] = (pid_t)pid;
        }
    }
    buffer_done(&list);
}

/* A child belongs to the thread that has forked it. */
static void terminate_all_children(struct walk *walk, pid_t parent)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    DIR *threads = opendir(path);
    for (struct dirent *entry; threads && (entry = readdir(threads));)
        if (entry->d_name[0] != '.')
            terminate_children(walk, parent, entry->d_name);
    if (threads)
        closedir(threads);
}

size_t descendants_terminate(pid_t root, pid_t told[DESCENDANTS_MAX])
{
    struct walk walk = {.found = {root}, .count = 1, .told = told, .group = root};
    for (size_t i = 0; i < walk.count; i++)
        terminate_all_children(&walk, walk.found[i]);
    buffer_done(&walk.text);
    return walk.told_count;
}
