/* Time zone files: whatever is taken answers every instant with a span around it. */
#include <stdlib.h>

#include "scheduler/tzif.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_span(const struct tzif *tzif, int64_t at_s)
{
    struct zone_span span = tzif_span_at(tzif, at_s);
    if (span.from_s > at_s || span.until_s <= at_s || span.from_s < ZONE_FIRST_S ||
        span.until_s > ZONE_LAST_S)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct tzif tzif;
    if (tzif_parse(bytes, size, &tzif, NULL) < 0)
        return 0;
    for (int64_t at_s = -(INT64_C(1) << 58); at_s < 0; at_s /= 2)
        check_span(&tzif, at_s);
    for (int64_t at_s = 1; at_s < ZONE_LAST_S; at_s *= 2)
        check_span(&tzif, at_s);
    for (size_t i = 0; i < tzif.count; i++) {
        int64_t at_s = tzif.changes[i].at_s;
        check_span(&tzif, at_s < ZONE_LAST_S ? at_s : ZONE_LAST_S - 1);
        check_span(&tzif, at_s > ZONE_FIRST_S ? at_s - 1 : ZONE_FIRST_S);
    }
    tzif_done(&tzif);
    return 0;
}
