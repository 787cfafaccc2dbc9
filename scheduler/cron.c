#include "scheduler/cron.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "scheduler/calendar.h"

#define BLANKS " \t"
#define MAX_NUMBER 1000000 /* numbers above are all the same: out of any range */

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

static const struct range {
    const char *name;
    int low;
    int high;
    const char *const *words; /* for low … high */
} ranges[CRON_FIELDS] = {
    [CRON_SECOND] = {"second", 0, 59, NULL},      [CRON_MINUTE] = {"minute", 0, 59, NULL},
    [CRON_HOUR] = {"hour", 0, 23, NULL},          [CRON_DAY] = {"day of month", 1, 31, NULL},
    [CRON_MONTH] = {"month", 1, 12, month_names}, [CRON_WEEKDAY] = {"weekday", 0, 6, weekday_names},
};

static const struct form {
    const char *name;
    const char *fields;
} forms[] = {
    {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},   {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
};

static uint64_t bit(int n)
{
    return UINT64_C(1) << n;
}

/* Every `step`-th value from low through high. */
static uint64_t step_values(int low, int high, int step)
{
    uint64_t values = 0;
    for (int n = low; n <= high; n += step)
        values |= bit(n);
    return values;
}

/* --- parsing --------------------------------------------------------------------------------- */

/* One field on its way in. */
struct reader {
    const struct range *range;
    const char *text; /* ends at a blank or NUL */
    const char *at;
};

__attribute__((format(printf, 3, 4))) static int
refuse(const struct reader *reader, struct error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_set_v(error, -EINVAL, format, args);
    va_end(args);
    int size = (int)strcspn(reader->text, BLANKS);
    error_wrap(error, "%s '%.*s'", reader->range->name, size, reader->text);
    return -EINVAL;
}

static bool read_char(struct reader *reader, char wanted)
{
    if (*reader->at != wanted)
        return false;
    reader->at++;
    return true;
}

static int read_number(struct reader *reader)
{
    int number = 0;
    for (; isdigit((unsigned char)*reader->at); reader->at++)
        number = number < MAX_NUMBER ? number * 10 + (*reader->at - '0') : MAX_NUMBER;
    return number;
}

static int refuse_value(const struct reader *reader, const char *start, struct error *error)
{
    const struct range *range = reader->range;
    int size = (int)strcspn(start, BLANKS ",-/");
    char words[16] = "";
    if (range->words)
        snprintf(words, sizeof words, ", %s-%s", range->words[0],
                 range->words[range->high - range->low]);
    return refuse(reader, error, "'%.*s' is no %s, write %d-%d%s or *", size, start, range->name,
                  range->low, range->high, words);
}

/* A number or a name. 7 is Sunday like 0, but as the end of a range it stands behind Saturday. */
static int read_value(struct reader *reader, int *value, struct error *error)
{
    const struct range *range = reader->range;
    const char *start = reader->at;
    if (isdigit((unsigned char)*start)) {
        int number = read_number(reader);
        int high = range == &ranges[CRON_WEEKDAY] ? 7 : range->high;
        if (number < range->low || number > high)
            return refuse_value(reader, start, error);
        *value = number;
        return 0;
    }
    while (isalpha((unsigned char)*reader->at))
        reader->at++;
    for (int i = 0; range->words && i <= range->high - range->low; i++) {
        if (reader->at - start == 3 && strncasecmp(start, range->words[i], 3) == 0) {
            *value = range->low + i;
            return 0;
        }
    }
    return refuse_value(reader, start, error);
}

/* `/n` where there is one. */
static int read_step(struct reader *reader, int *step, struct error *error)
{
    *step = 1;
    if (!read_char(reader, '/'))
        return 0;
    if (!isdigit((unsigned char)*reader->at))
        return refuse(reader, error, "a number must follow '/'");
    *step = read_number(reader);
    if (*step == 0)
        return refuse(reader, error, "a step of 0 leads nowhere, write 1 or more");
    return 0;
}

static int refuse_lone_step(const struct reader *reader, int low, struct error *error)
{
    const struct range *range = reader->range;
    int size = (int)strcspn(reader->at, BLANKS ",");
    return refuse(reader, error, "a lone number takes no step, write '%d-%d%.*s'",
                  low > range->high ? range->low : low, range->high, size, reader->at);
}

static int refuse_backwards(const struct reader *reader, int low, int high, struct error *error)
{
    const struct range *range = reader->range;
    char from[16] = "";
    char to[16] = "";
    if (low < range->high)
        snprintf(from, sizeof from, "-%d", range->high);
    if (high > range->low)
        snprintf(to, sizeof to, "-%d", high);
    return refuse(reader, error, "the range runs backwards, write '%d%s,%d%s'", low, from,
                  range->low, to);
}

/* `*`, a value or a range, all but the value with an optional step. */
static int read_item(struct reader *reader, uint64_t *values, struct error *error)
{
    int low = reader->range->low;
    int high = reader->range->high;
    if (!read_char(reader, '*')) {
        if (read_value(reader, &low, error) < 0)
            return -EINVAL;
        high = low;
        if (*reader->at == '/')
            return refuse_lone_step(reader, low, error);
        if (read_char(reader, '-') && read_value(reader, &high, error) < 0)
            return -EINVAL;
    }
    int step;
    if (read_step(reader, &step, error) < 0)
        return -EINVAL;
    if (high < low)
        return refuse_backwards(reader, low, high, error);
    *values |= step_values(low, high, step);
    return 0;
}

static int read_field(const char *text, enum cron_field field, struct cron *cron,
                      struct error *error)
{
    struct reader reader = {&ranges[field], text, text};
    uint64_t values = 0;
    do {
        if (read_item(&reader, &values, error) < 0)
            return -EINVAL;
    } while (read_char(&reader, ','));
    int left = (int)strcspn(reader.at, BLANKS);
    if (left > 0)
        return refuse(&reader, error, "expected a comma or the end at '%.*s'", left, reader.at);
    if (field == CRON_WEEKDAY && values & bit(7))
        values = (values & ~bit(7)) | bit(0);
    cron->values[field] = values;
    if (*text == '*')
        cron->stars |= 1u << field;
    return 0;
}

/* The starts of up to `max` fields; returns how many there are. */
static int split(const char *text, const char **fields, int max)
{
    int count = 0;
    for (text += strspn(text, BLANKS); *text; text += strspn(text, BLANKS)) {
        if (count < max)
            fields[count] = text;
        count++;
        text += strcspn(text, BLANKS);
    }
    return count;
}

static int read_fields(const char *text, struct cron *cron, struct error *error)
{
    const char *fields[CRON_FIELDS];
    int count = split(text, fields, CRON_FIELDS);
    if (count != CRON_FIELDS && count != CRON_FIELDS - 1)
        return error_set(error, -EINVAL,
                         "expected five fields (minute, hour, day of month, month, weekday), or "
                         "six with leading seconds, found %d",
                         count);
    int first = CRON_FIELDS - count;
    cron->values[CRON_SECOND] = bit(0);
    for (int field = first; field < CRON_FIELDS; field++) {
        if (read_field(fields[field - first], field, cron, error) < 0)
            return -EINVAL;
    }
    /* Second 0 is the five-field form, however it was written. */
    if (cron->values[CRON_SECOND] == bit(0))
        cron->stars &= ~(1u << CRON_SECOND);
    return 0;
}

/* The fields behind an `@` form; the text itself where it is none; NULL for an unknown one. */
static const char *expand_form(const char *text)
{
    text += strspn(text, BLANKS);
    if (*text != '@')
        return text;
    size_t size = strcspn(text, BLANKS);
    if (text[size + strspn(text + size, BLANKS)] != '\0')
        return NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strlen(forms[i].name) == size && strncasecmp(text, forms[i].name, size) == 0)
            return forms[i].fields;
    }
    return NULL;
}

