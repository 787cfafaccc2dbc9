#include "base/crash_point.h"

#ifdef DIRECTORD_CRASH_POINTS
#include <stdlib.h>
#include <string.h>

void crash_point(const char *name)
{
    static long passes;
    const char *chosen = getenv("DIRECTORD_CRASH_POINT");
    size_t size = strlen(name);
    if (chosen == NULL || strncmp(chosen, name, size) != 0)
        return;
    if (chosen[size] == '\0' || (chosen[size] == ':' && ++passes == atol(chosen + size + 1)))
        abort();
}
#endif
