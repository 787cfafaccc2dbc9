#include "daemon/postgres_cluster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"

#define PROGRAMS_DIR "/usr/lib/postgresql"

enum { MAKE_TIMEOUT_MS = 120 * 1000, CLEAR_TIMEOUT_MS = 10 * 1000 };

static const char settings_text[] =
    "# How directord's private PostgreSQL runs. Written anew at every start: changes belong into\n"
    "# postgresql.auto.conf, by ALTER SYSTEM. Addresses cannot be changed; this server is "
    "private.\n"
    "\n"
    "max_connections = 100\n"
    "shared_buffers = 128MB\n"
    "timezone = 'UTC'\n"
    "log_timezone = 'UTC'\n"
    "\n"
    "# What was answered to a client survives a power cut.\n"
    "fsync = on\n"
    "full_page_writes = on\n"
    "synchronous_commit = on\n"
    "\n"
    "# Few and even checkpoints; after a crash at most 1 GB is replayed.\n"
    "max_wal_size = 1GB\n"
    "checkpoint_timeout = 15min\n"
    "wal_compression = on\n"
    "\n"
    "# Many short statements: compiling one, or spreading it over processes, costs more than it "
    "gains.\n"
    "jit = off\n"
    "max_parallel_workers_per_gather = 0\n"
    "\n"
    "# Rows that change as often as those of a queue need a vacuum that comes soon.\n"
    "autovacuum = on\n"
    "autovacuum_naptime = 15s\n"
    "\n"
    "# The log is read when something is wrong.\n"
    "log_checkpoints = off\n"
    "log_min_messages = warning\n"
    "log_line_prefix = '%m [%p] '\n";

static const char access_text[] =
    "# Written by directord at every start. Over the socket only, for the users of pg_ident.conf.\n"
    "local all all peer map=directord\n";

/* --- finding --------------------------------------------------------------------------------- */

static bool has_programs(const char *dir)
{
    static const char *const programs[] = {"initdb", "postgres"};
    for (int i = 0; i < 2; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", dir, programs[i]);
        if (access(path, X_OK) < 0)
            return false;
    }
    return true;
}

/* The major version that made the cluster, as text of `size` bytes; empty when there is no cluster.
 */
static void read_version(const char *data_dir, char *version, size_t size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/PG_VERSION", data_dir);
    version[0] = '\0';
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fgets(version, (int)size, file))
        version[strcspn(version, "\n")] = '\0';
    fclose(file);
}

static char *find_newest(void)
{
    int newest = 0;
    DIR *dir = opendir(PROGRAMS_DIR);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, PROGRAMS_DIR "/%s/bin", entry->d_name);
        int version = atoi(entry->d_name);
        if (version > newest && has_programs(path))
            newest = version;
    }
    if (dir)
        closedir(dir);
    return newest > 0 ? mem_format(PROGRAMS_DIR "/%d/bin", newest) : NULL;
}

static char *find_in_path(void)
{
    const char *path = getenv("PATH");
    for (const char *at = path ? path : ""; *at;) {
        size_t n = strcspn(at, ":");
        char *dir = mem_text_n(at, n);
        if (has_programs(dir))
            return dir;
        free(dir);
        at += n + (at[n] == ':');
    }
    return NULL;
}

/* A cluster can only be run by the version that made it. */
static int find_programs(const char *given, struct postgres_cluster *cluster, struct error *error)
{
    char version[16];
    read_version(cluster->data_dir, version, sizeof version);
    if (*given) {
        if (!has_programs(given))
            return error_set(error, -ENOENT,
                             "DIRECTOR_POSTGRES_BIN: %s holds no programs initdb and postgres",
                             given);
        cluster->bin_dir = mem_text(given);
    } else if (*version) {
        cluster->bin_dir = mem_format(PROGRAMS_DIR "/%s/bin", version);
        if (!has_programs(cluster->bin_dir)) {
            free(cluster->bin_dir);
            cluster->bin_dir = find_in_path();
        }
    } else {
        cluster->bin_dir = find_newest();
        if (!cluster->bin_dir)
            cluster->bin_dir = find_in_path();
    }
    if (!cluster->bin_dir)
        return error_set(error, -ENOENT,
                         "PostgreSQL%s%s is not installed: install it (Debian: postgresql%s%s), or "
                         "set DIRECTOR_DATABASE_URI to a database elsewhere",
                         *version ? " " : "", version, *version ? "-" : "", version);
    return 0;
}

/* PostgreSQL refuses to run as root, and to run on files of another user: so the owner of a cluster
 * is who runs it, and a new one is the daemon's own or, under root, that of the user that
 * PostgreSQL's packages make. */
