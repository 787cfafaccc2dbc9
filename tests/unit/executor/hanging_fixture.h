/* Processes whose environment takes for ever to read, as the kernel has it with those that hang
 * while they map a file. This open(2) takes the place of the C library's in the whole program. */
#pragma once

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t hanging; /* -1: everybody */

int open(const char *path, int flags, ...)
{
    va_list rest;
    int pid, end = 0;
    bool is_environment = sscanf(path, "/proc/%d/environ%n", &pid, &end) == 1 && end > 0;
    while (is_environment && (pid == hanging || hanging == -1))
        pause();
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
