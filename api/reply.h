/* The replies of the REST API: JSON bodies with one newline at the end, errors as `{"error":"…"}`.
 *
 * Each of these is the one reply of its request (see http_request.h); the request is gone
 * afterwards.
 */
#pragma once

#include "api/http_request.h"

/* As http_reply_fits, of reads: they can be repeated. What a POST has done is said in any case, and
 * clients that read slowly keep nobody from canceling and launching. */
bool reply_fits(const struct http_request *request, size_t bytes);
/* The content of `json` (one JSON text) is moved out and a newline added. It is reply_busy when it
 * is large and there is no room (reply_fits). */
void reply_json(struct http_request *request, int status, struct buffer *json);
/* `{"error":"…"}`. What is not UTF-8 in the text becomes U+FFFD. */
void reply_error(struct http_request *request, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `{"error":"…","errors":["…",…]}` */
void reply_errors(struct http_request *request, int status, const char *text,
                  const char *const *reasons, size_t count);
/* 503 with `Retry-After`. */
void reply_unavailable(struct http_request *request, int retry_after_s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* 503: no room for another body, see http_request_set_body. */
void reply_crowded(struct http_request *request);
/* 503: no room for a reply. */
void reply_busy(struct http_request *request);
