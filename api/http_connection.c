#include "api/http_connection.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "api/reply.h"
#include "base/memory.h"

/* How long we listen to a client after our last word: long enough for it to read that, which it may
 * do only when it has sent all of a body that we refused. */
#define LINGER_MS 5000
/* Pieces of replies in one write: head and body of each pipelined request. */
#define MAX_BUFFERS 64
/* A read that is not of a body takes no more than this, since it may have to be held. */
#define HEAD_READ_BYTES (16 * 1024)

static void pump(struct http_connection *connection, const char *bytes, size_t n);

/* --- the queue of requests --- */

static void append(struct http_connection *connection, struct http_request *request)
{
    request->connection = connection;
    request->context = connection->pool->context;
    if (connection->last != NULL)
        connection->last->next = request;
    else
        connection->first = request;
    connection->last = request;
    connection->in_flight++;
    connection->pool->stats.requests++;
}

static struct http_request *take_first(struct http_connection *connection)
{
    struct http_request *request = connection->first;
    connection->first = request->next;
    if (connection->first == NULL)
        connection->last = NULL;
    connection->in_flight--;
    return request;
}

static bool is_reading_body(const struct http_connection *connection)
{
    return connection->last != NULL && connection->last->state == HTTP_REQUEST_READING;
}

/* --- closing --- */

