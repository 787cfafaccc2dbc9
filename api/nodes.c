/* GET /api/nodes and POST /api/nodes/<id>/drain. */
#include <string.h>

#include "api/api.h"
#include "api/body.h"
#include "api/paging.h"

struct nodes {
    struct http_request *request;
    struct paging paging;
    int64_t count;
    struct buffer out;
    struct json_writer json;
};

static void on_node(void *context, const struct node_row *row)
{
    struct nodes *nodes = context;
    struct json_writer *json = &nodes->json;
    nodes->count++;
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

static void on_listed(void *context, const struct pg_failure *failure)
{
    struct nodes *nodes = context;
    json_end_array(&nodes->json);
    struct buffer out = nodes->out; /* a reply ends the list */
    if (failure != NULL)
        api_failed(nodes->request, failure);
    else if (paging_is_past_end(&nodes->paging, nodes->count))
        paging_refuse(nodes->request, &nodes->paging);
    else
        reply_json(nodes->request, 200, &out);
    buffer_done(&out);
}

void nodes_list(struct http_request *request)
{
    const struct api *api = request->context;
    struct error error;
    struct nodes *nodes = arena_new(&request->arena, 1, sizeof *nodes);
    nodes->request = request;
    if (paging_read(request, api->workflows_per_page, &nodes->paging, &error) < 0) {
        reply_error(request, 400, "%s", error.text);
        return;
    }
    if (!api_ready(request))
        return;
    json_writer_init(&nodes->json, &nodes->out);
    json_begin_array(&nodes->json);
    store_list_nodes(api->store, nodes->paging.limit, nodes->paging.offset, on_node, on_listed,
                     nodes);
}

static void on_drained(void *context, const struct pg_failure *failure)
{
    struct nodes *nodes = context;
    struct http_request *request = nodes->request;
    const struct api *api = request->context;
    struct buffer out = nodes->out;
    struct id id;
    struct id own = engine_stats(api->engine).node;
    if (failure != NULL) {
        api_failed(request, failure);
    } else if (nodes->count == 0) {
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
    struct json_span body;
    struct id id;
    if (!body_json(request, &body))
        return;
    if (!api_id(request, "Node", &id))
        return;
    if (!api_ready(request))
        return;
    struct nodes *nodes = arena_new(&request->arena, 1, sizeof *nodes);
    nodes->request = request;
    json_writer_init(&nodes->json, &nodes->out);
    store_drain_node(api->store, &id, on_node, on_drained, nodes);
}
