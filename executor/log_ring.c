#include "executor/log_ring.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct log_mark {
    int64_t offset;
    int64_t at_us;
    enum output_stream stream;
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- marks ---------------------------------------------------------------------------------- */

static struct log_mark *mark_at(const struct log_marks *marks, size_t i)
{
    return &marks->items[(marks->first + i) % marks->capacity];
}

static void marks_grow(struct log_marks *marks)
{
    size_t capacity = marks->capacity > 0 ? marks->capacity * 2 : 8;
    struct log_mark *items = mem_new(capacity, sizeof *items);
    for (size_t i = 0; i < marks->count; i++)
        items[i] = *mark_at(marks, i);
    free(marks->items);
    *marks = (struct log_marks){
        .items = items, .capacity = capacity, .count = marks->count, .limit = marks->limit};
}

static void marks_push(struct log_marks *marks, struct log_mark mark)
{
    if (marks->count == marks->capacity)
        marks_grow(marks);
    *mark_at(marks, marks->count++) = mark;
}

static void marks_pop(struct log_marks *marks)
{
    marks->first = (marks->first + 1) % marks->capacity;
    marks->count--;
}

/* Do bytes that are read now belong to the chunk begun last? */
static bool marks_continue(const struct log_marks *marks, enum output_stream stream, int64_t at_us)
{
    if (marks->count == 0)
        return false;
    const struct log_mark *last = mark_at(marks, marks->count - 1);
    return last->stream == stream && at_us - last->at_us < LOG_MERGE_US;
}

/* --- bytes ---------------------------------------------------------------------------------- */

void log_ring_init(struct log_ring *ring, size_t head_limit, size_t tail_limit)
{
    *ring = (struct log_ring){
        .head_limit = (int64_t)head_limit,
        .tail_limit = (int64_t)tail_limit,
        .tail_start = (int64_t)head_limit,
        .head.limit = head_limit / LOG_BYTES_PER_CHUNK + 1,
        .tail.limit = tail_limit / LOG_BYTES_PER_CHUNK + 2,
    };
}

void log_ring_done(struct log_ring *ring)
{
    free(ring->bytes);
    free(ring->head.items);
    free(ring->tail.items);
    *ring = (struct log_ring){0};
}

static void reserve(struct log_ring *ring, int64_t end)
{
    size_t limit = (size_t)(ring->head_limit + ring->tail_limit);
    size_t needed = (size_t)smaller(end, (int64_t)limit);
    if (needed <= ring->capacity)
        return;
    size_t capacity = ring->capacity > 0 ? ring->capacity : 1024;
    while (capacity < needed)
        capacity *= 2;
    ring->capacity = capacity < limit ? capacity : limit;
    ring->bytes = mem_resize(ring->bytes, ring->capacity, 1);
}

/* Where the byte at `offset` lies, and how many from there lie in a row. */
static size_t locate(const struct log_ring *ring, int64_t offset, int64_t *row)
{
    if (offset < ring->head_limit) {
        *row = ring->head_limit - offset;
        return (size_t)offset;
    }
    int64_t in_tail = (offset - ring->head_limit) % ring->tail_limit;
    *row = ring->tail_limit - in_tail;
    return (size_t)(ring->head_limit + in_tail);
}

static void place(struct log_ring *ring, int64_t offset, const char *text, int64_t size)
{
    reserve(ring, offset + size);
    while (size > 0) {
        int64_t row;
        size_t index = locate(ring, offset, &row);
        int64_t n = smaller(row, size);
        memcpy(ring->bytes + index, text, (size_t)n);
        text += n;
        offset += n;
        size -= n;
    }
}

/* Returns how many of the bytes the head has taken. A head that has no mark left for them is closed
 * where it ends, and the room that it leaves is the tail's. */
static int64_t add_to_head(struct log_ring *ring, enum output_stream stream, int64_t at_us,
                           const char *text, int64_t size)
{
    if (ring->total >= ring->head_limit)
        return 0;
    if (!marks_continue(&ring->head, stream, at_us)) {
        if (ring->head.count == ring->head.limit) {
            ring->tail_limit += ring->head_limit - ring->total;
            ring->head_limit = ring->total;
            ring->tail_start = ring->total;
            return 0;
        }
        marks_push(&ring->head, (struct log_mark){ring->total, at_us, stream});
    }
    int64_t n = smaller(size, ring->head_limit - ring->total);
    place(ring, ring->total, text, n);
    ring->total += n;
    return n;
}

