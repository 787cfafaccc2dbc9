/* Crontab expressions: what is read, what is refused and how, and when they fire. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "scheduler/cron.h"
#include "tests/unit/unit.h"

static struct cron parsed(const char *text, enum cron_day_match day_match)
{
    struct cron cron;
    struct error error;
    ck_assert_msg(cron_parse(text, day_match, &cron, &error) == 0, "'%s': %s", text, error.text);
    return cron;
}

/* --- normal forms ---------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *normal;
} forms[] = {
    {"* * * * *", "* * * * *"},
    {"  0\t3  * * * \t", "0 3 * * *"},
    {"00 03 01 01 *", "0 3 1 1 *"},
    {"0 3 * * mon-fri", "0 3 * * 1-5"},
    {"0 3 * JAN,Mar,dec sUn", "0 3 * 1,3,12 0"},
    {"0 3 * * 7", "0 3 * * 0"},
    {"0 3 * * 5-7", "0 3 * * 0,5-6"},
    {"0 3 * * 0-7", "0 3 * * 0-6"},
    {"0 3 * * sat,7", "0 3 * * 0,6"},
    {"3,1,2,7,1 * * * *", "1-3,7 * * * *"},
    {"0-59 * * * *", "0-59 * * * *"},
    {"*/1 * * * *", "* * * * *"},
    {"*/15 */2 */10 */3 */2", "*/15 */2 */10 */3 */2"},
    {"10-50/20 * * * *", "10,30,50 * * * *"},
    {"*/7,3 * * * *", "*/7,3 * * * *"},
    {"*/30,*/20 * * * *", "*/20,30 * * * *"},
    {"3,*/30 * * * *", "0,3,30 * * * *"},
    {"*/90 * * * *", "*/60 * * * *"},
    {"5-10/99999999999999999999 * * * *", "5 * * * *"},
    {"0 0 * * */7", "0 0 * * */7"},
    {"0 0 31 */12 *", "0 0 31 */12 *"},
    {"0 0 3 * * *", "0 3 * * *"},
    {"*/60 0 3 * * *", "0 3 * * *"},
    {"30 0 3 * * *", "30 0 3 * * *"},
    {"* * * * * *", "* * * * * *"},
    {"59 59 23 31 12 6", "59 59 23 31 12 6"},
    {"@hourly", "0 * * * *"},
    {"@daily", "0 0 * * *"},
    {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},
    {" @Monthly\t", "0 0 1 * *"},
    {"@YEARLY", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
};

START_TEST(normal_form)
{
    struct cron cron = parsed(forms[_i].text, CRON_DAY_ANY);
    char *text = cron_format(&cron);
    ck_assert_msg(strcmp(text, forms[_i].normal) == 0, "'%s' became '%s'", forms[_i].text, text);
    struct cron again = parsed(text, CRON_DAY_ANY);
    ck_assert_msg(memcmp(&again, &cron, sizeof cron) == 0, "'%s' read back otherwise", text);
    free(text);
}
END_TEST

/* The longest normal form there is must be readable too: runs of two cost the most. */
START_TEST(longest_normal_form)
{
    struct cron cron = {
        .values = {0xb6db6db6db6db6d, 0xb6db6db6db6db6d, 0x6db6db, 0xdb6db6da, 0x16da, 0x5b},
    };
    char *text = cron_format(&cron);
    ck_assert_uint_le(strlen(text), CRON_MAX_SIZE);
    struct cron again = parsed(text, CRON_DAY_ANY);
    ck_assert_msg(memcmp(&again, &cron, sizeof cron) == 0, "'%s' read back otherwise", text);
    free(text);
}
END_TEST

