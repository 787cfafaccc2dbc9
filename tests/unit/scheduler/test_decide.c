/* What becomes of due instants: a table of short stories on a virtual clock, and a property test
 * over all policies, gaps and triggers. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "scheduler/decide.h"
#include "tests/unit/unit.h"

#define SECOND US_PER_SECOND
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

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

/* Texts without blanks are intervals. */
static struct trigger parsed(const char *text, const char *zone)
{
    struct trigger trigger;
    struct error error;
    int rc = strpbrk(text, " @") ? trigger_parse_crontab(text, zones, zone, NULL, &trigger, &error)
                                 : trigger_parse_interval(text, &trigger, &error);
    ck_assert_msg(rc == 0, "'%s': %s", text, error.text);
    return trigger;
}

/* --- a schedule on a virtual clock ----------------------------------------------------------- */

/* Every decision is checked when it is made: its rows cover exactly the instants that
 * trigger_next gives, in their order, each once. */
struct life {
    struct definition_schedule schedule;
    struct decide_point at;
    int passes;      /* of the last look */
    int runs;        /* of the last look */
    int rows;        /* of the last look */
    int64_t covered; /* instants, ever */
    char story[400]; /* of the last look: `ran 10:00:00, late …` */
};

/* No ck_assert: it is too slow for what is called millions of times. */
static void cover(struct life *life, int64_t *next_us, int64_t expected_us)
{
    if (!trigger_next(&life->schedule.trigger, life->at.anchor_us, *next_us, next_us))
        ck_abort_msg("a row beyond the last instant");
    if (expected_us != 0 && *next_us != expected_us)
        ck_abort_msg("a row for %lld, expected %lld", (long long)expected_us, (long long)*next_us);
    life->covered++;
}

static void tell(struct life *life, const struct store_fire *fire)
{
    size_t used = strlen(life->story);
    char from[TIME_TEXT_SIZE];
    char until[TIME_TEXT_SIZE];
    time_format_short(fire->scheduled_us, from);
    time_format_short(fire->until_us, until);
    from[strlen(from) - 1] = until[strlen(until) - 1] = '\0'; /* the Z */
    snprintf(life->story + used, sizeof life->story - used, "%s%s %s", used > 0 ? ", " : "",
             fire->outcome, strchr(from, 'T') + 1);
    used = strlen(life->story);
    if (fire->count > 0)
        snprintf(life->story + used, sizeof life->story - used, "-%s (%d)", strchr(until, 'T') + 1,
                 (int)fire->count);
}

static void check_row(struct life *life, const struct store_fire *fire, int64_t *next_us)
{
    cover(life, next_us, fire->scheduled_us);
    if (strcmp(fire->outcome, "collapsed") == 0) {
        ck_assert_int_ge(fire->count, 2);
        for (int64_t i = 1; i < fire->count; i++)
            cover(life, next_us, i == fire->count - 1 ? fire->until_us : 0);
    } else {
        ck_assert_int_eq(fire->count, 0);
    }
    if (strcmp(fire->outcome, "ran") == 0) {
        int64_t late_us = life->at.now_us - fire->scheduled_us - life->at.delay_us;
        int64_t window_us = life->schedule.catchup_window_us;
        ck_assert_int_ge(late_us, 0);
        ck_assert_msg(window_us == 0 || late_us <= window_us, "ran beyond its window");
        life->runs++;
    }
}

static bool pass(struct life *life)
{
    struct decision decision;
    if (!decide_fires(&life->schedule, &life->at, &decision))
        return false;
    int64_t next_us = life->at.cursor_us;
    ck_assert_int_ge(decision.count, 1);
    ck_assert_int_le(decision.count, DECIDE_MAX_INSTANTS);
    for (int i = 0; i < decision.count; i++) {
        check_row(life, &decision.fires[i], &next_us);
        tell(life, &decision.fires[i]);
    }
    ck_assert_int_eq(decision.cursor_us, next_us);
    life->at.cursor_us = decision.cursor_us;
    life->rows += decision.count;
    life->passes++;
    free(decision.fires);
    return true;
}

