/* A server is known by its postmaster.pid, so that one of ours and one that outlived a killed
 * daemon are the same to us: find it, wait until it says "ready", and in the end signal it and wait
 * for its process to be gone. Only between its launch and that file, which can take long on a busy
 * machine, is one of ours known by its process: there is never a second one beside it.
 */
#include "daemon/postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "daemon/postgres_cluster.h"
#include "daemon/signals.h"

enum {
    START_TIMEOUT_MS = 300 * 1000, /* after a crash up to max_wal_size is replayed first */
    ENSURE_TIMEOUT_MS = 5 * 1000,  /* and when a start says what it waits for */
    FAST_STOP_MS = 30 * 1000,
    IMMEDIATE_STOP_MS = 10 * 1000,
    POLL_MS = 50,
    LEFTOVER_MS = 10 * 1000, /* for the sessions of a killed server to notice */
    MAX_LOG_BYTES = 8 * 1024 * 1024,
};

/* The server that we started last. It outlasts a call that has waited long enough for it. */
struct child {
    enum { CHILD_NONE, CHILD_STARTING, CHILD_RUNS } state;
    int pidfd; /* unless NONE */
    /* While STARTING: what it says, from here on. */
    int log_fd;
    off_t log_start;
};

struct postgres {
    struct postgres_cluster cluster;
    char *conninfo;
    pthread_mutex_t mutex; /* one thread at a time starts it */
    struct child child;
    int told;            /* why it is not back: the last code that was logged, or 0 */
    atomic_bool give_up; /* on a start: the daemon stops */
};

/* --- the server that there is ---------------------------------------------------------------- */

enum server_state { SERVER_ABSENT, SERVER_BUSY, SERVER_READY };

struct server {
    enum server_state state; /* BUSY: it starts or stops */
    bool has_file;           /* ABSENT: one that a dead server left */
    pid_t pid;
};

/* Lines of postmaster.pid, as of PostgreSQL 10 (src/include/utils/pidfile.h): 1 is the process, 8
 * its state. */
static struct server read_pid_file(const struct postgres_cluster *cluster)
{
    struct server server = {0};
    char line[PATH_MAX];
    snprintf(line, sizeof line, "%s/postmaster.pid", cluster->data_dir);
    FILE *file = fopen(line, "re");
    if (!file)
        return server;
    server.has_file = true;
    for (int number = 1; number <= 8 && fgets(line, sizeof line, file); number++) {
        if (number == 1)
            server.pid = (pid_t)strtol(line, NULL, 10);
        if (number == 8 && strncmp(line, "ready", 5) == 0)
            server.state = SERVER_READY;
    }
    fclose(file);
    if (server.state != SERVER_READY && server.pid > 0)
        server.state = SERVER_BUSY;
    return server;
}

/* A number in a file that outlived its server may be another process's by now. A server's working
 * directory is its cluster; where we may not look (a container without the right), its name has to
 * do. A zombie has neither. */
