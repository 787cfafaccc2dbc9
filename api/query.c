#include "api/query.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/text.h"

/* --- decoding --- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that `%XX` stands for, or -1. */
static int unescape(const char *text, const char *end)
{
    if (end - text < 3)
        return -1;
    int high = hex_value(text[1]), low = hex_value(text[2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

char *query_decode(struct arena *arena, const char *text, size_t size, bool plus_is_blank,
                   struct error *error)
{
    char *decoded = arena_text_n(arena, text, size), *out = decoded;
    for (const char *at = text, *end = text + size; at < end; at++) {
        int byte = (unsigned char)*at;
        if (byte == '%') {
            byte = unescape(at, end);
            at += 2;
        } else if (byte == '+' && plus_is_blank) {
            byte = ' ';
        }
        if (byte < 0) {
            error_set(error, -EINVAL, "'%%' is not followed by two hexadecimal digits");
            return NULL;
        }
        if (byte == 0) {
            error_set(error, -EINVAL, "the byte NUL cannot be part of a text");
            return NULL;
        }
        *out++ = (char)byte;
    }
    *out = '\0';
    if (!text_is_utf8(decoded, out - decoded)) {
        error_set(error, -EINVAL, "the text is not UTF-8");
        return NULL;
    }
    return decoded;
}

static int parse_param(struct arena *arena, const char *text, size_t size,
                       struct query_param *param, struct error *error)
{
    const char *equals = memchr(text, '=', size);
    size_t name_size = equals != NULL ? (size_t)(equals - text) : size;
    const char *value = equals != NULL ? equals + 1 : text + size;
    param->name = query_decode(arena, text, name_size, true, error);
    if (param->name == NULL)
        return error_wrap(error, "in the name of a query parameter");
    param->value = query_decode(arena, value, text + size - value, true, error);
    if (param->value == NULL)
        return error_wrap(error, "'%s'", param->name);
    return 0;
}

static int count_pieces(const char *text)
{
    int count = 0;
    for (text += strspn(text, "&"); *text != '\0'; text += strspn(text, "&")) {
        text += strcspn(text, "&");
        count++;
    }
    return count;
}

int query_parse(struct arena *arena, const char *text, struct query *query, struct error *error)
{
    int count = count_pieces(text);
    struct query_param *params = arena_new(arena, count, sizeof(*params));
    for (int i = 0; i < count; i++) {
        text += strspn(text, "&");
        size_t size = strcspn(text, "&");
        int status = parse_param(arena, text, size, &params[i], error);
        if (status < 0)
            return status;
        text += size;
    }
    *query = (struct query){.params = params, .count = count};
    return 0;
}

/* --- typed values --- */

int query_text(const struct query *query, const char *name, const char **value, struct error *error)
{
    const char *found = NULL;
    for (int i = 0; i < query->count; i++) {
        if (strcmp(query->params[i].name, name) != 0)
            continue;
        if (found != NULL)
            return error_set(error, -EINVAL, "'%s' is given more than once", name);
        found = query->params[i].value;
    }
    if (found != NULL)
        *value = found;
    return 0;
}

int query_int(const struct query *query, const char *name, int64_t min, int64_t max, int64_t *value,
              struct error *error)
{
    const char *text = NULL;
    char *end;
    int status = query_text(query, name, &text, error);
    if (status < 0 || text == NULL)
        return status;
    errno = 0;
    intmax_t number = strtoimax(text, &end, 10);
    bool digits = *text == '-' ? text[1] >= '0' && text[1] <= '9' : *text >= '0' && *text <= '9';
    if (!digits || *end != '\0')
        return error_set(error, -EINVAL, "'%s' must be a number, not '%s'", name, text);
    if (errno == ERANGE || number < min || number > max)
        return error_set(error, -EINVAL, "'%s' must be from %" PRId64 " to %" PRId64 ", not %s",
                         name, min, max, text);
    *value = number;
    return 0;
}

int query_bool(const struct query *query, const char *name, bool *value, struct error *error)
{
    static const char *const falsehoods[] = {"false", "0", "no", "off", "n", "f"};
    const char *text = NULL;
    int status = query_text(query, name, &text, error);
    if (status < 0 || text == NULL)
        return status;
    *value = true;
    for (size_t i = 0; i < sizeof(falsehoods) / sizeof(*falsehoods); i++) {
        if (strcasecmp(text, falsehoods[i]) == 0)
            *value = false;
    }
    return 0;
}

int query_id(const struct query *query, const char *name, struct id *value, struct error *error)
{
    const char *text = NULL;
    int status = query_text(query, name, &text, error);
    if (status < 0 || text == NULL)
        return status;
    struct id found;
    if (!id_parse(text, strlen(text), &found) || id_is_null(&found))
        return error_set(error, -EINVAL, "'%s' must be an id, not '%s'", name, text);
    *value = found;
    return 0;
}

int query_time(const struct query *query, const char *name, int64_t *at_us, struct error *error)
{
    const char *text = NULL;
    int status = query_text(query, name, &text, error);
    if (status < 0 || text == NULL)
        return status;
    size_t size = strlen(text);
    char copy[TIME_TEXT_SIZE + 8];
    if (size >= sizeof(copy))
        return error_set(error, -EINVAL, "'%s' must be a time, not '%s'", name, text);
    memcpy(copy, text, size + 1);
    if (size > 6 && copy[size - 6] == ' ' && copy[size - 3] == ':' &&
        strchr(copy, ':') < copy + size - 6)
        copy[size - 6] = '+'; /* people paste `…+02:00`, where `+` stands for a blank */
    status = time_parse(copy, at_us, error);
    return status < 0 ? error_wrap(error, "'%s'", name) : 0;
}

static int find_word(const char *text, size_t size, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strlen(words[i]) == size && memcmp(words[i], text, size) == 0)
            return i;
    }
    return -1;
}

static int refuse_word(const char *name, const char *text, size_t size, const char *const *words,
                       struct error *error)
{
    struct buffer list = {0};
    for (int i = 0; words[i] != NULL; i++)
        buffer_printf(&list, "%s%s", i == 0 ? "" : ", ", words[i]);
    error_set(error, -EINVAL, "'%s' must be one of %s, not '%.*s'", name, buffer_text(&list),
              (int)size, text);
    buffer_done(&list);
    return -EINVAL;
}

int query_words(const struct query *query, const char *name, const char *const *words,
                unsigned *set, struct error *error)
{
    const char *text = NULL;
    unsigned found = 0;
    int status = query_text(query, name, &text, error);
    if (status < 0 || text == NULL)
        return status;
    for (;; text++) {
        size_t size = strcspn(text, ",");
        int index = find_word(text, size, words);
        if (index < 0)
            return refuse_word(name, text, size, words, error);
        found |= 1u << index;
        text += size;
        if (*text == '\0')
            break;
    }
    *set = found;
    return 0;
}

/* --- building --- */

/* All but the unreserved characters of RFC 3986 §2.3. */
static void add_encoded(struct buffer *out, const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    for (; *text != '\0'; text++) {
        if (memchr(plain, *text, sizeof(plain) - 1) != NULL)
            buffer_add_char(out, *text);
        else
            buffer_printf(out, "%%%02X", (unsigned char)*text);
    }
}

void query_add(struct buffer *reference, const char *name, const char *value)
{
    bool first = reference->size == 0 || memchr(reference->data, '?', reference->size) == NULL;
    buffer_add_char(reference, first ? '?' : '&');
    add_encoded(reference, name);
    buffer_add_char(reference, '=');
    add_encoded(reference, value);
}