/* Decides all that is due at `now_us`. */
static void look(struct life *life, int64_t now_us)
{
    int64_t next_us;
    life->at.now_us = now_us;
    if (now_us < life->at.since_us) /* as the timetable does */
        life->at.since_us = now_us;
    life->passes = life->runs = life->rows = 0;
    life->story[0] = '\0';
    while (pass(life))
        ;
    if (trigger_next(&life->schedule.trigger, life->at.anchor_us, life->at.cursor_us, &next_us))
        ck_assert_int_gt(next_us + life->at.delay_us, now_us);
}

/* --- stories --------------------------------------------------------------------------------- */

#define MIDNIGHT "2026-03-28T00:00:00Z"

/* A schedule was decided through 10:00:00, and is looked at again `gap_us` later. Its daemon has
 * run all the time, or began at that moment. */
static const struct {
    const char *trigger;
    enum catchup catchup;
    int64_t window_us;
    int64_t delay_us;
    bool restarted;
    int64_t gap_us;
    const char *story;
} stories[] = {
    /* in time, or a little late */
    {"1m", CATCHUP_NONE, 0, 0, false, MINUTE, "ran 10:01:00"},
    {"1m", CATCHUP_NONE, 0, 0, false, MINUTE - 1, ""},
    {"1m", CATCHUP_NONE, 0, 0, false, MINUTE + 10 * SECOND, "ran 10:01:00"},
    {"1s", CATCHUP_LATEST, 0, 0, false, 3 * SECOND, "ran 10:00:01, ran 10:00:02, ran 10:00:03"},
    {"1s", CATCHUP_NONE, SECOND, 0, false, 3 * SECOND, "late 10:00:01, ran 10:00:02, ran 10:00:03"},
    /* nothing ran */
    {"1s", CATCHUP_LATEST, 0, 0, true, 3 * SECOND + 1,
     "collapsed 10:00:01-10:00:02 (2), ran 10:00:03"},
    {"1s", CATCHUP_ALL, 0, 0, true, 3 * SECOND + 1, "ran 10:00:01, ran 10:00:02, ran 10:00:03"},
    {"1s", CATCHUP_NONE, 0, 0, true, 3 * SECOND + 1,
     "collapsed 10:00:01-10:00:02 (2), late 10:00:03"},
    {"1s", CATCHUP_NONE, 0, 0, true, SECOND + 1, "late 10:00:01"},
    {"1s", CATCHUP_NONE, 0, 0, true, 2 * SECOND + 1, "late 10:00:01, late 10:00:02"},
    {"1s", CATCHUP_ALL, SECOND, 0, true, 3 * SECOND + 1,
     "collapsed 10:00:01-10:00:02 (2), "
     "ran 10:00:03"},
    {"1s", CATCHUP_LATEST, 1, 0, true, 3 * SECOND + 2,
     "collapsed 10:00:01-10:00:02 (2), late 10:00:03"},
    /* long ones */
    {"1h", CATCHUP_LATEST, 0, 0, true, 5 * HOUR + 1,
     "collapsed 11:00:00-14:00:00 (4), "
     "ran 15:00:00"},
    {"1h", CATCHUP_LATEST, 30 * MINUTE, 0, true, 5 * HOUR + 31 * MINUTE,
     "collapsed 11:00:00-14:00:00 (4), late 15:00:00"},
    {"1h", CATCHUP_ALL, 2 * HOUR, 0, true, 5 * HOUR + 30 * MINUTE,
     "collapsed 11:00:00-13:00:00 (3), ran 14:00:00, ran 15:00:00"},
    {"1h", CATCHUP_ALL, 0, 0, true, 2 * HOUR, "ran 11:00:00, ran 12:00:00"},
    /* the machine slept, or the clock was set: the daemon itself has not been away */
    {"1h", CATCHUP_LATEST, 0, 0, false, 5 * HOUR + MINUTE,
     "collapsed 11:00:00-14:00:00 (4), "
     "ran 15:00:00"},
    {"1h", CATCHUP_NONE, 0, 0, false, 5 * HOUR + MINUTE,
     "collapsed 11:00:00-14:00:00 (4), "
     "late 15:00:00"},
    {"1h", CATCHUP_LATEST, 0, 0, false, 5 * HOUR + SECOND,
     "collapsed 11:00:00-14:00:00 (4), "
     "ran 15:00:00"},
    {"5s", CATCHUP_LATEST, 0, 0, false, HOUR,
     "collapsed 10:00:05-10:59:45 (717), ran 10:59:50, ran 10:59:55, ran 11:00:00"},
    /* jitter moves the moment, not the time; lateness counts from the moment */
    {"1h", CATCHUP_NONE, 0, 5 * MINUTE, false, HOUR + 5 * MINUTE - 1, ""},
    {"1h", CATCHUP_NONE, SECOND, 5 * MINUTE, false, HOUR + 5 * MINUTE, "ran 11:00:00"},
    {"1h", CATCHUP_LATEST, MINUTE, 5 * MINUTE, true, 2 * HOUR + 6 * MINUTE,
     "late 11:00:00, ran 12:00:00"},
    {"0 * * * *", CATCHUP_LATEST, 0, 0, true, 3 * HOUR + 1,
     "collapsed 11:00:00-12:00:00 (2), ran 13:00:00"},
};

