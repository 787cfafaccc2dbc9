/* The bounded log of one attempt: the first bytes and the last ones, up to a limit each.
 *
 * Output is a row of chunks, each with its stream, its time and its offset in all that was written
 * (both streams counted together, from 0). What does not fit is left out of the middle. Memory is
 * taken as output comes and never exceeds the limits by more than half.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum output_stream { OUTPUT_STDOUT = 1, OUTPUT_STDERR = 2 };

/* Neighbouring bytes of one stream become one chunk when they come within this time. */
#define LOG_MERGE_US 100000
/* Where chunks are smaller than this on average, the older ones of the last bytes are left out too.
 */
#define LOG_BYTES_PER_CHUNK 64

struct log_chunk {
    enum output_stream stream;
    int64_t at_us;  /* wall clock, when its first byte was read */
    int64_t offset; /* of its first byte */
    const char *text;
    size_t size;
};

/* A queue of the places where chunks begin. */
struct log_marks {
    struct log_mark *items; /* a ring */
    size_t capacity;
    size_t first;
    size_t count;
    size_t limit;
};

struct log_ring {
    int64_t total; /* bytes ever added */
    int64_t head_limit;
    int64_t tail_limit;
    int64_t tail_start; /* offset of the oldest byte kept behind the head */
    char *bytes;        /* the head, behind it the tail as a ring */
    size_t capacity;
    struct log_marks head;
    struct log_marks tail;
};

void log_ring_init(struct log_ring *ring, size_t head_limit, size_t tail_limit);
void log_ring_done(struct log_ring *ring);
void log_ring_add(struct log_ring *ring, enum output_stream stream, int64_t at_us, const char *text,
                  size_t size);
/* Calls `visit` for what is kept from the offset `from` on, in order. A chunk that lies round the
 * ring's end comes in two pieces, and so does one that head and tail share; the one behind the gap
 * has an offset beyond the end of the one before. The text lives until the next change. */
void log_ring_each(const struct log_ring *ring, int64_t from,
                   void (*visit)(void *context, const struct log_chunk *chunk), void *context);
/* Bytes left out. */
int64_t log_ring_omitted(const struct log_ring *ring);
/* Adds what is kept as one text, with `\n[… 1234 bytes left out …]\n` in the gap. */
void log_ring_text(const struct log_ring *ring, struct buffer *out);
