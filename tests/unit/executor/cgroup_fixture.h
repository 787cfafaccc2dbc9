/* A real group of the kernel's for tests, where one may be made: as root on a hierarchy that nobody
 * divides up, so not below systemd. */
#pragma once

#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Is this process in the topmost group, as only without systemd? */
static inline bool is_in_topmost_group(void)
{
    char line[256];
    bool topmost = false;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file))
        topmost = topmost || strcmp(line, "0::/\n") == 0;
    if (file)
        fclose(file);
    return topmost;
}

/* The directory of a new group, or NULL. */
static inline const char *cgroup_fixture_make(void)
{
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    static char path[128];
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
        struct statfs info;
        snprintf(path, sizeof path, "%s/directord-test-%d", mounts[i], getpid());
        if (statfs(mounts[i], &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC &&
            is_in_topmost_group() && mkdir(path, 0755) == 0)
            return path;
    }
    return NULL;
}

/* Answers false, and leaves it, when it still holds more than the two groups that a tree has. */
static inline bool cgroup_fixture_remove(const char *path)
{
    static const char *const below[] = {"daemon", "tasks"};
    char name[160];
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(name, sizeof name, "%s/%s", path, below[i]);
        rmdir(name);
    }
    return rmdir(path) == 0;
}
