#include "api/api.h"

void ping_get(struct http_request *request)
{
    struct buffer json = {0};
    buffer_add_text(&json, "{\"message\":\"pong\"}");
    reply_json(request, 200, &json);
}
