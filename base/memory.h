/* Allocation that cannot fail, and the arena that a request lives in.
 *
 * All durable state is in PostgreSQL, so a daemon without memory loses nothing by stopping: these
 * functions print one line and abort, as Redis does, and no caller has to carry a path that is
 * never walked. What a user can size (bodies, results, logs, files) is bounded before it reaches
 * them.
 */
#pragma once

#include <stddef.h>

/* Zeroed memory of `count` elements of `size` bytes; never NULL; aborts when there is none. */
void *mem_new(size_t count, size_t size);
/* Like realloc for `count` elements of `size` bytes, but never NULL; new bytes are not zeroed. */
void *mem_resize(void *block, size_t count, size_t size);
/* A copy of the string, or of its first `n` bytes with a NUL after them. Freed by free(). */
char *mem_text(const char *text);
char *mem_text_n(const char *text, size_t n);
/* printf into new memory. */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An arena: many small allocations that end together. Zero-initialised is empty and valid. */
struct arena {
    struct arena_block *blocks;
};

/* Zeroed, aligned for any type; lives until arena_done. */
void *arena_new(struct arena *arena, size_t count, size_t size);
char *arena_text(struct arena *arena, const char *text);
char *arena_text_n(struct arena *arena, const char *text, size_t n);
char *arena_format(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Bytes asked for so far. */
size_t arena_bytes(const struct arena *arena);
/* Frees everything; the arena is empty and valid again. */
void arena_done(struct arena *arena);
