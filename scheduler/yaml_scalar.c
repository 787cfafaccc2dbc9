#include "scheduler/yaml_scalar.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char *yaml_kind_text(enum yaml_kind kind)
{
    static const char *const texts[] = {
        [YAML_NULL] = "nothing",      [YAML_BOOL] = "a boolean", [YAML_INT] = "a number",
        [YAML_FLOAT] = "a number",    [YAML_TEXT] = "text",      [YAML_LIST] = "a list",
        [YAML_MAPPING] = "a mapping",
    };
    return texts[kind];
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* [-+]? [0-9]+ | 0o [0-7]+ | 0x [0-9a-fA-F]+ */
static bool is_int(const char *text)
{
    if (strncmp(text, "0o", 2) == 0)
        return text[2] != '\0' && text[2 + strspn(text + 2, "01234567")] == '\0';
    if (strncmp(text, "0x", 2) == 0)
        return text[2] != '\0' && text[2 + strspn(text + 2, "0123456789abcdefABCDEF")] == '\0';
    text += *text == '-' || *text == '+';
    return digits(text) > 0 && text[digits(text)] == '\0';
}

static bool is_infinite_or_nan(const char *text)
{
    static const char *const nan_words[] = {".nan", ".NaN", ".NAN", NULL};
    static const char *const inf_words[] = {".inf", ".Inf", ".INF", NULL};
    if (is_one_of(text, nan_words))
        return true;
    return is_one_of(text + (*text == '-' || *text == '+'), inf_words);
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *text)
{
    if (is_infinite_or_nan(text))
        return true;
    text += *text == '-' || *text == '+';
    size_t whole = digits(text);
    text += whole;
    if (*text == '.') {
        size_t fraction = digits(++text);
        text += fraction;
        if (whole + fraction == 0)
            return false;
    } else if (whole == 0) {
        return false;
    }
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '-' || *text == '+';
        if (digits(text) == 0)
            return false;
        text += digits(text);
    }
    return *text == '\0';
}

enum yaml_kind yaml_scalar_kind(const char *text, size_t size)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};
    if (strlen(text) != size)
        return YAML_TEXT;
    if (is_one_of(text, nulls))
        return YAML_NULL;
    if (is_one_of(text, bools))
        return YAML_BOOL;
    if (is_int(text))
        return YAML_INT;
    return is_float(text) ? YAML_FLOAT : YAML_TEXT;
}

static int other_base(const char *text, struct buffer *out, struct error *error)
{
    errno = 0;
    unsigned long long value = strtoull(text + 2, NULL, text[1] == 'x' ? 16 : 8);
    if (errno == ERANGE)
        return error_set(error, -EINVAL, "'%s' does not fit in 64 bits", text);
    buffer_printf(out, "%llu", value);
    return 0;
}

/* The grammars differ in four points: JSON knows no plus sign, no leading zeros, and wants a digit
 * on either side of the point. */
int yaml_scalar_number(const char *text, struct buffer *out, struct error *error)
{
    if (is_infinite_or_nan(text))
        return error_set(error, -EINVAL, "JSON has no number '%s': leave it out or quote it", text);
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'o'))
        return other_base(text, out, error);
    const char *number = text + (*text == '-' || *text == '+');
    size_t whole = digits(number);
    if (whole > 1 && *number == '0')
        return error_set(error, -EINVAL,
                         "'%s' begins with a zero, which some read as octal: quote it, or write it "
                         "without the zero",
                         text);
    if (*text == '-')
        buffer_add_char(out, '-');
    if (whole == 0)
        buffer_add_char(out, '0');
    buffer_add(out, number, whole);
    number += whole;
    if (*number == '.') {
        size_t fraction = digits(number + 1);
        buffer_add(out, number, 1 + fraction);
        if (fraction == 0)
            buffer_add_char(out, '0');
        number += 1 + fraction;
    }
    buffer_add_text(out, number);
    return 0;
}
