/* The reading half of base/json.h: all of it expects text that json_check has accepted. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && is_blank(*at))
        at++;
    return at;
}

/* From the opening quote to behind the closing one. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        at += *at == '\\';
    return at < end ? at + 1 : end;
}

static const char *skip_value(const char *at, const char *end)
{
    int depth = 0;
    while (at < end) {
        char c = *at;
        if (c == '"') {
            at = skip_string(at, end);
        } else if (c == '{' || c == '[') {
            depth++;
            at++;
            continue;
        } else if (c == '}' || c == ']') {
            depth--;
            at++;
        } else if (depth > 0) {
            at++;
            continue;
        } else {
            while (at < end && !is_blank(*at) && *at != ',' && *at != '}' && *at != ']')
                at++;
        }
        if (depth == 0)
            break;
    }
    return at;
}

static struct json_span span_between(const char *from, const char *to)
{
    return (struct json_span){from, (size_t)(to - from)};
}

enum json_kind json_kind(struct json_span value)
{
    switch (*skip_blanks(value.text, value.text + value.size)) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

/* Walks over the items of an object or array. */
struct walk {
    const char *at; /* behind the opening bracket, or behind the last item */
    const char *end;
};

static bool walk_begin(struct walk *walk, struct json_span value, char bracket)
{
    if (value.text == NULL)
        return false;
    walk->end = value.text + value.size;
    walk->at = skip_blanks(value.text, walk->end);
    return walk->at < walk->end && *walk->at++ == bracket;
}

static bool walk_value(struct walk *walk, struct json_span *value)
{
    walk->at = skip_blanks(walk->at, walk->end);
    if (walk->at < walk->end && *walk->at == ',')
        walk->at = skip_blanks(walk->at + 1, walk->end);
    if (walk->at == walk->end || *walk->at == ']' || *walk->at == '}')
        return false;
    const char *from = walk->at;
    walk->at = skip_value(from, walk->end);
    *value = span_between(from, walk->at);
    return true;
}

static bool walk_member(struct walk *walk, struct json_span *key, struct json_span *value)
{
    if (!walk_value(walk, key))
        return false;
    walk->at = skip_blanks(walk->at, walk->end);
    walk->at += walk->at < walk->end; /* the colon */
    return walk_value(walk, value);
}

static bool string_equals(struct json_span string, const char *text, size_t size)
{
    if (memchr(string.text, '\\', string.size) == NULL)
        return string.size == size + 2 && memcmp(string.text + 1, text, size) == 0;
    size_t unescaped_size;
    char *unescaped = json_unescape(string, &unescaped_size);
    bool equal = unescaped_size == size && memcmp(unescaped, text, size) == 0;
    free(unescaped);
    return equal;
}

struct json_span json_member(struct json_span object, const char *key, size_t key_size)
{
    struct walk walk;
    struct json_span found, value;
    if (walk_begin(&walk, object, '{'))
        while (walk_member(&walk, &found, &value))
            if (string_equals(found, key, key_size))
                return value;
    return (struct json_span){NULL, 0};
}

static struct json_span element(struct json_span array, const char *index, size_t index_size)
{
    struct walk walk;
    struct json_span value;
    size_t left = 0;
    if (index_size == 0 || index_size > 9 || (index_size > 1 && *index == '0'))
        return (struct json_span){NULL, 0};
    for (size_t i = 0; i < index_size; i++) {
        if (index[i] < '0' || index[i] > '9')
            return (struct json_span){NULL, 0};
        left = left * 10 + (size_t)(index[i] - '0');
    }
    if (walk_begin(&walk, array, '['))
        while (walk_value(&walk, &value))
            if (left-- == 0)
                return value;
    return (struct json_span){NULL, 0};
}

struct json_span json_path(struct json_span value, const char *path, size_t path_size)
{
    const char *end = path + path_size;
    if (path_size == 0)
        return value;
    for (const char *dot; value.text != NULL; path = dot + 1) {
        dot = memchr(path, '.', (size_t)(end - path));
        size_t size = (size_t)((dot == NULL ? end : dot) - path);
        if (json_kind(value) == JSON_ARRAY)
            value = element(value, path, size);
        else
            value = json_member(value, path, size);
        if (dot == NULL)
            break;
    }
    return value;
}

void json_each_member(struct json_span object,
                      bool (*each)(void *context, struct json_span key, struct json_span value),
                      void *context)
{
    struct walk walk;
    struct json_span key, value;
    if (walk_begin(&walk, object, '{'))
        while (walk_member(&walk, &key, &value) && each(context, key, value))
            continue;
}

static unsigned read_hex4(const char *digits)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = digits[i] <= '9' ? digits[i] - '0' : (digits[i] | 0x20) - 'a' + 10;
        value = value << 4 | (unsigned)digit;
    }
    return value;
}

static char *put_utf8(char *out, unsigned point)
{
    if (point < 0x80) {
        *out++ = (char)point;
        return out;
    }
    if (point < 0x800) {
        *out++ = (char)(0xc0 | point >> 6);
    } else {
        if (point < 0x10000) {
            *out++ = (char)(0xe0 | point >> 12);
        } else {
            *out++ = (char)(0xf0 | point >> 18);
            *out++ = (char)(0x80 | (point >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (point >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (point & 0x3f));
    return out;
}

/* Reads `\uXXXX`, or the two of a surrogate pair, from behind the `u`; returns what follows. */
static const char *read_unicode_escape(const char *at, unsigned *point)
{
    *point = read_hex4(at);
    if (*point < 0xd800 || *point > 0xdbff)
        return at + 4;
    *point = 0x10000 + ((*point - 0xd800) << 10) + (read_hex4(at + 6) - 0xdc00);
    return at + 10;
}

char *json_unescape(struct json_span string, size_t *size)
{
    const char *end = string.text + string.size;
    const char *at = skip_blanks(string.text, end) + 1;
    while (*--end != '"')
        continue; /* a whole document may have blanks behind its value */
    char *text = mem_new(string.size, 1), *out = text;
    while (at < end) {
        const char *run = at;
        at = memchr(run, '\\', (size_t)(end - run));
        if (at == NULL)
            at = end;
        out = mempcpy(out, run, (size_t)(at - run));
        if (at == end)
            break;
        static const char meaning[] = {
            ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};
        char escape = at[1];
        at += 2;
        if (escape == 'u') {
            unsigned point;
            at = read_unicode_escape(at, &point);
            out = put_utf8(out, point);
        } else {
            char plain = meaning[(unsigned char)escape];
            *out++ = plain != '\0' ? plain : escape;
        }
    }
    if (size != NULL)
        *size = (size_t)(out - text);
    return text;
}
