/* GET /api/workflows/<id>/tasks/<task>/log.
 *
 * First the state of the task is asked for: is there such an attempt, and does it still write? With
 * `tail` its rows are then read backwards until the place is found. From there pages are read and
 * streamed, no faster than the client takes them. A page that is not full was the last one: a
 * follower whose attempt still wrote when it was last asked about waits a moment, and asks for the
 * state again. The state comes before the page, so that what an ended attempt has written is in it.
 *
 * There is always exactly one thing that it waits for: a call, the timer, or the client.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/log_text.h"

/* A page of rows, at most a megabyte. */
#define PAGE_ROWS 64
/* What may wait for the client when the next page is asked for. */
#define MAX_WAITING_BYTES (256 * 1024)
/* A follower costs two small queries each time. */
#define FOLLOW_MS 300
#define MAX_FOLLOWERS 100
#define RETRY_AFTER_S 5

struct reading {
    struct http_request *request;
    struct api *api;
    struct store_held attempt; /* its number is 0 until there is one */
    bool follow;
    bool is_over; /* the attempt writes no more */
    bool by_tail;
    struct log_tail tail;
    bool tail_found;
    int64_t before; /* where reading backwards goes on */
    int rows;       /* of the last page */
    struct log_text text;
    struct buffer out;
    bool streaming;
    bool calling;      /* waits for the store */
    bool drained;      /* the client has taken everything */
    bool gone;         /* … or has left */
    bool is_counted;   /* among the API's followers, from the request to the end */
    uv_timer_t *timer; /* a follower's */
};

static void find_state(struct reading *reading);
static void read_page(struct reading *reading);

/* --- followers ------------------------------------------------------------------------------- */

/* False after a reply. */
static bool admit(struct reading *reading)
{
    if (!reading->follow)
        return true;
    if (reading->api->log_followers >= MAX_FOLLOWERS) {
        reply_unavailable(reading->request, RETRY_AFTER_S, "%d logs are being followed already",
                          MAX_FOLLOWERS);
        return false;
    }
    reading->api->log_followers++;
    reading->is_counted = true;
    return true;
}

/* Before every reply, and at the end of a stream. */
static void leave(struct reading *reading)
{
    if (reading->is_counted)
        reading->api->log_followers--;
    reading->is_counted = false;
    buffer_done(&reading->out);
}

/* The reply when there is no stream yet. */
static void refuse(struct reading *reading, const struct pg_failure *failure)
{
    leave(reading);
    api_failed(reading->request, failure);
}

/* --- the stream ------------------------------------------------------------------------------ */

static void finish(struct reading *reading)
{
    if (reading->timer != NULL)
        uv_close((uv_handle_t *)reading->timer, (uv_close_cb)free);
    leave(reading);
    http_stream_end(reading->request);
}

static void on_drained(void *context)
{
    struct reading *reading = context;
    bool waits = !reading->drained;
    reading->drained = true;
    if (waits)
        read_page(reading);
}

static void on_gone(void *context)
{
    struct reading *reading = context;
    reading->gone = true;
    if (!reading->calling)
        finish(reading);
}

/* The first page may be larger than what waits later. */
static size_t held_bytes(const struct reading *reading)
{
    return reading->out.size > MAX_WAITING_BYTES ? reading->out.size : MAX_WAITING_BYTES;
}

static bool begin(struct reading *reading)
{
    static const struct http_stream_events events = {.on_drained = on_drained, .on_gone = on_gone};
    reading->streaming = true;
    reading->drained = true;
    if (reading->follow) {
        reading->timer = mem_new(1, sizeof *reading->timer);
        reading->timer->data = reading;
        uv_timer_init(reading->api->loop, reading->timer);
    }
    http_reply_hold(reading->request, held_bytes(reading));
    http_reply_field(reading->request, "X-Content-Type-Options", "nosniff");
    return http_stream_begin(reading->request, 200, "text/plain; charset=utf-8", &events, reading);
}

