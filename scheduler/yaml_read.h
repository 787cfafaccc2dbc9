/* Reads what a key may hold, and says what was expected where it holds something else.
 *
 * `what` names the value in messages, such as "'timeout'". A NULL report is silent.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/report.h"
#include "scheduler/yaml_tree.h"

/* Where keys stand; the same word may be a key in several places. */
enum key_place {
    KEY_OF_WORKFLOW = 1,
    KEY_OF_ITEM = 2,    /* of a task, in the library or in a workflow's list */
    KEY_OF_TRIGGER = 4, /* of `periodic` */
    KEY_OF_OTHER = 8,
    ITEM_TYPE = 16, /* the value of `type` */
};

/* True, after an error, for a word of the contract that nothing carries out yet: it must never be
 * silently ignored. */
bool read_refused(struct report *report, const struct yaml_node *word, enum key_place place);

/* A mapping with no other keys than `known` (NULL-terminated). False only when it is no mapping. */
bool read_mapping(struct report *report, const struct yaml_node *node, const char *what,
                  enum key_place place, const char *const *known);
/* A list that is not empty. */
bool read_list(struct report *report, const struct yaml_node *node, const char *what);

/* Text of any scalar but null, as it was written: `8080` is fine where text is wanted. NULL on
 * error. */
const char *read_text(struct report *report, const struct yaml_node *node, const char *what);
/* The same, not empty. */
const char *read_some_text(struct report *report, const struct yaml_node *node, const char *what);
/* A name: 1 to 255 of `A-Z a-z 0-9 _ . -`. NULL on error. */
const char *read_name(struct report *report, const struct yaml_node *node, const char *what);
/* One of the words; its index, or -1. */
int read_choice(struct report *report, const struct yaml_node *node, const char *what,
                const char *const *words);
bool read_true(struct report *report, const struct yaml_node *node, const char *what);
bool read_integer(struct report *report, const struct yaml_node *node, const char *what,
                  int64_t least, int64_t most, int64_t *value);
bool read_decimal(struct report *report, const struct yaml_node *node, const char *what,
                  double least, double most, double *value);
/* Bytes; 64KiB and the like are understood. */
bool read_size(struct report *report, const struct yaml_node *node, const char *what, int64_t least,
               int64_t most, int64_t *bytes);
/* A whole number with its `%`. */
bool read_percentage(struct report *report, const struct yaml_node *node, const char *what,
                     int64_t most, int64_t *percent);
bool read_duration(struct report *report, const struct yaml_node *node, const char *what,
                   int64_t *us);
