/* Crontab expressions: five fields, or six with leading seconds.
 *
 * The syntax is POSIX crontab's with Vixie's names, steps and `@` forms. A leading `*` in a field
 * says more than its values. In a day field it says that both day fields must match, where
 * otherwise either one is enough. In the minute or hour field it makes the expression follow the
 * wall clock through changes of the clock: nothing in a skipped stretch, again in a repeated one.
 * Any other expression is a fixed time: what a gap swallows fires once at the first instant after
 * the gap, and a repeated stretch counts in its first pass only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "scheduler/zone.h"

enum cron_field {
    CRON_SECOND,
    CRON_MINUTE,
    CRON_HOUR,
    CRON_DAY,
    CRON_MONTH,
    CRON_WEEKDAY,
    CRON_FIELDS,
};

/* What two restricted day fields mean. */
enum cron_day_match {
    CRON_DAY_ANY, /* POSIX: one of them matching is enough, unless one begins with `*` */
    CRON_DAY_ALL, /* Celery: both must match */
};

struct cron {
    uint64_t values[CRON_FIELDS]; /* bit n: the field matches n; Sunday is 0 */
    unsigned stars;               /* bit f: field f begins with `*` */
    enum cron_day_match day_match;
};

/* The last instant there is for schedules: 9999-12-31T23:59:59Z. */
#define CRON_LAST_S INT64_C(253402300799)

/* Room for every normal form and short enough for a message to quote. */
#define CRON_MAX_SIZE 400

/* -EINVAL for what is no expression, and for one whose days the calendar does not have (`0 0 30 2
 * *`); the error names the field, what was found and the form to write instead. */
int cron_parse(const char *text, enum cron_day_match day_match, struct cron *cron,
               struct error *error);

/* The normal form, new memory: five fields where second 0 is meant, numbers in order, no names.
 * cron_parse reads it back to the same value. */
char *cron_format(const struct cron *cron);

/* The first instant after `after_s`, never before 1970, at which the expression fires in the zone;
 * false when there is none up to CRON_LAST_S. */
bool cron_next(const struct cron *cron, const struct zone *zone, int64_t after_s, int64_t *next_s);

/* Neither day field begins with `*`, so that `day_match` makes a difference. */
bool cron_restricts_both_days(const struct cron *cron);
