#include "executor/leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "executor/proc.h"

/* A process in the middle of execve shows an empty environment, and one that hands over to a child
 * may do so behind the look's back: one clean look proves nothing. */
#define CLEAN_LOOKS 4
#define MAX_LOOKS 250
#define LOOK_NS 20000000

/* The noted ids, one a line. */
static char *notes_path(const char *state_dir)
{
    return mem_format("%s/nodes", state_dir);
}

int leftovers_note(const char *state_dir, const struct id *node, struct error *error)
{
    char line[ID_TEXT_SIZE];
    id_format(node, line);
    line[sizeof line - 1] = '\n';
    char *path = notes_path(state_dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int code = fd < 0 || write(fd, line, sizeof line) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    if (code < 0)
        error_set(error, code, "cannot write %s: %s", path, strerror(-code));
    free(path);
    return code;
}

/* --- looking ---------------------------------------------------------------------------------- */

struct search {
    struct buffer nodes; /* the notes as they are written */
    struct buffer environment;
    int found; /* by the last look */
    pid_t example;
};

/* Ids are written in one way only, so that text is compared with text. */
static bool is_noted(struct search *search, const char *id)
{
    return strlen(id) == ID_TEXT_SIZE - 1 && strstr(buffer_text(&search->nodes), id);
}

/* The process is held by the descriptor while its environment is read, so that no other of the
 * same number is met. */
static void kill_if_left(struct search *search, pid_t pid)
{
    int pidfd = pid == getpid() ? -1 : pidfd_open(pid, 0);
    if (pidfd < 0)
        return;
    if (proc_read(pid, "environ", PROC_MAX_ENVIRONMENT, &search->environment) == 0) {
        const char *entry = proc_find_entry(&search->environment, LEFTOVERS_MARK);
        if (entry && is_noted(search, entry + strlen(LEFTOVERS_MARK))) {
            pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
            search->found++;
            search->example = pid;
        }
    }
    close(pidfd);
}

static void look(struct search *search)
{
    search->found = 0;
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        long pid = strtol(entry->d_name, NULL, 10); /* 0 for other names */
        if (pid > 0)
            kill_if_left(search, (pid_t)pid);
    }
    if (folder)
        closedir(folder);
}

/* Returns the most that one look found. */
static int kill_all(struct search *search, struct error *error)
{
    int most = 0, clean = 0;
    for (int i = 0; i < MAX_LOOKS && clean < CLEAN_LOOKS; i++) {
        if (i > 0)
            nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
        look(search);
        clean = search->found == 0 ? clean + 1 : 0;
        most = search->found > most ? search->found : most;
    }
    if (clean < CLEAN_LOOKS)
        return error_set(error, -ETIMEDOUT,
                         "%d processes of an earlier daemon cannot be killed, such as %d",
                         search->found, search->example);
    return most;
}

int leftovers_kill(const char *state_dir, struct error *error)
{
    struct search search = {0};
    char *path = notes_path(state_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int found = 0;
    if (fd >= 0) {
        proc_read_all(fd, INT_MAX, &search.nodes);
        close(fd);
    }
    if (search.nodes.size > 0) {
        found = kill_all(&search, error);
        if (found >= 0)
            unlink(path);
    }
    free(path);
    buffer_done(&search.nodes);
    buffer_done(&search.environment);
    return found;
}
