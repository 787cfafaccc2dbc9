/* GET /api/nodes and POST /api/nodes/<id>/drain. */
#include <string.h>

#include "api/api.h"
#include "api/body.h"
#include "api/list.h"

static void on_node(void *context, const struct node_row *row)
{
    struct list *list = context;
    struct json_writer *json = &list->json;
    list->count++;
    json_begin_object(json);
    json_key_string(json, "definitions", row->digest);
    json_key_time(json, "heartbeat", row->heartbeat_us);
    json_key_string(json, "host", row->host);
    json_key_id(json, "id", &row->id);
    json_key(json, "queues");
    json_begin_array(json);
    for (struct pg_array queues = row->queues; queues.left > 0;) {
        struct json_span queue = pg_array_text(&queues);
        json_string_n(json, queue.text, queue.size);
    }
    json_end_array(json);
    json_key_int(json, "running", row->running);
    json_key_int(json, "slots", row->slots);
    json_key_time(json, "started", row->started_us);
    json_key_string(json, "state", row->state);
    json_key_string(json, "version", row->version);
    json_end_object(json);
}

void nodes_list(struct http_request *request)
{
    const struct api *api = request->context;
    struct list *list = list_begin(request);
    if (list != NULL)
        store_list_nodes(api->store, list->paging.limit, list->paging.offset, on_node, list_end,
                         list);
}

static void on_drained(void *context, const struct pg_failure *failure)
{
    struct list *list = context;
    struct http_request *request = list->request;
    const struct api *api = request->context;
    struct buffer out = list->out;
    struct id id;
    struct id own = engine_stats(api->engine).node;
    if (failure != NULL) {
        api_failed(request, failure);
    } else if (list->count == 0) {
        reply_error(request, 404, "Node %s not found", request->params[0]);
    } else {
        /* Ourselves at once; another daemon hears it with its next heartbeat, and claims nothing
         * from now on. */
        if (id_parse(request->params[0], strlen(request->params[0]), &id) &&
            id_compare(&id, &own) == 0)
            engine_drain(api->engine);
        reply_json(request, 200, &out);
    }
    buffer_done(&out);
}

void nodes_drain(struct http_request *request)
{
    const struct api *api = request->context;
    struct id id;
    if (!body_says_nothing(request))
        return;
    if (!api_id(request, "Node", &id))
        return;
    if (!api_ready(request))
        return;
    store_drain_node(api->store, &id, on_node, on_drained, list_new(request));
}
