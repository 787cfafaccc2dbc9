/* When a schedule is due: an interval, or a crontab in a time zone, between two optional bounds.
 *
 * Pure arithmetic: a trigger knows neither the present nor what became of a fire. Its normal form
 * identifies the schedule within a workflow, so it does not change with the way the trigger was
 * written.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "scheduler/cron.h"
#include "scheduler/zone.h"

enum trigger_kind { TRIGGER_INTERVAL, TRIGGER_CRONTAB };

struct trigger {
    enum trigger_kind kind;
    int64_t interval_us;  /* of an interval */
    struct cron cron;     /* of a crontab, with its zone */
    struct zone *zone;    /* NULL for an interval */
    bool day_match_given; /* somebody chose, no default */
    int64_t start_us;     /* no fire before it; INT64_MIN without a bound */
    int64_t end_us;       /* no fire after it; INT64_MAX without a bound */
};

/* The shortest interval: below it the timers promise nothing. */
#define TRIGGER_MIN_INTERVAL_US INT64_C(1000)

/* The parsers fill a trigger without bounds, to be emptied by trigger_done. Errors are -EINVAL and
 * do not repeat where the text came from; `*trigger` is then unchanged. */

/* `90`, `1.5`, `90s`, `1h30m`. */
int trigger_parse_interval(const char *text, struct trigger *trigger, struct error *error);
/* `zone_name` NULL is UTC; `day_match` is `any`, `all`, or NULL where the user did not say. */
int trigger_parse_crontab(const char *text, struct zone_cache *zones, const char *zone_name,
                          const char *day_match, struct trigger *trigger, struct error *error);
/* Director's old spelling: a number is an interval in seconds, anything else a crontab whose last
 * three fields stand as `dow dom mon`. `*modern` gets the line to write instead, `interval: 60` or
 * `crontab: "0 3 1 * mon"`, as memory for the caller to free. */
int trigger_parse_schedule(const char *text, struct zone_cache *zones, const char *zone_name,
                           const char *day_match, struct trigger *trigger, char **modern,
                           struct error *error);
/* Sets the bounds from RFC 3339 texts; NULL is none. The fires at the bounds themselves belong to
 * the schedule. */
int trigger_bound(struct trigger *trigger, const char *start_at, const char *end_at,
                  struct error *error);
void trigger_done(struct trigger *trigger);

/* The normal form without bounds and `day_match`: `interval:90s`, `interval:1500ms`,
 * `crontab:0 3 * * * Europe/Paris`. New memory. */
char *trigger_format(const struct trigger *trigger);

/* The first nominal instant strictly after `after_us`: for an interval on the grid anchor + k ×
 * interval with k >= 1 (a crontab has no anchor), for both within the bounds and up to the year
 * 9999. False when it never fires again. */
bool trigger_next(const struct trigger *trigger, int64_t anchor_us, int64_t after_us,
                  int64_t *next_us);

/* A crontab that restricts both day fields while nobody said what that means: worth a warning. */
bool trigger_wants_day_match(const struct trigger *trigger);

/* How far a schedule's fires are moved behind their nominal instants: in [0, jitter_us), the same
 * for the same identity always. The identity should hold the workflow's name too, else all that
 * fire at midnight move together. */
int64_t trigger_jitter_us(const char *identity, int64_t jitter_us);
