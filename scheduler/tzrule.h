/* The rule for the years after a TZif table: a POSIX TZ string such as
 * `CET-1CEST,M3.5.0,M10.5.0/3`, with the hours up to 167 and the signs that RFC 9636 §3.3.2 adds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "scheduler/zone.h"

enum tzrule_day {
    TZRULE_YEAR_DAY,        /* `n`: 0-365, leap days counted */
    TZRULE_YEAR_DAY_JULIAN, /* `Jn`: 1-365, 29 February never counted */
    TZRULE_MONTH_WEEKDAY,   /* `Mm.w.d`: weekday d of week w, where 5 is the last */
};

struct tzrule_date {
    enum tzrule_day kind;
    int day; /* of the year */
    int month;
    int week;
    int weekday;
    int32_t time_s; /* from the start of that day, by the clock before the change */
};

struct tzrule {
    int32_t standard_s; /* offset: local time minus UTC */
    int32_t summer_s;   /* the same where there is no summer time */
    bool has_summer;
    struct tzrule_date summer_start;
    struct tzrule_date summer_end;
};

/* -EINVAL for what is no such string, and for one that has summer time without saying when. */
int tzrule_parse(const char *text, struct tzrule *rule, struct error *error);

/* The span that holds `at_s` if the rule had always been in force. */
struct zone_span tzrule_span_at(const struct tzrule *rule, int64_t at_s);
