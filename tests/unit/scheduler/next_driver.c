/* Answers questions of tests/integration/test_next_oracle.py, so that one process serves thousands
 * of them.
 *
 * A line on standard input is a question, `ZONE \t DAY_MATCH \t FROM \t COUNT \t CRONTAB` with FROM
 * in seconds since 1970; a line on standard output is its answer: up to COUNT instants after FROM,
 * parted by blanks, or `error: …`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "scheduler/trigger.h"

static int parse(char *const *words, struct zone_cache *zones, struct trigger *trigger,
                 struct error *error)
{
    return trigger_parse_crontab(words[4], zones, words[0], words[1], trigger, error);
}

/* Whether the normal form reads back to the same expression. */
static bool normal_form_agrees(const struct cron *cron)
{
    struct cron again;
    char *text = cron_format(cron);
    int rc = cron_parse(text, cron->day_match, &again, NULL);
    free(text);
    return rc == 0 && memcmp(&again, cron, sizeof again) == 0;
}

static void answer(char *const *words, struct zone_cache *zones)
{
    struct trigger trigger;
    struct error error;
    if (parse(words, zones, &trigger, &error) < 0) {
        printf("error: %s\n", error.text);
        return;
    }
    int64_t at_us = strtoll(words[2], NULL, 10) * US_PER_SECOND;
    if (!normal_form_agrees(&trigger.cron))
        printf("error: the normal form reads back otherwise");
    for (long left = strtol(words[3], NULL, 10); left > 0; left--) {
        if (!trigger_next(&trigger, 0, at_us, &at_us))
            break;
        printf("%lld ", (long long)(at_us / US_PER_SECOND));
    }
    putchar('\n');
    trigger_done(&trigger);
}

int main(void)
{
    struct zone_cache *zones = zone_cache_new();
    char line[1024];
    while (fgets(line, sizeof line, stdin)) {
        char *rest = line;
        char *words[5];
        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; i < 5; i++)
            words[i] = i < 4 ? strsep(&rest, "\t") : rest;
        if (!words[4])
            return EXIT_FAILURE;
        answer(words, zones);
    }
    zone_cache_free(zones);
    return EXIT_SUCCESS;
}
