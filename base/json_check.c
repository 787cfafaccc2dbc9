/* json_check of base/json.h: a strict parser that keeps nothing but the keys of the objects it is
 * in. */
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"

/* Objects up to this size compare every key with every other one. */
#define FEW_KEYS 8

/* A key as it was unescaped. */
struct key {
    const char *text; /* in the checked text, or `unescaped` */
    size_t size;
    const char *source; /* its opening quote, for the message */
    char *unescaped;
};

struct checker {
    const char *start, *at, *end;
    int depth;
    struct key *keys; /* of all open objects, the innermost last */
    size_t key_count, key_capacity;
    uint64_t hash_base; /* 0 until drawn */
    struct error *error;
};

static int check_value(struct checker *checker);

/* Everything before `where` has been found to be UTF-8, so that columns can count characters. */
static int fail_at(struct checker *checker, const char *where, const char *reason)
{
    const char *line = checker->start;
    int lines = 1;
    for (const char *p = line; (p = memchr(p, '\n', (size_t)(where - p))) != NULL; line = ++p)
        lines++;
    return error_set(checker->error, -EINVAL, "line %d, column %zu: %s", lines,
                     text_utf8_count(line, (size_t)(where - line)) + 1, reason);
}

static int fail(struct checker *checker, const char *reason)
{
    return fail_at(checker, checker->at, checker->at == checker->end ? "unexpected end" : reason);
}

static void skip_blanks(struct checker *checker)
{
    while (checker->at < checker->end && (*checker->at == ' ' || *checker->at == '\t' ||
                                          *checker->at == '\n' || *checker->at == '\r'))
        checker->at++;
}

static bool skip_char(struct checker *checker, char c)
{
    if (checker->at == checker->end || *checker->at != c)
        return false;
    checker->at++;
    return true;
}

/* --- strings --------------------------------------------------------------------------------- */

/* Four hexadecimal digits, or -1. */
static int read_hex4(struct checker *checker)
{
    int value = 0;
    for (int i = 0; i < 4; i++, checker->at++) {
        if (checker->at == checker->end)
            return -1;
        char c = *checker->at, letter = c | 0x20;
        if (c >= '0' && c <= '9')
            value = value << 4 | (c - '0');
        else if (letter >= 'a' && letter <= 'f')
            value = value << 4 | (letter - 'a' + 10);
        else
            return -1;
    }
    return value;
}

