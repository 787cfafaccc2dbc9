/* The state directory, which belongs to one daemon at a time: whoever holds its lock.
 *
 * It has an id, made when it is first used, by which the database knows what earlier daemons on it
 * have left. A copy of the directory is another one, and gets an id of its own.
 */
#pragma once

#include "base/error.h"
#include "base/id.h"

struct state_dir {
    char *path; /* absolute, without symbolic links */
    struct id id;
    int lock_fd;
};

/* Makes the directory where it is missing and takes the lock, which lasts until state_dir_close or
 * the end of the process, however that comes. -EBUSY when another daemon holds it. */
int state_dir_open(const char *path, struct state_dir *dir, struct error *error);
void state_dir_close(struct state_dir *dir);
