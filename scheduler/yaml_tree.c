#include "scheduler/yaml_tree.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <yaml.h>

#include "base/json.h"

/* A list or mapping that is not closed yet. Its children stand in `children`, a mapping's as key,
 * value, key, …; */
struct frame {
    struct yaml_node *node;
    struct yaml_node **children;
    int count;
    int capacity;
};

struct anchor {
    const char *name;
    struct yaml_node *node; /* the last one of that name so far */
    UT_hash_handle hh;
};

struct builder {
    struct arena *arena;
    const struct definition_limits *limits;
    struct report *report;
    yaml_parser_t parser;
    struct yaml_node *root;
    struct frame *stack;
    int depth;    /* frames in use */
    int nodes;    /* aliases followed */
    size_t bytes; /* likewise */
    struct anchor *anchors;
    int documents;
    bool failed; /* there is no going on */
};

static bool fail_at(struct builder *builder, yaml_mark_t mark, const char *text)
{
    report_error_at(builder->report, (int)mark.line + 1, (int)mark.column + 1, "%s", text);
    builder->failed = true;
    return false;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static struct yaml_node *node_new(struct builder *builder, enum yaml_kind kind, yaml_mark_t mark)
{
    struct yaml_node *node = arena_new(builder->arena, 1, sizeof *node);
    node->kind = kind;
    node->line = (int)mark.line + 1;
    node->column = (int)mark.column + 1;
    return node;
}

static struct yaml_node *null_new(struct builder *builder, yaml_mark_t mark)
{
    struct yaml_node *node = node_new(builder, YAML_NULL, mark);
    node->text = "";
    node->weight = node->height = 1;
    return node;
}

/* The bounds, checked before a node (or what an alias means) comes into the tree. */
static bool within_limits(struct builder *builder, yaml_mark_t mark, int weight, int height,
                          size_t bytes)
{
    size_t max_bytes = builder->limits->max_bytes * YAML_MAX_EXPANSION;
    int max_depth = builder->limits->max_depth;
    if (max_depth > JSON_MAX_DEPTH)
        max_depth = JSON_MAX_DEPTH;
    if (builder->depth + height > max_depth)
        return fail_at(builder, mark,
                       arena_format(builder->arena, "nested deeper than %d levels", max_depth));
    if (weight > builder->limits->max_nodes - builder->nodes)
        return fail_at(builder, mark,
                       arena_format(builder->arena,
                                    "more than %d nodes in the file (aliases count as what they "
                                    "stand for)",
                                    builder->limits->max_nodes));
    if (bytes > max_bytes - builder->bytes)
        return fail_at(
            builder, mark,
            arena_format(builder->arena,
                         "more than %zu bytes of text in the file (aliases count as what "
                         "they stand for)",
                         max_bytes));
    builder->nodes += weight;
    builder->bytes += bytes;
    return true;
}

/* Puts a complete node, or an alias's, into the innermost open list or mapping. */
static void attach(struct builder *builder, struct yaml_node *node)
{
    if (builder->depth == 0) {
        builder->root = node;
        return;
    }
    struct frame *frame = &builder->stack[builder->depth - 1];
    if (frame->count == frame->capacity) {
        frame->capacity = frame->capacity ? 2 * frame->capacity : 8;
        frame->children =
            mem_resize(frame->children, (size_t)frame->capacity, sizeof *frame->children);
    }
    frame->children[frame->count++] = node;
}

/* --- anchors and aliases ---------------------------------------------------------------------- */

static void note_anchor(struct builder *builder, const yaml_char_t *name, struct yaml_node *node)
{
    if (!name)
        return;
    struct anchor *anchor;
    HASH_FIND_STR(builder->anchors, (const char *)name, anchor);
    if (!anchor) {
        anchor = arena_new(builder->arena, 1, sizeof *anchor);
        anchor->name = arena_text(builder->arena, (const char *)name);
        HASH_ADD_KEYPTR(hh, builder->anchors, anchor->name, strlen(anchor->name), anchor);
    }
    anchor->node = node;
}

static bool on_alias(struct builder *builder, const yaml_event_t *event)
{
    const char *name = (const char *)event->data.alias.anchor;
    int line = (int)event->start_mark.line + 1;
    int column = (int)event->start_mark.column + 1;
    struct anchor *anchor;
    HASH_FIND_STR(builder->anchors, name, anchor);
    struct yaml_node *node = anchor ? anchor->node : NULL;
    if (!anchor) {
        report_error_at(builder->report, line, column,
                        "unknown alias '*%s': expected an anchor '&%s' before it", name, name);
    } else if (node->weight == 0) {
        report_error_at(builder->report, line, column,
                        "alias '*%s' stands inside its own anchor (line %d)", name, node->line);
        node = NULL;
    }
    if (!node)
        node = null_new(builder, event->start_mark);
    if (!within_limits(builder, event->start_mark, node->weight, node->height, node->bytes))
        return false;
    attach(builder, node);
    return true;
}

/* --- scalars ---------------------------------------------------------------------------------- */

#define CORE_TAG "tag:yaml.org,2002:"

/* The short name of a known tag of the given list, or NULL after an error. No tag, and `!`, are the
 * empty name. */
static const char *tag_name(struct builder *builder, const yaml_char_t *tag, yaml_mark_t mark,
                            const char *const *known)
{
    const char *text = (const char *)tag;
    if (!text || strcmp(text, "!") == 0)
        return "";
    size_t prefix = strlen(CORE_TAG);
    if (strncmp(text, CORE_TAG, prefix) == 0)
        for (; *known; known++)
            if (strcmp(text + prefix, *known) == 0)
                return *known;
    report_error_at(builder->report, (int)mark.line + 1, (int)mark.column + 1,
                    "unknown tag '%s': expected none", text);
    return NULL;
}

/* The kind that an explicit tag asks for; false when the text is none. */
static bool tagged_kind(const char *tag, const char *text, size_t size, enum yaml_kind *kind)
{
    enum yaml_kind plain = yaml_scalar_kind(text, size);
    if (strcmp(tag, "str") == 0)
        *kind = YAML_TEXT;
    else if (strcmp(tag, "float") == 0 && plain == YAML_INT)
        *kind = YAML_FLOAT;
    else
        *kind = plain;
    static const char *const names[] = {[YAML_NULL] = "null",
                                        [YAML_BOOL] = "bool",
                                        [YAML_INT] = "int",
                                        [YAML_FLOAT] = "float",
                                        [YAML_TEXT] = "str"};
    return strcmp(tag, names[*kind]) == 0;
}

static bool on_scalar(struct builder *builder, const yaml_event_t *event)
{
    static const char *const known[] = {"str", "int", "float", "bool", "null", NULL};
    if (!within_limits(builder, event->start_mark, 1, 1, event->data.scalar.length))
        return false;
    const char *text = (const char *)event->data.scalar.value;
    size_t size = event->data.scalar.length;
    struct yaml_node *node = node_new(builder, YAML_TEXT, event->start_mark);
    node->text = arena_text_n(builder->arena, text, size);
    node->size = node->bytes = size;
    node->weight = node->height = 1;
    if (memchr(text, '\0', size)) {
        report_error(builder->report, node, "a NUL character: expected text without one");
        node->size = strlen(node->text);
    }
    const char *tag = tag_name(builder, event->data.scalar.tag, event->start_mark, known);
    node->plain =
        event->data.scalar.plain_implicit && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (node->plain)
        node->kind = yaml_scalar_kind(text, size);
    else if (tag && *tag && !tagged_kind(tag, text, size, &node->kind))
        report_error(builder->report, node, "'%s' is not of the type that '!!%s' says", node->text,
                     tag);
    note_anchor(builder, event->data.scalar.anchor, node);
    attach(builder, node);
    return true;
}

/* --- lists and mappings ----------------------------------------------------------------------- */

static bool on_start(struct builder *builder, const yaml_event_t *event, enum yaml_kind kind,
                     const yaml_char_t *anchor, const yaml_char_t *tag)
{
    static const char *const list_tags[] = {"seq", NULL};
    static const char *const mapping_tags[] = {"map", NULL};
    if (!within_limits(builder, event->start_mark, 1, 1, 0))
        return false;
    tag_name(builder, tag, event->start_mark, kind == YAML_LIST ? list_tags : mapping_tags);
    struct yaml_node *node = node_new(builder, kind, event->start_mark);
    note_anchor(builder, anchor, node);
    attach(builder, node);
    builder->stack[builder->depth++] = (struct frame){.node = node};
    return true;
}

static void measure(struct yaml_node *node, struct yaml_node *const *children, int count)
{
    node->weight = 1;
    for (int i = 0; i < count; i++) {
        node->weight += children[i]->weight;
        node->bytes += children[i]->bytes;
        if (children[i]->height > node->height)
            node->height = children[i]->height;
    }
    node->height++;
}

static void close_list(struct builder *builder, struct frame *frame)
{
    frame->node->items = arena_new(builder->arena, (size_t)frame->count, sizeof(void *));
    if (frame->count)
        memcpy(frame->node->items, frame->children, (size_t)frame->count * sizeof(void *));
    frame->node->count = frame->count;
}

/* A mapping's pairs by key; uthash keeps them in the order in which they came. */
struct entry {
    struct yaml_pair pair;
    UT_hash_handle hh;
};

struct pairs {
    struct entry *by_key;
    struct entry *storage;
    size_t used;
};

/* The entry that has the key already, or NULL when the pair was added. */
static struct entry *pairs_add(struct pairs *pairs, struct yaml_pair pair)
{
    struct entry *entry;
    HASH_FIND(hh, pairs->by_key, pair.key->text, pair.key->size, entry);
    if (entry)
        return entry;
    entry = &pairs->storage[pairs->used++];
    entry->pair = pair;
    HASH_ADD_KEYPTR(hh, pairs->by_key, entry->pair.key->text, entry->pair.key->size, entry);
    return NULL;
}

static bool is_merge(const struct yaml_node *key)
{
    return key->plain && strcmp(key->text, "<<") == 0;
}

static size_t merged_size(const struct yaml_node *value)
{
    if (value->kind == YAML_MAPPING)
        return (size_t)value->count;
    size_t size = 0;
    for (int i = 0; value->kind == YAML_LIST && i < value->count; i++)
        size += (size_t)value->items[i]->count;
    return size;
}

static void merge(struct builder *builder, struct pairs *pairs, const struct yaml_node *value)
{
    if (value->kind == YAML_LIST) {
        for (int i = 0; i < value->count; i++)
            if (value->items[i]->kind == YAML_MAPPING)
                merge(builder, pairs, value->items[i]);
            else
                report_error(builder->report, value->items[i],
                             "'<<' takes a mapping or a list of mappings, not %s",
                             yaml_kind_text(value->items[i]->kind));
        return;
    }
    if (value->kind != YAML_MAPPING) {
        report_error(builder->report, value, "'<<' takes a mapping or a list of mappings, not %s",
                     yaml_kind_text(value->kind));
        return;
    }
    for (int i = 0; i < value->count; i++)
        pairs_add(pairs, value->pairs[i]); /* what is there already wins */
}

static void add_own_pairs(struct builder *builder, struct frame *frame, struct pairs *pairs)
{
    for (int i = 0; i + 1 < frame->count; i += 2) {
        struct yaml_pair pair = {frame->children[i], frame->children[i + 1]};
        if (!yaml_is_scalar(pair.key)) {
            report_error(builder->report, pair.key, "a key is %s: expected text",
                         yaml_kind_text(pair.key->kind));
            continue;
        }
        struct entry *first = pairs_add(pairs, pair);
        if (first)
            report_error(builder->report, pair.key,
                         "duplicate key '%s': it stands in line %d, column %d already",
                         pair.key->text, first->pair.key->line, first->pair.key->column);
    }
}

/* The merge key takes part in the search for duplicates like any other, then gives way to what it
 * stands for. */
static void close_mapping(struct builder *builder, struct frame *frame)
{
    size_t most = (size_t)frame->count / 2;
    for (int i = 0; i + 1 < frame->count; i += 2)
        if (yaml_is_scalar(frame->children[i]) && is_merge(frame->children[i]))
            most += merged_size(frame->children[i + 1]);
    struct pairs pairs = {.storage = mem_new(most + 1, sizeof(struct entry))};
    add_own_pairs(builder, frame, &pairs);

    struct entry *entry;
    HASH_FIND_STR(pairs.by_key, "<<", entry);
    if (entry && is_merge(entry->pair.key)) {
        HASH_DEL(pairs.by_key, entry);
        merge(builder, &pairs, entry->pair.value);
    }
    struct yaml_node *node = frame->node;
    node->pairs = arena_new(builder->arena, pairs.used, sizeof *node->pairs);
    for (entry = pairs.by_key; entry; entry = entry->hh.next)
        node->pairs[node->count++] = entry->pair;
    HASH_CLEAR(hh, pairs.by_key);
    free(pairs.storage);
}

static bool on_end(struct builder *builder)
{
    struct frame *frame = &builder->stack[--builder->depth];
    measure(frame->node, frame->children, frame->count);
    if (frame->node->kind == YAML_LIST)
        close_list(builder, frame);
    else
        close_mapping(builder, frame);
    free(frame->children);
    return true;
}

/* --- the run through the events --------------------------------------------------------------- */

static bool on_document(struct builder *builder, const yaml_event_t *event)
{
    if (builder->documents++ > 0)
        return fail_at(builder, event->start_mark,
                       "a second document begins here: expected one document a file");
    return true;
}

static bool on_event(struct builder *builder, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return on_document(builder, event);
    case YAML_ALIAS_EVENT:
        return on_alias(builder, event);
    case YAML_SCALAR_EVENT:
        return on_scalar(builder, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(builder, event, YAML_LIST, event->data.sequence_start.anchor,
                        event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_start(builder, event, YAML_MAPPING, event->data.mapping_start.anchor,
                        event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(builder);
    default:
        return true;
    }
}

/* libyaml knows a byte offset only where the bytes themselves are at fault. */
static yaml_mark_t mark_of_offset(const char *text, size_t size, size_t offset)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset && i < size; i++) {
        mark.column++;
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return mark;
}

static bool syntax_error(struct builder *builder, const char *text, size_t size)
{
    const yaml_parser_t *parser = &builder->parser;
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_READER_ERROR)
        mark = mark_of_offset(text, size, parser->problem_offset);
    const char *context = parser->context ? parser->context : "";
    const char *hint = strcmp(context, "while scanning an alias") == 0
                           ? " (a text that begins with '*', as crontabs do, needs quotes)"
                           : "";
    return fail_at(builder, mark,
                   arena_format(builder->arena, "not valid YAML: %s%s%s%s", context,
                                *context ? ", " : "", parser->problem, hint));
}

static void read_events(struct builder *builder, const char *text, size_t size)
{
    yaml_parser_set_input_string(&builder->parser, (const unsigned char *)text, size);
    for (bool more = true; more;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&builder->parser, &event)) {
            syntax_error(builder, text, size);
            return;
        }
        more = on_event(builder, &event) && event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
}

