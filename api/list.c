#include "api/list.h"

#include "api/api.h"

struct list *list_new(struct http_request *request)
{
    struct list *list = arena_new(&request->arena, 1, sizeof *list);
    list->request = request;
    json_writer_init(&list->json, &list->out);
    return list;
}

struct list *list_begin(struct http_request *request)
{
    const struct api *api = request->context;
    struct error error;
    struct list *list = list_new(request);
    if (paging_read(request, api->workflows_per_page, &list->paging, &error) < 0) {
        reply_error(request, 400, "%s", error.text);
        return NULL;
    }
    if (!api_ready(request))
        return NULL;
    json_begin_array(&list->json);
    return list;
}

void list_end(void *context, const struct pg_failure *failure)
{
    struct list *list = context;
    json_end_array(&list->json);
    struct buffer out = list->out; /* a reply ends the list */
    if (failure != NULL)
        api_failed(list->request, failure);
    else if (paging_is_past_end(&list->paging, list->count))
        paging_refuse(list->request, &list->paging);
    else
        reply_json(list->request, 200, &out);
    buffer_done(&out);
}
