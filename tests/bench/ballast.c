/* Preloaded into a program, it makes it as heavy as BALLAST_MB says: memory that was touched. */
#include <stdlib.h>
#include <string.h>

char *ballast; /* not static: the compiler would drop what nobody reads */

__attribute__((constructor)) static void load(void)
{
    const char *megabytes = getenv("BALLAST_MB");
    size_t size = megabytes == NULL ? 0 : strtoul(megabytes, NULL, 10) << 20;
    ballast = malloc(size + 1);
    if (ballast == NULL)
        abort();
    memset(ballast, 1, size + 1);
}
