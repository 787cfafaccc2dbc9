#include "scheduler/trigger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/duration.h"
#include "base/memory.h"

#define BLANKS " \t"
#define US_PER_MS INT64_C(1000)

/* The last instant there is for schedules, like CRON_LAST_S. */
#define LAST_US ((CRON_LAST_S + 1) * US_PER_SECOND - 1)

static const struct trigger unbounded = {.start_us = INT64_MIN, .end_us = INT64_MAX};

/* --- parsing --------------------------------------------------------------------------------- */

int trigger_parse_interval(const char *text, struct trigger *trigger, struct error *error)
{
    int64_t interval_us;
    int rc = duration_parse(text, &interval_us, error);
    if (rc < 0)
        return rc;
    if (interval_us < TRIGGER_MIN_INTERVAL_US)
        return error_set(error, -EINVAL, "the interval '%s' is too short, write at least 1ms",
                         text);
    *trigger = unbounded;
    trigger->kind = TRIGGER_INTERVAL;
    trigger->interval_us = interval_us;
    return 0;
}

static bool parse_day_match(const char *text, enum cron_day_match *day_match)
{
    *day_match = text && strcmp(text, "all") == 0 ? CRON_DAY_ALL : CRON_DAY_ANY;
    return !text || strcmp(text, "any") == 0 || strcmp(text, "all") == 0;
}

int trigger_parse_crontab(const char *text, struct zone_cache *zones, const char *zone_name,
                          const char *day_match, struct trigger *trigger, struct error *error)
{
    struct trigger found = unbounded;
    enum cron_day_match match;
    if (!parse_day_match(day_match, &match))
        return error_set(error, -EINVAL, "day_match is 'any' or 'all', not '%s'", day_match);
    int rc = cron_parse(text, match, &found.cron, error);
    if (rc == 0)
        rc = zone_open(zones, zone_name ? zone_name : "UTC", &found.zone, error);
    if (rc < 0)
        return rc;
    found.kind = TRIGGER_CRONTAB;
    found.day_match_given = day_match != NULL;
    *trigger = found;
    return 0;
}

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789.")] == '\0';
}

/* `m h dow dom mon` as `m h dom mon dow`; an `@` form stays as it is. New memory; NULL for another
 * number of fields. */
static char *modern_order(const char *text)
{
    if (text[strspn(text, BLANKS)] == '@')
        return mem_text(text);
    char *copy = mem_text(text);
    char *words[5];
    int count = 0;
    char *rest;
    for (char *word = strtok_r(copy, BLANKS, &rest); word; word = strtok_r(NULL, BLANKS, &rest)) {
        if (count < 5)
            words[count] = word;
        count++;
    }
    char *ordered = NULL;
    if (count == 5)
        ordered = mem_format("%s %s %s %s %s", words[0], words[1], words[3], words[4], words[2]);
    free(copy);
    return ordered;
}

int trigger_parse_schedule(const char *text, struct zone_cache *zones, const char *zone_name,
                           const char *day_match, struct trigger *trigger, char **modern,
                           struct error *error)
{
    if (is_number(text)) {
        int rc = trigger_parse_interval(text, trigger, error);
        if (rc == 0)
            *modern = mem_format("interval: %s", text);
        return rc;
    }
    char *crontab = modern_order(text);
    if (!crontab)
        return error_set(error, -EINVAL,
                         "the old form 'schedule' is a number of seconds or five fields (minute, "
                         "hour, weekday, day of month, month)");
    int rc = trigger_parse_crontab(crontab, zones, zone_name, day_match, trigger, error);
    if (rc == 0)
        *modern = mem_format("crontab: \"%s\"", crontab);
    free(crontab);
    return rc;
}

static int parse_bound(const char *text, const char *name, int64_t *at_us, struct error *error)
{
    int rc = text ? time_parse(text, at_us, error) : 0;
    if (rc < 0)
        error_wrap(error, "%s", name);
    return rc;
}

int trigger_bound(struct trigger *trigger, const char *start_at, const char *end_at,
                  struct error *error)
{
    int64_t start_us = INT64_MIN;
    int64_t end_us = INT64_MAX;
    int rc = parse_bound(start_at, "start_at", &start_us, error);
    if (rc == 0)
        rc = parse_bound(end_at, "end_at", &end_us, error);
    if (rc < 0)
        return rc;
    if (end_us < start_us)
        return error_set(error, -EINVAL, "end_at '%s' is before start_at '%s'", end_at, start_at);
    trigger->start_us = start_us;
    trigger->end_us = end_us;
    return 0;
}

void trigger_done(struct trigger *trigger)
{
    zone_unref(trigger->zone);
    *trigger = (struct trigger){0};
}

/* --- questions ------------------------------------------------------------------------------- */

/* One unit only, so that equal intervals have equal texts: seconds where they are whole, else
 * milliseconds. */
static char *format_interval(int64_t us)
{
    long long ms = us / US_PER_MS;
    if (us % US_PER_SECOND == 0)
        return mem_format("interval:%llds", ms / 1000);
    if (us % US_PER_MS == 0)
        return mem_format("interval:%lldms", ms);
    return mem_format("interval:%lld.%03dms", ms, (int)(us % US_PER_MS));
}

char *trigger_format(const struct trigger *trigger)
{
    if (trigger->kind == TRIGGER_INTERVAL)
        return format_interval(trigger->interval_us);
    char *crontab = cron_format(&trigger->cron);
    char *text = mem_format("crontab:%s %s", crontab, zone_name(trigger->zone));
    free(crontab);
    return text;
}

static int64_t next_on_grid(int64_t interval_us, int64_t anchor_us, int64_t after_us)
{
    int64_t past = after_us < anchor_us ? 0 : (after_us - anchor_us) / interval_us;
    return anchor_us + (past + 1) * interval_us;
}

static bool next_of_crontab(const struct trigger *trigger, int64_t after_us, int64_t *next_us)
{
    int64_t next_s;
    if (!cron_next(&trigger->cron, trigger->zone, after_us < 0 ? -1 : after_us / US_PER_SECOND,
                   &next_s))
        return false;
    *next_us = next_s * US_PER_SECOND;
    return true;
}

bool trigger_next(const struct trigger *trigger, int64_t anchor_us, int64_t after_us,
                  int64_t *next_us)
{
    if (trigger->start_us > after_us)
        after_us = trigger->start_us - 1;
    int64_t last_us = trigger->end_us < LAST_US ? trigger->end_us : LAST_US;
    if (after_us >= last_us)
        return false;
    int64_t found_us;
    if (trigger->kind == TRIGGER_INTERVAL)
        found_us = next_on_grid(trigger->interval_us, anchor_us, after_us);
    else if (!next_of_crontab(trigger, after_us, &found_us))
        return false;
    if (found_us > last_us)
        return false;
    *next_us = found_us;
    return true;
}

bool trigger_wants_day_match(const struct trigger *trigger)
{
    return trigger->kind == TRIGGER_CRONTAB && !trigger->day_match_given &&
           cron_restricts_both_days(&trigger->cron);
}

/* FNV-1a, then the finaliser of MurmurHash3, since the upper bits decide below. */
static uint64_t hash(const char *text)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ hash >> 33;
}

int64_t trigger_jitter_us(const char *identity, int64_t jitter_us)
{
    return (int64_t)((unsigned __int128)hash(identity) * (uint64_t)jitter_us >> 64);
}
