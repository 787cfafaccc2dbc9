/* Compiled time zones: the reader of TZif files, versions 1 to 4 (RFC 9636).
 *
 * It keeps the changes of the offset and the rule for the years after them; names and flags of
 * local time types have no use here. Files that count leap seconds (`right/…`) are refused, since
 * our instants do not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "scheduler/tzrule.h"
#include "scheduler/zone.h"

/* The offsets that RFC 9636 §3.2 allows lie within this, either side of UTC. */
#define TZIF_MAX_OFFSET_S 93599

struct tzif_change {
    int64_t at_s;
    int32_t offset_s; /* from then on */
};

struct tzif {
    int32_t first_s;             /* the offset before the first change */
    struct tzif_change *changes; /* in order */
    size_t count;
    bool has_rule;
    struct tzrule rule; /* from the last change on */
};

/* -EINVAL for bytes that are no such file. */
int tzif_parse(const void *bytes, size_t size, struct tzif *tzif, struct error *error);
void tzif_done(struct tzif *tzif);

/* The span that holds `at_s`. */
struct zone_span tzif_span_at(const struct tzif *tzif, int64_t at_s);
