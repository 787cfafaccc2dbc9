#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

#define LINE_SIZE (16 * 1024)
#define CUT_MARK "\xe2\x80\xa6"    /* U+2026 */
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
/* Kept free for what ends a line that was cut: the value's mark and quote, and the line's. */
#define CUT_FIELD ",\"cut\":true"
#define LINE_RESERVE (sizeof(CUT_MARK "\"" CUT_FIELD "}\n") - 1)
#define MAX_BARE 200
/* Room that a field must find behind its key: a number, an id, a bare value, or the beginning of a
 * quoted one. */
#define FIELD_ROOM (MAX_BARE + 8)
/* A reader of our standard error that is this slow loses lines instead of stopping the daemon. */
#define PATIENCE_MS 100

static const struct {
    const char *name;
    int priority; /* of syslog, which journald reads */
} levels[] = {
    [LOG_LEVEL_DEBUG] = {"debug", 7},
    [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_WARNING] = {"warning", 4},
    [LOG_LEVEL_ERROR] = {"error", 3},
};
enum { LEVEL_COUNT = sizeof(levels) / sizeof(levels[0]) };

static enum log_level lowest_level = LOG_LEVEL_INFO;
static enum log_format line_format = LOG_FORMAT_LOGFMT;

/* Threads of the pool may log too. */
static atomic_uint lines_lost;
static atomic_bool line_torn; /* the last line went out without its end */

void log_start(enum log_level level, enum log_format format)
{
    lowest_level = level;
    line_format = format;
    signal(SIGPIPE, SIG_IGN);
}

bool log_wants(enum log_level level)
{
    return level >= lowest_level;
}

enum log_level log_level_parse(const char *text, bool *known)
{
    for (int i = 0; i < LEVEL_COUNT; i++)
        if (strcasecmp(text, levels[i].name) == 0) {
            *known = true;
            return (enum log_level)i;
        }
    *known = false;
    return LOG_LEVEL_INFO;
}

struct log_field log_text(const char *key, const char *text)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_TEXT, .text = text};
}

struct log_field log_int(const char *key, int64_t number)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_INT, .number = number};
}

struct log_field log_id(const char *key, const struct id *id)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_ID, .id = *id};
}

struct log_field log_error_text(const struct error *error)
{
    return log_text("error", error->text);
}

/* --- the line -------------------------------------------------------------------------------- */

struct line {
    size_t size;
    bool cut; /* something did not fit; nothing but the end is added any more */
    char text[LINE_SIZE];
};

/* All of the bytes or none. */
static void put(struct line *line, const char *bytes, size_t n)
{
    if (line->cut || line->size + n > LINE_SIZE - LINE_RESERVE) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->size, bytes, n);
    line->size += n;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

static void put_end(struct line *line, const char *text)
{
    size_t n = strlen(text);
    memcpy(line->text + line->size, text, n);
    line->size += n;
}

static void put_unicode_escape(struct line *line, unsigned point)
{
    char escape[sizeof("\\u0000")];
    snprintf(escape, sizeof(escape), "\\u%04x", point & 0xffff);
    put_text(line, escape);
}

/* The code point where it is one that a terminal or a reader of lines obeys: C0, DEL, C1, and the
 * separators U+2028 and U+2029; else 0. */
static unsigned control_point(const unsigned char *c, size_t length)
{
    if (length == 1 && (c[0] < 0x20 || c[0] == 0x7f))
        return c[0];
    if (length == 2 && c[0] == 0xc2 && c[1] < 0xa0)
        return c[1];
    if (length == 3 && c[0] == 0xe2 && c[1] == 0x80 && (c[2] == 0xa8 || c[2] == 0xa9))
        return 0x2000u + (c[2] & 0x3f);
    return 0;
}

/* Escapes as JSON does, so that both formats read back alike and no value can pass for a field or a
 * line. */
static void put_quoted(struct line *line, const char *text)
{
    put(line, "\"", 1);
    for (size_t left = strlen(text); left > 0 && !line->cut;) {
        size_t length = text_utf8_sequence(text, left);
        unsigned control = control_point((const unsigned char *)text, length);
        if (length == 0)
            put_text(line, REPLACEMENT);
        else if (*text == '"' || *text == '\\')
            put(line, (char[]){'\\', *text}, 2);
        else if (*text == '\n')
            put(line, "\\n", 2);
        else if (*text == '\t')
            put(line, "\\t", 2);
        else if (control != 0)
            put_unicode_escape(line, control);
        else
            put(line, text, length);
        length += length == 0;
        text += length;
        left -= length;
    }
    if (line->cut)
        put_end(line, CUT_MARK);
    put_end(line, "\"");
}

/* Can a logfmt reader take it without quotes? Long values get them, so that they can end in the
 * mark of a cut. */
static bool is_bare(const char *text)
{
    if (*text == '\0' || strnlen(text, MAX_BARE + 1) > MAX_BARE)
        return false;
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text >= 0x7f || *text == '"' || *text == '=' || *text == '\\')
            return false;
    return true;
}

