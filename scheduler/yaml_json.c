#include "scheduler/yaml_json.h"

#include <stdlib.h>

static void write_mapping(struct json_writer *writer, const struct yaml_node *node,
                          enum yaml_json_order order, struct report *report)
{
    struct yaml_pair *sorted = order == YAML_JSON_SORTED ? yaml_pairs_sorted(node) : NULL;
    const struct yaml_pair *pairs = sorted ? sorted : node->pairs;
    json_begin_object(writer);
    for (int i = 0; i < node->count; i++) {
        json_key_unordered(writer, pairs[i].key->text, pairs[i].key->size);
        yaml_json(writer, pairs[i].value, order, report);
    }
    json_end_object(writer);
    free(sorted);
}

static void write_list(struct json_writer *writer, const struct yaml_node *node,
                       enum yaml_json_order order, struct report *report)
{
    json_begin_array(writer);
    for (int i = 0; i < node->count; i++)
        yaml_json(writer, node->items[i], order, report);
    json_end_array(writer);
}

static void write_number(struct json_writer *writer, const struct yaml_node *node,
                         struct report *report)
{
    struct buffer number = {0};
    struct error error = {0};
    if (yaml_scalar_number(node->text, &number, &error) == 0) {
        json_raw(writer, number.data, number.size);
    } else {
        report_error(report, node, "%s", error.text);
        json_null(writer);
    }
    buffer_done(&number);
}

void yaml_json(struct json_writer *writer, const struct yaml_node *node, enum yaml_json_order order,
               struct report *report)
{
    switch (node->kind) {
    case YAML_NULL:
        json_null(writer);
        break;
    case YAML_BOOL:
        json_bool(writer, node->text[0] == 't' || node->text[0] == 'T');
        break;
    case YAML_INT:
    case YAML_FLOAT:
        write_number(writer, node, report);
        break;
    case YAML_TEXT:
        json_string_n(writer, node->text, node->size);
        break;
    case YAML_LIST:
        write_list(writer, node, order, report);
        break;
    case YAML_MAPPING:
        write_mapping(writer, node, order, report);
        break;
    }
}

const char *yaml_json_text(struct arena *arena, const struct yaml_node *node,
                           enum yaml_json_order order, struct report *report)
{
    struct buffer out = {0};
    struct json_writer writer;
    json_writer_init(&writer, &out);
    yaml_json(&writer, node, order, report);
    const char *text = arena_text_n(arena, out.data, out.size);
    buffer_done(&out);
    return text;
}
