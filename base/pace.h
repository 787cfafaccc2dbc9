/* How much is asked for at once of something that may take too long: half as much after it did, an
 * eighth more each time that it went well. */
#pragma once

#include <stdbool.h>

struct pace {
    int now;
    int most;
};

static inline void pace_init(struct pace *pace, int most)
{
    *pace = (struct pace){.now = most, .most = most};
}

/* `asked` was too much. */
static inline void pace_slower(struct pace *pace, int asked)
{
    pace->now = asked > 1 ? asked / 2 : 1;
}

static inline void pace_faster(struct pace *pace)
{
    pace->now += pace->now / 8 + 1;
    if (pace->now > pace->most)
        pace->now = pace->most;
}

static inline bool pace_is_slow(const struct pace *pace)
{
    return pace->now < pace->most;
}
