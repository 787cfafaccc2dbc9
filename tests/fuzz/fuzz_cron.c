/* Crontab expressions: what is read prints and reads back to the same, and its instants only go
 * forward. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "scheduler/cron.h"
#include "scheduler/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_normal_form(const struct cron *cron)
{
    struct cron again;
    char *text = cron_format(cron);
    if (cron_parse(text, cron->day_match, &again, NULL) < 0 ||
        memcmp(&again, cron, sizeof again) != 0)
        abort();
    free(text);
}

static void check_instants(const struct cron *cron, const char *zone_name)
{
    struct zone_cache *zones = zone_cache_new();
    struct zone *zone;
    if (zone_open(zones, zone_name, &zone, NULL) < 0)
        abort();
    int64_t at_s = 1774700000; /* just before a change in Paris */
    for (int i = 0; i < 10; i++) {
        int64_t next_s;
        if (!cron_next(cron, zone, at_s, &next_s))
            break;
        if (next_s <= at_s)
            abort();
        at_s = next_s;
    }
    zone_unref(zone);
    zone_cache_free(zones);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = mem_text_n((const char *)bytes, size);
    for (int match = CRON_DAY_ANY; match <= CRON_DAY_ALL; match++) {
        struct cron cron;
        if (cron_parse(text, match, &cron, NULL) < 0)
            continue;
        check_normal_form(&cron);
        check_instants(&cron, "UTC");
        check_instants(&cron, "Europe/Paris");
    }
    free(text);
    return 0;
}
