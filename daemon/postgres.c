/* The server is known by its postmaster.pid alone, so that one of ours and one that outlived a
 * killed daemon are the same to us: find it, wait until it says "ready", and in the end signal it
 * and wait for its process to be gone.
 */
#include "daemon/postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
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
    ENSURE_TIMEOUT_MS = 5 * 1000,
    FAST_STOP_MS = 30 * 1000,
    IMMEDIATE_STOP_MS = 10 * 1000,
    POLL_MS = 50,
    LEFTOVER_MS = 10 * 1000, /* for the sessions of a killed server to notice */
    MAX_LOG_BYTES = 8 * 1024 * 1024,
};

struct postgres {
    struct postgres_cluster cluster;
    char *conninfo;
    pthread_mutex_t mutex; /* one thread at a time starts it */
    int server_fd; /* the pidfd of the last one that we started, until it is reaped; or -1 */
};

/* --- the server that there is ---------------------------------------------------------------- */

enum server_state { SERVER_ABSENT, SERVER_BUSY, SERVER_READY };

struct server {
    enum server_state state; /* BUSY: it starts or stops */
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
        return (struct server){.state = SERVER_ABSENT};
    return server;
}

/* --- starting -------------------------------------------------------------------------------- */

/* A start under way: our process, and its log. */
struct launch {
    int pidfd; /* -1: the server is not ours, or not started yet */
    int log_fd;
    off_t log_start;
};

static void launch_done(struct launch *launch)
{
    if (launch->pidfd >= 0)
        close(launch->pidfd);
    if (launch->log_fd >= 0)
        close(launch->log_fd);
    *launch = (struct launch){.pidfd = -1, .log_fd = -1};
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

/* With the log open, and out of the way the files in which a dead server left its number: it may be
 * another process's by now. */
static int prepare(const struct postgres_cluster *cluster, struct launch *launch,
                   struct error *error)
{
    int dir_fd = open(cluster->data_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir_fd < 0)
        return error_set(error, -errno, "cannot open %s: %s", cluster->data_dir, strerror(errno));
    unlinkat(dir_fd, "postmaster.pid", 0);
    unlinkat(dir_fd, POSTGRES_SOCKET_NAME ".lock", 0);
    launch->log_fd = open_log(cluster, dir_fd, &launch->log_start);
    close(dir_fd);
    if (launch->log_fd < 0)
        return error_set(error, launch->log_fd, "cannot open %s/server.log: %s", cluster->data_dir,
                         strerror(-launch->log_fd));
    return 0;
}

/* What is on the command line stands, whatever the configuration says: no network, and the socket
 * in the cluster. */
static int launch_server(const struct postgres_cluster *cluster, struct launch *launch,
                         struct error *error)
{
    int code = prepare(cluster, launch, error);
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
                              .output_fd = launch->log_fd,
                              .outlives = true};
    launch->pidfd = command_start(&command, error);
    free(program);
    return launch->pidfd < 0 ? launch->pidfd : 0;
}

/* Our server ended before it was ready. Sessions of one that was killed live on for a moment and
 * hold its memory: then the next try will do. */
