/* The body of POST /api/workflows: {"project", "name", "payload"[, "comment"]}, judged in the words
 * of Director's schema. */
#pragma once

#include <stdbool.h>

#include "api/http_request.h"
#include "base/json.h"

#define LAUNCH_MAX_COMMENT 255 /* characters */

struct launch_body {
    const char *project; /* of the request's arena, like the following */
    const char *name;
    const char *comment; /* NULL: none */
    struct json_span payload;
    struct json_span text; /* the whole body */
};

/* Returns false after it has replied itself. */
bool launch_body_read(struct http_request *request, struct launch_body *body);
