/* Zones of the system's tz database, and what is said of names that are none. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "scheduler/zone.h"
#include "tests/unit/unit.h"

static struct zone_cache *zones;

static void setup(void)
{
    unsetenv("TZDIR");
    zones = zone_cache_new();
}

static void teardown(void)
{
    zone_cache_free(zones);
}

static struct zone *opened(const char *name)
{
    struct zone *zone;
    struct error error;
    ck_assert_msg(zone_open(zones, name, &zone, &error) == 0, "%s", error.text);
    return zone;
}

static int64_t instant(const char *text)
{
    int64_t at_us;
    struct error error;
    ck_assert_msg(time_parse(text, &at_us, &error) == 0, "%s", error.text);
    return at_us / US_PER_SECOND;
}

static void expect_instant(int64_t found_s, const char *wanted, const char *zone, const char *row)
{
    char text[TIME_TEXT_SIZE];
    time_format_short(found_s * US_PER_SECOND, text);
    ck_assert_msg(strcmp(text, wanted) == 0, "%s %s: found %s, wanted %s", zone, row, text, wanted);
}

/* --- spans ----------------------------------------------------------------------------------- */

static const struct {
    const char *zone;
    const char *at;
    int32_t offset_s;
    const char *from; /* NULL: not asked */
    const char *until;
} spans[] = {
    {"UTC", "2026-01-01T00:00:00Z", 0, NULL, NULL},
    {"Etc/GMT+5", "2026-01-01T00:00:00Z", -18000, NULL, NULL},
    {"Europe/Paris", "2026-03-29T00:59:59Z", 3600, "2025-10-26T01:00:00Z", "2026-03-29T01:00:00Z"},
    {"Europe/Paris", "2026-03-29T01:00:00Z", 7200, "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"},
    {"Europe/Paris", "2037-12-01T00:00:00Z", 3600, "2037-10-25T01:00:00Z", "2038-03-28T01:00:00Z"},
    {"Europe/Paris", "2900-07-01T00:00:00Z", 7200, "2900-03-28T01:00:00Z", "2900-10-31T01:00:00Z"},
    {"America/New_York", "1974-03-01T00:00:00Z", -14400, "1974-01-06T07:00:00Z",
     "1974-10-27T06:00:00Z"},
    {"America/New_York", "2026-12-01T00:00:00Z", -18000, "2026-11-01T06:00:00Z",
     "2027-03-14T07:00:00Z"},
    {"Australia/Lord_Howe", "2026-01-01T00:00:00Z", 39600, "2025-10-04T15:30:00Z",
     "2026-04-04T15:00:00Z"},
    {"Africa/Casablanca", "2026-03-01T00:00:00Z", 0, "2026-02-15T02:00:00Z",
     "2026-03-22T02:00:00Z"},
    {"America/St_Johns", "2010-12-01T00:00:00Z", -12600, "2010-11-07T02:31:00Z",
     "2011-03-13T03:31:00Z"},
    {"Pacific/Apia", "2011-12-30T09:59:59Z", -36000, "2011-09-24T14:00:00Z",
     "2011-12-30T10:00:00Z"},
    {"Asia/Kathmandu", "1985-12-31T00:00:00Z", 19800, NULL, "1985-12-31T18:30:00Z"},
    {"Asia/Kathmandu", "9999-12-31T00:00:00Z", 20700, NULL, NULL},
};

START_TEST(span)
{
    struct zone *zone = opened(spans[_i].zone);
    int64_t at_s = instant(spans[_i].at);
    struct zone_span found = zone_span_at(zone, at_s);
    ck_assert_msg(found.offset_s == spans[_i].offset_s, "%s at %s: %d", spans[_i].zone,
                  spans[_i].at, found.offset_s);
    if (spans[_i].from)
        expect_instant(found.from_s, spans[_i].from, spans[_i].zone, spans[_i].at);
    if (spans[_i].until)
        expect_instant(found.until_s, spans[_i].until, spans[_i].zone, spans[_i].at);
    zone_unref(zone);
}
END_TEST

/* --- local times ----------------------------------------------------------------------------- */

/* Local times are written as if the clock were in UTC. */
static const struct {
    const char *zone;
    const char *local;
    const char *at;
} reached[] = {
    {"UTC", "2026-03-29T02:30:00Z", "2026-03-29T02:30:00Z"},
    {"Europe/Paris", "2026-03-29T01:59:59Z", "2026-03-29T00:59:59Z"},
    {"Europe/Paris", "2026-03-29T02:00:00Z", "2026-03-29T01:00:00Z"},
    {"Europe/Paris", "2026-03-29T02:30:00Z", "2026-03-29T01:00:00Z"},
    {"Europe/Paris", "2026-03-29T03:00:00Z", "2026-03-29T01:00:00Z"},
    {"Europe/Paris", "2026-03-29T03:00:01Z", "2026-03-29T01:00:01Z"},
    {"Europe/Paris", "2026-10-25T02:00:00Z", "2026-10-25T00:00:00Z"},
    {"Europe/Paris", "2026-10-25T02:59:59Z", "2026-10-25T00:59:59Z"},
    {"Europe/Paris", "2026-10-25T03:00:00Z", "2026-10-25T02:00:00Z"},
    {"Australia/Lord_Howe", "2026-10-04T02:15:00Z", "2026-10-03T15:30:00Z"},
    {"Australia/Lord_Howe", "2026-04-05T01:45:00Z", "2026-04-04T14:45:00Z"},
    {"Pacific/Apia", "2011-12-30T12:00:00Z", "2011-12-30T10:00:00Z"},
    {"America/New_York", "2600-03-09T02:30:00Z", "2600-03-09T07:00:00Z"},
};