/* --- refusals -------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    enum cron_day_match day_match;
    const char *message; /* a part of it */
} refusals[] = {
    {"", 0, "found 0"},
    {" \t ", 0, "found 0"},
    {"* * * *", 0, "expected five fields"},
    {"* * * * * * *", 0, "found 7"},
    {"60 * * * *", 0, "minute '60': '60' is no minute, write 0-59 or *"},
    {"60 * * * * *", 0, "second '60'"},
    {"* 24 * * *", 0, "no hour, write 0-23 or *"},
    {"* * 0 * *", 0, "no day of month, write 1-31 or *"},
    {"* * 32 * *", 0, "no day of month, write 1-31 or *"},
    {"* * * 13 *", 0, "no month, write 1-12, jan-dec or *"},
    {"* * * * 8", 0, "no weekday, write 0-6, sun-sat or *"},
    {"* * * * 5-8", 0, "'8' is no weekday"},
    {"* * * * monday", 0, "'monday' is no weekday"},
    {"* * * mon *", 0, "'mon' is no month"},
    {"mon * * * *", 0, "'mon' is no minute"},
    {"? * * * *", 0, "'?' is no minute"},
    {"-1 * * * *", 0, "'' is no minute"},
    {"99999999999999999999 * * * *", 0, "is no minute"},
    {"5/15 * * * *", 0, "takes no step, write '5-59/15'"},
    {"* 1,5/2,7 * * *", 0, "takes no step, write '5-23/2'"},
    {"* * * * 7/2", 0, "takes no step, write '0-6/2'"},
    {"* 22-2 * * *", 0, "hour '22-2': the range runs backwards, write '22-23,0-2'"},
    {"* 23-0 * * *", 0, "runs backwards, write '23,0'"},
    {"* * * * fri-mon", 0, "runs backwards, write '5-6,0-1'"},
    {"* * * * 7-2", 0, "runs backwards, write '7,0-2'"},
    {"* * * nov-feb *", 0, "runs backwards, write '11-12,1-2'"},
    {"*/0 * * * *", 0, "a step of 0"},
    {"*/ * * * *", 0, "a number must follow '/'"},
    {"*/x * * * *", 0, "a number must follow '/'"},
    {"1- * * * *", 0, "'' is no minute"},
    {"1,,2 * * * *", 0, "'' is no minute"},
    {"1, * * * *", 0, "'' is no minute"},
    {"*5 * * * *", 0, "expected a comma or the end at '5'"},
    {"1-5-7 * * * *", 0, "at '-7'"},
    {"1.5 * * * *", 0, "at '.5'"},
    {"0 3 * * *\n", 0, "found byte 0x0a"},
    {"@reboot", 0, "write one of @hourly"},
    {"@every 5m", 0, "write one of @hourly"},
    {"@daily * * * *", 0, "write one of @hourly"},
    {"@", 0, "write one of @hourly"},
    {"0 0 30 2 *", 0, "never fires"},
    {"0 0 31 4,6,9,nov *", 0, "never fires"},
    {"0 0 30-31 feb */2", 0, "never fires"},
    {"0 0 30 2 1", CRON_DAY_ALL, "never fires"},
};

START_TEST(refusal)
{
    struct cron cron = {.stars = 77};
    struct error error;
    ck_assert_msg(cron_parse(refusals[_i].text, refusals[_i].day_match, &cron, &error) == -EINVAL,
                  "'%s' was taken", refusals[_i].text);
    ck_assert_msg(strstr(error.text, refusals[_i].message) != NULL, "'%s': %s", refusals[_i].text,
                  error.text);
    ck_assert_uint_eq(cron.stars, 77);
}
END_TEST

START_TEST(refusal_of_long_text)
{
    char text[CRON_MAX_SIZE + 20];
    snprintf(text, sizeof text, "* * * * *%*s", CRON_MAX_SIZE, "");
    struct cron cron;
    struct error error;
    ck_assert_int_eq(cron_parse(text, CRON_DAY_ANY, &cron, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "409 bytes"));
}
END_TEST

/* --- firing ---------------------------------------------------------------------------------- */

#define ANY CRON_DAY_ANY
#define ALL CRON_DAY_ALL

