#include "base/duration.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define MAX_US (INT64_C(36525) * 24 * 3600 * US_PER_SECOND) /* 100 years */
/* A day is 2^13 · 3^3 · 5^8 microseconds, so no fraction of a unit with more digits is a whole
 * number of them. */
#define MAX_FRACTION_DIGITS 13

static const struct unit {
    const char *name;
    int64_t us;
} units[] = {
    {"d", 24 * 3600 * US_PER_SECOND}, {"h", 3600 * US_PER_SECOND},
    {"m", 60 * US_PER_SECOND},        {"s", US_PER_SECOND},
    {"ms", US_PER_SECOND / 1000},
};
enum { UNIT_COUNT = sizeof(units) / sizeof(units[0]), UNIT_SECOND = 3 };

/* A decimal number as it was written: whole + fraction / scale. */
struct number {
    int64_t whole; /* MAX_US when more than that */
    int64_t fraction;
    int64_t scale; /* a power of ten; 0 when there were too many digits */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Returns what follows the number, or NULL when there is none. */
static const char *read_number(const char *text, struct number *number)
{
    *number = (struct number){.scale = 1};
    if (!is_digit(*text))
        return NULL;
    for (; is_digit(*text); text++)
        number->whole = number->whole >= MAX_US / 10 ? MAX_US : number->whole * 10 + (*text - '0');
    if (*text != '.')
        return text;
    const char *digits = text + 1, *end = digits;
    while (is_digit(*end))
        end++;
    const char *last = end;
    while (last > digits && last[-1] == '0')
        last--;
    if (last - digits > MAX_FRACTION_DIGITS)
        number->scale = 0;
    for (; digits < last && number->scale > 0; digits++, number->scale *= 10)
        number->fraction = number->fraction * 10 + (*digits - '0');
    return end > text + 1 ? end : NULL;
}

/* The index of the unit at `text`, or -1; `*size` is the length of the letters there. */
static int find_unit(const char *text, size_t *size)
{
    *size = 0;
    while (isalpha((unsigned char)text[*size]))
        (*size)++;
    for (int i = 0; i < UNIT_COUNT; i++)
        if (strlen(units[i].name) == *size && memcmp(units[i].name, text, *size) == 0)
            return i;
    return -1;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    return b == 0 ? a : common_divisor(b, a % b);
}

/* -ERANGE when over the limit, -EDOM when finer than a microsecond. */
static int to_us(const struct number *number, int64_t unit_us, int64_t *us)
{
    if (number->whole > MAX_US / unit_us)
        return -ERANGE;
    if (number->scale == 0)
        return -EDOM;
    int64_t divisor = common_divisor(unit_us, number->scale);
    int64_t step =
        number->scale / divisor; /* the fraction counts microseconds only in such steps */
    if (number->fraction % step != 0)
        return -EDOM;
    *us = number->whole * unit_us + number->fraction / step * (unit_us / divisor);
    return 0;
}

static int refuse(struct error *error, const char *text, const char *reason)
{
    return error_set(error, -EINVAL, "'%.40s' is no duration: %s", text, reason);
}

int duration_parse(const char *text, int64_t *us, struct error *error)
{
    const char *at = text;
    int64_t total = 0;
    int last_unit = -1;
    if (*text == '-')
        return refuse(error, text, "it must not be negative");
    do {
        struct number number;
        bool first = at == text;
        at = read_number(at, &number);
        if (at == NULL)
            return refuse(error, text, "expected a number, such as in 90s, 1.5h or 1h30m");
        size_t unit_size;
        int unit = find_unit(at, &unit_size);
        if (*at == '\0' && first)
            unit = UNIT_SECOND;
        if (unit < 0)
            return refuse(error, text, "expected one of the units ms, s, m, h, d behind a number");
        if (unit <= last_unit)
            return refuse(error, text, "each unit may stand once, larger before smaller");
        int64_t part;
        int r = to_us(&number, units[unit].us, &part);
        if (r == -EDOM)
            return refuse(error, text, "finer than a microsecond");
        if (r == -ERANGE || (total += part) > MAX_US)
            return refuse(error, text, "more than 100 years");
        last_unit = unit;
        at += unit_size;
    } while (*at != '\0');
    *us = total;
    return 0;
}

/* Adds `us`, less than its caller's next larger unit, as a decimal number of the unit. */
static int print_decimal(char *text, size_t size, uint64_t us, const struct unit *unit)
{
    uint64_t unit_us = (uint64_t)unit->us;
    int length = snprintf(text, size, "%" PRIu64, us / unit_us);
    if (us % unit_us > 0) {
        text[length++] = '.';
        for (uint64_t rest = us % unit_us; rest > 0; rest %= unit_us) {
            rest *= 10;
            text[length++] = (char)('0' + rest / unit_us);
        }
    }
    return length + snprintf(text + length, size - (size_t)length, "%s", unit->name);
}

void duration_format(int64_t us, char text[DURATION_TEXT_SIZE])
{
    uint64_t rest = us < 0 ? -(uint64_t)us : (uint64_t)us;
    size_t length = 0;
    if (us < 0)
        text[length++] = '-';
    for (int i = 0; i < UNIT_SECOND; i++) {
        uint64_t unit_us = (uint64_t)units[i].us;
        if (rest >= unit_us)
            length += (size_t)snprintf(text + length, DURATION_TEXT_SIZE - length, "%" PRIu64 "%s",
                                       rest / unit_us, units[i].name);
        rest %= unit_us;
    }
    const struct unit *last =
        &units[rest > 0 && rest < US_PER_SECOND ? UNIT_SECOND + 1 : UNIT_SECOND];
    if (rest > 0 || us == 0)
        print_decimal(text + length, DURATION_TEXT_SIZE - length, rest, last);
}
