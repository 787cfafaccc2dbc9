/* The spool's file: records one behind the other, appended, read again by the next daemon, and cut
 * off when they are not needed any more.
 *
 * These functions wait for the disk: they are for a worker thread, one call at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "store/store.h"

struct spool_file {
    char *path;
    int fd;     /* -1: not open, or not there yet */
    bool named; /* the directory is known to have its name on the disk */
};

/* Only notes the path. */
void spool_file_init(struct spool_file *file, const char *path);
void spool_file_done(struct spool_file *file);

/* Cuts the file to its first `size` bytes, appends the records, whose checksums it fills in, and
 * returns when they are on the disk. After a failure the first `size` bytes are as they were. */
int spool_file_write(struct spool_file *file, int64_t size, struct buffer *records,
                     struct error *error);

/* Ends of attempts of one node, in their order. Their texts lie in `bytes`. */
struct spool_chunk {
    struct store_finish *finishes;
    int count;  /* 0: there are no more */
    size_t cut; /* at the end: bytes of a last record that was not written whole */
    struct buffer bytes;
};

/* Reads records from `*offset` on, some MiB at a time, and moves it behind them. -EBADMSG when what
 * lies there is no record; no file is an empty one. */
int spool_file_read(struct spool_file *file, int64_t *offset, struct spool_chunk *chunk,
                    struct error *error);
void spool_chunk_free(struct spool_chunk *chunk);

/* Gives the file another name, `PATH.bad-TIME` or a similar one, for a person to look at; `kept`
 * (to be freed) gets it. */
int spool_file_keep_aside(struct spool_file *file, char **kept, struct error *error);
