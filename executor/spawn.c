#include "executor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

/* What execvp(3) and the shell use where PATH is unset. */
#define DEFAULT_PATH "/bin:/usr/bin"

bool spawn_is_transient(int code)
{
    return code == -EAGAIN || code == -ENOMEM || code == -EMFILE || code == -ENFILE;
}

/* --- the program's file --------------------------------------------------------------------- */

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

/* Says why posix_spawn gave up: it does not tell a missing directory from a missing program or
 * interpreter. */
static int explain(const struct spawn_request *request, const char *file, int code,
                   struct error *error)
{
    struct stat info;
    const char *hint = "";
    if (stat(request->cwd, &info) < 0)
        return error_set(error, code, "cannot enter directory '%s': %s", request->cwd,
                         strerror(errno));
    if (!S_ISDIR(info.st_mode) || access(request->cwd, X_OK) < 0)
        return error_set(error, code, "cannot enter directory '%s': %s", request->cwd,
                         strerror(-code));
    if (code == -ENOENT && *file == '/' && access(file, F_OK) == 0)
        hint = " (the file is there, but not the interpreter that it names)";
    if (code == -ENOEXEC)
        hint = " (a script begins with a line like #!/bin/sh)";
    if (code == -E2BIG)
        hint = " (the kernel takes 128 KiB in one argument or variable, and some 2 MiB in all)";
    return error_set(error, code, "cannot run '%s': %s%s", file, strerror(-code), hint);
}

/* --- pipes ---------------------------------------------------------------------------------- */

struct pipes {
    int ours[SPAWN_FDS];
    int theirs[SPAWN_FDS];
};

static void close_all(int fds[SPAWN_FDS])
{
    for (int i = 0; i < SPAWN_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

/* The ends must be above what they become in the child, which they are while 0 to 2 are open here.
 */
static int open_pipe(struct pipes *pipes, int i)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    bool we_write = i == STDIN_FILENO;
    pipes->ours[i] = ends[we_write ? 1 : 0];
    pipes->theirs[i] = ends[we_write ? 0 : 1];
    return 0;
}

static int open_pipes(struct pipes *pipes, bool result_pipe, struct error *error)
{
    *pipes = (struct pipes){.ours = {-1, -1, -1, -1}, .theirs = {-1, -1, -1, -1}};
    for (int i = 0; i < (result_pipe ? 4 : 3); i++) {
        int r = open_pipe(pipes, i);
        if (r < 0) {
            close_all(pipes->ours);
            close_all(pipes->theirs);
            return error_set(error, r, "cannot make a pipe: %s", strerror(-r));
        }
    }
    return 0;
}

/* --- the spawn ------------------------------------------------------------------------------ */

/* These fail for lack of memory only, and allocation failures abort (see base/memory.h). */
static void must(int r)
{
    if (r != 0)
        abort();
}

static void set_actions(posix_spawn_file_actions_t *actions, const struct spawn_request *request,
                        const struct pipes *pipes)
{
    must(posix_spawn_file_actions_init(actions));
    for (int i = 0; i < SPAWN_FDS; i++) {
        if (pipes->theirs[i] >= 0)
            must(posix_spawn_file_actions_adddup2(actions, pipes->theirs[i], i));
        else
            must(posix_spawn_file_actions_addopen(actions, i, "/dev/null", O_WRONLY, 0));
    }
    must(posix_spawn_file_actions_addclosefrom_np(actions, SPAWN_FDS));
    must(posix_spawn_file_actions_addchdir_np(actions, request->cwd));
}

static void set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    must(posix_spawnattr_init(attributes));
    must(posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                  POSIX_SPAWN_SETSIGDEF));
    must(posix_spawnattr_setsigmask(attributes, &none));
    must(posix_spawnattr_setsigdefault(attributes, &all));
}

static int run(const struct spawn_request *request, const struct pipes *pipes, const char *file,
               pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    set_actions(&actions, request, pipes);
    set_attributes(&attributes);
    int r = posix_spawn(pid, file, &actions, &attributes, request->argv, request->envp);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -r;
}

/* Without a pidfd nobody would see the process end. Its own ends of the pipes were closed just now,
 * so that there is a descriptor free for it; should it fail still, the process goes at once. */
static int watch(pid_t pid, int *pidfd, struct error *error)
{
    *pidfd = pidfd_open(pid, 0);
    if (*pidfd >= 0)
        return 0;
    error_set(error, -EIO, "cannot watch the process: %s", strerror(errno));
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -EIO;
}

static int run_and_watch(const struct spawn_request *request, const char *file,
                         struct spawned *spawned, struct error *error)
{
    struct pipes pipes;
    int r = open_pipes(&pipes, request->result_pipe, error);
    if (r < 0)
        return r;
    r = run(request, &pipes, file, &spawned->pid);
    close_all(pipes.theirs);
    if (r < 0)
        explain(request, file, r, error);
    else
        r = watch(spawned->pid, &spawned->pidfd, error);
    if (r < 0)
        close_all(pipes.ours);
    else
        memcpy(spawned->fds, pipes.ours, sizeof spawned->fds);
    return r;
}

int spawn_process(const struct spawn_request *request, struct spawned *spawned, struct error *error)
{
    const char *name = request->argv[0];
    const char *path = path_of(request->envp);
    if (strchr(name, '/'))
        return run_and_watch(request, name, spawned, error);
    char *file = find_in_path(name, path, request->cwd);
    if (!file)
        return error_set(error, -ENOENT, "no executable program '%s' in the PATH %s", name, path);
    int r = run_and_watch(request, file, spawned, error);
    free(file);
    return r;
}
