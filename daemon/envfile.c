#include "daemon/envfile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/text.h"

enum { MAX_FILE_BYTES = 1024 * 1024 };

struct reader {
    const char *at;
    const char *end;
    int line;
    struct buffer name;
    struct buffer value;
};

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

static bool at_line_end(const struct reader *reader)
{
    return reader->at == reader->end || *reader->at == '\n' || *reader->at == '\r';
}

static char take(struct reader *reader)
{
    char byte = *reader->at++;
    if (byte == '\n')
        reader->line++;
    return byte;
}

static void skip_blanks(struct reader *reader)
{
    while (reader->at < reader->end && is_blank(*reader->at))
        reader->at++;
}

static void skip_line(struct reader *reader)
{
    while (!at_line_end(reader))
        reader->at++;
}

/* The line break that a backslash before it takes away; "\r\n" counts as one. */
static bool take_line_break(struct reader *reader)
{
    size_t left = (size_t)(reader->end - reader->at);
    if (left >= 2 && memcmp(reader->at, "\r\n", 2) == 0)
        reader->at++;
    else if (left == 0 || *reader->at != '\n')
        return false;
    take(reader);
    return true;
}

static int read_single_quoted(struct reader *reader, struct error *error)
{
    while (reader->at < reader->end) {
        char byte = take(reader);
        if (byte == '\'')
            return 0;
        buffer_add_char(&reader->value, byte);
    }
    return error_set(error, -EINVAL, "a single quote is opened and never closed");
}

static int read_double_quoted(struct reader *reader, struct error *error)
{
    while (reader->at < reader->end) {
        char byte = take(reader);
        if (byte == '"')
            return 0;
        if (byte == '\\' && take_line_break(reader))
            continue;
        if (byte == '\\' && reader->at < reader->end && strchr("\"\\`$", *reader->at))
            byte = take(reader);
        buffer_add_char(&reader->value, byte);
    }
    return error_set(error, -EINVAL, "a double quote is opened and never closed");
}

/* Up to the end of the line; blanks at its end do not count unless a backslash protects them. */
static int read_unquoted(struct reader *reader, struct error *error)
{
    size_t kept = reader->value.size;
    while (!at_line_end(reader)) {
        char byte = take(reader);
        if (byte == '#' && is_blank(reader->at[-2]))
            return error_set(
                error, -EINVAL,
                "a comment needs a line of its own; quote the value if # belongs to it");
        bool is_protected = byte == '\\' && reader->at < reader->end;
        if (is_protected && take_line_break(reader))
            continue;
        if (is_protected)
            byte = take(reader);
        buffer_add_char(&reader->value, byte);
        if (is_protected || !is_blank(byte))
            kept = reader->value.size;
    }
    reader->value.size = kept;
    return 0;
}

/* Quoted pieces, blanks between them, and an unquoted rest: a quote inside the rest stands for
 * itself. */
static int read_value(struct reader *reader, struct error *error)
{
    for (;;) {
        skip_blanks(reader);
        if (at_line_end(reader))
            return 0;
        if (*reader->at != '\'' && *reader->at != '"')
            return read_unquoted(reader, error);
        int code = take(reader) == '"' ? read_double_quoted(reader, error)
                                       : read_single_quoted(reader, error);
        if (code < 0)
            return code;
    }
}

static void skip_export(struct reader *reader)
{
    static const char word[] = "export";
    size_t n = sizeof word - 1;
    if ((size_t)(reader->end - reader->at) > n && memcmp(reader->at, word, n) == 0 &&
        is_blank(reader->at[n])) {
        reader->at += n;
        skip_blanks(reader);
    }
}

static int read_name(struct reader *reader, struct error *error)
{
    skip_export(reader);
    while (reader->at < reader->end && (isalnum((unsigned char)*reader->at) || *reader->at == '_'))
        buffer_add_char(&reader->name, *reader->at++);
    skip_blanks(reader);
    if (reader->name.size == 0 || isdigit((unsigned char)reader->name.data[0]) ||
        at_line_end(reader) || *reader->at != '=')
        return error_set(error, -EINVAL, "expected NAME=value or a comment");
    reader->at++;
    return 0;
}

static int read_entry(struct reader *reader, envfile_entry_cb each, void *context,
                      struct error *error)
{
    buffer_clear(&reader->name);
    buffer_clear(&reader->value);
    int code = read_name(reader, error);
    if (code == 0)
        code = read_value(reader, error);
    if (code == 0)
        code = each(context, buffer_text(&reader->name), buffer_text(&reader->value), error);
    return code;
}

int envfile_parse(const char *file, const char *text, size_t size, envfile_entry_cb each,
                  void *context, struct error *error)
{
    if (!text_is_utf8(text, size) || memchr(text, '\0', size))
        return error_set(error, -EINVAL, "%s: not a text file in UTF-8", file);

    struct reader reader = {.at = text, .end = text + size, .line = 1};
    int code = 0;
    while (code == 0 && reader.at < reader.end) {
        int line = reader.line;
        skip_blanks(&reader);
        if (at_line_end(&reader))
            reader.at < reader.end ? (void)take(&reader) : (void)0;
        else if (*reader.at == '#' || *reader.at == ';')
            skip_line(&reader);
        else if ((code = read_entry(&reader, each, context, error)) < 0)
            error_wrap(error, "%s:%d", file, line);
    }
    buffer_done(&reader.name);
    buffer_done(&reader.value);
    return code;
}

static int read_all(int fd, struct buffer *content)
{
    for (;;) {
        ssize_t n = read(fd, buffer_reserve(content, 4096), 4096);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        content->size += n > 0 ? (size_t)n : 0;
        if (content->size > MAX_FILE_BYTES)
            return -EFBIG;
    }
}

int envfile_read(const char *file, envfile_entry_cb each, void *context, struct error *error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, -errno, "%s: %s", file, strerror(errno));

    struct buffer content = {0};
    int code = read_all(fd, &content);
    close(fd);
    if (code < 0)
        error_set(error, code, "%s: %s", file, strerror(-code));
    else
        code = envfile_parse(file, buffer_text(&content), content.size, each, context, error);
    buffer_done(&content);
    return code;
}
