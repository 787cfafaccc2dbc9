/* Small questions about text: UTF-8, names, the nearest known word. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Length in bytes of the valid UTF-8 sequence at `text` (no surrogates, no overlong forms, at most
 * U+10FFFF), or 0. */
size_t text_utf8_sequence(const char *text, size_t size);
bool text_is_utf8(const char *text, size_t size);
/* Code points in valid UTF-8. */
size_t text_utf8_count(const char *text, size_t size);

/* The candidate nearest to `word` by edit distance (case ignored), or NULL when none is near enough
 * to be a likely slip (distance over a third of the length). `candidates` holds `count` strings;
 * NULL entries are skipped. */
const char *text_nearest(const char *word, const char *const *candidates, size_t count);
