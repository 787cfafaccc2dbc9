#include "api/slices.h"

#include "api/api.h"
#include "base/log.h"

void slices_drop(struct slices *slices)
{
    buffer_done(&slices->out);
    if (slices->on_end != NULL)
        slices->on_end(slices->context);
}

/* `end` frees the arena that the slices are in. */
static void finish(struct slices *slices, void (*end)(struct http_request *request))
{
    struct http_request *request = slices->request;
    slices_drop(slices);
    end(request);
}

static void read_next(struct slices *slices)
{
    slices->reading = true;
    slices->read_next(slices->context);
}

static void on_drained(void *context)
{
    read_next(context);
}

static void on_gone(void *context)
{
    struct slices *slices = context;
    slices->gone = true;
    if (!slices->reading)
        finish(slices, http_stream_end);
}

/* It counts as a whole slice, however much of one waits just now. False after the end. */
static bool admit(struct slices *slices)
{
    struct http_request *request = slices->request;
    size_t bytes = slices->out.size > STORE_SLICE_BYTES ? slices->out.size : STORE_SLICE_BYTES;
    if (!slices->admitted && !http_reply_fits(request, bytes)) {
        finish(slices, reply_busy);
        return false;
    }
    slices->admitted = true;
    http_reply_hold(request, bytes);
    return true;
}

void slices_read_more(struct slices *slices)
{
    if (admit(slices))
        read_next(slices);
}

/* False after the end. */
static bool begin(struct slices *slices)
{
    static const struct http_stream_events events = {.on_drained = on_drained, .on_gone = on_gone};
    if (!admit(slices))
        return false;
    slices->streaming = true;
    slices->gone = !http_stream_begin(slices->request, 200, "application/json", &events, slices);
    return true;
}

static size_t write_out(struct slices *slices)
{
    size_t waiting = http_stream_write(slices->request, slices->out.data, slices->out.size);
    buffer_done(&slices->out);
    return waiting;
}

void slices_go_on(struct slices *slices)
{
    slices->reading = false;
    if (!slices->streaming && !begin(slices))
        return;
    if (slices->gone || slices->request->method == METHOD_HEAD)
        finish(slices, http_stream_end);
    else if (write_out(slices) == 0)
        read_next(slices);
}

void slices_end(struct slices *slices)
{
    if (slices->streaming) {
        buffer_add_char(&slices->out, '\n');
        write_out(slices);
        finish(slices, http_stream_end);
        return;
    }
    struct http_request *request = slices->request;
    struct buffer out = slices->out;
    slices->out = (struct buffer){0};
    slices_drop(slices);
    reply_json(request, 200, &out);
}

void slices_fail(struct slices *slices, const struct pg_failure *failure)
{
    struct http_request *request = slices->request;
    if (slices->streaming) {
        log_warning("a reply could not be read to its end, and is ended short",
                    log_text("path", request->path), log_text("error", failure->text));
        finish(slices, http_stream_abort);
        return;
    }
    slices_drop(slices);
    api_failed(request, failure);
}

int64_t slices_look(int64_t rows, int64_t most)
{
    return 2 * rows + 1 < most ? 2 * rows + 1 : most;
}
