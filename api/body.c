#include "api/body.h"

#include <string.h>
#include <strings.h>

#include "api/reply.h"

/* `application/json` or `application/…+json` (RFC 6839), parameters aside. */
static bool is_json_type(const char *type)
{
    static const char json[] = "application/json", suffix[] = "+json";
    size_t size = strcspn(type, "; \t");
    if (size < strlen("application/") || strncasecmp(type, json, strlen("application/")) != 0)
        return false;
    if (size == strlen(json) && strncasecmp(type, json, size) == 0)
        return true;
    size_t least = strlen("application/") + strlen(suffix) + 1;
    return size >= least && strncasecmp(type + size - strlen(suffix), suffix, strlen(suffix)) == 0;
}

bool body_json(struct http_request *request, struct json_span *body)
{
    struct error error;
    if (request->body.size == 0) {
        *body = (struct json_span){0};
        return true;
    }
    const char *type = http_request_field(request, "Content-Type");
    if (type == NULL || !is_json_type(type)) {
        reply_error(request, 415, "The Content-Type must be application/json, not '%s'",
                    type != NULL ? type : "");
        return false;
    }
    if (http_request_field(request, "Content-Encoding") != NULL) {
        reply_error(request, 415, "A body with a Content-Encoding is not read");
        return false;
    }
    if (json_check(request->body.data, request->body.size, &error) < 0) {
        reply_error(request, 400, "Malformed JSON: %s", error.text);
        return false;
    }
    *body = (struct json_span){.text = request->body.data, .size = request->body.size};
    return true;
}

static bool count_member(void *context, struct json_span key, struct json_span value)
{
    (void)key;
    (void)value;
    (*(int *)context)++;
    return true;
}

bool body_is_object(struct json_span body, int members)
{
    int count = 0;
    if (json_kind(body) != JSON_OBJECT)
        return false;
    json_each_member(body, count_member, &count);
    return count == members;
}

bool body_says_nothing(struct http_request *request)
{
    struct json_span body;
    if (!body_json(request, &body))
        return false;
    if (body.text == NULL || body_is_object(body, 0))
        return true;
    reply_error(request, 400, "the body must be empty or {}");
    return false;
}