START_TEST(story)
{
    int64_t begin_us = instant(MIDNIGHT) + 10 * HOUR;
    struct life life = {
        .schedule = {.trigger = parsed(stories[_i].trigger, NULL),
                     .catchup = stories[_i].catchup,
                     .catchup_window_us = stories[_i].window_us},
        .at = {.anchor_us = instant(MIDNIGHT),
               .delay_us = stories[_i].delay_us,
               .cursor_us = begin_us,
               .since_us = stories[_i].restarted ? begin_us + stories[_i].gap_us : begin_us},
    };
    look(&life, begin_us + stories[_i].gap_us);
    ck_assert_msg(strcmp(life.story, stories[_i].story) == 0, "story %d: %s\nexpected %s", _i,
                  life.story, stories[_i].story);
    trigger_done(&life.schedule.trigger);
}
END_TEST

/* --- long pasts ------------------------------------------------------------------------------ */

static const struct {
    const char *trigger;
    enum catchup catchup;
    int64_t gap_us;
    int64_t instants;
    int runs;
} pasts[] = {
    {"1s", CATCHUP_LATEST, 365 * DAY, 365 * 86400, 1},
    {"1s", CATCHUP_ALL, 365 * DAY, 365 * 86400, 500},
    {"1s", CATCHUP_NONE, 365 * DAY, 365 * 86400, 0},
    {"* * * * * *", CATCHUP_ALL, 7 * DAY, 7 * 86400, 500},
    {"1ms", CATCHUP_LATEST, HOUR, 3600000, 1},
    {"* * * * *", CATCHUP_ALL, 500 * MINUTE, 500, 500},
    {"* * * * *", CATCHUP_ALL, 501 * MINUTE, 501, 500},
    {"1s", CATCHUP_ALL, DECIDE_MAX_INSTANTS *SECOND, DECIDE_MAX_INSTANTS, 500},
    {"1s", CATCHUP_ALL, (DECIDE_MAX_INSTANTS + 1) * SECOND, DECIDE_MAX_INSTANTS + 1, 500},
};

START_TEST(long_past)
{
    int64_t begin_us = instant(MIDNIGHT);
    struct life life = {
        .schedule = {.trigger = parsed(pasts[_i].trigger, NULL), .catchup = pasts[_i].catchup},
        .at = {.anchor_us = begin_us,
               .cursor_us = begin_us,
               .since_us = begin_us + pasts[_i].gap_us + 1},
    };
    look(&life, begin_us + pasts[_i].gap_us + 1);
    ck_assert_int_eq(life.covered, pasts[_i].instants);
    ck_assert_int_eq(life.runs, pasts[_i].runs);
    int64_t step = DECIDE_MAX_INSTANTS - DECIDE_MAX_CATCHUP;
    ck_assert_int_le(life.passes, pasts[_i].instants / step + 1);
    ck_assert_int_le(life.rows, life.passes + life.runs + 1);
    trigger_done(&life.schedule.trigger);
}
END_TEST

