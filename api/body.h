/* The JSON body of a request. */
#pragma once

#include <stdbool.h>

#include "api/http_request.h"
#include "base/json.h"

/* The body, checked (see json_check), or {NULL, 0} when there is none. Returns false after it has
 * replied itself: 415 when Content-Type is neither `application/json` nor `application/…+json` or
 * there is a Content-Encoding, 400 with position and reason when it is no JSON. */
bool body_json(struct http_request *request, struct json_span *body);
/* Is this an object with so many members? */
bool body_is_object(struct json_span body, int members);
/* For requests that say everything in their path: there is no body, or `{}`. Else false, after a
 * reply: what is said and not listened to would be taken for done. */
bool body_says_nothing(struct http_request *request);