/* The first instants after `from`; a final `-` says that there are no more. */
static const struct {
    const char *text;
    enum cron_day_match day_match;
    const char *zone;
    const char *from;
    const char *wanted;
} fires[] = {
    /* The calendar. */
    {"0 3 * * *", ANY, "UTC", "2026-01-01T02:59:59Z", "2026-01-01T03:00:00Z 2026-01-02T03:00:00Z"},
    {"0 3 * * *", ANY, "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"},
    {"* * * * * *", ANY, "UTC", "2026-12-31T23:59:58Z",
     "2026-12-31T23:59:59Z 2027-01-01T00:00:00Z"},
    {"30 59 23 31 12 *", ANY, "UTC", "2026-12-31T23:59:30Z", "2027-12-31T23:59:30Z"},
    {"10,50 10,50 1,5 * * *", ANY, "UTC", "2026-01-01T01:10:50Z",
     "2026-01-01T01:50:10Z 2026-01-01T01:50:50Z 2026-01-01T05:10:10Z"},
    {"10,50 10,50 1,5 * * *", ANY, "UTC", "2026-01-01T01:10:20Z", "2026-01-01T01:10:50Z"},
    {"10,50 10,50 1,5 * * *", ANY, "UTC", "2026-01-01T05:50:50Z", "2026-01-02T01:10:10Z"},
    {"0 0 31 * *", ANY, "UTC", "2026-01-31T00:00:00Z",
     "2026-03-31T00:00:00Z 2026-05-31T00:00:00Z 2026-07-31T00:00:00Z 2026-08-31T00:00:00Z"},
    {"0 0 29 2 *", ANY, "UTC", "2096-01-01T00:00:00Z", "2096-02-29T00:00:00Z 2104-02-29T00:00:00Z"},
    {"0 0 29 2 1", ALL, "UTC", "2090-01-01T00:00:00Z", "2112-02-29T00:00:00Z 2140-02-29T00:00:00Z"},
    {"0 0 31 12 *", ANY, "UTC", "9997-12-31T00:00:00Z",
     "9998-12-31T00:00:00Z 9999-12-31T00:00:00Z -"},
    {"0 0 1 1 *", ANY, "Europe/Paris", "1969-06-01T00:00:00Z", "1970-12-31T23:00:00Z"},
    /* Both day fields: POSIX, a leading star, Celery. */
    {"0 0 13 * 5", ANY, "UTC", "2026-02-28T00:00:00Z",
     "2026-03-06T00:00:00Z 2026-03-13T00:00:00Z 2026-03-20T00:00:00Z"},
    {"0 0 13 * 5", ALL, "UTC", "2026-02-28T00:00:00Z", "2026-03-13T00:00:00Z 2026-11-13T00:00:00Z"},
    {"0 0 */2 * 1", ANY, "UTC", "2026-03-01T00:00:00Z",
     "2026-03-09T00:00:00Z 2026-03-23T00:00:00Z 2026-04-13T00:00:00Z"},
    {"0 0 1-7 * */2", ANY, "UTC", "2026-03-01T00:00:00Z",
     "2026-03-03T00:00:00Z 2026-03-05T00:00:00Z 2026-03-07T00:00:00Z 2026-04-02T00:00:00Z"},
    {"0 0 30 2 1", ANY, "UTC", "2026-02-20T00:00:00Z", "2026-02-23T00:00:00Z 2027-02-01T00:00:00Z"},
    /* Paris, into summer time: 02:00 to 03:00 does not exist. */
    {"30 2 * * *", ANY, "Europe/Paris", "2026-03-28T00:00:00Z",
     "2026-03-28T01:30:00Z 2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"},
    {"0,30 1-3 * * *", ANY, "Europe/Paris", "2026-03-29T00:00:00Z",
     "2026-03-29T00:30:00Z 2026-03-29T01:00:00Z 2026-03-29T01:30:00Z 2026-03-29T23:00:00Z"},
    {"* 30 2 * * *", ANY, "Europe/Paris", "2026-03-29T00:00:00Z",
     "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z 2026-03-30T00:30:01Z"},
    {"*/20 2 * * *", ANY, "Europe/Paris", "2026-03-28T01:39:00Z",
     "2026-03-28T01:40:00Z 2026-03-30T00:00:00Z"},
    {"30 * * * *", ANY, "Europe/Paris", "2026-03-29T00:00:00Z",
     "2026-03-29T00:30:00Z 2026-03-29T01:30:00Z"},
    {"30 */2 * * *", ANY, "Europe/Paris", "2026-03-28T23:00:00Z",
     "2026-03-28T23:30:00Z 2026-03-29T02:30:00Z"},
    {"* 2 25-31 3 7", ALL, "Europe/Paris", "1999-01-01T00:00:00Z", "-"},
    /* Paris, back: 02:00 to 03:00 comes twice. */
    {"30 2 * * *", ANY, "Europe/Paris", "2026-10-24T00:00:00Z",
     "2026-10-24T00:30:00Z 2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
    {"30 2 * * *", ANY, "Europe/Paris", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
    {"30 2 * * *", ANY, "Europe/Paris", "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"},
    {"0 3 * * *", ANY, "Europe/Paris", "2026-10-25T00:30:00Z",
     "2026-10-25T02:00:00Z 2026-10-26T02:00:00Z"},
    {"30 1-3 * * *", ANY, "Europe/Paris", "2026-10-24T23:00:00Z",
     "2026-10-24T23:30:00Z 2026-10-25T00:30:00Z 2026-10-25T02:30:00Z"},
    {"*/30 2 * * *", ANY, "Europe/Paris", "2026-10-24T23:00:00Z",
     "2026-10-25T00:00:00Z 2026-10-25T00:30:00Z 2026-10-25T01:00:00Z 2026-10-25T01:30:00Z "
     "2026-10-26T01:00:00Z"},
    {"0 * * * *", ANY, "Europe/Paris", "2026-10-25T00:00:00Z",
     "2026-10-25T01:00:00Z 2026-10-25T02:00:00Z"},
    /* New York, both ways, and by the rule behind the table. */
    {"30 2 * * *", ANY, "America/New_York", "2026-03-07T12:00:00Z",
     "2026-03-08T07:00:00Z 2026-03-09T06:30:00Z"},
    {"30 1 * * *", ANY, "America/New_York", "2026-11-01T00:00:00Z",
     "2026-11-01T05:30:00Z 2026-11-02T06:30:00Z"},
    {"30 1 * * *", ANY, "America/New_York", "2500-11-06T12:00:00Z",
     "2500-11-07T05:30:00Z 2500-11-08T06:30:00Z"},
    {"30 2 * * *", ANY, "America/New_York", "9990-03-11T00:00:00Z",
     "9990-03-11T07:00:00Z 9990-03-12T06:30:00Z"},
    /* Lord Howe changes by half an hour. */
    {"15 2 * * *", ANY, "Australia/Lord_Howe", "2026-10-03T00:00:00Z",
     "2026-10-03T15:30:00Z 2026-10-04T15:15:00Z"},
    {"45 1 * * *", ANY, "Australia/Lord_Howe", "2026-04-04T00:00:00Z",
     "2026-04-04T14:45:00Z 2026-04-05T15:15:00Z"},
    {"*/15 1 * * *", ANY, "Australia/Lord_Howe", "2026-04-04T14:30:00Z",
     "2026-04-04T14:45:00Z 2026-04-04T15:00:00Z 2026-04-04T15:15:00Z 2026-04-05T14:30:00Z"},
    /* Casablanca leaves its offset for Ramadan, back first. */
    {"30 2 * * *", ANY, "Africa/Casablanca", "2026-02-14T00:00:00Z",
     "2026-02-14T01:30:00Z 2026-02-15T01:30:00Z 2026-02-16T02:30:00Z"},
    {"30 2 * * *", ANY, "Africa/Casablanca", "2026-03-21T00:00:00Z",
     "2026-03-21T02:30:00Z 2026-03-22T02:00:00Z 2026-03-23T01:30:00Z"},
    /* St. John's changed at one minute past midnight until 2011. */
    {"0 0 * * *", ANY, "America/St_Johns", "2010-11-06T00:00:00Z",
     "2010-11-06T02:30:00Z 2010-11-07T02:30:00Z 2010-11-08T03:30:00Z"},
    {"30 0 * * *", ANY, "America/St_Johns", "2010-03-13T12:00:00Z",
     "2010-03-14T03:31:00Z 2010-03-15T03:00:00Z"},
    {"30 23 * * *", ANY, "America/St_Johns", "2010-11-06T00:00:00Z",
     "2010-11-06T02:00:00Z 2010-11-07T02:00:00Z 2010-11-08T03:00:00Z"},
    {"*/30 23 * * *", ANY, "America/St_Johns", "2010-11-07T01:30:00Z",
     "2010-11-07T02:00:00Z 2010-11-07T03:00:00Z 2010-11-08T02:30:00Z 2010-11-08T03:00:00Z"},
    /* Samoa had no 30 December 2011, Kwajalein no 21 August 1993. */
    {"0 12 * * *", ANY, "Pacific/Apia", "2011-12-29T00:00:00Z",
     "2011-12-29T22:00:00Z 2011-12-30T10:00:00Z 2011-12-30T22:00:00Z"},
    {"0 */12 30 12 *", ANY, "Pacific/Apia", "2011-01-01T00:00:00Z", "2012-12-29T10:00:00Z"},
    {"0 0 21 8 *", ANY, "Pacific/Kwajalein", "1993-01-01T00:00:00Z",
     "1993-08-21T12:00:00Z 1994-08-20T12:00:00Z"},
    /* Monrovia moved by 44 minutes and 30 seconds. */
    {"0 0 * * *", ANY, "Africa/Monrovia", "1972-01-05T12:00:00Z",
     "1972-01-06T00:44:30Z 1972-01-07T00:44:30Z 1972-01-08T00:00:00Z"},
};

static void add_instants(struct buffer *out, const struct cron *cron, const struct zone *zone,
                         int64_t after_s, size_t size)
{
    while (out->size < size) {
        char text[TIME_TEXT_SIZE] = "-";
        bool found = cron_next(cron, zone, after_s, &after_s);
        if (found)
            time_format_short(after_s * US_PER_SECOND, text);
        buffer_printf(out, "%s%s", out->size > 0 ? " " : "", text);
        if (!found)
            return;
    }
}

static int64_t instant(const char *text)
{
    int64_t at_us;
    if (strncmp(text, "1969", 4) == 0)
        return -1;
    ck_assert_int_eq(time_parse(text, &at_us, NULL), 0);
    return at_us / US_PER_SECOND;
}

START_TEST(next_instants)
{
    struct zone_cache *zones = zone_cache_new();
    struct zone *zone;
    struct error error;
    ck_assert_msg(zone_open(zones, fires[_i].zone, &zone, &error) == 0, "%s", error.text);
    struct cron cron = parsed(fires[_i].text, fires[_i].day_match);
    struct buffer found = {0};
    add_instants(&found, &cron, zone, instant(fires[_i].from), strlen(fires[_i].wanted));
    ck_assert_msg(strcmp(buffer_text(&found), fires[_i].wanted) == 0,
                  "'%s' %s from %s:\n  found  %s\n  wanted %s", fires[_i].text, fires[_i].zone,
                  fires[_i].from, buffer_text(&found), fires[_i].wanted);
    buffer_done(&found);
    zone_unref(zone);
    zone_cache_free(zones);
}
END_TEST

START_TEST(nothing_before_1970_or_after_9999)
{
    struct zone_cache *zones = zone_cache_new();
    struct zone *utc;
    ck_assert_int_eq(zone_open(zones, "UTC", &utc, NULL), 0);
    struct cron cron = parsed("* * * * * *", CRON_DAY_ANY);
    int64_t next_s = 0;
    ck_assert(cron_next(&cron, utc, INT64_MIN, &next_s));
    ck_assert_int_eq(next_s, 0);
    ck_assert(cron_next(&cron, utc, CRON_LAST_S - 1, &next_s));
    ck_assert_int_eq(next_s, CRON_LAST_S);
    ck_assert(!cron_next(&cron, utc, CRON_LAST_S, &next_s));
    ck_assert(!cron_next(&cron, utc, INT64_MAX, &next_s));
    zone_unref(utc);
    zone_cache_free(zones);
}
END_TEST

#define ADD_ROWS(test, rows) tcase_add_loop_test(tests, test, 0, sizeof(rows) / sizeof *(rows))

int main(void)
{
    Suite *suite = suite_create("cron");
    TCase *tests = tcase_create("cron");
    ADD_ROWS(normal_form, forms);
    tcase_add_test(tests, longest_normal_form);
    ADD_ROWS(refusal, refusals);
    tcase_add_test(tests, refusal_of_long_text);
    ADD_ROWS(next_instants, fires);
    tcase_add_test(tests, nothing_before_1970_or_after_9999);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
