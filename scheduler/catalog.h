/* The catalog: the definitions that this daemon launches and fires, and how they are loaded and
 * replaced.
 *
 * Files are read and compiled in the thread pool, their versions and schedules become rows, and
 * then the whole catalog is replaced at once. A file with errors keeps its last good version, from
 * memory or, after a restart, from the database.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "scheduler/definition_load.h"
#include "store/store.h"

struct catalog_schedule {
    const struct definition_schedule *schedule;
    int64_t id; /* in the database */
    int64_t anchor_us;
    int64_t cursor_us;
};

struct catalog_entry {
    struct definition *definition;
    int64_t id;                         /* of this version, in the database */
    struct catalog_schedule *schedules; /* as many as the definition has */
};

struct catalog_options {
    uv_loop_t *loop;
    struct store *store;
    const char *directory; /* outlives the catalog, like `host` */
    const char *host;
    struct definition_limits limits;
    /* Called before the files are read, and after it; then whether of the file of that name a part
     * (or nothing) may have been read, since it is being written. Its former version stays. */
    void (*begin_read)(void *context);
    void (*end_read)(void *context);
    bool (*is_unsettled)(void *context, const char *name, bool is_empty);
    /* The reading itself shows that the file of that name is being written: to be loaded again when
     * it is complete. */
    void (*await_file)(void *context, const char *name);
    /* That file counts as complete, although somebody has it open. */
    void (*settle_file)(void *context, const char *name);
    /* The directory could not be opened, and may be later without anything that is seen: to be
     * reported as changed once it is there. */
    void (*await_directory)(void *context);
    /* The catalog was replaced. */
    void (*on_change)(void *context);
    void *context;
};

struct catalog *catalog_new(const struct catalog_options *options);

/* For the loads that begin from now on. */
void catalog_set_limits(struct catalog *catalog, const struct definition_limits *limits);

/* Reads the directory anew. `on_loaded` gets an error only when the directory cannot be listed or
 * the database refused, and then nothing has changed. Calls that come while a load is under way
 * share the next one. */
typedef void (*catalog_cb)(void *context, const struct error *error);
void catalog_load(struct catalog *catalog, catalog_cb on_loaded, void *context);
/* The same, and somebody insists: a file that is being written is read, too, if it has been left
 * alone for DEFINITION_INSIST_MS. Not all who write close what they wrote, or through the
 * directory.
 */
void catalog_reload(struct catalog *catalog, catalog_cb on_loaded, void *context);

/* The database does not know what is loaded here (it was restored from a backup, or cleared by
 * daemons while this one could not reach it): loads again, unless a load is under way or this was
 * asked for just before. */
void catalog_renew(struct catalog *catalog);

/* Sorted by fullname. Valid until the next turn of the loop; hold the definition to keep it. */
const struct catalog_entry *catalog_entries(const struct catalog *catalog, int *count);
const struct catalog_entry *catalog_find(const struct catalog *catalog, const char *fullname);
/* Errors, warnings and files of the last load that went well; NULL before the first. */
const struct definition_set *catalog_set(const struct catalog *catalog);
/* As they were read for it. Of an unsettled one, which is being written, the text is the former. */
const struct definition_file *catalog_files(const struct catalog *catalog, int *count);
/* Whether the last load changed nothing, and why: a problem of the directory. */
bool catalog_failure(const struct catalog *catalog, struct definition_problem *problem);
int64_t catalog_loaded_us(const struct catalog *catalog);
/* Of the names and contents of all files: equal on daemons with equal files. */
const char *catalog_digest(const struct catalog *catalog);

/* The load under way is given up, and no further one begins: their waiters get an error. */
void catalog_stop(struct catalog *catalog);
/* After the store was closed and the loop has ended. */
void catalog_free(struct catalog *catalog);
