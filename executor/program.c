#include "executor/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"

/* What execvp(3) and the shell use where PATH is unset. */
#define DEFAULT_PATH "/bin:/usr/bin"

static const char *path_of(char *const *envp)
{
    for (; envp && *envp; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return DEFAULT_PATH;
}

static bool is_program(const char *file)
{
    struct stat info;
    return stat(file, &info) == 0 && S_ISREG(info.st_mode) && access(file, X_OK) == 0;
}

/* New memory; `n` bytes of `folder`, which is taken from `cwd` when it is relative or empty. */
static char *join(const char *cwd, const char *folder, size_t n, const char *name)
{
    if (n > 0 && *folder == '/')
        return mem_format("%.*s/%s", (int)n, folder, name);
    return mem_format("%s/%.*s/%s", cwd, (int)n, folder, name);
}

/* Finds the file of `name`; new memory or NULL. */
static char *find_in_path(const char *name, const char *path, const char *cwd)
{
    for (;;) {
        size_t n = strcspn(path, ":");
        char *file = join(cwd, path, n, name);
        if (is_program(file))
            return file;
        free(file);
        if (path[n] == '\0')
            return NULL;
        path += n + 1;
    }
}

int program_find(const char *name, char *const *envp, const char *cwd, char **file,
                 struct error *error)
{
    const char *path = path_of(envp);
    char *found = strchr(name, '/') ? mem_text(name) : find_in_path(name, path, cwd);
    if (!found)
        return error_set(error, -ENOENT, "no executable program '%s' in the PATH %s", name, path);
    *file = found;
    return 0;
}

/* --- near ------------------------------------------------------------------------------------- */

static int open_near(const char *file, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, AT_FDCWD, file, &how, sizeof how);
}

static bool is_binary(int fd)
{
    char head[SELFMAG];
    return pread(fd, head, sizeof head, 0) == sizeof head && memcmp(head, ELFMAG, SELFMAG) == 0;
}

/* 0, -ENOENT when there is nothing, or another code where it is better not to look. First without
 * opening it, which may be an act of its own for what is no ordinary file. */
static int check_near(const char *file)
{
    struct stat info;
    int fd = open_near(file, O_PATH);
    if (fd < 0)
        return errno == ENOTDIR ? -ENOENT : -errno;
    bool may_open = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == 0;
    close(fd);
    fd = may_open ? open_near(file, O_RDONLY | O_NONBLOCK) : -1;
    if (fd < 0)
        return -EACCES;
    bool good = is_binary(fd) && access(file, X_OK) == 0;
    close(fd);
    return good ? 0 : -EACCES;
}

char *program_find_near(const char *name, char *const *envp)
{
    if (strchr(name, '/'))
        return *name == '/' && check_near(name) == 0 ? mem_text(name) : NULL;
    for (const char *path = path_of(envp);; path++) {
        size_t n = strcspn(path, ":");
        if (n == 0 || *path != '/')
            return NULL;
        char *file = join("/", path, n, name);
        int code = check_near(file);
        if (code == 0)
            return file;
        free(file);
        path += n;
        if (code != -ENOENT || *path == '\0')
            return NULL;
    }
}

int program_explain(const char *file, const char *cwd, int code, struct error *error)
{
    struct stat info;
    const char *hint = "";
    if (stat(cwd, &info) < 0)
        return error_set(error, code, "cannot enter directory '%s': %s", cwd, strerror(errno));
    if (!S_ISDIR(info.st_mode) || access(cwd, X_OK) < 0)
        return error_set(error, code, "cannot enter directory '%s': %s", cwd, strerror(-code));
    if (code == -ENOENT && *file == '/' && access(file, F_OK) == 0)
        hint = " (the file is there, but not the interpreter that it names)";
    if (code == -ENOEXEC)
        hint = " (a script begins with a line like #!/bin/sh)";
    if (code == -E2BIG)
        hint = " (the kernel takes 128 KiB in one argument or variable, and some 2 MiB in all)";
    return error_set(error, code, "cannot run '%s': %s%s", file, strerror(-code), hint);
}
