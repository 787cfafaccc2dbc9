#include "api/log_text.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* How long the sequence is that begins with this byte; 1 where none does. */
static size_t sequence_size(char first)
{
    unsigned char byte = (unsigned char)first;
    return byte < 0xc2 || byte > 0xf4 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/* Is all of this the beginning of a sequence that goes on behind it? */
static bool is_beginning(const char *bytes, size_t size)
{
    if (size >= sequence_size(bytes[0]))
        return false;
    for (size_t i = 1; i < size; i++)
        if (((unsigned char)bytes[i] & 0xc0) != 0x80)
            return false;
    return true;
}

/* Adds the bytes, and keeps back a sequence that is not complete at their end. */
static void add_bytes(struct log_text *text, const char *bytes, size_t size)
{
    size_t run = 0, at = 0;
    while (at < size && !is_beginning(bytes + at, size - at)) {
        size_t length = text_utf8_sequence(bytes + at, size - at);
        if (length == 0) {
            buffer_add(text->out, bytes + run, at - run);
            buffer_add_text(text->out, REPLACEMENT);
            run = ++at;
        } else {
            at += length;
        }
    }
    buffer_add(text->out, bytes + run, at - run);
    text->partial_size = size - at;
    memcpy(text->partial, bytes + at, size - at);
}

/* Completes a sequence with the first of the bytes; returns how many that took. */
static size_t complete(struct log_text *text, const char *bytes, size_t size)
{
    char sequence[sizeof text->partial];
    size_t had = text->partial_size;
    size_t missing = had == 0 ? 0 : sequence_size(text->partial[0]) - had;
    size_t taken = missing < size ? missing : size;
    memcpy(sequence, text->partial, had);
    memcpy(sequence + had, bytes, taken);
    size_t valid = text_utf8_sequence(sequence, had + taken);
    if (valid == 0 && !is_beginning(sequence, had + taken)) {
        log_text_end(text);
        return 0;
    }
    add_bytes(text, sequence, had + taken);
    return taken;
}

void log_text_end(struct log_text *text)
{
    for (; text->partial_size > 0; text->partial_size--)
        buffer_add_text(text->out, REPLACEMENT);
}

void log_text_add(struct log_text *text, const struct log_row *row)
{
    const char *bytes = row->text;
    size_t size = row->size;
    if (row->start > text->next) {
        log_text_end(text);
        buffer_printf(text->out, "\n[… %" PRId64 " bytes left out …]\n", row->start - text->next);
    } else if (text->next - row->start < (int64_t)size) {
        bytes += text->next - row->start;
        size -= (size_t)(text->next - row->start);
    } else {
        return;
    }
    text->next = row->start + (int64_t)row->size;
    if (text->stream != 0 && row->stream != text->stream)
        return;
    if (text->partial_stream != row->stream)
        log_text_end(text);
    text->partial_stream = row->stream;
    size_t taken = text->partial_size > 0 ? complete(text, bytes, size) : 0;
    if (taken < size)
        add_bytes(text, bytes + taken, size - taken);
}

bool log_tail_add(struct log_tail *tail, const struct log_row *row)
{
    if (tail->lines == 0) {
        tail->start = row->start + (int64_t)row->size;
        return true;
    }
    if (tail->stream != 0 && row->stream != tail->stream)
        return false;
    for (size_t i = row->size; i > 0; i--) {
        bool is_last = !tail->is_begun;
        tail->is_begun = true;
        if (row->text[i - 1] != '\n' || is_last)
            continue;
        if (--tail->lines == 0) {
            tail->start = row->start + (int64_t)i;
            return true;
        }
    }
    return false;
}
