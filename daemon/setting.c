#include "daemon/setting.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/duration.h"
#include "base/size.h"
#include "daemon/settings.h"

static void *field(const struct setting *row, void *values)
{
    return (char *)values + row->offset;
}

static const void *const_field(const struct setting *row, const void *values)
{
    return (const char *)values + row->offset;
}

static int parse_int(const char *text, int base, int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, base);
    bool starts_well = isdigit((unsigned char)text[text[0] == '-']);
    if (!starts_well || errno != 0 || *end != '\0')
        return -EINVAL;
    *value = number;
    return 0;
}

static int parse_duration_ms(const char *text, int64_t *value)
{
    int64_t us;
    if (duration_parse(text, &us, NULL) < 0 || us % 1000 != 0)
        return -EINVAL;
    *value = us / 1000;
    return 0;
}

static int parse_number(enum setting_type type, const char *text, int64_t *value)
{
    switch (type) {
    case SETTING_DURATION:
        return parse_duration_ms(text, value);
    case SETTING_BYTES:
        return size_parse(text, value, NULL);
    case SETTING_MODE:
        return parse_int(text, 8, value);
    default:
        return parse_int(text, 10, value);
    }
}

static void format_number(enum setting_type type, int64_t value, struct buffer *out)
{
    char text[DURATION_TEXT_SIZE + SIZE_TEXT_SIZE];
    switch (type) {
    case SETTING_DURATION:
        duration_format(value * 1000, text);
        buffer_add_text(out, text);
        break;
    case SETTING_BYTES:
        size_format(value, text);
        buffer_add_text(out, text);
        break;
    case SETTING_MODE:
        buffer_printf(out, "%04llo", (unsigned long long)value);
        break;
    default:
        buffer_printf(out, "%lld", (long long)value);
    }
}

static const struct setting_choice truths[] = {
    {"true", 1}, {"false", 0}, {"yes", 1}, {"no", 0}, {"on", 1}, {"off", 0}, {"1", 1},
    {"0", 0},    {"t", 1},     {"f", 0},   {"y", 1},  {"n", 0},  {NULL, 0},
};

static const struct setting_choice *find_choice(const struct setting_choice *choices,
                                                const char *text)
{
    while (choices->word && strcasecmp(choices->word, text) != 0)
        choices++;
    return choices->word ? choices : NULL;
}

static int refuse(const struct setting *row, const char *text, struct error *error)
{
    struct buffer expected = {0};
    setting_describe(row, &expected);
    int code = error_set(error, -EINVAL, "%s: expected %s, not '%.100s'", row->name,
                         buffer_text(&expected), text);
    buffer_done(&expected);
    return code;
}

static int set_list(const struct setting *row, const char *text, struct text_list *list,
                    struct arena *memory, struct error *error)
{
    size_t room = 2;
    for (const char *at = text; *at; at++)
        room += *at == ',';
    struct text_list parsed = {.items = arena_new(memory, room, sizeof(char *))};

    for (const char *at = text;; at++) {
        at += strspn(at, " \t");
        size_t n = strcspn(at, ",");
        const char *next = at + n;
        while (n > 0 && (at[n - 1] == ' ' || at[n - 1] == '\t'))
            n--;
        if (n == 0)
            return error_set(error, -EINVAL, "%s: '%.100s' has an empty entry", row->name, text);
        parsed.items[parsed.count++] = arena_text_n(memory, at, n);
        at = next;
        if (*at == '\0')
            break;
    }
    *list = parsed;
    return 0;
}

static int set_number(const struct setting *row, const char *text, void *values,
                      struct error *error)
{
    int64_t value = 0;
    if (*text != '\0' &&
        (parse_number(row->type, text, &value) < 0 || value < row->min || value > row->max))
        return refuse(row, text, error);
    if (row->type == SETTING_INT || row->type == SETTING_MODE)
        *(int *)field(row, values) = (int)value;
    else if (row->type == SETTING_DURATION)
        *(int64_t *)field(row, values) = value;
    else
        *(size_t *)field(row, values) = (size_t)value;
    return 0;
}

int setting_set(const struct setting *row, const char *text, void *values, struct arena *memory,
                struct error *error)
{
    if (*text == '\0')
        text = row->initial;

    const struct setting_choice *choice;
    switch (row->type) {
    case SETTING_TEXT:
        *(const char **)field(row, values) = arena_text(memory, text);
        return 0;
    case SETTING_LIST:
        return set_list(row, text, field(row, values), memory, error);
    case SETTING_BOOL:
        if (!(choice = find_choice(truths, text)))
            return refuse(row, text, error);
        *(bool *)field(row, values) = choice->value;
        return 0;
    case SETTING_CHOICE:
        if (!(choice = find_choice(row->choices, text)))
            return refuse(row, text, error);
        *(int *)field(row, values) = choice->value;
        return 0;
    default:
        return set_number(row, text, values, error);
    }
}

static bool lists_equal(const struct text_list *a, const struct text_list *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++)
        equal = strcmp(a->items[i], b->items[i]) == 0;
    return equal;
}

static size_t scalar_size(const struct setting *row)
{
    switch (row->type) {
    case SETTING_BOOL:
        return sizeof(bool);
    case SETTING_DURATION:
        return sizeof(int64_t);
    case SETTING_BYTES:
        return sizeof(size_t);
    default:
        return sizeof(int);
    }
}

bool setting_equal(const struct setting *row, const void *values, const void *others)
{
    const void *a = const_field(row, values), *b = const_field(row, others);
    if (row->type == SETTING_TEXT)
        return strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
    if (row->type == SETTING_LIST)
        return lists_equal(a, b);
    return memcmp(a, b, scalar_size(row)) == 0;
}

void setting_copy(const struct setting *row, void *to, const void *from)
{
    memcpy(field(row, to), const_field(row, from), scalar_size(row));
}

static void describe_choices(const struct setting_choice *choices, struct buffer *out)
{
    for (const struct setting_choice *choice = choices; choice->word; choice++) {
        if (choice != choices)
            buffer_add_text(out, choice[1].word ? ", " : " or ");
        buffer_add_text(out, choice->word);
    }
}

void setting_describe(const struct setting *row, struct buffer *out)
{
    switch (row->type) {
    case SETTING_TEXT:
    case SETTING_LIST:
        break;
    case SETTING_BOOL:
        buffer_add_text(out, "true or false");
        break;
    case SETTING_CHOICE:
        describe_choices(row->choices, out);
        break;
    default:
        format_number(row->type, row->min, out);
        buffer_add_text(out, " to ");
        format_number(row->type, row->max, out);
    }
}
