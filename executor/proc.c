#include "executor/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int proc_read_all(int fd, size_t max, struct buffer *text)
{
    buffer_clear(text);
    while (text->size < max) {
        ssize_t n = read(fd, buffer_reserve(text, 4096), 4096);
        if (n <= 0)
            return n == 0 ? 0 : -errno;
        text->size += (size_t)n;
    }
    return 0;
}

int proc_read(pid_t pid, const char *file, size_t max, struct buffer *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ESRCH) { /* no memory any more, to Linux 6.16 and later */
        buffer_clear(text);
        return 0;
    }
    if (fd < 0)
        return -errno;
    int code = proc_read_all(fd, max, text);
    close(fd);
    return code;
}

/* PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS, twelve numbers, STARTED: the name may hold
 * anything (proc(5)). */
int proc_read_stat(pid_t pid, struct buffer *text, struct proc_stat *stat)
{
    struct proc_stat read;
    int code = proc_read(pid, "stat", 4096, text);
    if (code < 0)
        return code;
    const char *behind_name = strrchr(buffer_text(text), ')');
    if (!behind_name || sscanf(behind_name,
                               ") %c %d %*d %*d %*d %*d %u %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                               "%*s %*s %*s %llu",
                               &read.state, &read.parent, &read.flags, &read.started_ticks) != 4)
        return -ESRCH;
    *stat = read;
    return 0;
}

bool proc_is_verdict(int code)
{
    return code == -ENOENT || code == -ESRCH || code == -EACCES || code == -EPERM;
}

const char *proc_find_entry(struct buffer *environment, const char *mark)
{
    const char *entry = buffer_text(environment);
    const char *end = entry + environment->size;
    for (; entry < end; entry += strlen(entry) + 1)
        if (strncmp(entry, mark, strlen(mark)) == 0)
            return entry;
    return NULL;
}
