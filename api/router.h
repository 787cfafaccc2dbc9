/* The router: finds the handler for a method and a path in a table.
 *
 *     static const struct route routes[] = {
 *         {METHOD_GET, "/api/ping", ping_get},
 *         {METHOD_GET, "/api/workflows/<id>", workflows_get_one},
 *         {0},
 *     };
 *
 * A segment in `<…>` takes any one non-empty segment and puts it, decoded, into request->params in
 * order; the rest is compared as it was sent, case and all. Among routes that match the first
 * counts. Unknown paths get 404, known paths with another method 405 and `Allow`; HEAD is served by
 * the GET of the path, OPTIONS by the router.
 */
#pragma once

#include "api/http_request.h"

struct route {
    enum http_method method;
    const char *pattern; /* NULL ends the table */
    http_handler handler;
};

/* Calls the handler of the first matching route, with params and query decoded, or replies itself.
 */
void router_dispatch(const struct route *routes, struct http_request *request);
