/* GET /api/workflows and GET /api/workflows/<id>. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/paging.h"
#include "api/workflow_json.h"

/* --- the list -------------------------------------------------------------------------------- */

struct listing {
    struct http_request *request;
    struct workflow_filter filter;
    struct paging paging;
    int64_t count;
    struct id last;
    struct buffer out;
    struct json_writer json;
};

static void on_list_row(void *context, const struct workflow_row *row)
{
    struct listing *listing = context;
    listing->count++;
    listing->last = row->id;
    workflow_json(&listing->json, row, NULL);
}

static void link_next(struct listing *listing)
{
    struct http_request *request = listing->request;
    struct buffer reference = {0};
    char id[ID_TEXT_SIZE];
    buffer_add_text(&reference, request->path);
    for (int i = 0; i < request->query.count; i++) {
        const struct query_param *param = &request->query.params[i];
        if (strcmp(param->name, "page") != 0 && strcmp(param->name, "before") != 0)
            query_add(&reference, param->name, param->value);
    }
    id_format(&listing->last, id);
    query_add(&reference, "before", id);
    http_reply_field(request, "Link", "<%s>; rel=\"next\"", buffer_text(&reference));
    buffer_done(&reference);
}

static void on_list_done(void *context, const struct pg_failure *failure)
{
    struct listing *listing = context;
    json_end_array(&listing->json);
    struct buffer out = listing->out; /* a reply ends the listing */
    if (failure != NULL) {
        api_failed(listing->request, failure);
    } else if (!paging_is_past_end(listing->request, &listing->paging, listing->count)) {
        if (listing->count > 0 && listing->count == listing->filter.limit)
            link_next(listing);
        reply_json(listing->request, 200, &out);
    }
    buffer_done(&out);
}

static int read_statuses(struct http_request *request, struct workflow_filter *filter,
                         struct error *error)
{
    static const char *const words[] = {"pending", "progress", "success",
                                        "error",   "canceled", NULL};
    unsigned set = 0;
    int code = query_words(&request->query, "status", words, &set, error);
    if (code < 0 || set == 0)
        return code;
    const char **chosen = arena_new(&request->arena, 6, sizeof *chosen);
    for (int i = 0, n = 0; words[i] != NULL; i++) {
        if (set & 1u << i)
            chosen[n++] = words[i];
    }
    filter->statuses = chosen;
    return 0;
}

static int read_periodic(struct http_request *request, struct workflow_filter *filter,
                         struct error *error)
{
    const char *given = NULL;
    int code = query_text(&request->query, "periodic", &given, error);
    if (code < 0 || given == NULL)
        return code;
    bool *periodic = arena_new(&request->arena, 1, sizeof *periodic);
    filter->periodic = periodic;
    return query_bool(&request->query, "periodic", periodic, error);
}

static int read_listing(struct http_request *request, struct listing *listing, struct error *error)
{
    const struct query *query = &request->query;
    struct workflow_filter *filter = &listing->filter;
    int code = paging_read(request, ((const struct api *)request->context)->workflows_per_page,
                           &listing->paging, error);
    if (code == 0)
        code = query_bool(query, "with_payload", &filter->with_payload, error);
    if (code == 0)
        code = query_text(query, "project", &filter->project, error);
    if (code == 0)
        code = query_text(query, "name", &filter->name, error);
    if (code == 0)
        code = query_text(query, "comment", &filter->comment, error);
    if (code == 0)
        code = query_time(query, "created_after", &filter->created_after_us, error);
    if (code == 0)
        code = query_time(query, "created_before", &filter->created_before_us, error);
    if (code == 0)
        code = query_id(query, "before", &filter->before, error);
    if (code == 0)
        code = read_periodic(request, filter, error);
    if (code == 0)
        code = read_statuses(request, filter, error);
    filter->limit = listing->paging.limit;
    filter->offset = listing->paging.offset;
    return code;
}

void workflows_list(struct http_request *request)
{
    const struct api *api = request->context;
    struct error error;
    struct listing *listing = arena_new(&request->arena, 1, sizeof *listing);
    listing->request = request;
    listing->filter.with_payload = true;
    if (read_listing(request, listing, &error) < 0) {
        reply_error(request, 400, "%s", error.text);
        return;
    }
    if (!api_ready(request))
        return;
    json_writer_init(&listing->json, &listing->out);
    json_begin_array(&listing->json);
    store_list_workflows(api->store, &listing->filter, on_list_row, on_list_done, listing);
}

/* --- one ------------------------------------------------------------------------------------- */

/* Attempts come first, then tasks, then the workflow: no status is older than one that depends on
 * it. */
