#include "base/memory.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Block sizes double from the first to the last of these: a small request stays in one page, and a
 * large definition needs few blocks. */
#define ARENA_FIRST_BLOCK 4000
#define ARENA_LAST_BLOCK (256 * 1024)

struct arena_block {
    struct arena_block *next;
    size_t capacity;
    size_t used;
    size_t asked; /* without the gaps that alignment leaves */
    alignas(max_align_t) char bytes[];
};

static _Noreturn void die_without_memory(size_t count, size_t size)
{
    fprintf(stderr, "directord: out of memory (%zu times %zu bytes)\n", count, size);
    abort();
}

void *mem_new(size_t count, size_t size)
{
    void *block = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    if (block == NULL)
        die_without_memory(count, size);
    return block;
}

void *mem_resize(void *block, size_t count, size_t size)
{
    void *resized = reallocarray(block, count > 0 ? count : 1, size > 0 ? size : 1);
    if (resized == NULL)
        die_without_memory(count, size);
    return resized;
}

char *mem_text(const char *text)
{
    return mem_text_n(text, strlen(text));
}

char *mem_text_n(const char *text, size_t n)
{
    char *copy = mem_resize(NULL, n + 1, 1);
    if (n > 0)
        memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

char *mem_format(const char *format, ...)
{
    va_list args;
    char *text;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        die_without_memory(1, strlen(format));
    return text;
}

/* A block with room for `n` bytes, as the arena's first. What is left of the one before it is given
 * up, unless the new one is for a single large piece: then it goes second, and the first stays in
 * use. */
static struct arena_block *arena_grow(struct arena *arena, size_t n)
{
    struct arena_block *first = arena->blocks;
    size_t capacity = first == NULL ? ARENA_FIRST_BLOCK : first->capacity * 2;
    if (capacity > ARENA_LAST_BLOCK)
        capacity = ARENA_LAST_BLOCK;
    bool alone = n > capacity / 4;
    if (alone)
        capacity = n;
    if (capacity > SIZE_MAX - sizeof(struct arena_block))
        die_without_memory(1, n);
    struct arena_block *block = mem_new(1, sizeof(*block) + capacity);
    block->capacity = capacity;
    if (alone && first != NULL) {
        block->next = first->next;
        first->next = block;
    } else {
        block->next = first;
        arena->blocks = block;
    }
    return block;
}

/* The bytes are zero because a block comes zeroed and no part of it is given twice. */
static void *arena_take(struct arena *arena, size_t n, size_t alignment)
{
    struct arena_block *block = arena->blocks;
    size_t start = block == NULL ? 0 : (block->used + alignment - 1) & ~(alignment - 1);
    if (block == NULL || start > block->capacity || n > block->capacity - start) {
        block = arena_grow(arena, n);
        start = 0;
    }
    block->used = start + n;
    block->asked += n;
    return block->bytes + start;
}

void *arena_new(struct arena *arena, size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n))
        die_without_memory(count, size);
    return arena_take(arena, n, alignof(max_align_t));
}

char *arena_text(struct arena *arena, const char *text)
{
    return arena_text_n(arena, text, strlen(text));
}

char *arena_text_n(struct arena *arena, const char *text, size_t n)
{
    char *copy = arena_take(arena, n + 1, 1);
    if (n > 0)
        memcpy(copy, text, n);
    return copy;
}

char *arena_format(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        die_without_memory(1, strlen(format));
    char *text = arena_take(arena, (size_t)length + 1, 1);
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return text;
}

size_t arena_bytes(const struct arena *arena)
{
    size_t bytes = 0;
    for (const struct arena_block *block = arena->blocks; block != NULL; block = block->next)
        bytes += block->asked;
    return bytes;
}

void arena_done(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->blocks = NULL;
}
