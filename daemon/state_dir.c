#include "daemon/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"

enum { LOCK_TRIES = 25, LOCK_PAUSE_NS = 20 * 1000 * 1000 };

/* Under root others may enter what we make, whatever the umask says, since the private PostgreSQL
 * runs as another user; what lies in there has rights of its own. */
static int make_directory(const char *path)
{
    if (mkdir(path, 0755) < 0)
        return errno == EEXIST ? 0 : -errno;
    return geteuid() == 0 && chmod(path, 0755) < 0 ? -errno : 0;
}

/* Like mkdir -p. */
static int make_directories(const char *path)
{
    char *partial = mem_text(path);
    int code = 0;
    for (char *at = partial + 1; code == 0 && *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        code = make_directory(partial);
        *at = '/';
    }
    if (code == 0)
        code = make_directory(partial);
    free(partial);
    return code;
}

/* The number is a help for people; the lock, not the number, says that its holder lives. */
static void write_pid(int fd)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) < 0)
        return;
}

static long read_pid(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

/* The lock of a daemon that was killed lives on for a moment in a child that has not begun its
 * program yet. 0 or a negative error. */
static int lock(int fd)
{
    for (int left = LOCK_TRIES; flock(fd, LOCK_EX | LOCK_NB) < 0; left--) {
        if (errno != EWOULDBLOCK || left == 0)
            return -errno;
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    return 0;
}

/* The descriptor that holds the lock, or what is in the way. */
static int take_lock(const char *path, struct error *error)
{
    char *file = mem_format("%s/lock", path);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int code = fd < 0 ? -errno : 0;
    free(file);
    if (code < 0)
        return error_set(error, code, "cannot write in state directory %s: %s", path,
                         strerror(-code));
    code = lock(fd);
    if (code == 0) {
        write_pid(fd);
        return fd;
    }
    if (code == -EWOULDBLOCK)
        code = error_set(error, -EBUSY,
                         "state directory %s belongs to a running directord (process %ld)", path,
                         read_pid(fd));
    else
        error_set(error, code, "cannot lock state directory %s: %s", path, strerror(-code));
    close(fd);
    return code;
}

/* --- its id ---------------------------------------------------------------------------------- */

/* The file holds the id and the number of its own inode, which a copy of it does not have. */
#define ID_FORMAT "%s %ju\n"
enum { ID_LINE_SIZE = ID_TEXT_SIZE + 24 };

static bool read_id(const char *file, struct id *id)
{
    char line[ID_LINE_SIZE] = "", expected[ID_LINE_SIZE], text[ID_TEXT_SIZE];
    struct stat status;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool found = read(fd, line, sizeof line - 1) > 0 && fstat(fd, &status) == 0 &&
                 id_parse(line, strcspn(line, " "), id);
    close(fd);
    if (!found)
        return false;
    id_format(id, text);
    snprintf(expected, sizeof expected, ID_FORMAT, text, (uintmax_t)status.st_ino);
    return strcmp(line, expected) == 0;
}

static int write_id(int fd, const struct id *id)
{
    char text[ID_TEXT_SIZE];
    struct stat status;
    id_format(id, text);
    if (fstat(fd, &status) < 0 || dprintf(fd, ID_FORMAT, text, (uintmax_t)status.st_ino) < 0 ||
        fsync(fd) < 0)
        return -errno;
    return 0;
}

/* Puts a new file in the place of what is there; it is on the disk when this returns. */
static int make_id(const char *directory, const char *file, struct id *id)
{
    char *fresh = mem_format("%s.new", file);
    *id = id_random();
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    int code = fd < 0 ? -errno : write_id(fd, id);
    if (code == 0 && rename(fresh, file) < 0)
        code = -errno;
    if (fd >= 0)
        close(fd);
    free(fresh);
    fd = code == 0 ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (code == 0 && (fd < 0 || fsync(fd) < 0))
        code = -errno;
    if (fd >= 0)
        close(fd);
    return code;
}

static int find_id(struct state_dir *dir, struct error *error)
{
    char *file = mem_format("%s/id", dir->path);
    int code = read_id(file, &dir->id) ? 0 : make_id(dir->path, file, &dir->id);
    if (code < 0)
        error_set(error, code, "cannot write %s: %s", file, strerror(-code));
    free(file);
    return code;
}

int state_dir_open(const char *path, struct state_dir *dir, struct error *error)
{
    int code = make_directories(path);
    char *real = code == 0 ? realpath(path, NULL) : NULL;
    if (!real) {
        code = code < 0 ? code : -errno;
        return error_set(error, code, "cannot make state directory %s: %s", path, strerror(-code));
    }
    int lock_fd = take_lock(real, error);
    if (lock_fd < 0) {
        free(real);
        return lock_fd;
    }
    struct state_dir opened = {.path = real, .lock_fd = lock_fd};
    code = find_id(&opened, error);
    if (code < 0)
        state_dir_close(&opened);
    else
        *dir = opened;
    return code;
}

void state_dir_close(struct state_dir *dir)
{
    close(dir->lock_fd);
    free(dir->path);
    *dir = (struct state_dir){.lock_fd = -1};
}
