#include "api/api.h"

#include <string.h>

#include "api/router.h"
#include "base/log.h"

/* What a client is asked to wait; the store is back within a few seconds of the database's return.
 */
#define RETRY_AFTER_S 5

static const struct route routes[] = {
    {METHOD_GET, "/api/ping", ping_get},
    {METHOD_GET, "/api/health", health_get},
    {METHOD_GET, "/api/workflows", workflows_list},
    {METHOD_POST, "/api/workflows", workflows_launch},
    {METHOD_GET, "/api/workflows/<id>", workflows_get},
    {METHOD_POST, "/api/workflows/<id>/relaunch", workflows_relaunch},
    {METHOD_POST, "/api/workflows/<id>/cancel", workflows_cancel},
    {METHOD_GET, "/api/workflows/<id>/tasks/<task>/log", logs_get},
    {METHOD_GET, "/api/definitions", definitions_list},
    {METHOD_GET, "/api/definitions/<fullname>", definitions_get},
    {METHOD_GET, "/api/nodes", nodes_list},
    {METHOD_POST, "/api/nodes/<id>/drain", nodes_drain},
    {METHOD_POST, "/api/reload", reload_post},
    {METHOD_GET, "/api/schedules", schedules_list},
    {METHOD_GET, "/api/schedules/<name>/fires", schedules_fires},
    {METHOD_POST, "/api/schedules/<name>/pause", schedules_pause},
    {METHOD_POST, "/api/schedules/<name>/resume", schedules_resume},
    {METHOD_POST, "/api/schedules/<name>/trigger", schedules_trigger},
    {0},
};

void api_handle(struct http_request *request)
{
    router_dispatch(routes, request);
}

bool api_ready(struct http_request *request)
{
    const struct api *api = request->context;
    if (!reply_fits(request, 1)) {
        reply_busy(request);
        return false;
    }
    if (api->catalog != NULL && catalog_set(api->catalog) != NULL && store_is_up(api->store))
        return true;
    reply_unavailable(request, RETRY_AFTER_S, "the database is not available");
    return false;
}

bool api_takes_work(struct http_request *request)
{
    const struct api *api = request->context;
    if (!api->stopping)
        return true;
    reply_unavailable(request, RETRY_AFTER_S, "the daemon is stopping and takes no new work");
    return false;
}

bool api_id(struct http_request *request, const char *noun, struct id *id)
{
    const char *text = request->params[0];
    if (id_parse(text, strlen(text), id))
        return true;
    reply_error(request, 404, "%s %s not found", noun, text);
    return false;
}

void api_failed(struct http_request *request, const struct pg_failure *failure)
{
    const struct api *api = request->context;
    if (store_is_unregistered(failure)) {
        catalog_renew(api->catalog);
        reply_unavailable(request, RETRY_AFTER_S,
                          "the database does not know this definition; it is registered anew");
        return;
    }
    if (failure->is_overdue) {
        reply_unavailable(request, RETRY_AFTER_S,
                          "the database took longer than DIRECTOR_QUERY_TIMEOUT allows");
        return;
    }
    switch (failure->class) {
    case PG_AWAY:
        reply_unavailable(request, RETRY_AFTER_S, "the database is not available");
        break;
    case PG_RETRY:
    case PG_RESOURCE:
        reply_unavailable(request, RETRY_AFTER_S, "the database has no room: %s", failure->text);
        break;
    default:
        log_error("a request failed in the database", log_text("path", request->path),
                  log_text("sqlstate", failure->sqlstate), log_text("error", failure->text));
        reply_error(request, 500, "internal error; the log says more");
        break;
    }
}