/* What would make a message unreadable. */
static int check_text(const char *text, struct error *error)
{
    size_t size = strlen(text);
    if (size > CRON_MAX_SIZE)
        return error_set(error, -EINVAL, "a crontab of %zu bytes, at most %d are allowed", size,
                         CRON_MAX_SIZE);
    for (; *text; text++) {
        if (iscntrl((unsigned char)*text) && *text != '\t')
            return error_set(error, -EINVAL,
                             "only blanks and tabs may part the fields, found byte 0x%02x",
                             (unsigned char)*text);
    }
    return 0;
}

static bool both_days_match(const struct cron *cron)
{
    return cron->day_match == CRON_DAY_ALL || !cron_restricts_both_days(cron);
}

/* Where one day field is enough, the weekday comes round. Where both must match, each date has been
 * on every weekday after 400 years, so that the date alone decides. */
static bool days_exist(const struct cron *cron)
{
    for (int month = 1; month <= 12; month++) {
        uint64_t days = bit(calendar_month_length(2000, month) + 1) - 1;
        if (cron->values[CRON_MONTH] & bit(month) && cron->values[CRON_DAY] & days)
            return true;
    }
    return !both_days_match(cron);
}

int cron_parse(const char *text, enum cron_day_match day_match, struct cron *cron,
               struct error *error)
{
    struct cron found = {.day_match = day_match};
    if (check_text(text, error) < 0)
        return -EINVAL;
    const char *fields = expand_form(text);
    if (!fields)
        return error_set(error, -EINVAL,
                         "'%s' is no schedule, write one of @hourly, @daily, @midnight, @weekly, "
                         "@monthly, @yearly, @annually alone",
                         text);
    if (read_fields(fields, &found, error) < 0)
        return -EINVAL;
    if (!days_exist(&found))
        return error_set(error, -EINVAL, "never fires: none of its months has such a day of month");
    *cron = found;
    return 0;
}

