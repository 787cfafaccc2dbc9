#include "executor/leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "executor/proc.h"

/* A process in the middle of execve shows an empty environment, and one that hands over to a child
 * may do so behind the look's back: one clean look proves nothing. */
#define CLEAN_LOOKS 4
#define MAX_LOOKS 250
#define LOOK_NS 20000000
/* A read takes microseconds, on a busy machine milliseconds. */
#define READ_US (US_PER_SECOND / 2)
#define MAX_HANGING 10

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

/* --- reading ---------------------------------------------------------------------------------- */

/* To read an environment the kernel waits until the process's memory is not being changed: for
 * ever, when that is about a file whose server does not answer. Nothing ends such a wait but the
 * end of the daemon: it is left to a thread, which is left alone when it does not answer in time.
 */
struct reader {
    pthread_t thread;
    sem_t asked, answered;
    pid_t pid; /* 0: no more questions */
    int code;
    struct buffer environment;
};

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0)
        continue;
}

static void *serve(void *argument)
{
    struct reader *reader = argument;
    for (wait_for(&reader->asked); reader->pid > 0; wait_for(&reader->asked)) {
        reader->code =
            proc_read(reader->pid, "environ", PROC_MAX_ENVIRONMENT, &reader->environment);
        sem_post(&reader->answered);
    }
    return NULL;
}

/* Threads there must be: libuv aborts without its own ones, too. Signals are for others. */
static struct reader *reader_new(void)
{
    struct reader *reader = mem_new(1, sizeof *reader);
    sigset_t all, before;
    sem_init(&reader->asked, 0, 0);
    sem_init(&reader->answered, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&reader->thread, NULL, serve, reader) != 0)
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return reader;
}

static void reader_free(struct reader *reader)
{
    if (!reader)
        return;
    reader->pid = 0;
    sem_post(&reader->asked);
    pthread_join(reader->thread, NULL);
    sem_destroy(&reader->asked);
    sem_destroy(&reader->answered);
    buffer_done(&reader->environment);
    free(reader);
}

/* -ETIMEDOUT: it hangs with the process, and is not to be used again. */
static int reader_ask(struct reader *reader, pid_t pid)
{
    int64_t until_us = clock_mono_us() + READ_US;
    struct timespec until = {until_us / US_PER_SECOND, until_us % US_PER_SECOND * 1000};
    reader->pid = pid;
    sem_post(&reader->asked);
    while (sem_clockwait(&reader->answered, CLOCK_MONOTONIC, &until) < 0)
        if (errno == ETIMEDOUT)
            return -ETIMEDOUT;
    return reader->code;
}

/* --- looking ---------------------------------------------------------------------------------- */

struct search {
    struct buffer nodes;   /* the notes as they are written */
    struct reader *reader; /* or NULL: the last one hangs */
    pid_t hanging[MAX_HANGING];
    size_t hanging_count;
    int found; /* by the last look */
    pid_t example;
};

/* Ids are written in one way only, so that text is compared with text. */
static bool is_noted(struct search *search, const char *id)
{
    return strlen(id) == ID_TEXT_SIZE - 1 && strstr(buffer_text(&search->nodes), id);
}

/* With too many of them nobody is asked any more. */
static bool is_hanging(const struct search *search, pid_t pid)
{
    for (size_t i = 0; i < search->hanging_count; i++)
        if (search->hanging[i] == pid)
            return true;
    return search->hanging_count == MAX_HANGING;
}

static bool is_left(struct search *search, pid_t pid)
{
    if (!search->reader)
        search->reader = reader_new();
    int code = reader_ask(search->reader, pid);
    if (code == -ETIMEDOUT) {
        search->hanging[search->hanging_count++] = pid;
        search->reader = NULL;
    }
    if (code < 0)
        return false;
    const char *entry = proc_find_entry(&search->reader->environment, LEFTOVERS_MARK);
    return entry && is_noted(search, entry + strlen(LEFTOVERS_MARK));
}

/* The process is held by the descriptor while its environment is read, so that no other of the
 * same number is met. */
static void kill_if_left(struct search *search, pid_t pid)
{
    int pidfd = pid == getpid() || is_hanging(search, pid) ? -1 : pidfd_open(pid, 0);
    if (pidfd < 0)
        return;
    if (is_left(search, pid)) {
        pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        search->found++;
        search->example = pid;
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
    if (search->hanging_count > 0)
        return error_set(error, -ETIMEDOUT, "%zu processes do not show whose they are, such as %d",
                         search->hanging_count, search->hanging[0]);
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
    reader_free(search.reader);
    return found;
}