static void put_value(struct line *line, const char *text)
{
    if (line_format != LOG_FORMAT_JSON && is_bare(text))
        put_text(line, text);
    else
        put_quoted(line, text);
}

static void put_field(struct line *line, const struct log_field *field)
{
    char value[ID_TEXT_SIZE];
    if (field->type == LOG_FIELD_TEXT && field->text == NULL)
        return;
    if (line->size + strlen(field->key) + FIELD_ROOM > LINE_SIZE - LINE_RESERVE)
        line->cut = true;
    if (line->cut)
        return;
    put_text(line, line_format == LOG_FORMAT_JSON ? ",\"" : " ");
    put_text(line, field->key);
    put_text(line, line_format == LOG_FORMAT_JSON ? "\":" : "=");
    switch (field->type) {
    case LOG_FIELD_INT:
        snprintf(value, sizeof(value), "%" PRId64, field->number);
        put_text(line, value);
        break;
    case LOG_FIELD_ID:
        id_format(&field->id, value);
        put_value(line, value);
        break;
    default:
        put_value(line, field->text);
        break;
    }
}

/* Time, to the millisecond, level and event. */
static void put_head(struct line *line, enum log_level level, const char *event)
{
    char time[TIME_TEXT_SIZE], head[100];
    time_format(clock_wall_us(), time);
    int date_to_ms = (int)strlen("2026-11-23T21:10:21.663");
    switch (line_format) {
    case LOG_FORMAT_JSON:
        snprintf(head, sizeof(head), "{\"time\":\"%.*sZ\",\"level\":\"%s\",\"event\":", date_to_ms,
                 time, levels[level].name);
        break;
    case LOG_FORMAT_JOURNALD:
        snprintf(head, sizeof(head), "<%d>%s ", levels[level].priority, levels[level].name);
        break;
    default:
        snprintf(head, sizeof(head), "%.*sZ %s ", date_to_ms, time, levels[level].name);
        break;
    }
    put_text(line, head);
    put_quoted(line, event);
}

/* --- writing --------------------------------------------------------------------------------- */

/* Standard error takes PIPE_BUF bytes now without blocking (pipe(7)), or fails at once. */
static bool is_writable(int timeout_ms)
{
    struct pollfd standard_error = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&standard_error, 1, timeout_ms) > 0;
}

/* One write for what fits into PIPE_BUF, as nearly all lines do. The descriptor may be shared with
 * other programs, so it is not made nonblocking. */
static void write_lines(const char *text, size_t size, unsigned lines)
{
    int64_t give_up_us = clock_mono_us() + PATIENCE_MS * 1000;
    size_t done = 0;
    while (done < size) {
        int64_t left_us = give_up_us - clock_mono_us();
        if (left_us < 0 || !is_writable((int)(left_us / 1000)))
            break;
        size_t part = size - done < PIPE_BUF ? size - done : PIPE_BUF;
        ssize_t n = write(STDERR_FILENO, text + done, part);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    if (done > 0)
        line_torn = done < size;
    if (done < size)
        lines_lost += lines;
}

static _Thread_local struct {
    bool on;
    unsigned lines;
    size_t size;
    char text[PIPE_BUF];
} held;

static void write_held(void)
{
    if (held.size > 0)
        write_lines(held.text, held.size, held.lines);
    held.size = 0;
    held.lines = 0;
}

/* Lines may share a write, but none is torn between two. */
static void write_line(enum log_level level, const char *text, size_t size)
{
    if (held.size + size > sizeof held.text)
        write_held();
    if (!held.on || size > sizeof held.text) {
        write_lines(text, size, 1);
        return;
    }
    memcpy(held.text + held.size, text, size);
    held.size += size;
    held.lines++;
    if (level >= LOG_LEVEL_WARNING)
        write_held();
}

void log_hold(void)
{
    held.on = true;
}

void log_release(void)
{
    int saved_errno = errno;
    write_held();
    held.on = false;
    errno = saved_errno;
}

static void write_event(enum log_level level, const char *event, const struct log_field *fields)
{
    struct line line;
    line.size = 0;
    line.cut = false;
    if (line_torn)
        put(&line, "\n", 1);
    put_head(&line, level, event);
    for (; fields->type != LOG_FIELD_END; fields++)
        put_field(&line, fields);
    if (line.cut)
        put_end(&line, line_format == LOG_FORMAT_JSON ? CUT_FIELD : " cut=true");
    put_end(&line, line_format == LOG_FORMAT_JSON ? "}\n" : "\n");
    write_line(level, line.text, line.size);
}

/* After a loss nobody waits again until the reader is back, and then the first line says how much
 * is missing. */
void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    int saved_errno = errno;
    if (lines_lost > 0 && !is_writable(0)) {
        lines_lost++;
    } else {
        unsigned lost = atomic_exchange(&lines_lost, 0);
        if (lost > 0)
            write_event(LOG_LEVEL_WARNING, "log lines lost",
                        (const struct log_field[]){log_int("count", lost), {0}});
        write_event(level, event, fields);
    }
    errno = saved_errno;
}
