#include "scheduler/yaml_read.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"
#include "base/size.h"
#include "scheduler/definition.h"

/* The words that the contract has and this version does not carry out. To build one is to take it
 * from here. */
static const struct {
    const char *word;
    unsigned places;
} refused[] = {
    {"schema", KEY_OF_WORKFLOW},
    {"when", KEY_OF_WORKFLOW | KEY_OF_ITEM},
    {"trigger_rule", KEY_OF_WORKFLOW | KEY_OF_ITEM},
    {"foreach", KEY_OF_WORKFLOW | KEY_OF_ITEM},
    {"pool", KEY_OF_WORKFLOW | KEY_OF_ITEM},
    {"priority", KEY_OF_WORKFLOW | KEY_OF_ITEM},
    {"deadline", KEY_OF_WORKFLOW | KEY_OF_ITEM},
    {"calendar", KEY_OF_WORKFLOW | KEY_OF_TRIGGER},
    {"workflow", ITEM_TYPE},
    {"approval", ITEM_TYPE},
};

bool read_refused(struct report *report, const struct yaml_node *word, enum key_place place)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (!(refused[i].places & place) || strcmp(refused[i].word, word->text) != 0)
            continue;
        report_error(report, word, "%s'%s' is not supported yet", place == ITEM_TYPE ? "type " : "",
                     word->text);
        return true;
    }
    return false;
}

static void expected(struct report *report, const struct yaml_node *node, const char *what,
                     const char *wanted)
{
    report_error(report, node, "%s is %s: expected %s", what, yaml_kind_text(node->kind), wanted);
}

/* --- mappings and lists ----------------------------------------------------------------------- */

static size_t count_words(const char *const *words)
{
    size_t count = 0;
    while (words[count])
        count++;
    return count;
}

static bool is_among(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

/* "a, b or c", in the report's arena. */
static const char *join(struct report *report, const char *const *words)
{
    const char *text = words[0];
    for (size_t i = 1; words[i]; i++)
        text = arena_format(report->arena, "%s%s%s", text, words[i + 1] ? ", " : " or ", words[i]);
    return text;
}

bool read_mapping(struct report *report, const struct yaml_node *node, const char *what,
                  enum key_place place, const char *const *known)
{
    if (node->kind != YAML_MAPPING) {
        expected(report, node, what, "a mapping");
        return false;
    }
    for (int i = 0; report && i < node->count; i++) {
        const struct yaml_node *key = node->pairs[i].key;
        if (read_refused(report, key, place) || is_among(key->text, known))
            continue;
        report_error(report, key, "unknown key '%s' in %s%s: expected %s", key->text, what,
                     report_hint(report, key->text, known, count_words(known)),
                     join(report, known));
    }
    return true;
}

bool read_list(struct report *report, const struct yaml_node *node, const char *what)
{
    if (node->kind != YAML_LIST) {
        expected(report, node, what, "a list");
        return false;
    }
    if (node->count == 0) {
        report_error(report, node, "%s is empty: expected a list with something in it", what);
        return false;
    }
    return true;
}

/* --- scalars ---------------------------------------------------------------------------------- */

/* Numbers that are ambiguous or that JSON does not have are errors wherever they stand. */
static bool is_clear(struct report *report, const struct yaml_node *node)
{
    if (node->kind != YAML_INT && node->kind != YAML_FLOAT)
        return true;
    struct buffer number = {0};
    struct error error = {0};
    bool clear = yaml_scalar_number(node->text, &number, &error) == 0;
    buffer_done(&number);
    if (!clear)
        report_error(report, node, "%s", error.text);
    return clear;
}

const char *read_text(struct report *report, const struct yaml_node *node, const char *what)
{
    if (!yaml_is_scalar(node) || node->kind == YAML_NULL) {
        expected(report, node, what, "text");
        return NULL;
    }
    return is_clear(report, node) ? node->text : NULL;
}

const char *read_some_text(struct report *report, const struct yaml_node *node, const char *what)
{
    const char *text = read_text(report, node, what);
    if (text && *text == '\0') {
        report_error(report, node, "%s is empty: expected text", what);
        return NULL;
    }
    return text;
}

const char *read_name(struct report *report, const struct yaml_node *node, const char *what)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    const char *text = read_some_text(report, node, what);
    if (!text)
        return NULL;
    if (strlen(text) > DEFINITION_MAX_NAME) {
        report_error(report, node, "%s is %zu bytes long: expected at most %d", what, strlen(text),
                     DEFINITION_MAX_NAME);
        return NULL;
    }
    if (text[strspn(text, allowed)] != '\0') {
        report_error(report, node,
                     "%s is '%s': expected a name of letters, digits, '_', '.' and '-'", what,
                     text);
        return NULL;
    }
    return text;
}

