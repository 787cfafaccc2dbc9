/* The living descendants of a process: those in a process group or session of their own under a
 * living parent, whom no signal to a group reaches.
 *
 * They are found by /proc/PID/task/TID/children, from parent to child; where the kernel has no such
 * files (CONFIG_PROC_CHILDREN), there are none.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* It takes some 50 µs for each, on the loop: with more descendants than these, the rest is not
 * told. */
#define DESCENDANTS_MAX 200

/* Sends SIGTERM and SIGCONT to the descendants of `root`, a child that is not reaped, but for those
 * in its process group. `told` gets the ids of those that were told. Returns how many. */
size_t descendants_terminate(pid_t root, pid_t told[DESCENDANTS_MAX]);
