/* Preloaded into a program: notes in the file $SYNC_TRACE, a line each, what it does to files named
 * "spool" and to the folders that such files are made in; while the file $SYNC_FAILS exists the
 * disk does not take what was written. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const char *what)
{
    const char *path = getenv("SYNC_TRACE");
    int saved = errno;
    int fd = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0) {
        dprintf(fd, "%s\n", what);
        close(fd);
    }
    errno = saved;
}

static int is_spool(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = '\0';
    const char *name = strrchr(path, '/');
    return name != NULL && strcmp(name, "/spool") == 0;
}

static int is_directory(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

static int fails(void)
{
    const char *path = getenv("SYNC_FAILS");
    return path != NULL && access(path, F_OK) == 0;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
    ssize_t n = real(fd, bytes, size, offset);
    if (is_spool(fd))
        note("write");
    return n;
}

int fdatasync(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    if (is_spool(fd) && fails()) {
        note("fail");
        errno = EIO;
        return -1;
    }
    int rc = real(fd);
    if (is_spool(fd))
        note("sync");
    return rc;
}

int fsync(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    int rc = real(fd);
    if (is_directory(fd))
        note("folder");
    return rc;
}