/* Returns how much waits for the client. */
static size_t write_out(struct reading *reading)
{
    struct buffer *out = &reading->out;
    size_t waiting = out->size == 0 ? 0 : http_stream_write(reading->request, out->data, out->size);
    buffer_clear(out);
    return waiting;
}

/* --- pages ----------------------------------------------------------------------------------- */

static void on_time(uv_timer_t *timer)
{
    find_state(timer->data);
}

static void wait_for_more(struct reading *reading)
{
    uv_timer_start(reading->timer, on_time, FOLLOW_MS, 0);
}

/* A follower waits until the database is back. */
static void on_page_failed(struct reading *reading, const struct pg_failure *failure)
{
    if (reading->follow) {
        wait_for_more(reading);
        return;
    }
    buffer_printf(&reading->out, "\n[… the rest could not be read: %s …]\n", failure->text);
    write_out(reading);
    finish(reading);
}

static void on_row(void *context, const struct log_row *row)
{
    struct reading *reading = context;
    reading->rows++;
    log_text_add(&reading->text, row);
}

static void on_page(void *context, const struct pg_failure *failure)
{
    struct reading *reading = context;
    reading->calling = false;
    if (failure != NULL && !reading->streaming) {
        refuse(reading, failure);
        return;
    }
    if (!reading->streaming && !http_reply_fits(reading->request, held_bytes(reading))) {
        leave(reading);
        reply_busy(reading->request);
        return;
    }
    if ((!reading->streaming && !begin(reading)) || reading->gone) {
        finish(reading);
        return;
    }
    if (failure != NULL) {
        on_page_failed(reading, failure);
        return;
    }
    bool is_last = reading->rows < PAGE_ROWS;
    bool is_end = is_last && (reading->is_over || !reading->follow);
    if (is_end)
        log_text_end(&reading->text);
    size_t waiting = write_out(reading);
    if (is_end)
        finish(reading);
    else if (is_last)
        wait_for_more(reading);
    else if (waiting > MAX_WAITING_BYTES)
        reading->drained = false;
    else
        read_page(reading);
}

static void read_page(struct reading *reading)
{
    reading->rows = 0;
    reading->calling = true;
    store_read_log(reading->api->store, &reading->attempt, reading->text.next, PAGE_ROWS, on_row,
                   on_page, reading);
}

/* --- the last lines -------------------------------------------------------------------------- */

static void read_back(struct reading *reading);

static void on_row_back(void *context, const struct log_row *row)
{
    struct reading *reading = context;
    reading->rows++;
    reading->before = row->start;
    if (!reading->tail_found)
        reading->tail_found = log_tail_add(&reading->tail, row);
}

static void on_back(void *context, const struct pg_failure *failure)
{
    struct reading *reading = context;
    struct log_text *text = &reading->text;
    if (failure != NULL) {
        refuse(reading, failure);
    } else if (!reading->tail_found && reading->rows == PAGE_ROWS && reading->before > text->next) {
        read_back(reading);
    } else {
        if (reading->tail.start > text->next)
            text->next = reading->tail.start;
        read_page(reading);
    }
}

static void read_back(struct reading *reading)
{
    reading->rows = 0;
    store_read_log_back(reading->api->store, &reading->attempt, reading->before, PAGE_ROWS,
                        on_row_back, on_back, reading);
}

/* --- the state ------------------------------------------------------------------------------- */

/* The last attempt unless another was asked for. */
static void note_state(struct reading *reading, const struct log_state *state)
{
    int *attempt = &reading->attempt.attempt;
    if (*attempt == 0)
        *attempt = state->attempt;
    reading->is_over =
        *attempt == 0 ? state->is_final : *attempt != state->attempt || !state->is_held;
}