/* The connection is gone; what becomes of a request depends on who still has it. */
static void leave(struct http_request *request)
{
    request->connection = NULL;
    switch (request->state) {
    case HTTP_REQUEST_HANDLING:
        break; /* freed when the handler replies */
    case HTTP_REQUEST_STREAMING:
        request->events->on_gone(request->events_context);
        break;
    default:
        http_request_free(request);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct http_connection *connection = handle->data;
    struct http_pool *pool = connection->pool;
    while (connection->first != NULL)
        leave(take_first(connection));
    http_parser_free(connection->parser);
    buffer_done(&connection->held);
    free(connection);
    if (--pool->handles == 0)
        pool->on_empty(pool);
}

void http_connection_close(struct http_connection *connection)
{
    struct http_pool *pool = connection->pool;
    if (connection->closing)
        return;
    connection->closing = true;
    if (connection->idle)
        DL_DELETE(pool->idle, connection);
    else
        DL_DELETE(pool->busy, connection);
    pool->stats.connections--;
    uv_close(&connection->handle, on_closed);
    pool->on_room(pool);
}

void http_connection_abort(struct http_connection *connection)
{
    static const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    uv_os_fd_t fd;
    if (!connection->closing && uv_fileno(&connection->handle, &fd) == 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    http_connection_close(connection);
}

/* The last reply is sent: shuts down our side and waits for the client to do the same. */
static void begin_linger(struct http_connection *connection)
{
    uv_os_fd_t fd;
    connection->lingering = true;
    connection->no_more = true;
    buffer_done(&connection->held);
    if (connection->ended || uv_fileno(&connection->handle, &fd) != 0 || shutdown(fd, SHUT_WR) != 0)
        http_connection_close(connection);
}

/* --- from bytes to requests --- */

static void reply_refusal(struct http_request *request, int status,
                          const struct http_options *options)
{
    switch (status) {
    case 408:
        reply_error(request, status, "The request did not arrive in time");
        break;
    case 413:
        reply_error(request, status, "The body is larger than %zu bytes", options->max_body_bytes);
        break;
    case 414:
        reply_error(request, status, "The request target is longer than %zu bytes",
                    options->max_target_bytes);
        break;
    case 417:
        reply_error(request, status, "The only expectation that is met is 100-continue");
        break;
    case 431:
        reply_error(request, status, "The head is larger than %zu bytes or has more than %d fields",
                    options->max_head_bytes, options->max_fields);
        break;
    case 501:
        reply_error(request, status, "The method is not known");
        break;
    case 503:
        reply_crowded(request);
        break;
    case 505:
        reply_error(request, status, "The protocol version is neither HTTP/1.0 nor HTTP/1.1");
        break;
    default:
        reply_error(request, 400, "The request is not valid HTTP/1.1");
    }
}

/* Nothing more is understood on this connection. The reply takes its place behind those of the
 * requests before. */
static void refuse(struct http_connection *connection, int status)
{
    if (!is_reading_body(connection))
        append(connection, http_request_new(connection->pool->load));
    connection->no_more = true;
    connection->last->keep_alive = false;
    connection->last->state = HTTP_REQUEST_HANDLING;
    reply_refusal(connection->last, status, &connection->pool->options);
}

static void on_request(struct http_connection *connection)
{
    struct http_request *request = connection->last;
    bool stops = connection->pool->stopping;
    connection->no_more = connection->no_more || stops || !request->keep_alive;
    connection->wait = HTTP_WAIT_NONE; /* the next request has deadlines of its own */
    request->state = HTTP_REQUEST_HANDLING;
    connection->pool->handler(request);
}

/* May the parser have more bytes now? */
static bool takes_bytes(const struct http_connection *connection)
{
    if (connection->no_more || connection->closing)
        return false;
    return is_reading_body(connection) ||
           (connection->in_flight < connection->pool->options.max_pipelined &&
            !connection->writing);
}

/* Parses what it may and returns where it stopped. */
static const char *parse(struct http_connection *connection, const char *at, const char *end)
{
    enum http_event event = HTTP_EVENT_HEAD;
    while (event != HTTP_EVENT_NONE && takes_bytes(connection)) {
        struct http_request *request;
        event = http_parser_feed(connection->parser, &at, end, &request);
        if (event == HTTP_EVENT_HEAD)
            append(connection, request);
        else if (event == HTTP_EVENT_DONE)
            on_request(connection);
        else if (event == HTTP_EVENT_REFUSE)
            refuse(connection, http_parser_status(connection->parser));
    }
    return connection->no_more ? end : at;
}

/* --- from replies to bytes --- */

static const char continue_text[] = "HTTP/1.1 100 Continue\r\n\r\n";

struct gathered {
    uv_buf_t buffers[MAX_BUFFERS];
    unsigned count;
    size_t bytes;
    int replies; /* that end in it */
};

static void add_piece(struct gathered *gathered, const char *bytes, size_t n)
{
    if (n == 0)
        return;
    gathered->buffers[gathered->count++] = uv_buf_init((char *)bytes, n);
    gathered->bytes += n;
}

/* Decides with the reply's head whether it is the connection's last. */
static void make_head(struct http_connection *connection, struct http_request *request)
{
    bool last = connection->no_more || connection->pool->stopping;
    if (last && request->next == NULL)
        request->keep_alive = false;
    if (!request->keep_alive)
        connection->no_more = true;
    http_reply_make_head(request, http_pool_date(connection->pool));
}

/* Adds what may be sent of the reply to `request`. Returns true when that is all of it. */
static bool add_reply(struct http_connection *connection, struct http_request *request,
                      struct gathered *gathered)
{
    if (request->state == HTTP_REQUEST_READING && request->wants_continue) {
        request->wants_continue = false;
        add_piece(gathered, continue_text, sizeof(continue_text) - 1);
    }
    if (request->state != HTTP_REQUEST_STREAMING && request->state != HTTP_REQUEST_REPLIED)
        return false;
    if (!request->head_made)
        make_head(connection, request);
    http_stream_take_waiting(request);
    add_piece(gathered, request->reply_head.data, request->reply_head.size);
    add_piece(gathered, request->reply_body.data, request->reply_body.size);
    return request->state == HTTP_REQUEST_REPLIED;
}

static void gather(struct http_connection *connection, struct gathered *gathered)
{
    struct http_request *request = connection->first;
    gathered->count = 0;
    gathered->bytes = 0;
    gathered->replies = 0;
    while (request != NULL && gathered->count + 2 <= MAX_BUFFERS &&
           add_reply(connection, request, gathered)) {
        gathered->replies++;
        request = request->keep_alive ? request->next : NULL;
    }
}

/* The pieces of the last gathering are with the kernel. */
static void on_sent(struct http_connection *connection, int replies)
{
    for (; replies > 0; replies--) {
        struct http_request *request = take_first(connection);
        connection->finished = connection->finished || !request->keep_alive;
        connection->pool->stats.replies[request->status / 100]++;
        http_request_free(request);
    }
    struct http_request *stream = connection->first;
    if (stream == NULL || !stream->head_made)
        return;
    buffer_clear(&stream->reply_head);
    buffer_done(&stream->reply_body); /* it may be long before there is as much again */
    if (stream->drain_due && stream->waiting.size == 0 && stream->state == HTTP_REQUEST_STREAMING) {
        stream->drain_due = false;
        if (stream->events->on_drained != NULL)
            stream->events->on_drained(stream->events_context);
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct http_connection *connection = write->data;
    connection->writing = false;
    if (connection->closing)
        return;
    if (status < 0) {
        http_connection_close(connection);
        return;
    }
    on_sent(connection, connection->sending);
    pump(connection, "", 0);
}

/* What the socket would not take at once is left to libuv. */
static void write_rest(struct http_connection *connection, struct gathered *gathered, size_t sent)
{
    uv_buf_t *buffer = gathered->buffers;
    for (; sent >= buffer->len; buffer++)
        sent -= buffer->len;
    buffer->base += sent;
    buffer->len -= sent;
    connection->sending = gathered->replies;
    connection->unsent_bytes = SIZE_MAX; /* the next sweep looks */
    connection->write.data = connection;
    int status = uv_write(&connection->write, &connection->stream, buffer,
                          gathered->buffers + gathered->count - buffer, on_written);
    connection->writing = status == 0;
    if (status < 0)
        http_connection_close(connection);
}

/* Sends what is ready. Returns true when something was and all of it has gone, so that there may be
 * more to do. */
static bool flush(struct http_connection *connection)
{
    struct gathered gathered;
    if (connection->writing || connection->closing || connection->finished)
        return false;
    gather(connection, &gathered);
    if (gathered.bytes == 0 && gathered.replies == 0)
        return false;
    int sent = 0; /* a stream may end without another byte */
    if (gathered.bytes > 0)
        sent = uv_try_write(&connection->stream, gathered.buffers, gathered.count);
    if (sent < 0 && sent != UV_EAGAIN) {
        http_connection_close(connection);
        return false;
    }
    size_t taken = sent > 0 ? sent : 0;
    if (taken < gathered.bytes) {
        write_rest(connection, &gathered, taken);
        return false;
    }
    on_sent(connection, gathered.replies);
    return true;
}

/* --- what a connection waits for --- */

static enum http_wait wait_of(const struct http_connection *connection)
{
    if (connection->lingering)
        return HTTP_WAIT_LINGER;
    if (connection->no_more || !connection->reading)
        return HTTP_WAIT_NONE;
    switch (http_parser_phase(connection->parser)) {
    case HTTP_PHASE_HEAD:
        return HTTP_WAIT_HEAD;
    case HTTP_PHASE_BODY: /* the client may wait for a 100 that is not its turn yet */
        return connection->last->wants_continue ? HTTP_WAIT_NONE : HTTP_WAIT_BODY;
    default:
        return connection->first == NULL ? HTTP_WAIT_IDLE : HTTP_WAIT_NONE;
    }
}

static int64_t timeout_of(enum http_wait wait, const struct http_options *options)
{
    switch (wait) {
    case HTTP_WAIT_IDLE:
        return options->idle_timeout_ms;
    case HTTP_WAIT_HEAD:
        return options->head_timeout_ms;
    case HTTP_WAIT_BODY:
        return options->body_timeout_ms;
    default:
        return LINGER_MS;
    }
}

static void set_wait(struct http_connection *connection)
{
    struct http_pool *pool = connection->pool;
    enum http_wait wait = wait_of(connection);
    bool idle = wait == HTTP_WAIT_IDLE;
    if (wait == connection->wait && idle == connection->idle)
        return;
    connection->wait = wait;
    connection->read_deadline_ms = uv_now(pool->loop) + timeout_of(wait, &pool->options);
    if (connection->idle)
        DL_DELETE(pool->idle, connection);
    else
        DL_DELETE(pool->busy, connection);
    connection->idle = idle;
    if (idle) {
        DL_APPEND(pool->idle, connection);
        pool->on_room(pool);
    } else {
        DL_APPEND(pool->busy, connection);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct http_connection *connection = handle->data;
    struct http_pool *pool = connection->pool;
    (void)suggested;
    bool body = connection->no_more || is_reading_body(connection);
    *buffer = uv_buf_init(pool->read_buffer, body ? sizeof(pool->read_buffer) : HEAD_READ_BYTES);
}

/* The client sends nothing more. What it asked for is still answered, since it may have shut down
 * only its own side; but nobody can follow a stream without listening, and to a stream it is how we
 * learn that the client left. */
static void on_end(struct http_connection *connection)
{
    enum http_phase phase = http_parser_phase(connection->parser);
    connection->ended = true;
    if (connection->lingering ||
        (connection->first != NULL && connection->first->state == HTTP_REQUEST_STREAMING)) {
        http_connection_close(connection);
        return;
    }
    if (!connection->no_more && (phase == HTTP_PHASE_HEAD || phase == HTTP_PHASE_BODY))
        refuse(connection, 400);
    connection->no_more = true;
    pump(connection, "", 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct http_connection *connection = stream->data;
    if (n == UV_EOF)
        on_end(connection);
    else if (n < 0)
        http_connection_close(connection);
    else if (!connection->no_more)
        pump(connection, buffer->base, n);
}

static void set_reading(struct http_connection *connection)
{
    bool wanted = !connection->ended && (connection->no_more || takes_bytes(connection));
    if (connection->held.size > 0)
        wanted = false;
    if (wanted == connection->reading)
        return;
    connection->reading = wanted;
    if (!wanted)
        uv_read_stop(&connection->stream);
    else if (uv_read_start(&connection->stream, on_alloc, on_read) < 0)
        http_connection_close(connection);
}

/* Ends where no more is to come, and else sets what the connection waits for. */
static void settle(struct http_connection *connection)
{
    if (connection->closing)
        return;
    bool no_more =
        connection->no_more ||
        (connection->pool->stopping && http_parser_phase(connection->parser) == HTTP_PHASE_IDLE);
    bool served = no_more && connection->first == NULL;
    if (!connection->lingering && (connection->finished || served))
        begin_linger(connection);
    if (connection->closing)
        return;
    set_reading(connection);
    set_wait(connection);
}

/* Takes `n` new bytes (or those held), and goes on between requests and replies until neither
 * moves. New bytes come only while none are held. */
static void pump(struct http_connection *connection, const char *bytes, size_t n)
{
    struct buffer *held = &connection->held;
    if (connection->pumping)
        return;
    connection->pumping = true;
    bool fresh = held->size == 0;
    const char *start = fresh ? bytes : held->data;
    const char *end = fresh ? bytes + n : held->data + held->size;
    const char *at = start;
    do {
        at = parse(connection, at, end);
    } while (flush(connection));
    if (fresh)
        buffer_add(held, at, end - at);
    else
        buffer_consume(held, at - start);
    if (held->size == 0)
        buffer_done(held);
    connection->pumping = false;
    settle(connection);
}

void http_connection_on_reply(struct http_connection *connection)
{
    if (!connection->closing)
        pump(connection, "", 0);
}

void http_connection_check_deadlines(struct http_connection *connection, int64_t now_ms)
{
    struct http_pool *pool = connection->pool;
    size_t unsent_bytes =
        connection->writing ? uv_stream_get_write_queue_size(&connection->stream) : 0;
    if (connection->writing && unsent_bytes != connection->unsent_bytes) {
        connection->unsent_bytes = unsent_bytes;
        connection->write_deadline_ms = now_ms + pool->options.stalled_timeout_ms;
    }
    bool stalled = connection->writing && now_ms >= connection->write_deadline_ms;
    bool late = connection->wait != HTTP_WAIT_NONE && now_ms >= connection->read_deadline_ms;
    if (!stalled && !late)
        return;
    pool->stats.timed_out++;
    if (stalled || connection->wait == HTTP_WAIT_IDLE || connection->wait == HTTP_WAIT_LINGER) {
        http_connection_close(connection);
        return;
    }
    refuse(connection, 408);
    pump(connection, "", 0);
}

/* Gives the socket to libuv, which has one kind of handle for TCP and one for unix sockets. */
static int open_handle(struct http_connection *connection, int fd)
{
    uv_loop_t *loop = connection->pool->loop;
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    getsockname(fd, (struct sockaddr *)&address, &size);
    if (address.ss_family == AF_UNIX) {
        uv_pipe_init(loop, &connection->pipe, 0);
        return uv_pipe_open(&connection->pipe, fd);
    }
    uv_tcp_init(loop, &connection->tcp);
    return uv_tcp_open(&connection->tcp, fd);
}

void http_connection_open(struct http_pool *pool, int fd)
{
    struct http_connection *connection = mem_new(1, sizeof(*connection));
    connection->pool = pool;
    connection->parser = http_parser_new(&pool->options, pool->load);
    pool->handles++;
    pool->stats.accepted++;
    pool->stats.connections++;
    DL_APPEND(pool->busy, connection);
    int status = open_handle(connection, fd);
    connection->handle.data = connection;
    if (status < 0) {
        close(fd);
        http_connection_close(connection);
        return;
    }
    settle(connection);
}
