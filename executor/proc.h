/* What /proc tells about processes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buffer.h"

/* The kernel's limit for arguments and environment together (a quarter of the usual 8 MiB stack),
 * and more. */
#define PROC_MAX_ENVIRONMENT ((size_t)4 * 1024 * 1024)

/* Reads all of `fd` in place of what `text` holds, at most about `max` bytes. */
int proc_read_all(int fd, size_t max, struct buffer *text);
/* The same for the file /proc/PID/FILE. A process in the middle of execve, a zombie and a thread of
 * the kernel's show an empty environment. */
int proc_read(pid_t pid, const char *file, size_t max, struct buffer *text);
struct proc_stat {
    char state;
    pid_t parent;
    unsigned flags;                   /* PF_… of the kernel's sched.h */
    unsigned long long started_ticks; /* since the machine's start */
};
/* Of /proc/PID/stat; `text` is scratch. */
int proc_read_stat(pid_t pid, struct buffer *text, struct proc_stat *stat);
/* Does a failure tell about the process (it is gone, or none of our business)? Any other one, such
 * as -EMFILE, tells about us. */
bool proc_is_verdict(int code);
/* The entry of an environment, NAME=value, that begins with `mark`, or NULL. */
const char *proc_find_entry(struct buffer *environment, const char *mark);
