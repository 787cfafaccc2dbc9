/* A task's log as a client reads it: rows of bytes become UTF-8 text.
 *
 * A byte that belongs to no valid sequence becomes U+FFFD; a sequence that two rows share is put
 * together. Where bytes are missing between two rows there is a line that says how many.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "store/logs.h"

/* Zero-initialised but for what the caller sets: `out`, `stream` and `next`. */
struct log_text {
    struct buffer *out;
    int stream;   /* the one to be read; 0: both */
    int64_t next; /* the offset of the next byte */
    /* The beginning of a sequence whose rest may be in the next row. */
    char partial[4];
    size_t partial_size;
    int partial_stream;
};

/* Rows come in order; bytes before `next` are passed over. */
void log_text_add(struct log_text *text, const struct log_row *row);
/* There is nothing more: what has begun stays unfinished. */
void log_text_end(struct log_text *text);

/* Looks for the place where the last `lines` lines begin. A newline ends its line. */
struct log_tail {
    int64_t lines;
    int stream;    /* whose lines; 0: both together */
    int64_t start; /* the answer so far; 0 at first */
    bool is_begun; /* the last byte was seen */
};

/* Takes rows from the last one backwards; true when the place is found. */
bool log_tail_add(struct log_tail *tail, const struct log_row *row);
