/* The file of a program: found as a shell finds it, and explained when it cannot be run. */
#pragma once

#include "base/error.h"

/* Finds the program that argv[0] = `name` means: `name` itself when it has a `/`, else the first
 * executable of that name in the PATH of `envp`; relative places count from `cwd`. `*file` is new
 * memory. -ENOENT. */
int program_find(const char *name, char *const *envp, const char *cwd, char **file,
                 struct error *error);
/* Finds it where nothing can keep the caller waiting, for programs that run in `/`: as new memory,
 * or NULL, and then the search is the launcher's business. Such a program is reached from `/`
 * without leaving its file system, on which the daemon itself depends (no mount of a network, no
 * automount, no FUSE); it belongs to root, so that no user holds a lease on it; and it is no
 * script, whose interpreter may lie anywhere. These are the programs of a usual system, for which
 * another execve would double the time of a start. */
char *program_find_near(const char *name, char *const *envp);
/* Says why `file` could not be run in `cwd`, where the kernel said no more than `code`: that does
 * not tell a missing directory from a missing program or interpreter. Returns `code`. */
int program_explain(const char *file, const char *cwd, int code, struct error *error);
