/* Fuzzes base/duration.h: what is accepted is in range and comes back from its written form. */
#include "base/duration.h"

#include <stdlib.h>

#include "base/memory.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *text = mem_text_n((const char *)data, size);
    char formatted[DURATION_TEXT_SIZE];
    struct error error;
    int64_t us, again;
    if (duration_parse(text, &us, &error) == 0) {
        duration_format(us, formatted);
        if (us < 0 || duration_parse(formatted, &again, &error) != 0 || again != us)
            abort();
    }
    free(text);
    return 0;
}