static int find_owner(struct postgres_cluster *cluster, struct error *error)
{
    struct stat status;
    uid_t self = geteuid();
    bool exists = stat(cluster->data_dir, &status) == 0;

    if (!exists && self != 0)
        return identity_find(self, &cluster->owner, error);
    if (!exists && identity_find_name("postgres", &cluster->owner, error) < 0)
        return error_set(error, -ENOENT,
                         "PostgreSQL does not run as root, and there is no user 'postgres' for it: "
                         "run directord as another user, or set DIRECTOR_DATABASE_URI");
    if (!exists)
        return 0;
    if (status.st_uid == 0 || (self != 0 && status.st_uid != self))
        return error_set(error, -EPERM,
                         "%s belongs to user id %ld, as whom PostgreSQL cannot be run from here",
                         cluster->data_dir, (long)status.st_uid);
    return identity_find(status.st_uid, &cluster->owner, error);
}

static bool may_enter(const struct stat *status, const struct identity *user)
{
    if (status->st_uid == user->uid)
        return status->st_mode & S_IXUSR;
    if (status->st_gid == user->gid)
        return status->st_mode & S_IXGRP;
    return status->st_mode & S_IXOTH;
}

/* The server's user must be able to walk down to its files; a home of root is closed to it. */
static int check_reachable(const struct postgres_cluster *cluster, struct error *error)
{
    char *path = mem_text(cluster->state_dir);
    int code = 0;
    for (char *at = path + 1; code == 0; at++) {
        char byte = *at;
        if (byte != '/' && byte != '\0')
            continue;
        struct stat status;
        *at = '\0';
        if (stat(path, &status) < 0 || !may_enter(&status, &cluster->owner))
            code = error_set(error, -EACCES,
                             "PostgreSQL runs as user '%s', for whom %s is closed: set "
                             "DIRECTOR_STATE_DIR to a directory outside of it",
                             cluster->owner.name, path);
        *at = byte;
        if (byte == '\0')
            break;
    }
    free(path);
    return code;
}

/* libpq takes a comma for the end of a host. */
static int check_path(const struct postgres_cluster *cluster, struct error *error)
{
    size_t longest = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    size_t size = strlen(cluster->data_dir) + strlen("/" POSTGRES_SOCKET_NAME);
    if (size > longest)
        return error_set(error, -ENAMETOOLONG,
                         "the path of the state directory %s is too long: PostgreSQL's socket in "
                         "it may have %zu bytes, not %zu",
                         cluster->state_dir, longest, size);
    if (strchr(cluster->data_dir, ','))
        return error_set(error, -EINVAL, "the path of the state directory %s must not hold a comma",
                         cluster->state_dir);
    return 0;
}

int postgres_cluster_find(const char *state_dir, const char *bin_dir,
                          struct postgres_cluster *cluster, struct error *error)
{
    struct postgres_cluster found = {
        .state_dir = mem_text(state_dir),
        .data_dir = mem_format("%s/postgresql", state_dir),
    };
    int code = check_path(&found, error);
    if (code == 0)
        code = find_owner(&found, error);
    if (code == 0)
        code = identity_find(geteuid(), &found.daemon, error);
    if (code == 0)
        code = check_reachable(&found, error);
    if (code == 0)
        code = find_programs(bin_dir, &found, error);
    if (code < 0) {
        postgres_cluster_done(&found);
        return error->code = -EINVAL;
    }
    *cluster = found;
    return 0;
}

void postgres_cluster_done(struct postgres_cluster *cluster)
{
    free(cluster->state_dir);
    free(cluster->data_dir);
    free(cluster->bin_dir);
    identity_done(&cluster->owner);
    identity_done(&cluster->daemon);
    *cluster = (struct postgres_cluster){0};
}

/* --- files in the cluster
 * ------------------------------------------------------------------------------------
 *
 * The directory belongs to the server's user, and the daemon may be root: so nothing in it is
 * followed or opened for writing by name alone. */

