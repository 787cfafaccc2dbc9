/* The file of a program: found as a shell finds it, and explained when it cannot be run. */
#pragma once

#include "base/error.h"

/* Finds the program that argv[0] = `name` means: `name` itself when it has a `/`, else the first
 * executable of that name in the PATH of `envp`; relative places count from `cwd`. `*file` is new
 * memory. -ENOENT. */
int program_find(const char *name, char *const *envp, const char *cwd, char **file,
                 struct error *error);
/* Says why `file` could not be run in `cwd`, where the kernel said no more than `code`: that does
 * not tell a missing directory from a missing program or interpreter. Returns `code`. */
int program_explain(const char *file, const char *cwd, int code, struct error *error);