int read_choice(struct report *report, const struct yaml_node *node, const char *what,
                const char *const *words)
{
    const char *text = read_text(report, node, what);
    if (!text)
        return -1;
    for (int i = 0; words[i]; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    if (report)
        report_error(report, node, "%s is '%s'%s: expected %s", what, text,
                     report_hint(report, text, words, count_words(words)), join(report, words));
    return -1;
}

bool read_true(struct report *report, const struct yaml_node *node, const char *what)
{
    if (node->kind == YAML_BOOL && (node->text[0] == 't' || node->text[0] == 'T'))
        return true;
    report_error(report, node, "%s is not true: expected true, or leave it out", what);
    return false;
}

/* A value as messages quote it. */
static const char *shown(const struct yaml_node *node)
{
    return yaml_is_scalar(node) && *node->text ? node->text : yaml_kind_text(node->kind);
}

bool read_integer(struct report *report, const struct yaml_node *node, const char *what,
                  int64_t least, int64_t most, int64_t *value)
{
    struct buffer number = {0};
    bool fits = false;
    if (node->kind == YAML_INT && yaml_scalar_number(node->text, &number, NULL) == 0) {
        char *end;
        long long parsed =
            strtoll(buffer_text(&number), &end, 10); /* clamps: least or most will tell */
        fits = *end == '\0' && parsed >= least && parsed <= most;
        *value = fits ? parsed : *value;
    }
    buffer_done(&number);
    if (!fits)
        report_error(report, node, "%s is %s: expected a whole number from %" PRId64 " to %" PRId64,
                     what, shown(node), least, most);
    return fits;
}

bool read_decimal(struct report *report, const struct yaml_node *node, const char *what,
                  double least, double most, double *value)
{
    struct buffer number = {0};
    bool fits = false;
    if ((node->kind == YAML_INT || node->kind == YAML_FLOAT) &&
        yaml_scalar_number(node->text, &number, NULL) == 0) {
        double parsed = strtod(buffer_text(&number), NULL);
        fits = parsed >= least && parsed <= most;
        *value = fits ? parsed : *value;
    }
    buffer_done(&number);
    if (!fits)
        report_error(report, node, "%s is %s: expected a number from %g to %g", what, shown(node),
                     least, most);
    return fits;
}

bool read_size(struct report *report, const struct yaml_node *node, const char *what, int64_t least,
               int64_t most, int64_t *bytes)
{
    char least_text[SIZE_TEXT_SIZE], most_text[SIZE_TEXT_SIZE];
    int64_t parsed;
    if (!is_clear(report, node))
        return false;
    if (yaml_is_scalar(node) && size_parse(node->text, &parsed, NULL) == 0 && parsed >= least &&
        parsed <= most) {
        *bytes = parsed;
        return true;
    }
    size_format(least, least_text);
    size_format(most, most_text);
    report_error(report, node, "%s is %s: expected a size from %s to %s", what, shown(node),
                 least_text, most_text);
    return false;
}

bool read_percentage(struct report *report, const struct yaml_node *node, const char *what,
                     int64_t most, int64_t *percent)
{
    char *end = NULL;
    long long parsed = yaml_is_scalar(node) ? strtoll(node->text, &end, 10) : 0;
    if (end && strcmp(end, "%") == 0 && parsed >= 1 && parsed <= most) {
        *percent = parsed;
        return true;
    }
    report_error(report, node, "%s is %s: expected a percentage from 1%% to %" PRId64 "%%", what,
                 shown(node), most);
    return false;
}

bool read_duration(struct report *report, const struct yaml_node *node, const char *what,
                   int64_t *us)
{
    struct error error = {0};
    if (!yaml_is_scalar(node) || node->kind == YAML_NULL || node->kind == YAML_BOOL) {
        expected(report, node, what, "a duration such as 90s, 15m or 1h30m");
        return false;
    }
    if (duration_parse(node->text, us, &error) == 0)
        return true;
    report_error(report, node, "%s: %s", what, error.text);
    return false;
}