static bool is_server(const struct postgres_cluster *cluster, pid_t pid)
{
    char path[64], found[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%ld/cwd", (long)pid);
    ssize_t n = readlink(path, found, sizeof found - 1);
    if (n >= 0) {
        found[n] = '\0';
        return strcmp(found, cluster->data_dir) == 0;
    }
    if (errno != EACCES && errno != EPERM)
        return false;
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
    FILE *file = fopen(path, "re");
    bool same = file && fgets(found, sizeof found, file) && strcmp(found, "postgres\n") == 0;
    if (file)
        fclose(file);
    return same;
}

static struct server find_server(const struct postgres_cluster *cluster)
{
    struct server server = read_pid_file(cluster);
    if (server.pid <= 0 || !is_server(cluster, server.pid))
        server.state = SERVER_ABSENT;
    return server;
}

/* --- starting -------------------------------------------------------------------------------- */

static void child_runs(struct child *child)
{
    close(child->log_fd);
    child->state = CHILD_RUNS;
}

/* It has ended, or is given up. */
static void child_done(struct child *child)
{
    if (child->state == CHILD_NONE)
        return;
    if (child->state == CHILD_STARTING)
        close(child->log_fd);
    waitid(P_PIDFD, (id_t)child->pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
    close(child->pidfd);
    child->state = CHILD_NONE;
}

/* The log is the server's user's: opened without following links, for appending. A large one makes
 * room first. */
static int open_log(const struct postgres_cluster *cluster, int dir_fd, off_t *size)
{
    struct stat status;
    if (fstatat(dir_fd, "server.log", &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_size > MAX_LOG_BYTES)
        renameat(dir_fd, "server.log", dir_fd, "server.log.old");
    int fd = openat(dir_fd, "server.log",
                    O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (fchown(fd, cluster->owner.uid, cluster->owner.gid) < 0 || fstat(fd, &status) < 0) {
        int code = -errno;
        close(fd);
        return code;
    }
    *size = status.st_size;
    return fd;
}

/* Opens the log, and puts out of the way the files in which a dead server left its number: it may
 * be another process's by now. Where there was no postmaster.pid, none is deleted either: the
 * server of a killed daemon may be about to write it, and is then the only one because ours finds
 * it. */
static int prepare(const struct postgres_cluster *cluster, bool has_file, struct child *child,
                   struct error *error)
{
    int dir_fd = open(cluster->data_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir_fd < 0)
        return error_set(error, -errno, "cannot open %s: %s", cluster->data_dir, strerror(errno));
    if (has_file)
        unlinkat(dir_fd, "postmaster.pid", 0);
    unlinkat(dir_fd, POSTGRES_SOCKET_NAME ".lock", 0);
    child->log_fd = open_log(cluster, dir_fd, &child->log_start);
    close(dir_fd);
    if (child->log_fd < 0)
        return error_set(error, child->log_fd, "cannot open %s/server.log: %s", cluster->data_dir,
                         strerror(-child->log_fd));
    return 0;
}

/* What is on the command line stands, whatever the configuration says: no network, and the socket
 * in the cluster. */
static int launch(const struct postgres_cluster *cluster, bool has_file, struct child *child,
                  struct error *error)
{
    int code = prepare(cluster, has_file, child, error);
    if (code < 0)
        return code;
    char *program = mem_format("%s/postgres", cluster->bin_dir);
    const char *argv[] = {program,
                          "-D",
                          cluster->data_dir,
                          "-c",
                          "listen_addresses=",
                          "-c",
                          "unix_socket_directories=.",
                          "-c",
                          "port=5432",
                          NULL};
    struct command command = {.argv = argv,
                              .identity = &cluster->owner,
                              .input_fd = -1,
                              .output_fd = child->log_fd,
                              .outlives = true};
    int pidfd = command_start(&command, error);
    free(program);
    if (pidfd < 0) {
        close(child->log_fd);
        return pidfd;
    }
    child->state = CHILD_STARTING;
    child->pidfd = pidfd;
    return 0;
}

/* Our server ended before it was ready. Sessions of one that was killed live on for a moment and
 * hold its memory: then the next try will do. */
static int explain_end(const struct postgres_cluster *cluster, const struct child *child,
                       struct error *error)
{
    char *tail = command_tail(child->log_fd, child->log_start);
    int code = strstr(tail, "still in use") ? -EAGAIN : -EIO;
    error_set(error, code, "PostgreSQL did not start: %s (all of it in %s/server.log)", tail,
              cluster->data_dir);
    free(tail);
    return code;
}

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L}, NULL);
}

/* One look: 0 when the server is ready, 1 to look again, or an error. Starts it when there is none,
 * and none of ours that has no file yet. */
static int advance(struct postgres *postgres, int64_t waited_ms, struct error *error)
{
    struct child *child = &postgres->child;
    struct server server = find_server(&postgres->cluster);
    if (server.state != SERVER_ABSENT)
        return server.state == SERVER_READY ? 0 : 1;
    if (child->state == CHILD_NONE) {
        int code = launch(&postgres->cluster, server.has_file, child, error);
        return code < 0 ? code : 1;
    }
    if (!command_wait(child->pidfd, 0))
        return 1;
    int code = child->state == CHILD_RUNS ? 1 : explain_end(&postgres->cluster, child, error);
    child_done(child);
    return code == -EAGAIN && waited_ms < LEFTOVER_MS ? 1 : code;
}

/* `*started`: by us, in this call or in one before. A signal counts before the loop runs, which
 * then hears it and gives up itself. */
static int make_ready(struct postgres *postgres, int64_t timeout_ms, bool *started,
                      struct error *error)
{
    int64_t begin_us = clock_mono_us();
    for (int64_t waited_ms = 0; waited_ms < timeout_ms;
         waited_ms = (clock_mono_us() - begin_us) / 1000) {
        if (atomic_load(&postgres->give_up) || signals_ask_to_stop())
            return error_set(error, -EINTR, "asked to stop while PostgreSQL was starting");
        int code = advance(postgres, waited_ms, error);
        if (code < 0)
            return code;
        if (code == 0) {
            *started = postgres->child.state == CHILD_STARTING;
            if (*started)
                child_runs(&postgres->child);
            return 0;
        }
        sleep_ms(POLL_MS);
    }
    return error_set(error, -ETIMEDOUT,
                     "PostgreSQL is not ready after %lld s and goes on starting, see "
                     "%s/server.log",
                     (long long)timeout_ms / 1000, postgres->cluster.data_dir);
}

/* --- stopping -------------------------------------------------------------------------------- */

static bool signal_and_wait(int pidfd, int number, int64_t timeout_ms)
{
    pidfd_send_signal(pidfd, number, NULL, 0);
    return command_wait(pidfd, timeout_ms);
}

/* SIGINT ends the sessions and writes a checkpoint; SIGQUIT just ends, and so does SIGKILL. */
static int end_server(int pidfd, struct error *error)
{
    if (signal_and_wait(pidfd, SIGINT, FAST_STOP_MS))
        return 0;
    bool ended = signal_and_wait(pidfd, SIGQUIT, IMMEDIATE_STOP_MS) ||
                 signal_and_wait(pidfd, SIGKILL, IMMEDIATE_STOP_MS);
    return error_set(error, -ETIMEDOUT, "PostgreSQL did not stop in %d s and %s",
                     FAST_STOP_MS / 1000,
                     ended ? "was ended; the next start recovers" : "cannot be ended");
}

static int stop_found(const struct postgres_cluster *cluster, struct error *error)
{
    struct server server = find_server(cluster);
    if (server.state == SERVER_ABSENT)
        return 0;
    int pidfd = pidfd_open(server.pid, 0);
    if (pidfd < 0)
        return 0;
    bool same = is_server(cluster, server.pid); /* the number was not passed on */
    int code = same ? end_server(pidfd, error) : 0;
    close(pidfd);
    return code;
}

/* Ours by its process, since it may have no file yet; then the one that a killed daemon left. */
static int stop_servers(struct postgres *postgres, struct error *error)
{
    int code = 0;
    if (postgres->child.state != CHILD_NONE)
        code = end_server(postgres->child.pidfd, error);
    child_done(&postgres->child);
    return code < 0 ? code : stop_found(&postgres->cluster, error);
}

/* --- the public functions -------------------------------------------------------------------- */

/* libpq's keyword form: in quotes, with a backslash before quotes and backslashes. */
static void add_quoted(struct buffer *out, const char *key, const char *value)
{
    buffer_printf(out, "%s='", key);
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            buffer_add_char(out, '\\');
        buffer_add_char(out, *value);
    }
    buffer_add_text(out, "' ");
}