/* --- the clock ------------------------------------------------------------------------------- */

/* Each second for a while, then the clock is set forward a day, back an hour, and runs on: no
 * instant twice, none left out, and never a flood. */
START_TEST(clock_set)
{
    int64_t now_us = instant("2026-03-28T12:00:00Z");
    struct life life = {
        .schedule = {.trigger = parsed("1s", NULL), .catchup = (enum catchup)_i},
        .at = {.anchor_us = now_us, .cursor_us = now_us, .since_us = now_us},
    };
    for (int i = 0; i < 100; i++) {
        look(&life, now_us += SECOND);
        ck_assert_int_eq(life.runs, 1);
    }
    look(&life, now_us += DAY);
    int caught_up = life.schedule.catchup == CATCHUP_ALL ? 500 : 0;
    ck_assert_int_eq(life.runs, caught_up + DECIDE_LIVE_US / SECOND + 1);
    for (int64_t set_us = now_us - HOUR; set_us <= now_us; set_us += SECOND) {
        look(&life, set_us);
        ck_assert_int_eq(life.passes, 0);
    }
    look(&life, now_us += SECOND);
    ck_assert_int_eq(life.runs, 1);
    ck_assert_int_eq(life.covered, 100 + 86400 + 1);
    trigger_done(&life.schedule.trigger);
}
END_TEST

/* A schedule that is new while the clock stands behind the daemon's beginning is live all the
 * same. */
START_TEST(clock_set_back_for_good)
{
    int64_t now_us = instant("2026-03-28T12:00:00Z");
    struct life life = {
        .schedule = {.trigger = parsed("1s", NULL), .catchup = CATCHUP_NONE},
        .at = {.anchor_us = now_us, .cursor_us = now_us, .since_us = now_us + HOUR},
    };
    look(&life, now_us);
    look(&life, now_us + SECOND);
    ck_assert_str_eq(life.story, "ran 12:00:01");
    trigger_done(&life.schedule.trigger);
}
END_TEST

START_TEST(beyond_the_end)
{
    struct decision decision = {.count = 7};
    struct life life = {
        .schedule = {.trigger = parsed("0 0 1 1 *", NULL)},
        .at = {.cursor_us = instant("9999-06-01T00:00:00Z"), .now_us = INT64_MAX / 2},
    };
    ck_assert(!decide_fires(&life.schedule, &life.at, &decision));
    ck_assert_int_eq(decision.count, 7);
    trigger_done(&life.schedule.trigger);
}
END_TEST

/* --- the property ---------------------------------------------------------------------------- */

static uint64_t seed;

static int64_t random_below(int64_t limit)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((seed >> 33) % (uint64_t)limit);
}

static const struct {
    const char *text;
    const char *zone;
    int64_t period_us; /* about */
} triggers[] = {
    {"100ms", NULL, SECOND / 10},
    {"1s", NULL, SECOND},
    {"90s", NULL, 90 * SECOND},
    {"1h", NULL, HOUR},
    {"*/7 * * * * *", NULL, 7 * SECOND},
    {"* * * * *", NULL, MINUTE},
    {"*/20 1-3 * * *", "Europe/Paris", 2 * HOUR},
    {"30 2 * * *", "Europe/Paris", DAY},
    {"45 1 * * *", "Australia/Lord_Howe", DAY},
    {"0 0 1 * mon", "America/New_York", 7 * DAY},
};
static const int64_t windows[] = {0, SECOND / 2, 5 * SECOND, MINUTE, HOUR, 30 * DAY};
static const int64_t delays[] = {0, SECOND / 4, 3 * SECOND, 10 * MINUTE};
static const int64_t gaps[] = {SECOND / 20, SECOND, 9 * SECOND, MINUTE, HOUR, DAY, 40 * DAY};
#define ANY(array) (array)[random_below(sizeof(array) / sizeof *(array))]