/* Notes a new start of the tail, and drops the chunks that end before it. */
static void forget_until(struct log_ring *ring, int64_t offset)
{
    ring->tail_start = larger(ring->tail_start, offset);
    while (ring->tail.count > 1 && mark_at(&ring->tail, 1)->offset <= ring->tail_start)
        marks_pop(&ring->tail);
}

static void add_to_tail(struct log_ring *ring, enum output_stream stream, int64_t at_us,
                        const char *text, int64_t size)
{
    if (ring->tail_limit > 0) {
        if (!marks_continue(&ring->tail, stream, at_us)) {
            if (ring->tail.count == ring->tail.limit)
                forget_until(ring, mark_at(&ring->tail, 1)->offset);
            marks_push(&ring->tail, (struct log_mark){ring->total, at_us, stream});
        }
        int64_t skipped = larger(0, size - ring->tail_limit);
        place(ring, ring->total + skipped, text + skipped, size - skipped);
    }
    ring->total += size;
    forget_until(ring, ring->total - ring->tail_limit);
}

void log_ring_add(struct log_ring *ring, enum output_stream stream, int64_t at_us, const char *text,
                  size_t size)
{
    int64_t rest = (int64_t)size;
    int64_t taken = add_to_head(ring, stream, at_us, text, rest);
    if (taken < rest)
        add_to_tail(ring, stream, at_us, text + taken, rest - taken);
}

/* --- reading -------------------------------------------------------------------------------- */

typedef void (*visitor)(void *context, const struct log_chunk *chunk);

static void visit_chunk(const struct log_ring *ring, const struct log_mark *mark, int64_t start,
                        int64_t end, visitor visit, void *context)
{
    while (start < end) {
        int64_t row;
        size_t index = locate(ring, start, &row);
        int64_t n = smaller(row, end - start);
        visit(context, &(struct log_chunk){.stream = mark->stream,
                                           .at_us = mark->at_us,
                                           .offset = start,
                                           .text = ring->bytes + index,
                                           .size = (size_t)n});
        start += n;
    }
}

static void visit_part(const struct log_ring *ring, const struct log_marks *marks, int64_t start,
                       int64_t end, visitor visit, void *context)
{
    for (size_t i = 0; i < marks->count; i++) {
        const struct log_mark *mark = mark_at(marks, i);
        int64_t next = i + 1 < marks->count ? mark_at(marks, i + 1)->offset : end;
        visit_chunk(ring, mark, larger(mark->offset, start), next, visit, context);
    }
}

void log_ring_each(const struct log_ring *ring, int64_t from, visitor visit, void *context)
{
    int64_t head_end = smaller(ring->total, ring->head_limit);
    visit_part(ring, &ring->head, from, head_end, visit, context);
    visit_part(ring, &ring->tail, larger(from, ring->tail_start), ring->total, visit, context);
}

int64_t log_ring_omitted(const struct log_ring *ring)
{
    return smaller(ring->tail_start, ring->total) - smaller(ring->head_limit, ring->total);
}

struct text_output {
    struct buffer *out;
    int64_t expected; /* offset of the next byte if nothing is left out */
};

static void add_gap(struct text_output *output, int64_t offset)
{
    if (offset > output->expected)
        buffer_printf(output->out, "\n[… %" PRId64 " bytes left out …]\n",
                      offset - output->expected);
}

static void add_chunk(void *context, const struct log_chunk *chunk)
{
    struct text_output *output = context;
    add_gap(output, chunk->offset);
    buffer_add(output->out, chunk->text, chunk->size);
    output->expected = chunk->offset + (int64_t)chunk->size;
}

void log_ring_text(const struct log_ring *ring, struct buffer *out)
{
    struct text_output output = {.out = out};
    log_ring_each(ring, 0, add_chunk, &output);
    add_gap(&output, ring->total);
}
