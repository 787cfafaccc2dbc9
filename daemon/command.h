/* Programs that the daemon runs for itself, to look after the private PostgreSQL.
 *
 * They get an environment of PATH, LC_ALL=C and settings of malloc(3) only, default signals, a
 * session of their own (what is typed at the daemon's terminal is not for them) and no descriptors
 * but 0 to 2. Callable from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* A user to run as. */
struct identity {
    uid_t uid;
    gid_t gid;
    char *name;
};

/* From the user database; -ENOENT for a user that is not in it. */
int identity_find(uid_t uid, struct identity *identity, struct error *error);
int identity_find_name(const char *name, struct identity *identity, struct error *error);
void identity_done(struct identity *identity);

struct command {
    const char *const *argv; /* argv[0] is the program's path; NULL at the end */
    const struct identity *identity;
    int input_fd;  /* -1: nothing to read */
    int output_fd; /* standard output and error; -1: thrown away */
    bool outlives; /* goes on when the daemon is killed */
};

/* Starts it and returns at once: a pidfd, or a negative errno with the reason. A program that
 * cannot be executed ends with status 127. */
int command_start(const struct command *command, struct error *error);
/* Waits for the end of the process; false when `timeout_ms` is over first. */
bool command_wait(int pidfd, int64_t timeout_ms);
/* Runs a program to its end, with `input` (may be NULL) to read; a failure quotes the last it said.
 * Past the time it is killed, -ETIMEDOUT. */
int command_run(const char *const *argv, const struct identity *identity, const char *input,
                int64_t timeout_ms, struct error *error);

/* The end of a file from `start` on, made one line (` | ` between lines), for quoting in an error.
 */
char *command_tail(int fd, off_t start);