static void on_state_again(void *context, const struct log_state *state,
                           const struct pg_failure *failure)
{
    struct reading *reading = context;
    reading->calling = false;
    if (reading->gone) {
        finish(reading);
    } else if (failure != NULL) {
        on_page_failed(reading, failure);
    } else if (!state->is_task) { /* removed meanwhile */
        finish(reading);
    } else {
        note_state(reading, state);
        read_page(reading);
    }
}

static void find_state(struct reading *reading)
{
    reading->calling = true;
    store_find_log(reading->api->store, &reading->attempt.workflow, reading->attempt.position,
                   on_state_again, reading);
}

/* Is there such a log? False after a reply. */
static bool check_state(struct reading *reading, const struct log_state *state)
{
    struct http_request *request = reading->request;
    if (state->is_task && reading->attempt.attempt <= state->attempt)
        return true;
    leave(reading);
    if (!state->is_workflow)
        reply_error(request, 404, "Workflow %s not found", request->params[0]);
    else if (!state->is_task)
        reply_error(request, 404, "Task %s not found", request->params[1]);
    else
        reply_error(request, 404, "Attempt %d of task %s not found", reading->attempt.attempt,
                    request->params[1]);
    return false;
}

static void on_state(void *context, const struct log_state *state, const struct pg_failure *failure)
{
    struct reading *reading = context;
    struct http_request *request = reading->request;
    if (failure != NULL) {
        refuse(reading, failure);
        return;
    }
    if (!check_state(reading, state))
        return;
    if (request->method == METHOD_HEAD) {
        reading->follow = false;
        begin(reading);
        finish(reading);
    } else {
        note_state(reading, state);
        (reading->by_tail ? read_back : read_page)(reading);
    }
}

/* --- the request ----------------------------------------------------------------------------- */

static int read_query(struct reading *reading, struct error *error)
{
    static const char *const streams[] = {"stdout", "stderr", NULL};
    const struct query *query = &reading->request->query;
    unsigned set = 0;
    int64_t attempt = 0;
    reading->tail.lines = -1;
    int code = query_int(query, "attempt", 1, INT_MAX, &attempt, error);
    if (code == 0)
        code = query_words(query, "stream", streams, &set, error);
    if (code == 0)
        code = query_int(query, "tail", 0, INT64_MAX, &reading->tail.lines, error);
    if (code == 0)
        code = query_int(query, "offset", 0, INT64_MAX, &reading->text.next, error);
    if (code == 0)
        code = query_bool(query, "follow", &reading->follow, error);
    reading->attempt.attempt = (int)attempt;
    reading->by_tail = reading->tail.lines >= 0;
    reading->text.stream = set == 3 ? 0 : (int)set; /* bit 0 is stream 1, bit 1 is stream 2 */
    reading->tail.stream = reading->text.stream;
    return code;
}

/* False, and answered, when the path does not name a task of the workflow. */
static bool read_path(struct reading *reading)
{
    struct http_request *request = reading->request;
    const char *task = request->params[1];
    struct id id, workflow;
    if (!api_id(request, "Workflow", &reading->attempt.workflow))
        return false;
    if (id_parse(task, strlen(task), &id)) {
        workflow = id_workflow(&id, &reading->attempt.position);
        if (id_compare(&workflow, &reading->attempt.workflow) == 0 &&
            reading->attempt.position >= 0)
            return true;
    }
    reply_error(request, 404, "Task %s not found", task);
    return false;
}

void logs_get(struct http_request *request)
{
    struct api *api = request->context;
    struct error error;
    struct reading *reading = arena_new(&request->arena, 1, sizeof *reading);
    *reading = (struct reading){.request = request, .api = api, .before = INT64_MAX};
    reading->text.out = &reading->out;
    if (!read_path(reading))
        return;
    if (read_query(reading, &error) < 0) {
        reply_error(request, 400, "%s", error.text);
        return;
    }
    if (!api_ready(request))
        return;
    if (!admit(reading))
        return;
    store_find_log(api->store, &reading->attempt.workflow, reading->attempt.position, on_state,
                   reading);
}
