/* Triggers: how they are written, what identifies them, when they are due. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "scheduler/trigger.h"
#include "tests/unit/unit.h"

static struct zone_cache *zones;

static void setup(void)
{
    zones = zone_cache_new();
}

static void teardown(void)
{
    zone_cache_free(zones);
}

static int64_t instant(const char *text)
{
    int64_t at_us;
    struct error error;
    ck_assert_msg(time_parse(text, &at_us, &error) == 0, "%s", error.text);
    return at_us;
}

/* Texts without blanks are intervals here. */
static struct trigger parsed(const char *text, const char *zone)
{
    struct trigger trigger;
    struct error error;
    int rc = strpbrk(text, " @") ? trigger_parse_crontab(text, zones, zone, NULL, &trigger, &error)
                                 : trigger_parse_interval(text, &trigger, &error);
    ck_assert_msg(rc == 0, "'%s': %s", text, error.text);
    return trigger;
}

/* --- identity -------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *zone;
    const char *normal;
} identities[] = {
    {"90", NULL, "interval:90s"},
    {"90s", NULL, "interval:90s"},
    {"1m30s", NULL, "interval:90s"},
    {"1.5m", NULL, "interval:90s"},
    {"2d", NULL, "interval:172800s"},
    {"1.5", NULL, "interval:1500ms"},
    {"1ms", NULL, "interval:1ms"},
    {"1.25ms", NULL, "interval:1.250ms"},
    {"1.000001", NULL, "interval:1000.001ms"},
    {" 0\t3 * * MON-fri", NULL, "crontab:0 3 * * 1-5 UTC"},
    {"@daily", "Europe/Paris", "crontab:0 0 * * * Europe/Paris"},
    {"0 0 3 * * *", "Europe/Paris", "crontab:0 3 * * * Europe/Paris"},
};

START_TEST(normal_form)
{
    struct trigger trigger = parsed(identities[_i].text, identities[_i].zone);
    char *text = trigger_format(&trigger);
    ck_assert_str_eq(text, identities[_i].normal);
    if (trigger.kind == TRIGGER_INTERVAL) {
        struct trigger again = parsed(strchr(text, ':') + 1, NULL);
        ck_assert_int_eq(again.interval_us, trigger.interval_us);
    }
    free(text);
    trigger_done(&trigger);
}
END_TEST

/* --- the old spelling ------------------------------------------------------------------------ */

static const struct {
    const char *text;
    const char *modern;
    const char *normal;
} schedules[] = {
    {"60", "interval: 60", "interval:60s"},
    {"0.5", "interval: 0.5", "interval:500ms"},
    {"0 3 1 * *", "crontab: \"0 3 * * 1\"", "crontab:0 3 * * 1 UTC"},
    {" */5\t* mon-fri 1,15 jan ", "crontab: \"*/5 * 1,15 jan mon-fri\"",
     "crontab:*/5 * 1,15 1 1-5 UTC"},
    {"@daily", "crontab: \"@daily\"", "crontab:0 0 * * * UTC"},
};

START_TEST(old_spelling)
{
    struct trigger trigger;
    struct error error;
    char *modern;
    int rc =
        trigger_parse_schedule(schedules[_i].text, zones, NULL, NULL, &trigger, &modern, &error);
    ck_assert_msg(rc == 0, "'%s': %s", schedules[_i].text, error.text);
    ck_assert_str_eq(modern, schedules[_i].modern);
    char *text = trigger_format(&trigger);
    ck_assert_str_eq(text, schedules[_i].normal);
    free(text);
    free(modern);
    trigger_done(&trigger);
}
END_TEST

static const struct {
    const char *text;
    const char *message;
} bad_schedules[] = {
    {"", "a number of seconds or five fields"},
    {"0 3 * *", "a number of seconds or five fields"},
    {"0 0 3 * * *", "a number of seconds or five fields"},
    {"0", "at least 1ms"},
    {"1.2.3", "1.2.3"},
    {"0 3 * 32 *", "day of month '32'"},
    {"0 3 8 * *", "weekday '8'"},
};

