/* POST /api/workflows, …/<id>/relaunch and …/<id>/cancel. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/body.h"
#include "api/launch_body.h"
#include "api/workflow_json.h"
#include "base/crash_point.h"
#include "base/text.h"

#define MAX_KEY_BYTES 255

/* --- launching ------------------------------------------------------------------------------- */

/* Lives in its request's arena. */
struct launching {
    struct store_launch launch;
    struct http_request *request;
    const char *project;
    const char *name;
};

/* Exactly what Director answers: as the workflow was when it was made. */
static void reply_launched(struct http_request *request, const struct launching *launching,
                           const struct id *id)
{
    int64_t created_us = id_created_us(id);
    struct buffer out = {0};
    struct json_writer json;
    json_writer_init(&json, &out);
    workflow_json(&json,
                  &(struct workflow_row){.id = *id,
                                         .project = launching->project,
                                         .name = launching->name,
                                         .status = "pending",
                                         .created_us = created_us,
                                         .updated_us = created_us,
                                         .comment = launching->launch.comment,
                                         .payload = launching->launch.payload},
                  NULL);
    reply_json(request, 201, &out);
}

static void on_launched(struct store_launch *launch, const struct answer *answer,
                        const struct pg_failure *failure)
{
    struct launching *launching = (struct launching *)launch;
    struct http_request *request = launching->request;
    if (failure != NULL)
        api_failed(request, failure);
    else if (answer == NULL)
        reply_launched(request, launching, &launch->id);
    else if (answer->kind == ANSWER_DUPLICATE)
        reply_launched(request, launching, &answer->workflow);
    else if (strcmp(answer->reason, "overlap") == 0)
        reply_error(request, 409,
                    "Workflow %s.%s is already running as often as its concurrency allows",
                    launching->project, launching->name);
    else
        reply_error(request, 422, "this Idempotency-Key was used with another request");
}

static void launch(struct http_request *request, struct launching *launching)
{
    const struct api *api = request->context;
    const char *fullname =
        arena_format(&request->arena, "%s.%s", launching->project, launching->name);
    const struct catalog_entry *entry = catalog_find(api->catalog, fullname);
    if (entry == NULL) {
        reply_error(request, 404, "Workflow %s not found", fullname);
        return;
    }
    if (store_launches_open(api->store) >= api->max_waiting_launches) {
        reply_unavailable(request, 1, "too many launches wait for their commit");
        return;
    }
    launching->request = request;
    launching->launch.definition = entry->id;
    launching->launch.created_us = store_now_us(api->store);
    launching->launch.id =
        id_make_workflow(store_id_maker(api->store), &launching->launch.created_us);
    launching->launch.on_done = on_launched;
    store_launch(api->store, &launching->launch);
}

/* False after a reply. */
static bool read_key(struct http_request *request, struct launching *launching)
{
    const char *key = http_request_field(request, "Idempotency-Key");
    if (key == NULL)
        return true;
    if (*key == '\0' || strlen(key) > MAX_KEY_BYTES) {
        reply_error(request, 400, "Idempotency-Key must have 1 to %d bytes", MAX_KEY_BYTES);
        return false;
    }
    if (!text_is_utf8(key, strlen(key))) {
        reply_error(request, 400, "Idempotency-Key must be UTF-8");
        return false;
    }
    launching->launch.key = key;
    launching->launch.principal = "";
    return true;
}

void workflows_launch(struct http_request *request)
{
    struct launch_body body;
    struct launching *launching = arena_new(&request->arena, 1, sizeof *launching);
    if (!api_takes_work(request) || !launch_body_read(request, &body) ||
        !read_key(request, launching) || !api_ready(request))
        return;
    launching->project = body.project;
    launching->name = body.name;
    launching->launch.payload = body.payload;
    launching->launch.comment = body.comment;
    if (launching->launch.key != NULL)
        launching->launch.request = body.text;
    launch(request, launching);
}

/* --- relaunching ----------------------------------------------------------------------------- */

static void on_original(void *context, const struct workflow_row *row,
                        const struct pg_failure *failure)
{
    struct launching *launching = context;
    struct http_request *request = launching->request;
    if (failure != NULL) {
        api_failed(request, failure);
        return;
    }
    if (row == NULL) {
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
        return;
    }
    if (!http_request_set_body(request, row->payload.text, row->payload.size)) {
        reply_crowded(request);
        return;
    }
    struct arena *arena = &request->arena;
    launching->project = arena_text(arena, row->project);
    launching->name = arena_text(arena, row->name);
    launching->launch.comment = row->comment == NULL ? NULL : arena_text(arena, row->comment);
    launching->launch.payload = (struct json_span){request->body.data, request->body.size};
    launching->launch.relaunched_from = row->id;
    launch(request, launching);
}

/* --- from the failure */

struct resuming {
    struct http_request *request;
    struct id original;
    struct id id;
    int64_t created_us;
    enum answer_kind kind; /* ANSWER_NONE: nothing stood in the way */
    const char *status;
};

static void on_resume_answer(void *context, const struct answer *answer)
{
    struct resuming *resuming = context;
    resuming->kind = answer->kind;
    resuming->status = answer->status;
}

static void on_resumed_row(void *context, const struct workflow_row *row,
                           const struct pg_failure *failure)
{
    struct resuming *resuming = context;
    struct http_request *request = resuming->request;
    if (failure != NULL) {
        api_failed(request, failure);
    } else if (row == NULL) {
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
    } else {
        struct launching launching = {.project = row->project, .name = row->name};
        launching.launch.comment = row->comment;
        launching.launch.payload = row->payload;
        reply_launched(request, &launching, &resuming->id);
    }
}

