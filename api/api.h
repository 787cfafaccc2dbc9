/* The REST API: one route table; the handlers of each resource stand in a file of its own.
 * docs/api.md is its contract. */
#pragma once

#include "api/http_request.h"
#include "api/reply.h"
#include "scheduler/catalog.h"
#include "scheduler/engine.h"
#include "scheduler/timetable.h"
#include "store/store.h"

/* What the handlers work on: `request->context`. */
struct api {
    struct store *store;     /* NULL until the database was reached first */
    struct catalog *catalog; /* NULL until then, like the following */
    struct engine *engine;
    struct timetable *timetable;
    int workflows_per_page;
    size_t max_target; /* bytes of a request's target */
    int max_waiting_launches;
    bool stopping; /* launches, triggers and reloads are refused, until what runs has ended */
    uv_loop_t *loop;
    int log_followers;          /* admitted, from the request to the end of the stream */
    const char *database_error; /* why there is no store yet */
};

/* Serves one request: the handler to open the HTTP server with, its context a struct api. */
void api_handle(struct http_request *request);

/* True when the database can be asked, and there is room for a reply; otherwise a 503 with
 * Retry-After was sent. */
bool api_ready(struct http_request *request);
/* True unless the daemon stops and takes no new work; then a 503 with Retry-After was sent. */
bool api_takes_work(struct http_request *request);
/* The id in the path's `<id>`; false when it is none: then 404 `NOUN … not found` was sent. */
bool api_id(struct http_request *request, const char *noun, struct id *id);
/* Replies for a call that failed: 503 while the database is away, too slow or short of something,
 * else 500, logged. */
void api_failed(struct http_request *request, const struct pg_failure *failure);

void definitions_list(struct http_request *request);
void definitions_get(struct http_request *request);
void health_get(struct http_request *request);
void logs_get(struct http_request *request);
void nodes_drain(struct http_request *request);
void nodes_list(struct http_request *request);
void ping_get(struct http_request *request);
void reload_post(struct http_request *request);
void schedules_fires(struct http_request *request);
void schedules_list(struct http_request *request);
void schedules_pause(struct http_request *request);
void schedules_resume(struct http_request *request);
void schedules_trigger(struct http_request *request);
void workflows_cancel(struct http_request *request);
void workflows_get(struct http_request *request);
void workflows_launch(struct http_request *request);
void workflows_list(struct http_request *request);
void workflows_relaunch(struct http_request *request);
