/* The query string: decoded once, then asked by name and type.
 *
 * The typed functions leave `*value` as it is (the caller's default) when the parameter is absent,
 * and return -EINVAL with a sentence that names the parameter when it is given twice or is not what
 * was expected: the text of a 400. Parameters nobody asks for are ignored, as Director ignores
 * them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/id.h"
#include "base/memory.h"

struct query_param {
    const char *name;
    const char *value; /* "" when there is no `=` */
};

struct query {
    const struct query_param *params; /* in the order in which they came */
    int count;
};

/* Decodes percent-encoding (and `+` as a blank where `plus_is_blank`) into the arena. NULL, with
 * the reason, when an escape is cut or no hex, or the result holds NUL or is not UTF-8. */
char *query_decode(struct arena *arena, const char *text, size_t size, bool plus_is_blank,
                   struct error *error);
/* `a=1&b=two%20words`; empty pieces are skipped. */
int query_parse(struct arena *arena, const char *text, struct query *query, struct error *error);

int query_text(const struct query *query, const char *name, const char **value,
               struct error *error);
int query_int(const struct query *query, const char *name, int64_t min, int64_t max, int64_t *value,
              struct error *error);
/* `false 0 no off n f` in any case are false, anything else is true (Director's rule). */
int query_bool(const struct query *query, const char *name, bool *value, struct error *error);
int query_id(const struct query *query, const char *name, struct id *value, struct error *error);
/* RFC 3339 (see time_parse); a `+` of the offset that arrived as a blank is understood.
 * Microseconds. */
int query_time(const struct query *query, const char *name, int64_t *at_us, struct error *error);
/* One or more of `words` (NULL-terminated), separated by commas; bit n of `*set` stands for
 * words[n]. */
int query_words(const struct query *query, const char *name, const char *const *words,
                unsigned *set, struct error *error);

/* Appends `?name=value` or `&name=value`, encoded, to a reference that is being built. */
void query_add(struct buffer *reference, const char *name, const char *value);
