#include "api/router.h"

#include <string.h>

#include "api/reply.h"

/* Segments of the path that the pattern's `<…>` took, as they were sent. */
struct match {
    const char *texts[HTTP_MAX_PARAMS];
    size_t sizes[HTTP_MAX_PARAMS];
    int count;
};

/* The rest of the pattern and of the path behind a segment that was taken, or false. */
static bool take_segment(const char **pattern, const char **path, struct match *match)
{
    size_t size = strcspn(*path, "/");
    if (size == 0 || match->count == HTTP_MAX_PARAMS)
        return false;
    match->texts[match->count] = *path;
    match->sizes[match->count++] = size;
    *path += size;
    *pattern += strcspn(*pattern, ">") + 1;
    return true;
}

static bool match_path(const char *pattern, const char *path, struct match *match)
{
    match->count = 0;
    while (*pattern != '\0') {
        if (*pattern == '<') {
            if (!take_segment(&pattern, &path, match))
                return false;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

/* As `Allow` names what a route serves. */
static const char *const method_names[] = {
    [METHOD_DELETE] = "DELETE", [METHOD_GET] = "GET, HEAD", [METHOD_PATCH] = "PATCH",
    [METHOD_POST] = "POST",     [METHOD_PUT] = "PUT",
};

/* Puts the methods of a path (of all paths for `*`) into `Allow`; returns false when there are
 * none. */
static bool allow(const struct route *routes, struct http_request *request)
{
    struct match match;
    unsigned methods = 0;
    for (const struct route *route = routes; route->pattern != NULL; route++) {
        if (*request->path == '*' || match_path(route->pattern, request->path, &match))
            methods |= 1u << route->method;
    }
    if (methods == 0)
        return false;
    struct buffer list = {0};
    for (int method = 0; method <= METHOD_PUT; method++) {
        if (methods & 1u << method)
            buffer_printf(&list, "%s, ", method_names[method]);
    }
    http_reply_field(request, "Allow", "%sOPTIONS", buffer_text(&list));
    buffer_done(&list);
    return true;
}

/* No route has this path with this method. */
static void reply_unrouted(const struct route *routes, struct http_request *request)
{
    if (!allow(routes, request))
        reply_error(request, 404, "%s not found", request->path);
    else if (request->method == METHOD_OPTIONS)
        http_reply(request, 204, NULL, NULL);
    else
        reply_error(request, 405, "%s is not allowed for %s", request->method_text, request->path);
}

static int decode(struct http_request *request, const struct match *match, struct error *error)
{
    for (int i = 0; i < match->count; i++) {
        request->params[i] =
            query_decode(&request->arena, match->texts[i], match->sizes[i], false, error);
        if (request->params[i] == NULL)
            return error_wrap(error, "in the path");
    }
    return query_parse(&request->arena, request->query_text, &request->query, error);
}

void router_dispatch(const struct route *routes, struct http_request *request)
{
    struct match match;
    struct error error;
    enum http_method method = request->method == METHOD_HEAD ? METHOD_GET : request->method;
    for (const struct route *route = routes; route->pattern != NULL; route++) {
        if (route->method != method || !match_path(route->pattern, request->path, &match))
            continue;
        if (decode(request, &match, &error) < 0)
            reply_error(request, 400, "%s", error.text);
        else
            route->handler(request);
        return;
    }
    reply_unrouted(routes, request);
}
