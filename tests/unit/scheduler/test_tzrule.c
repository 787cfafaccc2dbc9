/* The POSIX TZ strings in the footers of time zone files. */
#include <errno.h>

#include "base/clock.h"
#include "scheduler/tzrule.h"
#include "tests/unit/unit.h"

#define PARIS "CET-1CEST,M3.5.0,M10.5.0/3"

/* The span at an instant: its offset, and its ends, NULL where there are none. */
static const struct {
    const char *rule;
    const char *at;
    int32_t offset_s;
    const char *from;
    const char *until;
} rows[] = {
    {"UTC0", "2026-01-01T00:00:00Z", 0, NULL, NULL},
    {"<+0545>-5:45", "2026-01-01T00:00:00Z", 20700, NULL, NULL},
    {"LMT4:56:02", "2026-01-01T00:00:00Z", -17762, NULL, NULL},
    {PARIS, "2026-03-29T00:59:59Z", 3600, "2025-10-26T01:00:00Z", "2026-03-29T01:00:00Z"},
    {PARIS, "2026-03-29T01:00:00Z", 7200, "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"},
    {PARIS, "2026-10-25T01:00:00Z", 3600, "2026-10-25T01:00:00Z", "2027-03-28T01:00:00Z"},
    {PARIS, "9999-12-31T23:59:59Z", 3600, "9999-10-31T01:00:00Z", NULL},
    {"EST5EDT,M3.2.0,M11.1.0", "2026-07-01T00:00:00Z", -14400, "2026-03-08T07:00:00Z",
     "2026-11-01T06:00:00Z"},
    /* Half an hour, and summer at the turn of the year. */
    {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2026-01-01T00:00:00Z", 39600, "2025-10-04T15:30:00Z",
     "2026-04-04T15:00:00Z"},
    /* Dublin's winter time is the exception, an hour less. */
    {"IST-1GMT0,M10.5.0,M3.5.0/1", "2026-12-01T00:00:00Z", 0, "2026-10-25T01:00:00Z",
     "2027-03-28T01:00:00Z"},
    /* Times before the day and days after it. */
    {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2026-06-01T00:00:00Z", -3600, "2026-03-29T01:00:00Z",
     "2026-10-25T01:00:00Z"},
    {"IST-2IDT,M3.4.4/26,M10.5.0", "2026-06-01T00:00:00Z", 10800, "2026-03-27T00:00:00Z",
     "2026-10-24T23:00:00Z"},
    {"AAA0BBB,M1.1.0/-167,M6.1.0", "2027-01-01T00:00:00Z", 3600, "2026-12-27T01:00:00Z",
     "2027-06-06T01:00:00Z"},
    /* Days of the year: J60 is always 1 March, 59 is 29 February in leap years. */
    {"AAA0BBB,J60,J300", "2024-05-01T00:00:00Z", 3600, "2024-03-01T02:00:00Z",
     "2024-10-27T01:00:00Z"},
    {"AAA0BBB,J59,J300", "2024-05-01T00:00:00Z", 3600, "2024-02-28T02:00:00Z",
     "2024-10-27T01:00:00Z"},
    {"AAA0BBB,59,299", "2024-05-01T00:00:00Z", 3600, "2024-02-29T02:00:00Z",
     "2024-10-26T01:00:00Z"},
    {"AAA0BBB,59,299", "2025-05-01T00:00:00Z", 3600, "2025-03-01T02:00:00Z",
     "2025-10-27T01:00:00Z"},
    /* Summer time all year round (RFC 9636 §3.3.2): each span ends where the next begins. */
    {"XXX3EDT4,0/0,J365/23", "2026-01-01T02:59:59Z", -14400, "2025-01-01T03:00:00Z",
     "2026-01-01T03:00:00Z"},
    {"XXX3EDT4,0/0,J365/23", "2026-01-01T03:00:00Z", -14400, "2026-01-01T03:00:00Z",
     "2027-01-01T03:00:00Z"},
};

static int64_t instant(const char *text)
{
    int64_t at_us;
    ck_assert_int_eq(time_parse(text, &at_us, NULL), 0);
    return at_us / US_PER_SECOND;
}

START_TEST(span_at_instant)
{
    struct tzrule rule;
    struct error error;
    ck_assert_msg(tzrule_parse(rows[_i].rule, &rule, &error) == 0, "%s", error.text);
    int64_t at_s = instant(rows[_i].at);
    struct zone_span span = tzrule_span_at(&rule, at_s);
    ck_assert_msg(span.offset_s == rows[_i].offset_s, "%s at %s: %d", rows[_i].rule, rows[_i].at,
                  span.offset_s);
    ck_assert_msg(!rows[_i].from || span.from_s == instant(rows[_i].from), "%s at %s: from %lld",
                  rows[_i].rule, rows[_i].at, (long long)span.from_s);
    ck_assert_msg(!rows[_i].until || span.until_s == instant(rows[_i].until),
                  "%s at %s: until %lld", rows[_i].rule, rows[_i].at, (long long)span.until_s);
    ck_assert(span.from_s <= at_s && at_s < span.until_s);
}
END_TEST

static const char *const refusals[] = {
    "",
    "C",
    "CET",
    "<CET-1",
    "CET-25",
    "CET-1:60",
    "CET-1 ",
    "CET-1CEST",
    "CET-1CEST,M3.5.0",
    "CET-1CEST,M3.5.0,",
    "CET-1CEST,M13.5.0,M10.5.0",
    "CET-1CEST,M3.6.0,M10.5.0",
    "CET-1CEST,M3.0.0,M10.5.0",
    "CET-1CEST,M3.5.7,M10.5.0",
    "CET-1CEST,M3.5,M10.5.0",
    "CET-1CEST,J0,M10.5.0",
    "CET-1CEST,366,M10.5.0",
    "CET-1CEST,M3.5.0/168,M10.5.0",
    "CET-1CEST,M3.5.0,M10.5.0/3x",
    "CET-99999999999999999999",
};

START_TEST(refusal)
{
    struct tzrule rule;
    ck_assert_msg(tzrule_parse(refusals[_i], &rule, NULL) == -EINVAL, "'%s' was taken",
                  refusals[_i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tzrule");
    TCase *tests = tcase_create("tzrule");
    tcase_add_loop_test(tests, span_at_instant, 0, sizeof rows / sizeof *rows);
    tcase_add_loop_test(tests, refusal, 0, sizeof refusals / sizeof *refusals);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
