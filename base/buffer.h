/* A growing run of bytes. Zero-initialised is empty and valid; nothing is allocated until the first
 * byte. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data; /* NULL while empty; not NUL-terminated unless buffer_text was called */
    size_t size;
    size_t capacity;
};

void buffer_add(struct buffer *buffer, const void *bytes, size_t n);
void buffer_add_text(struct buffer *buffer, const char *text);
void buffer_add_char(struct buffer *buffer, char byte);
void buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for at least `n` more bytes; returns where they go. The caller adds what it wrote to `size`.
 */
char *buffer_reserve(struct buffer *buffer, size_t n);
/* Drops the first `n` bytes. */
void buffer_consume(struct buffer *buffer, size_t n);
/* The content with a NUL behind it (not counted in size); valid until the next change. Never NULL.
 */
const char *buffer_text(struct buffer *buffer);
/* Gives the memory away, NUL-terminated (free() it), and leaves the buffer empty. */
char *buffer_take(struct buffer *buffer);
void buffer_clear(struct buffer *buffer); /* size 0, memory kept */
void buffer_done(struct buffer *buffer);  /* memory freed, empty again */