static int explain_end(const struct postgres_cluster *cluster, struct launch *launch,
                       struct error *error)
{
    waitid(P_PIDFD, (id_t)launch->pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
    char *tail = command_tail(launch->log_fd, launch->log_start);
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

/* One look: 0 when the server is ready, 1 to look again, or an error. Starts it when it is absent.
 */
static int advance(const struct postgres_cluster *cluster, struct launch *launch, int64_t waited_ms,
                   struct error *error)
{
    struct server server = find_server(cluster);
    if (server.state == SERVER_READY)
        return 0;
    if (launch->pidfd >= 0 && command_wait(launch->pidfd, 0)) {
        int code = explain_end(cluster, launch, error);
        launch_done(launch);
        return code == -EAGAIN && waited_ms < LEFTOVER_MS ? 1 : code;
    }
    if (server.state == SERVER_ABSENT && launch->pidfd < 0) {
        int code = launch_server(cluster, launch, error);
        return code < 0 ? code : 1;
    }
    return 1;
}

/* A server that we started is a child of the thread that did. */
static void reap(int *server_fd)
{
    if (*server_fd < 0 || !command_wait(*server_fd, 0))
        return;
    waitid(P_PIDFD, (id_t)*server_fd, &(siginfo_t){0}, WEXITED | WNOHANG);
    close(*server_fd);
    *server_fd = -1;
}

static int wait_until_ready(const struct postgres_cluster *cluster, struct launch *launch,
                            int64_t timeout_ms, bool *started, struct error *error)
{
    int64_t begin_us = clock_mono_us(), waited_ms = 0;
    int code;
    while ((code = advance(cluster, launch, waited_ms, error)) > 0 && waited_ms < timeout_ms) {
        *started = *started || launch->pidfd >= 0;
        if (signals_ask_to_stop())
            return error_set(error, -EINTR, "a signal came while PostgreSQL was starting");
        sleep_ms(POLL_MS);
        waited_ms = (clock_mono_us() - begin_us) / 1000;
    }
    if (code <= 0)
        return code;
    return error_set(error, -ETIMEDOUT,
                     "PostgreSQL is not ready after %lld s and goes on starting, see "
                     "%s/server.log",
                     (long long)timeout_ms / 1000, cluster->data_dir);
}

/* One that we start is left to the caller, in place of the former one. */
static int make_ready(const struct postgres_cluster *cluster, int64_t timeout_ms, int *server_fd,
                      bool *started, struct error *error)
{
    struct launch launch = {.pidfd = -1, .log_fd = -1};
    *started = false;
    int code = wait_until_ready(cluster, &launch, timeout_ms, started, error);
    reap(server_fd);
    if (launch.pidfd >= 0) {
        if (*server_fd >= 0)
            close(*server_fd);
        *server_fd = launch.pidfd;
        launch.pidfd = -1;
    }
    launch_done(&launch);
    return code;
}

/* --- stopping -------------------------------------------------------------------------------- */

static bool signal_and_wait(int pidfd, int number, int64_t timeout_ms)
{
    pidfd_send_signal(pidfd, number, NULL, 0);
    bool ended = command_wait(pidfd, timeout_ms);
    if (ended)
        waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
    return ended;
}

/* SIGINT ends the sessions and writes a checkpoint; SIGQUIT just ends, and so does SIGKILL. */
static int stop_server(const struct postgres_cluster *cluster, struct error *error)
{
    struct server server = find_server(cluster);
    if (server.state == SERVER_ABSENT)
        return 0;
    int pidfd = pidfd_open(server.pid, 0);
    bool same = pidfd >= 0 && is_server(cluster, server.pid); /* the number was not passed on */
    bool in_order = !same || signal_and_wait(pidfd, SIGINT, FAST_STOP_MS);
    bool ended = in_order || signal_and_wait(pidfd, SIGQUIT, IMMEDIATE_STOP_MS) ||
                 signal_and_wait(pidfd, SIGKILL, IMMEDIATE_STOP_MS);
    if (pidfd >= 0)
        close(pidfd);
    if (in_order)
        return 0;
    return error_set(error, -ETIMEDOUT, "PostgreSQL did not stop in %d s and %s",
                     FAST_STOP_MS / 1000,
                     ended ? "was ended; the next start recovers" : "cannot be ended");
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

static int start(const struct postgres_cluster *cluster, int *server_fd, struct error *error)
{
    bool made = false, started = false;
    int code = postgres_cluster_make(cluster, &made, error);
    if (code == 0)
        code = postgres_cluster_configure(cluster, error);
    if (code == 0)
        code = make_ready(cluster, START_TIMEOUT_MS, server_fd, &started, error);
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
    int server_fd = -1;
    if (postgres_cluster_find(state_dir, bin_dir, &cluster, error) < 0)
        return NULL;
    int code = start(&cluster, &server_fd, error);
    if (code < 0) {
        if (code == -EINTR && server_fd >= 0)
            signal_and_wait(server_fd, SIGINT, FAST_STOP_MS);
        if (server_fd >= 0)
            close(server_fd);
        postgres_cluster_done(&cluster);
        return NULL;
    }
    struct postgres *postgres = mem_new(1, sizeof *postgres);
    postgres->cluster = cluster;
    postgres->conninfo = make_conninfo(&cluster);
    postgres->server_fd = server_fd;
    pthread_mutex_init(&postgres->mutex, NULL);
    return postgres;
}

const char *postgres_conninfo(const struct postgres *postgres)
{
    return postgres->conninfo;
}

int postgres_ensure(struct postgres *postgres, struct error *error)
{
    bool started = false;
    pthread_mutex_lock(&postgres->mutex);
    int code =
        make_ready(&postgres->cluster, ENSURE_TIMEOUT_MS, &postgres->server_fd, &started, error);
    pthread_mutex_unlock(&postgres->mutex);
    if (code == 0 && started)
        log_warning("private PostgreSQL had ended and was started again",
                    log_text("directory", postgres->cluster.data_dir));
    return code;
}

int postgres_stop(struct postgres *postgres, struct error *error)
{
    if (!postgres)
        return 0;
    int code = stop_server(&postgres->cluster, error);
    if (postgres->server_fd >= 0)
        close(postgres->server_fd);
    postgres_cluster_done(&postgres->cluster);
    pthread_mutex_destroy(&postgres->mutex);
    free(postgres->conninfo);
    free(postgres);
    return code;
}
