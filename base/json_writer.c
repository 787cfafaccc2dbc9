/* The writing half of base/json.h. */
#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD in UTF-8 */

void json_writer_init(struct json_writer *writer, struct buffer *out)
{
    writer->out = out;
    writer->depth = 0;
    writer->comma[0] = false;
    writer->last_key[0] = NULL;
}

/* Every value and every key begins here. A key clears the mark again, so that its value follows
 * without comma. */
static void separate(struct json_writer *writer)
{
    if (writer->comma[writer->depth])
        buffer_add_char(writer->out, ',');
    writer->comma[writer->depth] = true;
}

static void begin(struct json_writer *writer, char bracket)
{
    separate(writer);
    buffer_add_char(writer->out, bracket);
    assert(writer->depth < JSON_MAX_DEPTH);
    writer->depth++;
    writer->comma[writer->depth] = false;
    writer->last_key[writer->depth] = NULL;
}

static void end(struct json_writer *writer, char bracket)
{
    assert(writer->depth > 0);
    writer->depth--;
    buffer_add_char(writer->out, bracket);
}

void json_begin_object(struct json_writer *writer)
{
    begin(writer, '{');
}

void json_end_object(struct json_writer *writer)
{
    end(writer, '}');
}

void json_begin_array(struct json_writer *writer)
{
    begin(writer, '[');
}

void json_end_array(struct json_writer *writer)
{
    end(writer, ']');
}

static void put_escape(struct buffer *out, unsigned char byte)
{
    static const char shorts[] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                  ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    if (shorts[byte] == '\0') {
        buffer_printf(out, "\\u%04x", byte);
        return;
    }
    buffer_add_char(out, '\\');
    buffer_add_char(out, shorts[byte]);
}

static bool needs_escape(unsigned char byte)
{
    return byte < 0x20 || byte == '"' || byte == '\\';
}

/* Copies whole runs between the bytes that need an escape. */
static void put_escaped(struct buffer *out, const char *text, size_t size)
{
    const char *end_of_text = text + size;
    while (text < end_of_text) {
        const char *run = text;
        while (text < end_of_text && !needs_escape((unsigned char)*text))
            text++;
        buffer_add(out, run, (size_t)(text - run));
        if (text < end_of_text)
            put_escape(out, (unsigned char)*text++);
    }
}

static void put_string(struct json_writer *writer, const char *text, size_t size)
{
    buffer_add_char(writer->out, '"');
    put_escaped(writer->out, text, size);
    buffer_add_char(writer->out, '"');
}

void json_key_unordered(struct json_writer *writer, const char *key, size_t size)
{
    separate(writer);
    put_string(writer, key, size);
    buffer_add_char(writer->out, ':');
    writer->comma[writer->depth] = false;
}

void json_key(struct json_writer *writer, const char *key)
{
    const char *last = writer->last_key[writer->depth];
    assert(last == NULL || strcmp(last, key) < 0);
    (void)last;
    writer->last_key[writer->depth] = key;
    json_key_unordered(writer, key, strlen(key));
}

void json_string(struct json_writer *writer, const char *text)
{
    if (text == NULL)
        json_null(writer);
    else
        json_string_n(writer, text, strlen(text));
}

void json_string_n(struct json_writer *writer, const char *text, size_t size)
{
    separate(writer);
    put_string(writer, text, size);
}

void json_string_lossy(struct json_writer *writer, const char *text, size_t size)
{
    separate(writer);
    buffer_add_char(writer->out, '"');
    for (size_t at = 0; at < size;) {
        size_t run = at, length = 0;
        while (at < size && text[at] != '\0' &&
               (length = text_utf8_sequence(text + at, size - at)) > 0)
            at += length;
        put_escaped(writer->out, text + run, at - run);
        if (at < size) {
            buffer_add_text(writer->out, REPLACEMENT);
            at++;
        }
    }
    buffer_add_char(writer->out, '"');
}

void json_int(struct json_writer *writer, int64_t value)
{
    char digits[sizeof("-9223372036854775808")];
    char *at = digits + sizeof(digits);
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do
        *--at = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (value < 0)
        *--at = '-';
    json_raw(writer, at, (size_t)(digits + sizeof(digits) - at));
}

void json_bool(struct json_writer *writer, bool value)
{
    if (value)
        json_raw(writer, "true", 4);
    else
        json_raw(writer, "false", 5);
}

void json_null(struct json_writer *writer)
{
    json_raw(writer, "null", 4);
}

void json_raw(struct json_writer *writer, const char *text, size_t size)
{
    separate(writer);
    buffer_add(writer->out, text, size);
}

void json_id(struct json_writer *writer, const struct id *id)
{
    char text[ID_TEXT_SIZE];
    id_format(id, text);
    json_string_n(writer, text, ID_TEXT_SIZE - 1);
}

void json_time(struct json_writer *writer, int64_t at_us)
{
    char text[TIME_TEXT_SIZE];
    time_format(at_us, text);
    json_string(writer, text);
}

void json_key_string(struct json_writer *writer, const char *key, const char *text)
{
    json_key(writer, key);
    json_string(writer, text);
}

void json_key_int(struct json_writer *writer, const char *key, int64_t value)
{
    json_key(writer, key);
    json_int(writer, value);
}

void json_key_bool(struct json_writer *writer, const char *key, bool value)
{
    json_key(writer, key);
    json_bool(writer, value);
}

void json_key_raw(struct json_writer *writer, const char *key, const char *text, size_t size)
{
    json_key(writer, key);
    json_raw(writer, text, size);
}

void json_key_id(struct json_writer *writer, const char *key, const struct id *id)
{
    json_key(writer, key);
    json_id(writer, id);
}

void json_key_time(struct json_writer *writer, const char *key, int64_t at_us)
{
    json_key(writer, key);
    json_time(writer, at_us);
}