static bool is_high_surrogate(int unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low_surrogate(int unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* At the `u` of `\uXXXX`. */
static int check_unicode_escape(struct checker *checker)
{
    const char *escape = checker->at - 1;
    checker->at++;
    int unit = read_hex4(checker);
    if (unit < 0)
        return fail(checker, "expected four hexadecimal digits after \\u");
    if (unit == 0)
        return fail_at(checker, escape, "\\u0000 is not allowed");
    if (is_high_surrogate(unit)) {
        if (!skip_char(checker, '\\') || !skip_char(checker, 'u') ||
            !is_low_surrogate(read_hex4(checker)))
            return fail_at(checker, escape, "high surrogate without a low one behind it");
    } else if (is_low_surrogate(unit)) {
        return fail_at(checker, escape, "low surrogate without a high one before it");
    }
    return 0;
}

/* At the backslash. */
static int check_escape(struct checker *checker)
{
    checker->at++;
    if (checker->at == checker->end)
        return fail(checker, NULL);
    if (*checker->at == 'u')
        return check_unicode_escape(checker);
    if (*checker->at == '\0' || strchr("\"\\/bfnrt", *checker->at) == NULL)
        return fail(checker, "unknown escape in a string");
    checker->at++;
    return 0;
}

/* Behind all that needs no second look: printable ASCII without quotes and backslashes. */
static const char *skip_plain(const char *at, const char *end)
{
    while (at < end && (unsigned char)*at >= 0x20 && (unsigned char)*at < 0x80 && *at != '"' &&
           *at != '\\')
        at++;
    return at;
}

/* At the opening quote; `*escaped` says whether there is a backslash in it. */
static int check_string(struct checker *checker, bool *escaped)
{
    *escaped = false;
    checker->at++;
    while ((checker->at = skip_plain(checker->at, checker->end)) < checker->end) {
        unsigned char c = (unsigned char)*checker->at;
        if (c == '"') {
            checker->at++;
            return 0;
        }
        if (c < 0x20)
            return fail(checker, "control character in a string, which must be escaped");
        if (c == '\\') {
            *escaped = true;
            int r = check_escape(checker);
            if (r < 0)
                return r;
        } else {
            size_t left = (size_t)(checker->end - checker->at);
            size_t length = text_utf8_sequence(checker->at, left);
            if (length == 0)
                return fail(checker, "invalid UTF-8");
            checker->at += length;
        }
    }
    return fail(checker, NULL);
}

/* --- numbers and words ----------------------------------------------------------------------- */

static bool skip_digits(struct checker *checker)
{
    const char *from = checker->at;
    while (checker->at < checker->end && *checker->at >= '0' && *checker->at <= '9')
        checker->at++;
    return checker->at > from;
}

static int check_number(struct checker *checker)
{
    skip_char(checker, '-');
    const char *digits = checker->at;
    if (!skip_digits(checker))
        return fail(checker, "expected a digit");
    if (*digits == '0' && checker->at - digits > 1)
        return fail_at(checker, digits, "a number must not begin with 0");
    if (skip_char(checker, '.') && !skip_digits(checker))
        return fail(checker, "expected a digit behind the point");
    if (skip_char(checker, 'e') || skip_char(checker, 'E')) {
        if (!skip_char(checker, '+'))
            skip_char(checker, '-');
        if (!skip_digits(checker))
            return fail(checker, "expected a digit in the exponent");
    }
    return 0;
}

static int check_word(struct checker *checker, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(checker->end - checker->at) < size || memcmp(checker->at, word, size) != 0)
        return fail(checker, "expected a value");
    checker->at += size;
    return 0;
}

/* --- objects --------------------------------------------------------------------------------- */

static void push_key(struct checker *checker, const char *source, bool escaped)
{
    struct json_span string = {source, (size_t)(checker->at - source)};
    struct key key = {.source = source};
    if (escaped) {
        key.unescaped = json_unescape(string, &key.size);
        key.text = key.unescaped;
    } else {
        key.text = source + 1;
        key.size = string.size - 2;
    }
    if (checker->key_count == checker->key_capacity) {
        checker->key_capacity = checker->key_capacity > 0 ? checker->key_capacity * 2 : 32;
        checker->keys = mem_resize(checker->keys, checker->key_capacity, sizeof(key));
    }
    checker->keys[checker->key_count++] = key;
}

static void pop_keys(struct checker *checker, size_t count)
{
    while (checker->key_count > count)
        free(checker->keys[--checker->key_count].unescaped);
}

static bool same_key(const struct key *a, const struct key *b)
{
    return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

static const struct key *find_duplicate_of_few(const struct key *keys, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (same_key(&keys[i], &keys[j]))
                return &keys[i];
    return NULL;
}

/* A polynomial over a prime field, taken at a secret random point: whoever sends the keys cannot
 * make them collide more often than chance does (Carter and Wegman 1979). */
static uint64_t hash_key(const struct key *key, uint64_t base)
{
    const uint64_t prime = (UINT64_C(1) << 31) - 1;
    uint64_t hash = 0;
    for (size_t i = 0; i < key->size; i++)
        hash = (hash * base + (unsigned char)key->text[i] + 1) % prime;
    return hash;
}

static uint64_t draw_hash_base(void)
{
    uint32_t random;
    if (getentropy(&random, sizeof(random)) != 0)
        abort();
    return (1u << 16) + random % (1u << 30); /* below the prime */
}

static const struct key *find_duplicate_of_many(struct checker *checker, const struct key *keys,
                                                size_t count)
{
    size_t slots = 2 * FEW_KEYS;
    while (slots < 2 * count)
        slots *= 2;
    const struct key **table = mem_new(slots, sizeof(*table));
    const struct key *duplicate = NULL;
    if (checker->hash_base == 0)
        checker->hash_base = draw_hash_base();
    for (size_t i = 0; i < count && duplicate == NULL; i++) {
        size_t slot = hash_key(&keys[i], checker->hash_base) & (slots - 1);
        while (table[slot] != NULL && !same_key(table[slot], &keys[i]))
            slot = (slot + 1) & (slots - 1);
        if (table[slot] != NULL)
            duplicate = &keys[i];
        table[slot] = &keys[i];
    }
    free(table);
    return duplicate;
}

static int check_duplicates(struct checker *checker, size_t first)
{
    size_t count = checker->key_count - first;
    if (count < 2)
        return 0;
    const struct key *keys = checker->keys + first;
    const struct key *duplicate = count <= FEW_KEYS ? find_duplicate_of_few(keys, count)
                                                    : find_duplicate_of_many(checker, keys, count);
    if (duplicate == NULL)
        return 0;
    char reason[100];
    int shown = duplicate->size < 60 ? (int)duplicate->size : 60;
    snprintf(reason, sizeof(reason), "duplicate key \"%.*s\"", shown, duplicate->text);
    return fail_at(checker, duplicate->source, reason);
}

static int check_member(struct checker *checker)
{
    const char *source = checker->at;
    bool escaped;
    if (source == checker->end || *source != '"')
        return fail(checker, "expected a key in double quotes");
    int r = check_string(checker, &escaped);
    if (r < 0)
        return r;
    push_key(checker, source, escaped);
    skip_blanks(checker);
    if (!skip_char(checker, ':'))
        return fail(checker, "expected ':' behind the key");
    return check_value(checker);
}

/* --- values ---------------------------------------------------------------------------------- */

/* The items of an object or array up to its closing bracket; the opening one has been read. */
static int check_items(struct checker *checker, char closing, int (*check)(struct checker *),
                       const char *expected)
{
    skip_blanks(checker);
    if (skip_char(checker, closing))
        return 0;
    do {
        skip_blanks(checker);
        int r = check(checker);
        if (r < 0)
            return r;
        skip_blanks(checker);
    } while (skip_char(checker, ','));
    return skip_char(checker, closing) ? 0 : fail(checker, expected);
}

static int check_container(struct checker *checker)
{
    size_t first_key = checker->key_count;
    int r;
    if (checker->depth == JSON_MAX_DEPTH)
        return fail(checker, "nested deeper than 64 levels");
    checker->depth++;
    if (*checker->at++ == '[') {
        r = check_items(checker, ']', check_value, "expected ',' or ']'");
    } else {
        r = check_items(checker, '}', check_member, "expected ',' or '}'");
        if (r == 0)
            r = check_duplicates(checker, first_key);
        pop_keys(checker, first_key);
    }
    checker->depth--;
    return r;
}

/* Recursion ends at JSON_MAX_DEPTH. */
static int check_value(struct checker *checker)
{
    bool escaped;
    skip_blanks(checker);
    if (checker->at == checker->end)
        return fail(checker, NULL);
    switch (*checker->at) {
    case '{':
    case '[':
        return check_container(checker);
    case '"':
        return check_string(checker, &escaped);
    case 't':
        return check_word(checker, "true");
    case 'f':
        return check_word(checker, "false");
    case 'n':
        return check_word(checker, "null");
    case '-':
    case '0' ... '9':
        return check_number(checker);
    default:
        return fail(checker, "expected a value");
    }
}

int json_check(const char *text, size_t size, struct error *error)
{
    struct checker checker = {.start = text, .at = text, .end = text + size, .error = error};
    int r = check_value(&checker);
    if (r == 0) {
        skip_blanks(&checker);
        if (checker.at < checker.end)
            r = fail(&checker, "expected the end behind the value");
    }
    free(checker.keys);
    return r;
}
