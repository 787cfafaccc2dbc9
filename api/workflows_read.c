/* GET /api/workflows and GET /api/workflows/<id>. */
#include <string.h>

#include "api/api.h"
#include "api/paging.h"
#include "api/slices.h"
#include "api/workflow_json.h"

/* --- the list -------------------------------------------------------------------------------- */

/* A page is first read the quick way, for which its payloads have to be small. What that leaves is
 * read in slices by bytes, and the first of these tells where the page ends. */
struct listing {
    struct slices slices;
    struct workflow_filter filter; /* of the next slice */
    struct paging paging;
    bool by_bytes;
    int64_t count; /* of the workflows so far */
    int64_t slice_count;
    struct id last;
    struct json_writer json;
};

static void on_list_row(void *context, const struct workflow_row *row);
static void on_list_slice(void *context, const struct store_slice *slice,
                          const struct pg_failure *failure);

static void read_list(void *context)
{
    struct listing *listing = context;
    const struct api *api = listing->slices.request->context;
    listing->slice_count = 0;
    (listing->by_bytes ? store_slice_workflows : store_list_workflows)(
        api->store, &listing->filter, on_list_row, on_list_slice, listing);
}

static void on_list_row(void *context, const struct workflow_row *row)
{
    struct listing *listing = context;
    listing->count++;
    listing->slice_count++;
    listing->last = row->id;
    workflow_json(&listing->json, row, NULL);
}

/* `last` is the last id of a full page. Encoding may make the target three times as long; one that
 * would be refused is no use. */
static void link_next(struct http_request *request, const struct id *last)
{
    const struct api *api = request->context;
    struct buffer reference = {0};
    char id[ID_TEXT_SIZE];
    buffer_add_text(&reference, request->path);
    for (int i = 0; i < request->query.count; i++) {
        const struct query_param *param = &request->query.params[i];
        if (strcmp(param->name, "page") != 0 && strcmp(param->name, "before") != 0)
            query_add(&reference, param->name, param->value);
    }
    id_format(last, id);
    query_add(&reference, "before", id);
    if (reference.size <= api->max_target)
        http_reply_field(request, "Link", "<%s>; rel=\"next\"", buffer_text(&reference));
    buffer_done(&reference);
}

/* Nothing more of the page is to be read. */
static void end_list(struct listing *listing)
{
    struct http_request *request = listing->slices.request;
    struct paging paging = listing->paging;
    if (paging_is_past_end(&paging, listing->count)) {
        slices_drop(&listing->slices);
        paging_refuse(request, &paging);
        return;
    }
    if (!listing->slices.streaming && listing->count > 0 && listing->count == paging.limit)
        link_next(request, &listing->last);
    json_end_array(&listing->json);
    slices_end(&listing->slices);
}

/* The next slice begins behind the last row. */
static void advance(struct listing *listing)
{
    if (listing->count == 0)
        return;
    listing->filter.before = listing->last;
    listing->filter.offset = 0;
    listing->filter.limit = listing->paging.limit - listing->count;
}

static void on_list_slice(void *context, const struct store_slice *slice,
                          const struct pg_failure *failure)
{
    struct listing *listing = context;
    struct slices *slices = &listing->slices;
    if (failure != NULL) {
        slices_fail(slices, failure);
        return;
    }
    bool was_by_bytes = listing->by_bytes;
    bool is_all_seen = listing->slice_count == listing->filter.limit;
    advance(listing);
    if (!slice->is_cut && (!is_all_seen || listing->filter.limit == 0)) {
        end_list(listing);
    } else if (!was_by_bytes) {
        listing->by_bytes = true;
        slices_read_more(slices);
    } else {
        if (!slices->streaming && !id_is_null(&slice->page_end)) {
            listing->filter.until = slice->page_end;
            link_next(slices->request, &slice->page_end);
        }
        listing->filter.limit = slices_look(listing->slice_count, listing->filter.limit);
        slices_go_on(slices);
    }
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
    struct error error;
    struct listing *listing = arena_new(&request->arena, 1, sizeof *listing);
    listing->slices =
        (struct slices){.request = request, .read_next = read_list, .context = listing};
    listing->filter.with_payload = true;
    if (read_listing(request, listing, &error) < 0) {
        reply_error(request, 400, "%s", error.text);
        return;
    }
    if (!api_ready(request))
        return;
    json_writer_init(&listing->json, &listing->slices.out);
    json_begin_array(&listing->json);
    read_list(listing);
}

/* --- one ------------------------------------------------------------------------------------- */

/* The workflow is asked for before its tasks, so that no task looks older than the workflow. The
 * tasks are first read the quick way, without attempts; then in slices. */
struct showing {
    struct slices slices;
    struct id id;
    bool with_attempts;
    bool by_bytes;
    bool found;
    struct buffer tail; /* of the workflow: what stands behind its tasks */
    struct json_writer json;
    bool task_is_open;       /* with attempts: more of them may come … */
    struct buffer task_tail; /* … and this stands behind them */
    struct json_writer attempts;
    struct task_place last;
    int64_t slice_count; /* tasks and attempts */
    int64_t limit;
    struct pg_failure failure; /* of the workflow; no class: none */
};