static char *make_conninfo(const struct postgres_cluster *cluster)
{
    struct buffer conninfo = {0};
    add_quoted(&conninfo, "host", cluster->data_dir);
    add_quoted(&conninfo, "user", cluster->owner.name);
    buffer_add_text(&conninfo, "port=5432 dbname=directord");
    return buffer_take(&conninfo);
}

static void postgres_free(struct postgres *postgres)
{
    child_done(&postgres->child);
    postgres_cluster_done(&postgres->cluster);
    pthread_mutex_destroy(&postgres->mutex);
    free(postgres->conninfo);
    free(postgres);
}

static int start(struct postgres *postgres, struct error *error)
{
    const struct postgres_cluster *cluster = &postgres->cluster;
    bool made = false, started = false;
    int code = postgres_cluster_make(cluster, &made, error);
    if (code == 0)
        code = postgres_cluster_configure(cluster, error);
    if (code == 0 &&
        (code = make_ready(postgres, ENSURE_TIMEOUT_MS, &started, error)) == -ETIMEDOUT) {
        log_info("waiting for the private PostgreSQL", log_text("reason", error->text));
        code = make_ready(postgres, START_TIMEOUT_MS, &started, error);
    }
    if (code < 0)
        return code;
    if (made)
        log_info("private PostgreSQL made", log_text("directory", cluster->data_dir));
    log_info(started ? "private PostgreSQL started" : "private PostgreSQL found running",
             log_text("directory", cluster->data_dir), log_text("user", cluster->owner.name));
    return 0;
}

struct postgres *postgres_start(const char *state_dir, const char *bin_dir, struct error *error)
{
    struct postgres_cluster cluster;
    if (postgres_cluster_find(state_dir, bin_dir, &cluster, error) < 0)
        return NULL;
    struct postgres *postgres = mem_new(1, sizeof *postgres);
    postgres->cluster = cluster;
    postgres->conninfo = make_conninfo(&cluster);
    pthread_mutex_init(&postgres->mutex, NULL);
    int code = start(postgres, error);
    if (code == 0)
        return postgres;
    if (code == -EINTR) {
        log_info("stopping", log_text("reason", error->text));
        postgres_stop(postgres);
    } else {
        postgres_free(postgres);
    }
    return NULL;
}

const char *postgres_conninfo(const struct postgres *postgres)
{
    return postgres->conninfo;
}

/* Once a reason: the database's clients log only that it is away. */
static void tell(struct postgres *postgres, bool started, int code, const struct error *error)
{
    if (started)
        log_warning("private PostgreSQL had ended and was started again",
                    log_text("directory", postgres->cluster.data_dir));
    if (code < 0 && code != -EINTR && code != postgres->told)
        log_warning("private PostgreSQL has ended and is not back yet; trying again",
                    log_error_text(error));
    postgres->told = code;
}

int postgres_ensure(struct postgres *postgres, struct error *error)
{
    bool started = false;
    pthread_mutex_lock(&postgres->mutex);
    int code = make_ready(postgres, ENSURE_TIMEOUT_MS, &started, error);
    tell(postgres, started, code, error);
    pthread_mutex_unlock(&postgres->mutex);
    return code;
}

void postgres_give_up(struct postgres *postgres)
{
    if (postgres)
        atomic_store(&postgres->give_up, true);
}

void postgres_stop(struct postgres *postgres)
{
    struct error error;
    if (!postgres)
        return;
    if (stop_servers(postgres, &error) < 0)
        log_error("the private PostgreSQL did not stop well", log_error_text(&error));
    else
        log_info("private PostgreSQL stopped", log_text("directory", postgres->cluster.data_dir));
    postgres_free(postgres);
}
