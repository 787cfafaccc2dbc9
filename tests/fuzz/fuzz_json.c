/* Fuzzes base/json.h: whatever json_check accepts must be safe to search, and strings must survive
 * a round trip. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void check_round_trip(struct json_span string)
{
    size_t size, again_size;
    char *text = json_unescape(string, &size);
    struct buffer out = {0};
    struct json_writer writer;
    json_writer_init(&writer, &out);
    json_string_n(&writer, text, size);
    struct json_span written = {out.data, out.size};
    char *again = json_unescape(written, &again_size);
    if (json_check(written.text, written.size, NULL) != 0 || again_size != size ||
        memcmp(again, text, size) != 0)
        abort();
    free(again);
    free(text);
    buffer_done(&out);
}

/* A key found by the walk must be found by its name, with the same value. */
static bool check_member(void *context, struct json_span key, struct json_span value)
{
    const struct json_span *object = context;
    size_t size;
    char *name = json_unescape(key, &size);
    struct json_span found = json_member(*object, name, size);
    if (found.text != value.text || found.size != value.size ||
        json_check(value.text, value.size, NULL) != 0)
        abort();
    free(name);
    check_round_trip(key);
    return true;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct json_span value = {(const char *)data, size};
    struct error error;
    if (json_check(value.text, value.size, &error) != 0)
        return 0;
    if (json_kind(value) == JSON_STRING)
        check_round_trip(value);
    json_each_member(value, check_member, &value);
    json_path(value, "a.0.b", 5);
    return 0;
}
