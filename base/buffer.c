#include "base/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define FIRST_CAPACITY 256

char *buffer_reserve(struct buffer *buffer, size_t n)
{
    if (buffer->data == NULL || n > buffer->capacity - buffer->size) {
        size_t needed, capacity = buffer->capacity > 0 ? buffer->capacity : FIRST_CAPACITY;
        if (__builtin_add_overflow(buffer->size, n, &needed))
            needed = SIZE_MAX; /* mem_resize says so and aborts */
        while (capacity < needed)
            capacity = capacity > SIZE_MAX / 2 ? SIZE_MAX : capacity * 2;
        buffer->data = mem_resize(buffer->data, capacity, 1);
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    memcpy(buffer_reserve(buffer, n), bytes, n);
    buffer->size += n;
}

void buffer_add_text(struct buffer *buffer, const char *text)
{
    buffer_add(buffer, text, strlen(text));
}

void buffer_add_char(struct buffer *buffer, char byte)
{
    *buffer_reserve(buffer, 1) = byte;
    buffer->size++;
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(length >= 0);
    char *end = buffer_reserve(buffer, (size_t)length + 1);
    va_start(args, format);
    vsnprintf(end, (size_t)length + 1, format, args);
    va_end(args);
    buffer->size += (size_t)length;
}

void buffer_consume(struct buffer *buffer, size_t n)
{
    assert(n <= buffer->size);
    buffer->size -= n;
    if (n > 0 && buffer->size > 0)
        memmove(buffer->data, buffer->data + n, buffer->size);
}

const char *buffer_text(struct buffer *buffer)
{
    *buffer_reserve(buffer, 1) = '\0';
    return buffer->data;
}

char *buffer_take(struct buffer *buffer)
{
    buffer_text(buffer);
    char *data = buffer->data;
    *buffer = (struct buffer){0};
    return data;
}

void buffer_clear(struct buffer *buffer)
{
    buffer->size = 0;
}

void buffer_done(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