static void on_resumed(void *context, const struct pg_failure *failure)
{
    struct resuming *resuming = context;
    struct http_request *request = resuming->request;
    const struct api *api = request->context;
    char id[ID_TEXT_SIZE];
    id_format(&resuming->original, id);
    if (failure != NULL)
        api_failed(request, failure);
    else if (resuming->kind == ANSWER_MISSING)
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
    else if (resuming->kind == ANSWER_REFUSED)
        reply_error(request, 409,
                    "Workflow %s cannot run again now: its concurrency does not allow it", id);
    else if (resuming->kind == ANSWER_FINAL)
        reply_error(request, 409,
                    "Workflow %s is %s: only one that failed or was canceled can be "
                    "relaunched from its failure",
                    id, resuming->status);
    else
        store_find_workflow(api->store, &resuming->id, true, on_resumed_row, resuming);
}

static void relaunch_failed(struct http_request *request, const struct id *original)
{
    const struct api *api = request->context;
    struct resuming *resuming = arena_new(&request->arena, 1, sizeof *resuming);
    resuming->request = request;
    resuming->original = *original;
    resuming->created_us = store_now_us(api->store);
    resuming->id = id_make_workflow(store_id_maker(api->store), &resuming->created_us);
    store_relaunch_failed(api->store, &resuming->id, original, resuming->created_us,
                          on_resume_answer, on_resumed, resuming);
}

static bool is_text(struct json_span value, const char *quoted)
{
    return value.size == strlen(quoted) && memcmp(value.text, quoted, value.size) == 0;
}

struct relaunch_body {
    bool valid;
    bool from_failed;
};

static bool on_relaunch_member(void *context, struct json_span key, struct json_span value)
{
    struct relaunch_body *body = context;
    body->from_failed = body->valid = is_text(key, "\"from\"") && is_text(value, "\"failed\"");
    return body->valid;
}

/* No body is needed; `*from_failed` is set by {"from": "failed"}. False after a reply. */
static bool read_relaunch_body(struct http_request *request, bool *from_failed)
{
    struct json_span json;
    if (!body_json(request, &json))
        return false;
    struct relaunch_body body = {.valid = json.text == NULL || json_kind(json) == JSON_OBJECT};
    if (json.text != NULL && body.valid)
        json_each_member(json, on_relaunch_member, &body);
    if (!body.valid)
        reply_error(request, 400, "the body must be empty, {} or {\"from\": \"failed\"}");
    *from_failed = body.from_failed;
    return body.valid;
}

void workflows_relaunch(struct http_request *request)
{
    const struct api *api = request->context;
    struct id id;
    bool from_failed = false;
    if (!api_takes_work(request))
        return;
    if (!read_relaunch_body(request, &from_failed))
        return;
    if (!api_id(request, "Workflow", &id))
        return;
    if (!api_ready(request))
        return;
    if (from_failed) {
        relaunch_failed(request, &id);
        return;
    }
    struct launching *launching = arena_new(&request->arena, 1, sizeof *launching);
    launching->request = request;
    store_find_workflow(api->store, &id, true, on_original, launching);
}

/* --- canceling ------------------------------------------------------------------------------- */

struct canceling {
    struct http_request *request;
    struct id id;
    enum answer_kind kind;
    const char *status; /* of one that has ended already */
};

static void on_cancel_answer(void *context, const struct answer *answer)
{
    struct canceling *canceling = context;
    canceling->kind = answer->kind;
    canceling->status = answer->status;
}

static void on_canceled_row(void *context, const struct workflow_row *row,
                            const struct pg_failure *failure)
{
    struct canceling *canceling = context;
    struct http_request *request = canceling->request;
    if (failure != NULL) {
        api_failed(request, failure);
        return;
    }
    if (row == NULL) {
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
        return;
    }
    struct workflow_row shown = {.id = row->id,
                                 .project = row->project,
                                 .name = row->name,
                                 .status = row->status,
                                 .periodic = row->periodic,
                                 .created_us = row->created_us,
                                 .updated_us = row->updated_us,
                                 .comment = row->comment,
                                 .payload = row->payload};
    struct buffer out = {0};
    struct json_writer json;
    json_writer_init(&json, &out);
    workflow_json(&json, &shown, NULL);
    reply_json(request, 201, &out);
}

static void on_canceled(void *context, const struct pg_failure *failure)
{
    struct canceling *canceling = context;
    struct http_request *request = canceling->request;
    const struct api *api = request->context;
    char id[ID_TEXT_SIZE];
    CRASH_POINT("canceled");
    id_format(&canceling->id, id);
    if (failure != NULL)
        api_failed(request, failure);
    else if (canceling->kind == ANSWER_MISSING)
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
    else if (canceling->kind == ANSWER_FINAL)
        reply_error(request, 409, "Workflow %s is already %s", id, canceling->status);
    else
        store_find_workflow(api->store, &canceling->id, true, on_canceled_row, canceling);
}

void workflows_cancel(struct http_request *request)
{
    const struct api *api = request->context;
    struct canceling *canceling = arena_new(&request->arena, 1, sizeof *canceling);
    canceling->request = request;
    if (!body_says_nothing(request))
        return;
    if (!api_id(request, "Workflow", &canceling->id))
        return;
    if (!api_ready(request))
        return;
    store_cancel(api->store, &canceling->id, "canceled_by_user", on_cancel_answer, on_canceled,
                 canceling);
    CRASH_POINT("cancel-sent");
}
