#include "daemon/machine.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "executor/leftovers.h"

/* Where it is built and where it is installed, seen from the daemon's own directory. */
static const char *const launchers[] = {"directord-exec", "../libexec/directord/directord-exec"};

static char *find_launcher(void)
{
    char own[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n < 0)
        return NULL;
    own[n] = '\0';
    *strrchr(own, '/') = '\0';
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        char *path = mem_format("%s/%s", own, launchers[i]);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

/* Without the launcher nothing could enter a group. */
static void divide_control_group(struct machine *machine)
{
    struct error error;
    char *delegated;
    if (machine->launcher == NULL) {
        log_warning("the launcher directord-exec is not installed: no control groups, and most "
                    "tasks fail");
        return;
    }
    if (cgroup_find_delegated("/proc/self", &delegated, &error) < 0) {
        log_info("tasks run without control groups", log_text("reason", error.text));
        return;
    }
    if (cgroup_tree_open(delegated, &machine->cgroups, &error) < 0)
        log_warning("tasks run without control groups", log_error_text(&error));
    else
        log_info("tasks run in control groups", log_text("in", machine->cgroups.tasks),
                 log_text("cpu", machine->cgroups.has_cpu ? "yes" : "no"),
                 log_text("memory", machine->cgroups.has_memory ? "yes" : "no"),
                 log_text("pids", machine->cgroups.has_pids ? "yes" : "no"));
    free(delegated);
}

static void end_leftovers(const char *state_dir)
{
    struct error error;
    int found = leftovers_kill(state_dir, &error);
    if (found < 0)
        log_error("tasks of an earlier daemon may still run", log_error_text(&error));
    else if (found > 0)
        log_warning("killed what tasks of an earlier daemon had left", log_int("processes", found));
}

void machine_prepare(struct machine *machine, const char *state_dir)
{
    *machine = (struct machine){.launcher = find_launcher()};
    divide_control_group(machine);
    end_leftovers(state_dir);
}

void machine_done(struct machine *machine)
{
    free(machine->launcher);
    cgroup_tree_done(&machine->cgroups);
}
