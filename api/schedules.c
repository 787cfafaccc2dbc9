/* GET /api/schedules, and …/<fullname or id>/fires, /pause, /resume, /trigger. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/body.h"
#include "api/list.h"
#include "api/workflow_json.h"
#include "base/text.h"

#define MAX_COMMENT 255 /* characters */

/* --- choosing and showing -------------------------------------------------------------------- */

/* Digits are an id: the name of a workflow has a dot. */
static struct schedule_choice choice_of(const struct http_request *request)
{
    const char *word = request->params[0];
    bool is_number = word[strspn(word, "0123456789")] == '\0' && strlen(word) < 19;
    int64_t id = is_number ? atoll(word) : 0; /* there is no 0, which would choose them all */
    return id != 0 ? (struct schedule_choice){.id = id}
                   : (struct schedule_choice){.fullname = word};
}

static void time_or_null(struct json_writer *json, const char *key, int64_t at_us)
{
    json_key(json, key);
    if (at_us == 0)
        json_null(json);
    else
        json_time(json, at_us);
}

static void schedule_json(struct json_writer *json, const struct api *api,
                          const struct schedule_row *row)
{
    bool active = strcmp(row->state, "active") == 0;
    char *fullname = mem_format("%s.%s", row->project, row->name);
    json_begin_object(json);
    json_key_string(json, "catchup", row->catchup);
    json_key_string(json, "comment", row->comment);
    json_key_string(json, "fullname", fullname);
    json_key_int(json, "id", row->id);
    time_or_null(json, "last", row->last_us);
    time_or_null(json, "next", active ? timetable_next_us(api->timetable, row->id) : 0);
    json_key_string(json, "state", row->state);
    json_key_string(json, "timezone", row->timezone);
    json_key_string(json, "trigger", row->trigger);
    json_end_object(json);
    free(fullname);
}

/* --- lists ----------------------------------------------------------------------------------- */

static void on_schedule(void *context, const struct schedule_row *row)
{
    struct list *list = context;
    list->count++;
    schedule_json(&list->json, list->request->context, row);
}

void schedules_list(struct http_request *request)
{
    const struct api *api = request->context;
    struct list *list = list_begin(request);
    if (list != NULL)
        store_list_schedules(api->store, &(struct schedule_choice){0}, list->paging.limit,
                             list->paging.offset, on_schedule, list_end, list);
}

static void on_fire(void *context, const struct fire_row *row)
{
    struct list *list = context;
    struct json_writer *json = &list->json;
    list->count++;
    json_begin_object(json);
    if (row->count > 0)
        json_key_int(json, "count", row->count);
    json_key_time(json, "decided", row->decided_us);
    json_key_string(json, "outcome", row->outcome);
    json_key_int(json, "schedule", row->schedule);
    json_key_time(json, "scheduled", row->scheduled_us);
    if (row->count > 0)
        json_key_time(json, "until", row->until_us);
    if (!id_is_null(&row->workflow))
        json_key_id(json, "workflow", &row->workflow);
    json_end_object(json);
}

static void note_exists(void *context, const struct schedule_row *row)
{
    struct list *list = context;
    (void)row;
    list->count++;
}

/* An unknown schedule is told from one that has not fired. */
static void on_exists(void *context, const struct pg_failure *failure)
{
    struct list *list = context;
    struct http_request *request = list->request;
    const struct api *api = request->context;
    struct schedule_choice choice = choice_of(request);
    if (failure == NULL && list->count > 0) {
        list->count = 0;
        store_list_fires(api->store, &choice, list->paging.limit, list->paging.offset, on_fire,
                         list_end, list);
        return;
    }
    buffer_done(&list->out);
    if (failure != NULL)
        api_failed(request, failure);
    else
        reply_error(request, 404, "Schedule %s not found", request->params[0]);
}

void schedules_fires(struct http_request *request)
{
    const struct api *api = request->context;
    struct schedule_choice choice = choice_of(request);
    struct list *list = list_begin(request);
    if (list != NULL)
        store_list_schedules(api->store, &choice, 1, 0, note_exists, on_exists, list);
}

/* --- pause and resume ------------------------------------------------------------------------ */

/* False after a reply. */
static bool read_comment(struct http_request *request, const char **comment)
{
    struct json_span body;
    if (!body_json(request, &body))
        return false;
    if (body.text == NULL)
        return true;
    struct json_span value = {0};
    if (json_kind(body) == JSON_OBJECT)
        value = json_member(body, "comment", strlen("comment"));
    if (!body_is_object(body, value.text != NULL)) {
        reply_error(request, 400, "the body must be empty, {} or {\"comment\": \"…\"}");
        return false;
    }
    if (value.text == NULL || json_kind(value) == JSON_NULL)
        return true;
    char *text = json_kind(value) == JSON_STRING ? json_unescape(value, NULL) : NULL;
    bool fits = text != NULL && text_utf8_count(text, strlen(text)) <= MAX_COMMENT;
    if (fits)
        *comment = arena_text(&request->arena, text);
    else
        reply_error(request, 400, "'comment' must be a string of at most %d characters",
                    MAX_COMMENT);
    free(text);
    return fits;
}