bool cron_restricts_both_days(const struct cron *cron)
{
    return !(cron->stars & (1u << CRON_DAY | 1u << CRON_WEEKDAY));
}

/* --- the normal form ------------------------------------------------------------------------- */

static void add_runs(struct buffer *out, uint64_t values)
{
    while (values) {
        int first = __builtin_ctzll(values);
        int end = first + __builtin_ctzll(~(values >> first));
        buffer_printf(out, out->size > 0 && out->data[out->size - 1] != ' ' ? ",%d" : "%d", first);
        if (end - first > 1)
            buffer_printf(out, "-%d", end - 1);
        values &= ~(bit(end) - 1);
    }
}

/* A star with its step, then what else is in the field: the smallest step whose values are all
 * there. */
static void add_star(struct buffer *out, const struct range *range, uint64_t values)
{
    int step = 1;
    while (step_values(range->low, range->high, step) & ~values)
        step++;
    buffer_add_char(out, '*');
    if (step > 1)
        buffer_printf(out, "/%d", step);
    add_runs(out, values & ~step_values(range->low, range->high, step));
}

char *cron_format(const struct cron *cron)
{
    struct buffer out = {0};
    int first = cron->values[CRON_SECOND] == bit(0) ? CRON_MINUTE : CRON_SECOND;
    for (int field = first; field < CRON_FIELDS; field++) {
        if (field > first)
            buffer_add_char(&out, ' ');
        if (cron->stars & 1u << field)
            add_star(&out, &ranges[field], cron->values[field]);
        else
            add_runs(&out, cron->values[field]);
    }
    return buffer_take(&out);
}

/* --- the next instant ------------------------------------------------------------------------ */

/* The smallest value from `from` on, or -1. */
static int value_from(const struct cron *cron, enum cron_field field, int from)
{
    uint64_t values = cron->values[field] & ~(bit(from) - 1);
    return values ? __builtin_ctzll(values) : -1;
}

/* The first time of day, in seconds, from `from` on; -1 when the day has no more. */
static int time_from(const struct cron *cron, int from)
{
    int hour = from / 3600;
    int minute = from / 60 % 60;
    int second = value_from(cron, CRON_SECOND, from % 60);
    int first_second = value_from(cron, CRON_SECOND, 0);
    int first_minute = value_from(cron, CRON_MINUTE, 0);
    int found = value_from(cron, CRON_MINUTE, second < 0 ? minute + 1 : minute);
    if (found != minute)
        second = first_second;
    minute = found;
    found = value_from(cron, CRON_HOUR, minute < 0 ? hour + 1 : hour);
    if (found < 0)
        return -1;
    return found == hour ? hour * 3600 + minute * 60 + second
                         : found * 3600 + first_minute * 60 + first_second;
}

