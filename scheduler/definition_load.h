/* Loads workflow definitions: YAML files in, compiled definitions out, with every error of every
 * file.
 *
 * Pure: no database, no loop, no log; it may run on any thread. Each file stands alone: one with
 * errors contributes nothing and harms no other, but the task library is shared, so a workflow
 * whose task lives in a file with errors is an error of its own file. What a file with errors had
 * contributed to the `previous` set is kept.
 *
 * At a restart with broken files, load the last good texts from the database first and pass that
 * set as `previous`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/memory.h"
#include "scheduler/definition.h"

/* Bounds of one file, so that no file can exhaust the daemon (an alias bomb is 400 bytes long). */
struct definition_limits {
    size_t max_bytes; /* of the file; 1 MiB */
    int max_nodes;    /* scalars, sequences and mappings once aliases are followed; 50,000 */
    int max_depth;    /* of nesting, aliases followed; 32, never over JSON_MAX_DEPTH */
};
extern const struct definition_limits definition_limits_default;

/* A file as read. */
struct definition_file {
    char *name; /* as errors name it: the directory's base name and the file's,
                   `workflows.d/etl.yml` */
    char *text; /* NULL when it could not be read: `error` says why */
    size_t size;
    struct error error;
    bool unsettled; /* it is being written, and the text a part; the loader wants a former one in
                       its place, or NULL where there is none: then what it had stays, which is no
                       error */
    bool doubtful;  /* that nobody has it open for writing could not be made sure of */
    int64_t changed_us; /* its last change, by the wall clock; 0: unknown */
};

/* One that nobody has written to for so long is complete, as far as anybody can tell. */
#define DEFINITION_SETTLE_MS 500
/* The same for one that was not closed, and that somebody insists on. */
#define DEFINITION_INSIST_MS 5000

/* How errors name the file of that name in the directory. New memory. */
char *definition_file_name(const char *dir, const char *name);

/* Reads every *.yml and *.yaml of the directory, in name order (hidden files are left out). A file
 * that cannot be read, or is too large, is in the list with its error. Fails only when the
 * directory cannot be listed: then nothing is known, and nothing should be unloaded. */
int definition_files_read(const char *dir, const struct definition_limits *limits,
                          struct definition_file **files, int *count, struct error *error);
void definition_files_free(struct definition_file *files, int count);

/* An error or a warning, in the order of files and lines. */
struct definition_problem {
    const char *file;
    int line, column; /* from 1; 0 where the file as a whole is meant */
    const char *text; /* what, and what was expected */
};

enum definition_file_state {
    DEFINITION_FILE_LOADED,
    DEFINITION_FILE_KEPT,    /* errors, or unsettled; its definitions of the previous set are in
                                this one */
    DEFINITION_FILE_LEFT_OUT /* likewise, and nothing known of it from before */
};

struct definition_file_status {
    const char *name;
    enum definition_file_state state;
    int error_count;
};

struct definition_set {
    struct definition **definitions; /* held; sorted by fullname */
    int definition_count;
    struct definition_file_status *files; /* in the order given */
    int file_count;
    struct definition_problem *errors;
    int error_count;
    struct definition_problem *warnings;
    int warning_count;
    struct arena arena; /* what all of the above but the definitions lives in */
};

/* Never fails: what is wrong is in `errors`. `previous` may be NULL; it is only read. */
struct definition_set *definitions_load_files(const struct definition_file *files, int count,
                                              const struct definition_limits *limits,
                                              const struct definition_set *previous);
/* definition_files_read and definitions_load_files in one; NULL when the directory cannot be
 * listed. */
struct definition_set *definitions_load(const char *dir, const struct definition_limits *limits,
                                        const struct definition_set *previous, struct error *error);
/* Releases the definitions. */
void definition_set_free(struct definition_set *set);

/* The definition of that fullname, or NULL. Not held for the caller. */
struct definition *definition_set_find(const struct definition_set *set, const char *fullname);

/* `file:line:column: text`, as it is printed and logged. */
#define DEFINITION_PROBLEM_TEXT_SIZE 1400
void definition_problem_format(const struct definition_problem *problem,
                               char text[DEFINITION_PROBLEM_TEXT_SIZE]);

/* The body of `directord --check DIR`: errors and warnings on standard error, one line a definition
 * on standard output. Returns the exit status: 1 when there are errors, else 0. */
int definitions_check(const char *dir, const struct definition_limits *limits);
