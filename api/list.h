/* A list of what is never much: its rows become a JSON array in memory, and that the reply. Lives
 * in its request's arena. */
#pragma once

#include "api/http_request.h"
#include "api/paging.h"
#include "base/json.h"
#include "store/pg_failure.h"

struct list {
    struct http_request *request;
    struct paging paging;
    int64_t count; /* of the rows so far; whoever writes one counts it */
    struct buffer out;
    struct json_writer json;
};

/* Empty and without pages. */
struct list *list_new(struct http_request *request);
/* An array of the page that the request asks for; NULL after a reply. */
struct list *list_begin(struct http_request *request);
/* Replies with the array; a store_done_cb. */
void list_end(void *context, const struct pg_failure *failure);
