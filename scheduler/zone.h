/* Time zones, read from the system's tz database and never from the process-wide TZ.
 *
 * A zone is immutable and counted; it is what its file said when it was opened. A cache gives the
 * same zone for the same name as long as it lives, so whoever loads definitions makes one for each
 * load: a tz update is then seen by the next reload, and what was loaded before keeps its zones. A
 * cache belongs to one thread at a time; zones may be shared by all.
 *
 * Instants are seconds since 1970-01-01T00:00:00Z. A local time is the reading of a wall clock in
 * the zone, as the seconds since 1970-01-01T00:00:00 on that clock: the instant plus the offset.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"

struct zone;
struct zone_cache;

struct zone_cache *zone_cache_new(void);
void zone_cache_free(struct zone_cache *cache);

/* The zone of this IANA name, from $TZDIR or else /usr/share/zoneinfo; `UTC` needs no file. The
 * caller gets a reference of its own. -EINVAL for a name that is none or that no file has (the
 * nearest one is named, for the first of them), another code where the file cannot be read. */
int zone_open(struct zone_cache *cache, const char *name, struct zone **zone, struct error *error);
struct zone *zone_ref(struct zone *zone);
void zone_unref(struct zone *zone);
const char *zone_name(const struct zone *zone);

/* A stretch without a change of the clock: the instants from `from_s` up to but not including
 * `until_s`. */
struct zone_span {
    int64_t from_s;
    int64_t until_s;
    int32_t offset_s; /* local time minus UTC */
};

/* The ends of time for zones, wide of all that can be written and safe to add offsets to (RFC 9636
 * §5.1). */
#define ZONE_FIRST_S (-(INT64_C(1) << 59))
#define ZONE_LAST_S (INT64_C(1) << 59)

/* The span that holds `at_s`. */
struct zone_span zone_span_at(const struct zone *zone, int64_t at_s);

/* The first instant at which the zone's clock showed `local_s` or later: the only one that has this
 * local time, the first of two, or, when a gap swallowed it, the first instant after the gap. */
int64_t zone_reached_at(const struct zone *zone, int64_t local_s);
/* The latest local time that the zone's clock has shown up to and at the instant: its reading,
 * except in the second pass of a repeated stretch. zone_reached_at(local) > at exactly when local >
 * zone_latest_local(at). */
int64_t zone_latest_local(const struct zone *zone, int64_t at_s);
