/* The JSON body of a request. */
#pragma once

#include <stdbool.h>

#include "api/http_request.h"
#include "base/json.h"

/* The body, checked (see json_check), or {NULL, 0} when there is none. Returns false after it has
 * replied itself: 415 when Content-Type is neither `application/json` nor `application/…+json` or
 * there is a Content-Encoding, 400 with position and reason when it is no JSON. */
bool body_json(struct http_request *request, struct json_span *body);