START_TEST(bad_old_spelling)
{
    struct trigger trigger;
    struct error error;
    char *modern;
    int rc = trigger_parse_schedule(bad_schedules[_i].text, zones, NULL, NULL, &trigger, &modern,
                                    &error);
    ck_assert_msg(rc == -EINVAL, "'%s' was taken", bad_schedules[_i].text);
    ck_assert_msg(strstr(error.text, bad_schedules[_i].message) != NULL, "%s", error.text);
}
END_TEST

/* --- refusals -------------------------------------------------------------------------------- */

START_TEST(refusals)
{
    struct trigger trigger;
    struct error error;
    ck_assert_int_eq(trigger_parse_interval("0.0009", &trigger, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "at least 1ms"));
    ck_assert_int_eq(trigger_parse_interval("soon", &trigger, &error), -EINVAL);
    ck_assert_int_eq(trigger_parse_crontab("* * * * *", zones, NULL, "both", &trigger, &error),
                     -EINVAL);
    ck_assert_str_eq(error.text, "day_match is 'any' or 'all', not 'both'");
    ck_assert_int_eq(trigger_parse_crontab("* * * * *", zones, "Mars", NULL, &trigger, &error),
                     -EINVAL);
    ck_assert_int_eq(trigger_parse_crontab("0 0 30 2 1", zones, NULL, "all", &trigger, &error),
                     -EINVAL);
}
END_TEST

/* --- both days ------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *day_match;
    bool wanted;
} ambiguous[] = {
    {"0 0 13 * 5", NULL, true},   {"0 0 1-31 * 1", NULL, true}, {"0 0 13 * 5", "any", false},
    {"0 0 13 * 5", "all", false}, {"0 0 * * 5", NULL, false},   {"0 0 13 * *", NULL, false},
    {"0 0 */2 * 1", NULL, false},
};

START_TEST(day_match_unsaid)
{
    struct trigger trigger;
    ck_assert_int_eq(trigger_parse_crontab(ambiguous[_i].text, zones, NULL, ambiguous[_i].day_match,
                                           &trigger, NULL),
                     0);
    ck_assert_msg(trigger_wants_day_match(&trigger) == ambiguous[_i].wanted, "'%s'",
                  ambiguous[_i].text);
    trigger_done(&trigger);
}
END_TEST

/* --- due ------------------------------------------------------------------------------------- */

#define ANCHOR "2026-01-01T00:00:10Z"

static const struct {
    const char *text;
    const char *start_at;
    const char *end_at;
    const char *after;
    const char *wanted; /* NULL: never again */
} due[] = {
    {"60", NULL, NULL, ANCHOR, "2026-01-01T00:01:10Z"},
    {"60", NULL, NULL, "1970-01-01T00:00:00Z", "2026-01-01T00:01:10Z"},
    {"60", NULL, NULL, "2026-01-01T00:01:09.999999Z", "2026-01-01T00:01:10Z"},
    {"60", NULL, NULL, "2026-01-01T00:01:10Z", "2026-01-01T00:02:10Z"},
    {"0.25", NULL, NULL, "2026-01-01T00:00:10.3Z", "2026-01-01T00:00:10.5Z"},
    {"7d", NULL, NULL, "2027-01-01T00:00:00Z", "2027-01-07T00:00:10Z"},
    {"60", "2026-01-01T12:00:00Z", NULL, "2026-01-01T00:02:00Z", "2026-01-01T12:00:10Z"},
    {"60", "2026-01-01T12:00:10Z", NULL, "2026-01-01T00:02:00Z", "2026-01-01T12:00:10Z"},
    {"60", NULL, "2026-01-01T12:00:10Z", "2026-01-01T11:59:30Z", "2026-01-01T12:00:10Z"},
    {"60", NULL, "2026-01-01T12:00:10Z", "2026-01-01T12:00:10Z", NULL},
    {"60", NULL, "2026-01-01T12:00:09Z", "2026-01-01T11:59:30Z", NULL},
    {"36525d", NULL, NULL, "9999-01-01T00:00:00Z", NULL},
    {"0 3 * * *", NULL, NULL, "2026-01-01T02:59:59.999999Z", "2026-01-01T03:00:00Z"},
    {"0 3 * * *", NULL, NULL, "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"},
    {"0 3 * * *", NULL, NULL, "2026-01-01T03:00:00.000001Z", "2026-01-02T03:00:00Z"},
    {"0 3 * * *", "2026-05-01T03:00:00Z", NULL, "2026-01-01T00:00:00Z", "2026-05-01T03:00:00Z"},
    {"0 3 * * *", "2026-05-01T03:00:00.5Z", NULL, "2026-01-01T00:00:00Z", "2026-05-02T03:00:00Z"},
    {"0 3 * * *", NULL, "2026-05-01T03:00:00Z", "2026-05-01T02:00:00Z", "2026-05-01T03:00:00Z"},
    {"0 3 * * *", NULL, "2026-05-01T02:59:59Z", "2026-05-01T02:00:00Z", NULL},
    {"0 0 31 12 *", NULL, NULL, "9999-12-31T00:00:00Z", NULL},
};