/* The runs that the contract asks for at once at `now_us`, counted one by one. */
static int count_wanted(const struct life *life, int64_t now_us)
{
    enum { LAST = 2048 };
    static int64_t late[LAST]; /* of the last due instants */
    static bool missed[LAST];
    int64_t count = 0;
    int64_t window_us = life->schedule.catchup_window_us;
    for (int64_t at_us = life->at.cursor_us;
         trigger_next(&life->schedule.trigger, life->at.anchor_us, at_us, &at_us) &&
         at_us + life->at.delay_us <= now_us;
         count++) {
        late[count % LAST] = now_us - at_us - life->at.delay_us;
        missed[count % LAST] =
            now_us - late[count % LAST] < life->at.since_us || late[count % LAST] > DECIDE_LIVE_US;
    }
    int limit = life->schedule.catchup == CATCHUP_ALL ? DECIDE_MAX_CATCHUP : 0;
    int runs = 0;
    int caught_up = 0;
    for (int64_t i = count - 1; i >= 0 && i >= count - LAST; i--) {
        bool late_for_window = window_us > 0 && late[i % LAST] > window_us;
        if (late_for_window)
            break;
        if (!missed[i % LAST])
            runs++;
        else if (caught_up < limit || (life->schedule.catchup == CATCHUP_LATEST && i == count - 1))
            caught_up++;
    }
    return runs + caught_up;
}

static void choose(struct life *life, int64_t *period_us)
{
    int64_t i = random_below(sizeof triggers / sizeof *triggers);
    int64_t now_us = instant("2026-03-01T00:00:00Z") + random_below(300 * DAY);
    *period_us = triggers[i].period_us;
    *life = (struct life){
        .schedule = {.trigger = parsed(triggers[i].text, triggers[i].zone),
                     .catchup = (enum catchup)random_below(3),
                     .catchup_window_us = ANY(windows)},
        .at = {.anchor_us = now_us - random_below(DAY),
               .delay_us = ANY(delays),
               .cursor_us = now_us,
               .since_us = now_us,
               .now_us = now_us},
    };
}

START_TEST(every_instant_once)
{
    seed = (uint64_t)_i;
    for (int n = 0; n < 100; n++) {
        struct life life;
        int64_t period_us;
        choose(&life, &period_us);
        int64_t begin_us = life.at.cursor_us;
        int64_t now_us = begin_us;
        for (int k = 0; k < 12; k++) {
            int64_t gap_us = random_below(ANY(gaps) + 1);
            if (gap_us / period_us > 3 * DECIDE_MAX_INSTANTS) /* enough */
                gap_us = 3 * DECIDE_MAX_INSTANTS * period_us;
            now_us += random_below(8) == 0 ? -gap_us : gap_us;
            if (random_below(3) == 0)
                life.at.since_us = now_us; /* restarted */
            int wanted = now_us < life.at.since_us ? 0 : count_wanted(&life, now_us);
            look(&life, now_us);
            ck_assert_msg(life.runs == wanted, "seed %d, case %d, look %d: %d ran, wanted %d", _i,
                          n, k, life.runs, wanted);
        }
        int64_t count = 0;
        for (int64_t at_us = begin_us;
             trigger_next(&life.schedule.trigger, life.at.anchor_us, at_us, &at_us) &&
             at_us <= life.at.cursor_us;)
            count++;
        ck_assert_int_eq(life.covered, count);
        trigger_done(&life.schedule.trigger);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decide");
    TCase *tests = tcase_create("decide");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, story, 0, sizeof stories / sizeof *stories);
    tcase_add_loop_test(tests, long_past, 0, sizeof pasts / sizeof *pasts);
    tcase_add_loop_test(tests, clock_set, 0, 3);
    tcase_add_test(tests, clock_set_back_for_good);
    tcase_add_test(tests, beyond_the_end);
    tcase_add_loop_test(tests, every_instant_once, 0, 10);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
