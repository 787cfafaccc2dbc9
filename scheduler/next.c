#include "scheduler/next.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "scheduler/trigger.h"
#include "scheduler/zone.h"

#define DEFAULT_COUNT 5

struct request {
    const char *expression;
    const char *timezone;
    const char *from;
    const char *count;
    const char *day_match;
};

/* The value of the option `name` at arguments[*i], which may be the argument behind it; NULL where
 * it is another. */
static const char *option_value(const char *name, int count, char *const *arguments, int *i)
{
    size_t size = strlen(name);
    const char *argument = arguments[*i];
    if (strncmp(argument, name, size) != 0)
        return NULL;
    if (argument[size] == '=')
        return argument + size + 1;
    return argument[size] == '\0' && *i + 1 < count ? arguments[++*i] : NULL;
}

static int read_arguments(int count, char *const *arguments, struct request *request,
                          struct error *error)
{
    const struct {
        const char *name;
        const char **value;
    } options[] = {
        {"--timezone", &request->timezone},
        {"--from", &request->from},
        {"--count", &request->count},
        {"--day-match", &request->day_match},
    };
    if (count == 0)
        return error_set(error, -EINVAL, "--next needs an expression, such as '0 3 * * *'");
    request->expression = arguments[0];
    for (int i = 1; i < count; i++) {
        const char *value = NULL;
        for (size_t o = 0; !value && o < sizeof options / sizeof *options; o++) {
            if ((value = option_value(options[o].name, count, arguments, &i)))
                *options[o].value = value;
        }
        if (!value)
            return error_set(error, -EINVAL,
                             "'%s': behind --next EXPR stand --timezone Z, --from RFC3339, "
                             "--count N or --day-match any|all",
                             arguments[i]);
    }
    return 0;
}

static int parse_count(const char *text, long *count, struct error *error)
{
    char *end;
    errno = 0;
    *count = strtol(text, &end, 10);
    if (errno || end == text || *end || *count < 1)
        return error_set(error, -EINVAL, "--count is a number from 1, not '%s'", text);
    return 0;
}

/* A crontab has several fields or is an `@` form; everything else is an interval. */
static int parse_expression(const struct request *request, struct trigger *trigger,
                            struct error *error)
{
    const char *text = request->expression;
    if (!strpbrk(text, " \t@"))
        return trigger_parse_interval(text, trigger, error);
    struct zone_cache *zones = zone_cache_new();
    int rc =
        trigger_parse_crontab(text, zones, request->timezone, request->day_match, trigger, error);
    zone_cache_free(zones);
    return rc;
}

static int print_instants(const struct trigger *trigger, int64_t from_us, long count, FILE *out,
                          struct error *error)
{
    int64_t at_us = from_us;
    for (long printed = 0; printed < count; printed++) {
        char text[TIME_TEXT_SIZE];
        if (!trigger_next(trigger, from_us, at_us, &at_us))
            return printed > 0 ? 0 : error_set(error, -ERANGE, "never fires");
        time_format_short(at_us, text);
        fprintf(out, "%s\n", text);
    }
    return 0;
}

static int answer(const struct request *request, FILE *out, struct error *error)
{
    long count = DEFAULT_COUNT;
    int64_t from_us = clock_wall_us();
    struct trigger trigger;
    if (request->count && parse_count(request->count, &count, error) < 0)
        return -EINVAL;
    if (request->from && time_parse(request->from, &from_us, error) < 0)
        return error_wrap(error, "--from");
    int rc = parse_expression(request, &trigger, error);
    if (rc == 0) {
        rc = print_instants(&trigger, from_us, count, out, error);
        trigger_done(&trigger);
    }
    return rc < 0 ? error_wrap(error, "'%s'", request->expression) : 0;
}

/* One line whatever was quoted in it. */
static void print_line(FILE *err, const char *text)
{
    fputs("directord: ", err);
    for (; *text; text++)
        fputc(iscntrl((unsigned char)*text) ? '?' : *text, err);
    fputc('\n', err);
}

int next_print(int count, char *const *arguments, FILE *out, FILE *err)
{
    struct request request = {0};
    struct error error;
    if (read_arguments(count, arguments, &request, &error) < 0 ||
        answer(&request, out, &error) < 0) {
        print_line(err, error.text);
        return 1;
    }
    return 0;
}