/* One schedule is answered as an object, several of a workflow as an array. */
static void on_paused(void *context, const struct pg_failure *failure)
{
    struct list *list = context;
    struct http_request *request = list->request;
    json_end_array(&list->json);
    struct buffer out = list->out;
    if (failure != NULL) {
        api_failed(request, failure);
    } else if (list->count == 0) {
        reply_error(request, 404, "Schedule %s not found", request->params[0]);
    } else {
        if (list->count == 1) {
            buffer_consume(&out, 1);
            out.size--;
        }
        reply_json(request, 200, &out);
    }
    buffer_done(&out);
}

static void set_paused(struct http_request *request, bool paused)
{
    const struct api *api = request->context;
    const char *comment = NULL;
    struct schedule_choice choice = choice_of(request);
    if (!read_comment(request, &comment) || !api_ready(request))
        return;
    struct list *list = list_new(request);
    json_begin_array(&list->json);
    store_pause_schedules(api->store, &choice, paused, comment, on_schedule, on_paused, list);
}

void schedules_pause(struct http_request *request)
{
    set_paused(request, true);
}

void schedules_resume(struct http_request *request)
{
    set_paused(request, false);
}

/* --- trigger --------------------------------------------------------------------------------- */

/* A fire by hand; outlives its request. */
struct triggering {
    struct store_firing firing;
    struct store_fire fire;
    struct http_request *request;
    struct definition *definition; /* held */
    bool ran;
};

static void on_trigger_fired(struct store_firing *firing, const struct answer *fired)
{
    struct triggering *triggering = (struct triggering *)firing;
    triggering->ran = id_compare(&fired->workflow, &triggering->fire.id) == 0;
}

/* As every POST answers: the nominal time is shown by the reads. */
static void reply_triggered(const struct triggering *triggering)
{
    const struct definition *definition = triggering->definition;
    struct buffer out = {0};
    struct json_writer json;
    json_writer_init(&json, &out);
    workflow_json(&json,
                  &(struct workflow_row){.id = triggering->fire.id,
                                         .project = definition->project,
                                         .name = definition->name,
                                         .status = "pending",
                                         .periodic = true,
                                         .created_us = triggering->fire.created_us,
                                         .updated_us = triggering->fire.created_us,
                                         .payload = triggering->firing.payload},
                  NULL);
    reply_json(triggering->request, 201, &out);
}

static void on_triggered(struct store_firing *firing, int64_t cursor_us,
                         const struct pg_failure *failure)
{
    struct triggering *triggering = (struct triggering *)firing;
    (void)cursor_us;
    if (failure != NULL)
        api_failed(triggering->request, failure);
    else if (triggering->ran)
        reply_triggered(triggering);
    else
        reply_error(triggering->request, 409,
                    "Workflow %s is already running as often as its concurrency allows",
                    triggering->definition->fullname);
    definition_release(triggering->definition);
    free(triggering);
}

static void trigger(struct http_request *request, const struct catalog_entry *entry,
                    const struct catalog_schedule *schedule)
{
    const struct api *api = request->context;
    struct triggering *triggering = mem_new(1, sizeof *triggering);
    struct store_fire *fire = &triggering->fire;
    triggering->request = request;
    triggering->definition = definition_hold(entry->definition);
    *fire = (struct store_fire){.outcome = "ran", .created_us = store_now_us(api->store)};
    fire->id = id_make_workflow(store_id_maker(api->store), &fire->created_us);
    fire->scheduled_us = fire->created_us; /* no two are made in the same microsecond */
    triggering->firing = (struct store_firing){
        .schedule = schedule->id,
        .by_hand = true,
        .definition = entry->id,
        .payload = {schedule->schedule->payload, strlen(schedule->schedule->payload)},
        .fires = fire,
        .fire_count = 1,
        .on_done = on_triggered,
        .on_fired = on_trigger_fired,
    };
    store_fire(api->store, &triggering->firing);
}

void schedules_trigger(struct http_request *request)
{
    const struct api *api = request->context;
    struct schedule_choice choice = choice_of(request);
    int count;
    if (!api_takes_work(request) || !body_says_nothing(request) || !api_ready(request))
        return;
    const struct catalog_entry *entries = catalog_entries(api->catalog, &count);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < entries[i].definition->schedule_count; k++) {
            const struct catalog_schedule *schedule = &entries[i].schedules[k];
            if (choice.id != 0 ? schedule->id == choice.id
                               : strcmp(entries[i].definition->fullname, choice.fullname) == 0) {
                trigger(request, &entries[i], schedule);
                return;
            }
        }
    }
    reply_error(request, 404, "Schedule %s not found", request->params[0]);
}
