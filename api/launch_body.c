#include "api/launch_body.h"

#include <stdlib.h>
#include <string.h>

#include "api/body.h"
#include "api/reply.h"
#include "base/text.h"

/* Longer values are cut in messages. */
#define MAX_SHOWN 200
/* Reasons in one reply. */
#define MAX_REASONS 16

struct reasons {
    struct arena *arena;
    const char *items[MAX_REASONS];
    size_t count;
};

static void add_reason(struct reasons *reasons, const char *text)
{
    if (reasons->count < MAX_REASONS)
        reasons->items[reasons->count++] = text;
}

/* The value as it was written; a string in the quotes that Director's messages have. */
static const char *shown(struct arena *arena, struct json_span value)
{
    switch (json_kind(value)) {
    case JSON_NULL:
        return "None";
    case JSON_TRUE:
        return "True";
    case JSON_FALSE:
        return "False";
    default:
        break;
    }
    size_t size = value.size;
    const char *cut = "";
    if (size > MAX_SHOWN) {
        for (size = MAX_SHOWN; (value.text[size] & 0xc0) == 0x80;)
            size--; /* not within a character */
        cut = "…";
    }
    bool quoted = json_kind(value) == JSON_STRING && *cut == '\0';
    return quoted ? arena_format(arena, "'%.*s'", (int)size - 2, value.text + 1)
                  : arena_format(arena, "%.*s%s", (int)size, value.text, cut);
}

struct member_rule {
    const char *key;
    enum json_kind kind;
    const char *type;
    bool required;
};

static const struct member_rule rules[] = {
    {"project", JSON_STRING, "string", true},
    {"name", JSON_STRING, "string", true},
    {"payload", JSON_OBJECT, "object", true},
    {"comment", JSON_STRING, "string", false},
};
#define RULE_COUNT (sizeof rules / sizeof *rules)

static void check_required(struct json_span object, struct reasons *reasons)
{
    for (size_t i = 0; i < RULE_COUNT; i++) {
        if (rules[i].required &&
            json_member(object, rules[i].key, strlen(rules[i].key)).text == NULL)
            add_reason(reasons,
                       arena_format(reasons->arena, "'%s' is a required property", rules[i].key));
    }
}

struct unexpected {
    struct reasons *reasons;
    struct json_span object;
    struct buffer names;
    int count;
};

static bool note_unexpected(void *context, struct json_span key, struct json_span value)
{
    struct unexpected *unexpected = context;
    for (size_t i = 0; i < RULE_COUNT; i++) { /* the key itself may be written with escapes */
        if (json_member(unexpected->object, rules[i].key, strlen(rules[i].key)).text == value.text)
            return true;
    }
    if (unexpected->count++ < MAX_REASONS)
        buffer_printf(&unexpected->names, "%s%s", unexpected->count > 1 ? ", " : "",
                      shown(unexpected->reasons->arena, key));
    return true;
}

static void check_additional(struct json_span object, struct reasons *reasons)
{
    struct unexpected unexpected = {.reasons = reasons, .object = object};
    json_each_member(object, note_unexpected, &unexpected);
    if (unexpected.count > 0)
        add_reason(reasons, arena_format(reasons->arena,
                                         "Additional properties are not allowed (%s %s unexpected)",
                                         buffer_text(&unexpected.names),
                                         unexpected.count == 1 ? "was" : "were"));
    buffer_done(&unexpected.names);
}

static void check_members(struct json_span object, struct reasons *reasons)
{
    for (size_t i = 0; i < RULE_COUNT; i++) {
        struct json_span value = json_member(object, rules[i].key, strlen(rules[i].key));
        if (value.text != NULL && json_kind(value) != rules[i].kind)
            add_reason(reasons, arena_format(reasons->arena, "%s is not of type '%s'",
                                             shown(reasons->arena, value), rules[i].type));
    }
}

static const char *text_of(struct http_request *request, struct json_span object, const char *key)
{
    struct json_span value = json_member(object, key, strlen(key));
    if (value.text == NULL)
        return NULL;
    char *text = json_unescape(value, NULL);
    const char *kept = arena_text(&request->arena, text);
    free(text);
    return kept;
}

bool launch_body_read(struct http_request *request, struct launch_body *body)
{
    struct reasons reasons = {.arena = &request->arena};
    if (!body_json(request, &body->text))
        return false;
    if (body->text.text == NULL) {
        reply_error(request, 400, "a JSON body is needed: {\"project\", \"name\", \"payload\"}");
        return false;
    }
    if (json_kind(body->text) != JSON_OBJECT) {
        add_reason(&reasons, arena_format(&request->arena, "%s is not of type 'object'",
                                          shown(&request->arena, body->text)));
    } else {
        check_required(body->text, &reasons);
        check_additional(body->text, &reasons);
        check_members(body->text, &reasons);
    }
    if (reasons.count == 0) {
        body->project = text_of(request, body->text, "project");
        body->name = text_of(request, body->text, "name");
        body->comment = text_of(request, body->text, "comment");
        body->payload = json_member(body->text, "payload", strlen("payload"));
        if (body->comment != NULL &&
            text_utf8_count(body->comment, strlen(body->comment)) > LAUNCH_MAX_COMMENT)
            add_reason(&reasons,
                       arena_format(&request->arena, "'comment' is longer than %d characters",
                                    LAUNCH_MAX_COMMENT));
    }
    if (reasons.count == 0)
        return true;
    reply_errors(request, 400, "Error validating against schema", reasons.items, reasons.count);
    return false;
}
