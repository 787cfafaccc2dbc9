/* A YAML document as a tree that knows where each of its nodes was written.
 *
 * Built from libyaml's events, since libyaml's own documents have no bounds, lose duplicate keys'
 * places and take quadratic time over anchors. Aliases share their node, so a tree may be a graph
 * without cycles; walking it costs at most `max_nodes` steps, because nodes are counted as often as
 * they are reached; so is their text, up to YAML_MAX_EXPANSION times the largest file. Merge keys
 * (`<<`) are carried out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"
#include "scheduler/definition_load.h"
#include "scheduler/report.h"
#include "scheduler/yaml_scalar.h"

#define YAML_MAX_EXPANSION 8

struct yaml_pair {
    struct yaml_node *key; /* always a scalar */
    struct yaml_node *value;
};

struct yaml_node {
    enum yaml_kind kind;
    bool plain;       /* a scalar without quotes */
    int line, column; /* from 1 */
    /* A scalar's text, unescaped, with a NUL behind it and none inside. */
    const char *text;
    size_t size;
    /* A list's items, or a mapping's pairs: its own in the order written, then those merged in. */
    struct yaml_node **items;
    struct yaml_pair *pairs;
    int count;
    /* Nodes in it, itself included, the longest way down, and the bytes of its texts, all with
     * aliases followed. The weight is 0 while it is being read, which tells an alias that stands
     * inside its own anchor. */
    int weight, height;
    size_t bytes;
};

/* Reads the one document of a file. What is wrong is in the report. NULL when there is no tree to
 * go on with (bad syntax, no document, a bound passed); a tree with errors (duplicate keys, unknown
 * tags or aliases) stands, minus those. */
struct yaml_node *yaml_tree_parse(struct arena *arena, const char *text, size_t size,
                                  const struct definition_limits *limits, struct report *report);

/* The value of a mapping's key, or NULL; NULL too when `node` is no mapping. */
struct yaml_node *yaml_member(const struct yaml_node *node, const char *key);
/* The key's own node, for its place; NULL likewise. */
struct yaml_node *yaml_member_key(const struct yaml_node *node, const char *key);

/* The mapping's pairs in the order of their keys' bytes, as new memory. */
struct yaml_pair *yaml_pairs_sorted(const struct yaml_node *mapping);

bool yaml_is_scalar(const struct yaml_node *node);
