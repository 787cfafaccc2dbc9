#include "base/id.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uuid/uuid.h>

static const char hex_digits[] = "0123456789abcdef";

/* Is there a dash before this byte of the 16? */
static bool dash_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void id_format(const struct id *id, char text[ID_TEXT_SIZE])
{
    for (int i = 0; i < 16; i++) {
        if (dash_before(i))
            *text++ = '-';
        *text++ = hex_digits[id->bytes[i] >> 4];
        *text++ = hex_digits[id->bytes[i] & 15];
    }
    *text = '\0';
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

bool id_parse(const char *text, size_t n, struct id *id)
{
    bool dashes = n == ID_TEXT_SIZE - 1;
    struct id parsed;
    if (!dashes && n != 2 * sizeof(parsed.bytes))
        return false;
    for (int i = 0; i < 16; i++) {
        if (dashes && dash_before(i) && *text++ != '-')
            return false;
        int high = hex_value(*text++), low = hex_value(*text++);
        if (high < 0 || low < 0)
            return false;
        parsed.bytes[i] = (unsigned char)(high << 4 | low);
    }
    *id = parsed;
    return true;
}

int id_compare(const struct id *a, const struct id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool id_is_null(const struct id *id)
{
    return uuid_is_null(id->bytes);
}

struct id id_random(void)
{
    struct id id;
    uuid_generate_random(id.bytes);
    return id;
}

/* Random bytes for the ids of workflows, fetched from the kernel for many ids at once. */
static void take_random(unsigned char *bytes, size_t n)
{
    static _Thread_local unsigned char pool[256]; /* as much as getentropy gives in one call */
    static _Thread_local size_t left;
    if (left < n) {
        if (getentropy(pool, sizeof(pool)) != 0) {
            perror("directord: no random numbers from the kernel");
            abort();
        }
        left = sizeof(pool);
    }
    left -= n;
    memcpy(bytes, pool + left, n);
}

/* RFC 9562 §6.2, method 3: a finer part of a millisecond is the count of its 4096ths. That keeps
 * the order of microseconds and, rounded up on the way back, their number. */
#define FRACTIONS 4096

/* Bits 0–47 milliseconds, 48–51 version, 52–63 fraction, 64–65 variant, 66–111 random, 112–127
 * zero. */
struct id id_make_workflow(struct id_maker *maker, int64_t *at_us)
{
    if (*at_us <= maker->last_us)
        *at_us = maker->last_us + 1;
    maker->last_us = *at_us;
    uint64_t milliseconds = (uint64_t)*at_us / 1000;
    unsigned fraction = (unsigned)((uint64_t)*at_us % 1000) * FRACTIONS / 1000;
    struct id id = {{0}};
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (unsigned char)(milliseconds >> (40 - 8 * i));
    id.bytes[6] = (unsigned char)(0x70 | fraction >> 8);
    id.bytes[7] = (unsigned char)fraction;
    take_random(id.bytes + 8, 6);
    id.bytes[8] = (unsigned char)(0x80 | (id.bytes[8] & 0x3f));
    return id;
}

int64_t id_created_us(const struct id *id)
{
    int64_t milliseconds = 0;
    for (int i = 0; i < 6; i++)
        milliseconds = milliseconds << 8 | id->bytes[i];
    int fraction = (id->bytes[6] & 0x0f) << 8 | id->bytes[7];
    return milliseconds * 1000 + (fraction * 1000 + FRACTIONS - 1) / FRACTIONS;
}

struct id id_task(const struct id *workflow, int position)
{
    assert(position >= 0 && position < ID_MAX_TASKS);
    struct id id = *workflow;
    id.bytes[14] = (unsigned char)((position + 1) >> 8);
    id.bytes[15] = (unsigned char)(position + 1);
    return id;
}

struct id id_workflow(const struct id *task, int *position)
{
    *position = (task->bytes[14] << 8 | task->bytes[15]) - 1;
    struct id id = *task;
    id.bytes[14] = id.bytes[15] = 0;
    return id;
}