START_TEST(local_time_reached)
{
    struct zone *zone = opened(reached[_i].zone);
    int64_t local_s = instant(reached[_i].local);
    expect_instant(zone_reached_at(zone, local_s), reached[_i].at, reached[_i].zone,
                   reached[_i].local);
    zone_unref(zone);
}
END_TEST

static const struct {
    const char *zone;
    const char *at;
    const char *local;
} latest[] = {
    {"Europe/Paris", "2026-03-29T00:59:59Z", "2026-03-29T01:59:59Z"},
    {"Europe/Paris", "2026-03-29T01:00:00Z", "2026-03-29T03:00:00Z"},
    {"Europe/Paris", "2026-10-25T00:59:59Z", "2026-10-25T02:59:59Z"},
    {"Europe/Paris", "2026-10-25T01:00:00Z", "2026-10-25T02:59:59Z"},
    {"Europe/Paris", "2026-10-25T01:59:59Z", "2026-10-25T02:59:59Z"},
    {"Europe/Paris", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"},
    {"America/New_York", "2600-11-02T06:30:00Z", "2600-11-02T01:59:59Z"},
};

START_TEST(latest_local_time)
{
    struct zone *zone = opened(latest[_i].zone);
    int64_t at_s = instant(latest[_i].at);
    expect_instant(zone_latest_local(zone, at_s), latest[_i].local, latest[_i].zone, latest[_i].at);
    zone_unref(zone);
}
END_TEST

/* --- opening --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *message;
} refusals[] = {
    {"Europe/Pari", "unknown time zone 'Europe/Pari' (did you mean 'Europe/Paris'?)"},
    {"europe/paris", "did you mean 'Europe/Paris'?"},
    {"Nowhere/Nothing_Known", "write an IANA name"},
    {"Europe", "unknown time zone"},
    {"UTC/Europe", "unknown time zone"},
    {"zone1970.tab", "not a time zone file"},
    {"", "'' is no time zone"},
    {"/etc/localtime", "is no time zone"},
    {"../../../etc/localtime", "is no time zone"},
    {"Europe/../UTC", "is no time zone"},
    {"Europe//Paris", "is no time zone"},
    {"Europe/", "is no time zone"},
};

START_TEST(refusal)
{
    struct zone *zone = NULL;
    struct error error;
    ck_assert_msg(zone_open(zones, refusals[_i].name, &zone, &error) == -EINVAL, "'%s' was taken",
                  refusals[_i].name);
    ck_assert_msg(strstr(error.text, refusals[_i].message) != NULL, "%s", error.text);
    ck_assert_ptr_null(zone);
}
END_TEST

/* A near name is sought only so often: a hostile file may have thousands that are wrong. */
START_TEST(hints_are_bounded)
{
    struct zone *zone;
    struct error error;
    int hints = 0;
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(zone_open(zones, "Europe/Pariss", &zone, &error), -EINVAL);
        hints += strstr(error.text, "'Europe/Paris'?") != NULL;
    }
    ck_assert_int_eq(hints, 20);
    ck_assert_ptr_nonnull(strstr(error.text, "write an IANA name"));
}
END_TEST

START_TEST(without_database)
{
    setenv("TZDIR", "/nonexistent", 1);
    struct zone *zone = opened("UTC");
    ck_assert_int_eq(zone_span_at(zone, 0).offset_s, 0);
    ck_assert_str_eq(zone_name(zone), "UTC");
    zone_unref(zone);
    struct error error;
    ck_assert_int_eq(zone_open(zones, "Europe/Paris", &zone, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "no tz database in /nonexistent"));
}
END_TEST

static void write_zone(const char *directory, const char *rule)
{
    char path[64];
    snprintf(path, sizeof path, "%s/Mine", directory);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    static const char header[44] = "TZif2";
    fwrite(header, sizeof header, 1, file);
    /* The second header counts one type and one byte of names. */
    char block[44 + 6 + 1] = "TZif2";
    block[39] = 1;
    block[43] = 1;
    fwrite(block, sizeof block, 1, file);
    fprintf(file, "\n%s\n", rule);
    ck_assert_int_eq(fclose(file), 0);
}

/* A cache keeps what it has read, a new one reads anew, and a zone outlives its cache. */
START_TEST(update)
{
    char directory[] = "/tmp/directord-zones-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(directory));
    setenv("TZDIR", directory, 1);
    write_zone(directory, "AAA-1");
    struct zone *old = opened("Mine");
    write_zone(directory, "AAA-2");
    struct zone *same = opened("Mine");
    ck_assert_ptr_eq(old, same);
    zone_unref(same);
    zone_cache_free(zones);
    zones = zone_cache_new();
    struct zone *new = opened("Mine");
    ck_assert_int_eq(zone_span_at(old, 0).offset_s, 3600);
    ck_assert_int_eq(zone_span_at(new, 0).offset_s, 7200);
    zone_unref(old);
    zone_unref(new);
    char path[64];
    snprintf(path, sizeof path, "%s/Mine", directory);
    unlink(path);
    rmdir(directory);
}
END_TEST

#define ADD_ROWS(test, rows) tcase_add_loop_test(tests, test, 0, sizeof(rows) / sizeof *(rows))

int main(void)
{
    Suite *suite = suite_create("zone");
    TCase *tests = tcase_create("zone");
    tcase_add_checked_fixture(tests, setup, teardown);
    ADD_ROWS(span, spans);
    ADD_ROWS(local_time_reached, reached);
    ADD_ROWS(latest_local_time, latest);
    ADD_ROWS(refusal, refusals);
    tcase_add_test(tests, hints_are_bounded);
    tcase_add_test(tests, without_database);
    tcase_add_test(tests, update);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
