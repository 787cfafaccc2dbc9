/* The spool: ends of attempts that the database has not taken, on disk.
 *
 * An end is held in memory from the moment it is known until it is committed. One that cannot be
 * committed at once, since the connection is away or no answer has come for a second, is written to
 * a file too, in a worker thread, so that it is not lost with this daemon; the next one on the same
 * state directory reads the file before it does anything else. Once everything in the file is
 * committed it is cut to nothing. While the database answers no byte is written.
 *
 *     (spool_hold) ─> held ── due, and room ──> writing ── on the disk ──> saved
 *                      ^───────── failed ──────────┘
 *
 * and from each of them by spool_release to the end. Where the file cannot be written, or has
 * reached its bound, ends stay in memory only; the log says so, and the spool tries again every
 * second.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "store/spool_file.h"

struct spool;

struct spool_options {
    uv_loop_t *loop;
    const char *path; /* copied */
    size_t max_bytes; /* of the file */
};

struct spool *spool_new(const struct spool_options *options);

/* Takes note of an end, whose bytes stay as they are until spool_release. */
void spool_hold(struct spool *spool, struct store_finish *finish);
/* It is committed. */
void spool_release(struct spool *spool, struct store_finish *finish);
/* Can ends be committed now? False at first. */
void spool_set_away(struct spool *spool, bool away);

/* What an earlier daemon has left, chunk by chunk; the ends in it count as saved. `chunk` is the
 * callback's (spool_chunk_free). After the last one it is called with NULL. What cannot be read is
 * logged and kept aside. One read at a time, and before the first spool_hold. */
typedef void (*spool_chunk_cb)(void *context, struct spool_chunk *chunk);
void spool_read(struct spool *spool, spool_chunk_cb on_chunk, void *context);
/* An end of an earlier daemon cannot be committed: the file will be kept aside, not cut. */
void spool_refuse(struct spool *spool, struct store_finish *finish);

/* Writes what is held, says in the log what the next daemon will find, and calls back. Of the other
 * calls only spool_close does something then. A read that is under way ends without its callback.
 */
void spool_flush(struct spool *spool, void (*on_flushed)(void *context), void *context);
/* After spool_flush has called back. Frees the spool right before `on_closed`. */
void spool_close(struct spool *spool, void (*on_closed)(void *context), void *context);