/* Bit d for each day d of the month that matches; `first` is the day number of its first. */
static uint64_t days_of_month(const struct cron *cron, struct calendar_date date, int64_t first)
{
    if (!(cron->values[CRON_MONTH] & bit(date.month)))
        return 0;
    /* The weekdays of a week that begins where this month does, then five such weeks from bit 1 on.
     */
    uint64_t twice = cron->values[CRON_WEEKDAY] | cron->values[CRON_WEEKDAY] << 7;
    uint64_t week = twice >> calendar_weekday(first) & 0x7f;
    uint64_t weekdays = (week | week << 7 | week << 14 | week << 21 | week << 28) << 1;
    uint64_t days = cron->values[CRON_DAY];
    uint64_t matching = both_days_match(cron) ? days & weekdays : days | weekdays;
    return matching & (bit(calendar_month_length(date.year, date.month) + 1) - 1);
}

/* The first day that matches from `from` on; some day behind `last` when none up to it does. */
static int64_t day_from(const struct cron *cron, int64_t from, int64_t last)
{
    struct calendar_date date = calendar_date(from);
    uint64_t wanted = ~(bit(date.day) - 1);
    date.day = 1;
    for (int64_t first = calendar_day(date); first <= last;) {
        uint64_t days = days_of_month(cron, date, first) & wanted;
        if (days)
            return first + __builtin_ctzll(days) - 1;
        first += calendar_month_length(date.year, date.month);
        date.year += date.month == 12;
        date.month = date.month % 12 + 1;
        wanted = ~UINT64_C(0);
    }
    return last + 1;
}

/* The first local time that matches from `from_s` on; some time not before `until_s` when none
 * before it does. */
static int64_t local_from(const struct cron *cron, int64_t from_s, int64_t until_s)
{
    int64_t today = calendar_day_of(from_s);
    int time_s = time_from(cron, (int)(from_s - today * SECONDS_PER_DAY));
    int64_t last = calendar_day_of(until_s - 1);
    int64_t day = day_from(cron, time_s < 0 ? today + 1 : today, last);
    if (day > today)
        time_s = time_from(cron, 0);
    return day * SECONDS_PER_DAY + time_s;
}

/* Every instant whose local time matches. */
static int64_t next_by_clock(const struct cron *cron, const struct zone *zone, int64_t after_s)
{
    for (int64_t from_s = after_s + 1; from_s <= CRON_LAST_S;) {
        struct zone_span span = zone_span_at(zone, from_s);
        int64_t until_s = span.until_s <= CRON_LAST_S ? span.until_s : CRON_LAST_S + 1;
        int64_t local_s = local_from(cron, from_s + span.offset_s, until_s + span.offset_s);
        if (local_s - span.offset_s < until_s)
            return local_s - span.offset_s;
        from_s = until_s;
    }
    return CRON_LAST_S + 1;
}

/* The instants at which the clock reaches a local time that matches for the first time. */
static int64_t next_fixed(const struct cron *cron, const struct zone *zone, int64_t after_s)
{
    int64_t reached_s = zone_latest_local(zone, after_s);
    int64_t until_s = CRON_LAST_S + 2 * SECONDS_PER_DAY; /* local times run ahead of UTC */
    return zone_reached_at(zone, local_from(cron, reached_s + 1, until_s));
}

bool cron_next(const struct cron *cron, const struct zone *zone, int64_t after_s, int64_t *next_s)
{
    if (after_s < -1)
        after_s = -1;
    if (after_s >= CRON_LAST_S)
        return false;
    bool by_clock = cron->stars & (1u << CRON_MINUTE | 1u << CRON_HOUR);
    int64_t found_s =
        by_clock ? next_by_clock(cron, zone, after_s) : next_fixed(cron, zone, after_s);
    if (found_s > CRON_LAST_S)
        return false;
    *next_s = found_s;
    return true;
}