START_TEST(due_instants)
{
    struct trigger trigger = parsed(due[_i].text, NULL);
    struct error error;
    ck_assert_msg(trigger_bound(&trigger, due[_i].start_at, due[_i].end_at, &error) == 0, "%s",
                  error.text);
    char text[TIME_TEXT_SIZE] = "never";
    int64_t next_us;
    if (trigger_next(&trigger, instant(ANCHOR), instant(due[_i].after), &next_us))
        time_format_short(next_us, text);
    const char *wanted = due[_i].wanted ? due[_i].wanted : "never";
    ck_assert_msg(strcmp(text, wanted) == 0, "'%s' after %s: found %s, wanted %s", due[_i].text,
                  due[_i].after, text, wanted);
    trigger_done(&trigger);
}
END_TEST

START_TEST(bounds_in_disorder)
{
    struct trigger trigger = parsed("60", NULL);
    struct error error;
    ck_assert_int_eq(
        trigger_bound(&trigger, "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "is before start_at"));
    ck_assert_int_eq(trigger_bound(&trigger, NULL, "tomorrow", &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "end_at: "));
    ck_assert_int_eq(trigger.end_us, INT64_MAX);
}
END_TEST

/* --- jitter ---------------------------------------------------------------------------------- */

#define IDENTITIES 1000
#define SLOTS 10

/* Within the bound, always the same, and about as many in each tenth of it. */
START_TEST(jitter)
{
    const int64_t bound_us = 60 * US_PER_SECOND;
    int slots[SLOTS] = {0};
    for (int i = 0; i < IDENTITIES; i++) {
        char *identity = mem_format("example.W%d crontab:0 3 * * * UTC", i);
        int64_t offset_us = trigger_jitter_us(identity, bound_us);
        ck_assert_int_ge(offset_us, 0);
        ck_assert_int_lt(offset_us, bound_us);
        ck_assert_int_eq(offset_us, trigger_jitter_us(identity, bound_us));
        slots[offset_us * SLOTS / bound_us]++;
        free(identity);
    }
    for (int i = 0; i < SLOTS; i++)
        ck_assert_msg(slots[i] > 60 && slots[i] < 140, "tenth %d has %d of 1000", i, slots[i]);
    ck_assert_int_eq(trigger_jitter_us("example.W", 0), 0);
}
END_TEST

/* Daemons of different builds must agree. */
START_TEST(jitter_never_changes)
{
    ck_assert_int_eq(trigger_jitter_us("example.ETL crontab:0 3 * * * Europe/Paris", 60000000),
                     36973347);
}
END_TEST

#define ADD_ROWS(test, rows) tcase_add_loop_test(tests, test, 0, sizeof(rows) / sizeof *(rows))

int main(void)
{
    Suite *suite = suite_create("trigger");
    TCase *tests = tcase_create("trigger");
    tcase_add_checked_fixture(tests, setup, teardown);
    ADD_ROWS(normal_form, identities);
    ADD_ROWS(old_spelling, schedules);
    ADD_ROWS(bad_old_spelling, bad_schedules);
    tcase_add_test(tests, refusals);
    ADD_ROWS(day_match_unsaid, ambiguous);
    ADD_ROWS(due_instants, due);
    tcase_add_test(tests, bounds_in_disorder);
    tcase_add_test(tests, jitter);
    tcase_add_test(tests, jitter_never_changes);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
