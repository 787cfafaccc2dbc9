/* The clocks, and instants as text.
 *
 * Wall-clock instants are int64_t microseconds since 1970-01-01T00:00:00Z, named `…_us` or `at`;
 * durations are int64_t with their unit in the name. The monotonic clock and the wall clock never
 * share a name.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"

#define US_PER_SECOND INT64_C(1000000)

int64_t clock_wall_us(void); /* CLOCK_REALTIME */
int64_t clock_mono_us(void); /* CLOCK_MONOTONIC: for deadlines and durations */
int64_t clock_boot_us(void); /* CLOCK_BOOTTIME: goes on during suspend; for leases */

#define TIME_TEXT_SIZE 40
/* `2026-11-23T21:10:21.663651+00:00`: always UTC, always six digits. Instants outside of the years
 * 0 to 9999 are cut to the first or last one inside. */
void time_format(int64_t at_us, char text[TIME_TEXT_SIZE]);
/* `2026-11-23T21:10:21Z`; with a fraction of as many digits as needed when there is one. */
void time_format_short(int64_t at_us, char text[TIME_TEXT_SIZE]);
/* RFC 3339 with `Z` or a numeric offset, up to nine digits of fraction (cut to microseconds). A
 * space may stand for `T`; a leap second is the first second of the next minute. Years 1970 to
 * 9999. `-EINVAL`. */
int time_parse(const char *text, int64_t *at_us, struct error *error);