struct yaml_node *yaml_tree_parse(struct arena *arena, const char *text, size_t size,
                                  const struct definition_limits *limits, struct report *report)
{
    struct builder builder = {.arena = arena, .limits = limits, .report = report};
    if (!yaml_parser_initialize(&builder.parser))
        abort(); /* out of memory, as base/memory.h would */
    builder.stack = mem_new(JSON_MAX_DEPTH, sizeof *builder.stack);
    read_events(&builder, text, size);
    if (!builder.failed && !builder.root) {
        report_error_at(report, 1, 1, "the file is empty: expected a mapping");
        builder.failed = true;
    }
    while (builder.depth > 0)
        free(builder.stack[--builder.depth].children);
    free(builder.stack);
    HASH_CLEAR(hh, builder.anchors);
    yaml_parser_delete(&builder.parser);
    return builder.failed ? NULL : builder.root;
}

/* --- looking things up ------------------------------------------------------------------------ */

static const struct yaml_pair *find_pair(const struct yaml_node *node, const char *key)
{
    if (node && node->kind == YAML_MAPPING)
        for (int i = 0; i < node->count; i++)
            if (strcmp(node->pairs[i].key->text, key) == 0)
                return &node->pairs[i];
    return NULL;
}

struct yaml_node *yaml_member(const struct yaml_node *node, const char *key)
{
    const struct yaml_pair *pair = find_pair(node, key);
    return pair ? pair->value : NULL;
}

struct yaml_node *yaml_member_key(const struct yaml_node *node, const char *key)
{
    const struct yaml_pair *pair = find_pair(node, key);
    return pair ? pair->key : NULL;
}

static int compare_keys(const void *a, const void *b)
{
    const struct yaml_pair *left = a;
    const struct yaml_pair *right = b;
    return strcmp(left->key->text, right->key->text);
}

struct yaml_pair *yaml_pairs_sorted(const struct yaml_node *mapping)
{
    size_t count = (size_t)mapping->count;
    struct yaml_pair *pairs = mem_new(count + 1, sizeof *pairs);
    memcpy(pairs, mapping->pairs, count * sizeof *pairs);
    qsort(pairs, count, sizeof *pairs, compare_keys);
    return pairs;
}

bool yaml_is_scalar(const struct yaml_node *node)
{
    return node->kind != YAML_LIST && node->kind != YAML_MAPPING;
}
