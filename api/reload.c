/* POST /api/reload: answers when the definitions are in force. */
#include "api/api.h"
#include "api/body.h"
#include "api/problems_json.h"

static void on_loaded(void *context, const struct error *error)
{
    struct http_request *request = context;
    const struct api *api = request->context;
    if (error != NULL) {
        reply_error(request, 500, "%s", error->text);
        return;
    }
    struct buffer out = {0};
    struct json_writer json;
    json_writer_init(&json, &out);
    json_begin_object(&json);
    json_key(&json, "errors");
    problems_json(&json, api->catalog);
    json_key_int(&json, "loaded", catalog_set(api->catalog)->definition_count);
    waiting_json(&json, api->catalog);
    json_end_object(&json);
    reply_json(request, 200, &out);
}

void reload_post(struct http_request *request)
{
    const struct api *api = request->context;
    if (api_takes_work(request) && body_says_nothing(request) && api_ready(request))
        catalog_reload(api->catalog, on_loaded, request);
}