static void on_task(void *context, const struct task_row *row);
static void on_attempt(void *context, const struct attempt_row *row);
static void on_tasks(void *context, const struct store_slice *slice,
                     const struct pg_failure *failure);

static void read_tasks(void *context)
{
    struct showing *showing = context;
    const struct api *api = showing->slices.request->context;
    showing->slice_count = 0;
    if (showing->by_bytes)
        store_slice_tasks(api->store, &showing->id, showing->last, showing->limit, on_task,
                          showing->with_attempts ? on_attempt : NULL, on_tasks, showing);
    else
        store_find_tasks(api->store, &showing->id, on_task, on_tasks, showing);
}

static void free_showing(void *context)
{
    struct showing *showing = context;
    buffer_done(&showing->tail);
    buffer_done(&showing->task_tail);
}

/* Moves what stands in `out` from `at` on. */
static void split(struct buffer *out, size_t at, struct buffer *tail)
{
    buffer_clear(tail);
    buffer_add(tail, out->data + at, out->size - at);
    out->size = at;
}

static void on_workflow(void *context, const struct workflow_row *row,
                        const struct pg_failure *failure)
{
    struct showing *showing = context;
    struct buffer *out = &showing->slices.out;
    struct json_writer json;
    size_t tasks_at;
    if (failure != NULL)
        showing->failure = *failure;
    if (row == NULL)
        return;
    showing->found = true;
    json_writer_init(&json, out);
    workflow_json(&json, row, &tasks_at);
    split(out, tasks_at, &showing->tail);
    json_writer_init(&showing->json, out);
    json_begin_array(&showing->json);
}

static void end_attempts(struct showing *showing)
{
    if (!showing->task_is_open)
        return;
    showing->task_is_open = false;
    json_end_array(&showing->attempts);
    buffer_add(&showing->slices.out, showing->task_tail.data, showing->task_tail.size);
}

static void on_task(void *context, const struct task_row *row)
{
    struct showing *showing = context;
    size_t attempts_at;
    if (!showing->found) /* a failure, or removed meanwhile */
        return;
    showing->slice_count++;
    showing->last = (struct task_place){.position = row->position};
    end_attempts(showing);
    task_json(&showing->json, &showing->id, row, showing->with_attempts ? &attempts_at : NULL);
    if (!showing->with_attempts)
        return;
    split(&showing->slices.out, attempts_at, &showing->task_tail);
    json_writer_init(&showing->attempts, &showing->slices.out);
    json_begin_array(&showing->attempts);
    showing->task_is_open = true;
}

static void on_attempt(void *context, const struct attempt_row *row)
{
    struct showing *showing = context;
    if (!showing->task_is_open)
        return;
    showing->slice_count++;
    showing->last = (struct task_place){.position = row->position, .attempt = row->attempt};
    attempt_json(&showing->attempts, row);
}

static void end_tasks(struct showing *showing)
{
    struct http_request *request = showing->slices.request;
    struct slices *slices = &showing->slices;
    if (!showing->found) {
        slices_drop(slices);
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
        return;
    }
    end_attempts(showing);
    json_end_array(&showing->json);
    buffer_add(&slices->out, showing->tail.data, showing->tail.size);
    slices_end(slices);
}

static void on_tasks(void *context, const struct store_slice *slice,
                     const struct pg_failure *failure)
{
    struct showing *showing = context;
    if (failure == NULL && showing->failure.class != 0)
        failure = &showing->failure;
    if (failure != NULL) {
        slices_fail(&showing->slices, failure);
    } else if (!slice->is_cut || !showing->found) {
        end_tasks(showing);
    } else if (!showing->by_bytes) {
        showing->by_bytes = true;
        slices_read_more(&showing->slices);
    } else {
        showing->limit = slices_look(showing->slice_count, STORE_QUICK_ROWS);
        slices_go_on(&showing->slices);
    }
}

void workflows_get(struct http_request *request)
{
    const struct api *api = request->context;
    struct error error;
    bool with_payload = true;
    struct showing *showing = arena_new(&request->arena, 1, sizeof *showing);
    showing->slices = (struct slices){
        .request = request, .read_next = read_tasks, .on_end = free_showing, .context = showing};
    showing->last.position = -1;
    showing->limit = STORE_QUICK_ROWS;
    if (!api_id(request, "Workflow", &showing->id))
        return;
    if (query_bool(&request->query, "with_payload", &with_payload, &error) < 0 ||
        query_bool(&request->query, "attempts", &showing->with_attempts, &error) < 0) {
        reply_error(request, 400, "%s", error.text);
        return;
    }
    if (!api_ready(request))
        return;
    showing->by_bytes = showing->with_attempts;
    store_find_workflow(api->store, &showing->id, with_payload, on_workflow, showing);
    read_tasks(showing);
}
