#include "base/size.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static const struct unit {
    const char *name, *short_name;
    int64_t bytes;
} units[] = {
    {"GiB", "G", INT64_C(1) << 30},
    {"MiB", "M", INT64_C(1) << 20},
    {"KiB", "K", INT64_C(1) << 10},
    {"B", "", 1},
};
enum { UNITS = sizeof units / sizeof units[0] };

static const struct unit *find_unit(const char *name)
{
    for (int i = 0; i < UNITS; i++)
        if (strcasecmp(name, units[i].name) == 0 || strcasecmp(name, units[i].short_name) == 0)
            return &units[i];
    return NULL;
}

int size_parse(const char *text, int64_t *bytes, struct error *error)
{
    char *rest;
    bool is_number = isdigit((unsigned char)text[text[0] == '-']);
    errno = 0;
    long long number = strtoll(text, &rest, 10);
    const struct unit *unit = is_number && errno == 0 ? find_unit(rest) : NULL;
    int64_t product;
    if (!unit || __builtin_mul_overflow(number, unit->bytes, &product))
        return error_set(error, -EINVAL, "'%.100s' is no size: expected one such as 64KiB or 1MiB",
                         text);
    *bytes = product;
    return 0;
}

void size_format(int64_t bytes, char text[SIZE_TEXT_SIZE])
{
    int i = 0;
    while (i < UNITS - 1 && (bytes == 0 || bytes % units[i].bytes != 0))
        i++;
    snprintf(text, SIZE_TEXT_SIZE, "%" PRId64 "%s", bytes / units[i].bytes, units[i].name);
}
