#include "scheduler/tzif.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define HEADER_SIZE 44
#define TYPE_SIZE 6
#define MAX_RULE_SIZE 127 /* the longest in the tz database has 45 bytes */

/* What is still to be read. */
struct input {
    const unsigned char *bytes;
    size_t size;
};

/* RFC 9636 §3.1. */
struct header {
    unsigned char version; /* 0, or '2' and up */
    uint32_t ut_flags;
    uint32_t standard_flags;
    uint32_t leap_seconds;
    uint32_t changes;
    uint32_t types;
    uint32_t name_bytes;
};

static int64_t read_int(const unsigned char *bytes, size_t size)
{
    if (size == 4) {
        uint32_t word;
        memcpy(&word, bytes, sizeof word);
        return (int32_t)be32toh(word);
    }
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return (int64_t)be64toh(word);
}

static int truncated(struct error *error)
{
    return error_set(error, -EINVAL, "the time zone file ends too early");
}

static int read_header(struct input *input, struct header *header, struct error *error)
{
    const unsigned char *bytes = input->bytes;
    if (input->size < 4 || memcmp(bytes, "TZif", 4) != 0)
        return error_set(error, -EINVAL, "not a time zone file (TZif)");
    if (input->size < HEADER_SIZE)
        return truncated(error);
    uint32_t counts[6];
    for (int i = 0; i < 6; i++)
        counts[i] = (uint32_t)read_int(bytes + 20 + 4 * i, 4);
    *header = (struct header){
        .version = bytes[4],
        .ut_flags = counts[0],
        .standard_flags = counts[1],
        .leap_seconds = counts[2],
        .changes = counts[3],
        .types = counts[4],
        .name_bytes = counts[5],
    };
    input->bytes += HEADER_SIZE;
    input->size -= HEADER_SIZE;
    return 0;
}

/* Takes the data block (RFC 9636 §3.2) of a header off the input; NULL where it is cut short.
 * `time_size` is 4 or 8. */
static const unsigned char *take_block(struct input *input, const struct header *header,
                                       size_t time_size)
{
    uint64_t size = (uint64_t)header->changes * (time_size + 1) +
                    (uint64_t)header->types * TYPE_SIZE + header->name_bytes +
                    (uint64_t)header->leap_seconds * (time_size + 4) + header->standard_flags +
                    header->ut_flags;
    if (size > input->size)
        return NULL;
    const unsigned char *block = input->bytes;
    input->bytes += size;
    input->size -= size;
    return block;
}

static int read_offset(const unsigned char *type, int32_t *offset_s, struct error *error)
{
    int64_t offset = read_int(type, 4);
    if (llabs(offset) > TZIF_MAX_OFFSET_S)
        return error_set(error, -EINVAL, "an offset from UTC of %lld seconds", (long long)offset);
    *offset_s = (int32_t)offset;
    return 0;
}

static int read_changes(const unsigned char *block, const struct header *header, size_t time_size,
                        struct tzif *tzif, struct error *error)
{
    const unsigned char *indices = block + time_size * header->changes;
    const unsigned char *types = indices + header->changes;
    int rc = read_offset(types, &tzif->first_s, error);
    int64_t last_s = ZONE_FIRST_S - 1;
    for (size_t i = 0; rc == 0 && i < header->changes; i++) {
        struct tzif_change *change = &tzif->changes[i];
        change->at_s = read_int(block + time_size * i, time_size);
        if (change->at_s <= last_s || change->at_s > ZONE_LAST_S)
            return error_set(error, -EINVAL, "the changes of the clock are out of order");
        last_s = change->at_s;
        if (indices[i] >= header->types)
            return error_set(error, -EINVAL, "a change to a type of local time that is not there");
        rc = read_offset(types + TYPE_SIZE * indices[i], &change->offset_s, error);
    }
    return rc;
}

static int parse_block(struct input *input, const struct header *header, size_t time_size,
                       struct tzif *tzif, struct error *error)
{
    const unsigned char *block = take_block(input, header, time_size);
    if (!block)
        return truncated(error);
    if (header->leap_seconds > 0)
        return error_set(error, -EINVAL, "the zone counts leap seconds, which is not supported");
    if (header->types == 0)
        return error_set(error, -EINVAL, "the time zone file has no type of local time");
    tzif->count = header->changes;
    tzif->changes = mem_new(header->changes, sizeof *tzif->changes);
    return read_changes(block, header, time_size, tzif, error);
}

/* A rule between two line feeds, which may be empty (RFC 9636 §3.3). */
static int parse_footer(const struct input *input, struct tzif *tzif, struct error *error)
{
    const unsigned char *end = NULL;
    if (input->size >= 2 && input->bytes[0] == '\n')
        end = memchr(input->bytes + 1, '\n', input->size - 1);
    if (!end)
        return truncated(error);
    const char *start = (const char *)input->bytes + 1;
    size_t size = (size_t)((const char *)end - start);
    if (size == 0)
        return 0;
    if (size > MAX_RULE_SIZE || memchr(start, '\0', size))
        return error_set(error, -EINVAL, "the time zone file's rule is no text of up to %d bytes",
                         MAX_RULE_SIZE);
    char text[MAX_RULE_SIZE + 1] = {0};
    memcpy(text, start, size);
    tzif->has_rule = true;
    return tzrule_parse(text, &tzif->rule, error);
}

/* From version 2 on a second header and block with times of 64 bits follow the first, and then the
 * footer. */
static int parse_file(struct input *input, struct tzif *tzif, struct error *error)
{
    struct header header;
    int rc = read_header(input, &header, error);
    if (rc < 0)
        return rc;
    if (header.version == 0)
        return parse_block(input, &header, 4, tzif, error);
    if (!take_block(input, &header, 4))
        return truncated(error);
    rc = read_header(input, &header, error);
    if (rc == 0)
        rc = parse_block(input, &header, 8, tzif, error);
    if (rc == 0)
        rc = parse_footer(input, tzif, error);
    return rc;
}

int tzif_parse(const void *bytes, size_t size, struct tzif *tzif, struct error *error)
{
    struct input input = {bytes, size};
    struct tzif found = {0};
    int rc = parse_file(&input, &found, error);
    if (rc < 0)
        tzif_done(&found);
    else
        *tzif = found;
    return rc;
}

void tzif_done(struct tzif *tzif)
{
    free(tzif->changes);
    *tzif = (struct tzif){0};
}

/* How many changes have happened at the instant. */
static size_t changes_until(const struct tzif *tzif, int64_t at_s)
{
    size_t low = 0;
    size_t high = tzif->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tzif->changes[middle].at_s <= at_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct zone_span tzif_span_at(const struct tzif *tzif, int64_t at_s)
{
    size_t past = changes_until(tzif, at_s);
    const struct tzif_change *changes = tzif->changes;
    struct zone_span span = {ZONE_FIRST_S, ZONE_LAST_S, tzif->first_s};
    if (past == tzif->count && tzif->has_rule)
        span = tzrule_span_at(&tzif->rule, at_s);
    else if (past > 0)
        span.offset_s = changes[past - 1].offset_s;
    if (past > 0 && changes[past - 1].at_s > span.from_s)
        span.from_s = changes[past - 1].at_s;
    if (past < tzif->count)
        span.until_s = changes[past].at_s;
    return span;
}
