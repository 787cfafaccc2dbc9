/* Fuzzes daemon/envfile.h: what is accepted means the same when it is written again, in double
 * quotes. */
#include "daemon/envfile.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static int write_again(void *context, const char *name, const char *value, struct error *error)
{
    (void)error;
    buffer_printf(context, "%s=\"", name);
    for (; *value; value++) {
        if (strchr("\"\\`$", *value))
            buffer_add_char(context, '\\');
        buffer_add_char(context, *value);
    }
    buffer_add_text(context, "\"\n");
    return 0;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct buffer once = {0}, twice = {0};
    struct error error;
    if (envfile_parse("f", (const char *)data, size, write_again, &once, &error) == 0 &&
        (envfile_parse("f", buffer_text(&once), once.size, write_again, &twice, &error) != 0 ||
         strcmp(buffer_text(&once), buffer_text(&twice)) != 0))
        abort();
    buffer_done(&once);
    buffer_done(&twice);
    return 0;
}
