/* Starts a program as a process with its pipes, by posix_spawn, in the directory `/`.
 *
 * posix_spawn returns when the program runs: it must be a file that cannot keep the caller waiting,
 * a thread of libuv's pool that others need, too; such as the launcher's, or one of
 * program_find_near.
 *
 * The process leads a session and group of its own, has default signal dispositions and an empty
 * mask, real pipes as descriptors 0, 1 and 2, a pipe or /dev/null as 3, a pipe as 4 if asked for,
 * and no other descriptor.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* The descriptors behind the standard ones. */
enum { SPAWN_RESULT = 3, SPAWN_REPORT, SPAWN_FDS };

struct spawn_request {
    const char *file;
    char **argv;
    char **envp;
    bool result_pipe; /* descriptor 3 is a pipe */
    bool report_pipe; /* descriptor 4 is a pipe */
};

struct spawned {
    pid_t pid;
    int pidfd;          /* -1 for lack of a descriptor: the process runs all the same */
    int fds[SPAWN_FDS]; /* our ends, close-on-exec: 0 to write, others to read; -1 for a pipe that
                           was not asked for */
};

/* Blocks until the program runs or could not be run: some tenths of a millisecond, or some
 * milliseconds where the kernel is slow. Nothing is left behind on failure. Callable from any
 * thread. */
int spawn_process(const struct spawn_request *request, struct spawned *spawned,
                  struct error *error);
/* Is the failure one of the machine's passing states (no pid, descriptor or memory free) and not of
 * the request? */
bool spawn_is_transient(int code);