struct showing {
    struct http_request *request;
    struct id id;
    bool with_attempts;
    struct buffer attempts; /* the JSON arrays of all tasks, one after the other */
    struct attempts_of *attempts_of;
    size_t attempts_count;
    size_t attempts_next;
    struct buffer out; /* the workflow, without its tasks */
    size_t tasks_at;   /* where these belong */
    bool found;
    struct buffer tasks;
    struct json_writer json;
    struct pg_failure failure; /* of a call before the last one; no class: none */
};

/* Where in `attempts` the earlier attempts of a task stand. */
struct attempts_of {
    int position;
    size_t from;
    size_t to;
};

static void on_attempt(void *context, const struct attempt_row *row)
{
    struct showing *showing = context;
    struct json_writer json;
    size_t count = showing->attempts_count;
    if (count == 0 || showing->attempts_of[count - 1].position != row->position) {
        showing->attempts_of =
            mem_resize(showing->attempts_of, count + 1, sizeof *showing->attempts_of);
        showing->attempts_of[count] =
            (struct attempts_of){row->position, showing->attempts.size, showing->attempts.size};
        showing->attempts_count = ++count;
    }
    buffer_add_char(&showing->attempts,
                    showing->attempts_of[count - 1].from == showing->attempts.size ? '[' : ',');
    json_writer_init(&json, &showing->attempts);
    attempt_json(&json, row);
    showing->attempts_of[count - 1].to = showing->attempts.size;
}

static void on_attempts(void *context, const struct pg_failure *failure)
{
    struct showing *showing = context;
    if (failure != NULL)
        showing->failure = *failure;
}

static void write_task(struct showing *showing, const struct task_row *row)
{
    struct buffer array = {0};
    size_t next = showing->attempts_next;
    if (next < showing->attempts_count && showing->attempts_of[next].position == row->position) {
        const struct attempts_of *of = &showing->attempts_of[showing->attempts_next++];
        buffer_add(&array, showing->attempts.data + of->from, of->to - of->from);
        buffer_add_char(&array, ']');
    } else {
        buffer_add_text(&array, "[]");
    }
    task_json(&showing->json, &showing->id, row, &(struct json_span){array.data, array.size});
    buffer_done(&array);
}

static void on_task(void *context, const struct task_row *row)
{
    struct showing *showing = context;
    if (showing->with_attempts)
        write_task(showing, row);
    else
        task_json(&showing->json, &showing->id, row, NULL);
}

static void on_workflow(void *context, const struct workflow_row *row,
                        const struct pg_failure *failure)
{
    struct showing *showing = context;
    struct json_writer json;
    if (failure != NULL)
        showing->failure = *failure;
    if (row == NULL)
        return;
    showing->found = true;
    json_writer_init(&json, &showing->out);
    workflow_json(&json, row, &showing->tasks_at);
}

static void reply_shown(struct http_request *request, const struct buffer *workflow,
                        size_t tasks_at, const struct buffer *tasks)
{
    struct buffer out = {0};
    buffer_add(&out, workflow->data, tasks_at);
    buffer_add(&out, tasks->data, tasks->size);
    buffer_add(&out, workflow->data + tasks_at, workflow->size - tasks_at);
    reply_json(request, 200, &out);
}

static void on_tasks(void *context, const struct pg_failure *failure)
{
    struct showing *showing = context;
    json_end_array(&showing->json);
    struct buffer tasks = showing->tasks; /* a reply ends the showing */
    struct buffer workflow = showing->out;
    if (failure == NULL && showing->failure.class != 0)
        failure = &showing->failure;
    buffer_done(&showing->attempts);
    free(showing->attempts_of);
    if (failure != NULL)
        api_failed(showing->request, failure);
    else if (!showing->found)
        reply_error(showing->request, 404, "Workflow %s not found", showing->request->params[0]);
    else
        reply_shown(showing->request, &workflow, showing->tasks_at, &tasks);
    buffer_done(&tasks);
    buffer_done(&workflow);
}

void workflows_get(struct http_request *request)
{
    const struct api *api = request->context;
    struct error error;
    bool with_payload = true;
    struct showing *showing = arena_new(&request->arena, 1, sizeof *showing);
    showing->request = request;
    if (!api_id(request, "Workflow", &showing->id))
        return;
    if (query_bool(&request->query, "with_payload", &with_payload, &error) < 0 ||
        query_bool(&request->query, "attempts", &showing->with_attempts, &error) < 0) {
        reply_error(request, 400, "%s", error.text);
        return;
    }
    if (!api_ready(request))
        return;
    json_writer_init(&showing->json, &showing->tasks);
    json_begin_array(&showing->json);
    store_find_workflow(api->store, &showing->id, with_payload, on_workflow, showing);
    if (showing->with_attempts)
        store_list_attempts(api->store, &showing->id, on_attempt, on_attempts, showing);
    store_find_tasks(api->store, &showing->id, on_task, on_tasks, showing);
}