static int open_data_dir(const char *data_dir, struct error *error)
{
    int fd = open(data_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : error_set(error, -errno, "cannot open %s: %s", data_dir, strerror(errno));
}

static int write_all(int fd, const char *text)
{
    size_t size = strlen(text);
    ssize_t n = write(fd, text, size);
    if (n == (ssize_t)size)
        return 0;
    return n < 0 ? -errno : -ENOSPC;
}

/* Replaces the file in one step. */
static int replace_file(const struct postgres_cluster *cluster, int dir_fd, const char *name,
                        const char *text, struct error *error)
{
    static const char fresh[] = "directord.new";
    unlinkat(dir_fd, fresh, 0);
    int fd = openat(dir_fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int code = fd < 0 ? -errno : write_all(fd, text);
    if (code == 0 && fchown(fd, cluster->owner.uid, cluster->owner.gid) < 0)
        code = -errno;
    if (fd >= 0)
        close(fd);
    if (code == 0 && renameat(dir_fd, fresh, dir_fd, name) < 0)
        code = -errno;
    if (code < 0)
        return error_set(error, code, "cannot write %s/%s: %s", cluster->data_dir, name,
                         strerror(-code));
    return 0;
}

static void add_map_line(struct buffer *map, const char *system_user, const char *role)
{
    buffer_printf(map, "directord \"%s\" \"%s\"\n", system_user, role);
}

int postgres_cluster_configure(const struct postgres_cluster *cluster, struct error *error)
{
    struct buffer map = {0};
    add_map_line(&map, cluster->owner.name, cluster->owner.name);
    if (cluster->daemon.uid != cluster->owner.uid)
        add_map_line(&map, cluster->daemon.name, cluster->owner.name);

    int dir_fd = open_data_dir(cluster->data_dir, error);
    int code = dir_fd < 0 ? dir_fd : 0;
    if (code == 0)
        code = replace_file(cluster, dir_fd, "directord.conf", settings_text, error);
    if (code == 0)
        code = replace_file(cluster, dir_fd, "pg_hba.conf", access_text, error);
    if (code == 0)
        code = replace_file(cluster, dir_fd, "pg_ident.conf", buffer_text(&map), error);
    if (dir_fd >= 0)
        close(dir_fd);
    buffer_done(&map);
    return code;
}

/* --- making ---------------------------------------------------------------------------------- */

/* Empties the directory as its owner, since root follows no names there. A server that initdb had
 * at work when it was killed may still write for a moment: its files are deleted under its feet, at
 * the latest the next time round. */
static int empty_directory(const char *dir, const struct identity *owner, struct error *error)
{
    const char *argv[] = {"/usr/bin/find", dir, "-mindepth", "1", "-delete", NULL};
    int64_t deadline_us = clock_mono_us() + CLEAR_TIMEOUT_MS * INT64_C(1000);
    int code;
    while ((code = command_run(argv, owner, NULL, CLEAR_TIMEOUT_MS, error)) < 0 &&
           clock_mono_us() < deadline_us)
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    return code;
}

/* What an interrupted make left. */
static int clear_leftover(const char *fresh, struct error *error)
{
    struct stat status;
    struct identity owner;
    if (lstat(fresh, &status) < 0)
        return 0;
    int code = identity_find(status.st_uid, &owner, error);
    if (code < 0)
        return code;
    code = empty_directory(fresh, &owner, error);
    identity_done(&owner);
    if (code == 0 && rmdir(fresh) < 0)
        code = error_set(error, -errno, "cannot remove %s: %s", fresh, strerror(errno));
    return code;
}

static int run_initdb(const struct postgres_cluster *cluster, const char *fresh,
                      struct error *error)
{
    char *program = mem_format("%s/initdb", cluster->bin_dir);
    const char *argv[] = {
        program,       "--pgdata",        fresh,        "--username",       cluster->owner.name,
        "--auth=peer", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions",
        NULL};
    int code = command_run(argv, &cluster->owner, NULL, MAKE_TIMEOUT_MS, error);
    free(program);
    return code;
}

static int create_database(const struct postgres_cluster *cluster, const char *fresh,
                           struct error *error)
{
    char *program = mem_format("%s/postgres", cluster->bin_dir);
    const char *argv[] = {program, "--single",         "-D",       fresh,
                          "-c",    "exit_on_error=on", "postgres", NULL};
    int code =
        command_run(argv, &cluster->owner, "CREATE DATABASE directord\n", MAKE_TIMEOUT_MS, error);
    free(program);
    return code;
}

static int include_settings(const char *fresh, struct error *error)
{
    int dir_fd = open_data_dir(fresh, error);
    if (dir_fd < 0)
        return dir_fd;
    int fd = openat(dir_fd, "postgresql.conf", O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
    int code = fd < 0 ? -errno : write_all(fd, "\ninclude 'directord.conf'\n");
    if (code == 0 && fsync(fd) < 0)
        code = -errno;
    if (fd >= 0)
        close(fd);
    close(dir_fd);
    if (code < 0)
        error_set(error, code, "cannot write %s/postgresql.conf: %s", fresh, strerror(-code));
    return code;
}

static int move_into_place(const struct postgres_cluster *cluster, const char *fresh,
                           struct error *error)
{
    if (rename(fresh, cluster->data_dir) < 0)
        return error_set(error, -EINVAL, "%s is no PostgreSQL cluster and cannot become one: %s",
                         cluster->data_dir, strerror(errno));
    int fd = open(cluster->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    return 0;
}

static int make_at(const struct postgres_cluster *cluster, const char *fresh, struct error *error)
{
    int code = clear_leftover(fresh, error);
    if (code < 0)
        return code;
    if (mkdir(fresh, 0700) < 0 || chown(fresh, cluster->owner.uid, cluster->owner.gid) < 0)
        return error_set(error, -errno, "cannot make %s: %s", fresh, strerror(errno));
    if ((code = run_initdb(cluster, fresh, error)) < 0 ||
        (code = create_database(cluster, fresh, error)) < 0 ||
        (code = include_settings(fresh, error)) < 0)
        return code;
    return move_into_place(cluster, fresh, error);
}

int postgres_cluster_make(const struct postgres_cluster *cluster, bool *made, struct error *error)
{
    char version[16];
    read_version(cluster->data_dir, version, sizeof version);
    *made = *version == '\0';
    if (!*made)
        return 0;
    char *fresh = mem_format("%s.new", cluster->data_dir);
    int code = make_at(cluster, fresh, error);
    if (code < 0)
        error_wrap(error, "making the private PostgreSQL");
    free(fresh);
    return code;
}
