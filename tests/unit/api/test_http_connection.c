/* api/http_connection.h: the order of replies, the ends of connections, deadlines, streams. */
#include "api/http_connection.h"

#include "api/reply.h"
#include "tests/unit/api/http_fixture.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))
#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define OK(size, body) \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " size "\r\n\r\n" body

/* Requests whose handlers have not replied yet, in order of arrival. */
static struct http_request *waiting[64];
static int waiting_count;

static void say(struct http_request *request, const char *text)
{
    struct buffer body = {0};
    buffer_add_text(&body, text);
    http_reply(request, 200, "text/plain", &body);
}

/* `/now` is answered at once, everything else waits. */
static void on_request(struct http_request *request)
{
    if (strcmp(request->path, "/now") == 0)
        say(request, "now");
    else
        waiting[waiting_count++] = request;
}

static struct fixture fixture;
static int client;

static void setup(void)
{
    waiting_count = 0;
    fixture_init(&fixture, on_request, NULL);
    client = fixture_connect(&fixture);
}

static void teardown(void)
{
    close(client);
    fixture_done(&fixture);
}

static void send_text(const char *text)
{
    fixture_send(&fixture, client, text);
}

static void expect(const char *text)
{
    ck_assert_str_eq(fixture_receive(&fixture, client), text);
}

/* Lets `ms` pass for the deadlines. */
static void pass(int64_t ms)
{
    uv_update_time(&fixture.loop);
    http_pool_sweep(&fixture.pool, (int64_t)uv_now(&fixture.loop) + ms);
    fixture_turn(&fixture);
}

START_TEST(replies_keep_the_order_of_requests)
{
    send_text(GET("/a") GET("/now") GET("/b"));
    ck_assert_int_eq(waiting_count, 2);
    expect("");
    say(waiting[1], "b");
    expect("");
    say(waiting[0], "a");
    expect(OK("1", "a") OK("3", "now") OK("1", "b"));
    send_text(GET("/now"));
    expect(OK("3", "now"));
}
END_TEST

START_TEST(few_requests_are_in_flight)
{
    char text[sizeof(GET("/00")) * 64];
    int max = fixture.pool.options.max_pipelined, sent = 3 * max;
    struct buffer all = {0};
    for (int i = 0; i < sent; i++)
        buffer_printf(&all, GET("/%02d"), i);
    send_text(buffer_text(&all));
    ck_assert_int_eq(waiting_count, max);
    for (int i = 0; i < sent; i++) {
        snprintf(text, sizeof(text), "/%02d", i);
        ck_assert_int_gt(waiting_count, i);
        ck_assert_str_eq(waiting[i]->path, text);
        say(waiting[i], "x");
        expect(OK("1", "x"));
    }
    buffer_done(&all);
}
END_TEST

START_TEST(head_gets_no_body)
{
    send_text("HEAD /now HTTP/1.1\r\nHost: x\r\n\r\n" GET("/now"));
    expect(OK("3", "") OK("3", "now"));
}
END_TEST

START_TEST(http_1_0)
{
    send_text("GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
           "Connection: keep-alive\r\n\r\nnow");
    send_text("GET /now HTTP/1.0\r\n\r\n");
    expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
           "Connection: close\r\n\r\nnow<end>");
}
END_TEST

START_TEST(nothing_follows_a_closing_request)
{
    send_text("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET("/now"));
    ck_assert_int_eq(waiting_count, 1);
    send_text(GET("/now"));
    say(waiting[0], "a");
    expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n"
           "Connection: close\r\n\r\na<end>");
}
END_TEST

START_TEST(expectations)
{
    send_text(GET("/a") "POST /b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                        "Content-Length: 2\r\n\r\n");
    expect(""); /* the 100 would be taken for the reply to /a */
    pass(fixture.pool.options.body_timeout_ms);
    expect(""); /* nor is it the client that is late */
    say(waiting[0], "a");
    expect(OK("1", "a") "HTTP/1.1 100 Continue\r\n\r\n");
    send_text("hi");
    ck_assert_int_eq(waiting_count, 2);
    ck_assert_str_eq(buffer_text(&waiting[1]->body), "hi");
    say(waiting[1], "b");
    expect(OK("1", "b"));

    /* A client that does not wait needs no 100. */
    send_text(
        "POST /now HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
    expect(OK("3", "now"));
}
END_TEST

#define REFUSED(status, size, text)                                                  \
    "HTTP/1.1 " status "\r\nContent-Type: application/json\r\nContent-Length: " size \
    "\r\nConnection: close\r\n\r\n{\"error\":\"" text "\"}\n"
#define BAD REFUSED("400 Bad Request", "46", "The request is not valid HTTP/1.1")

START_TEST(refusals)
{
    static const struct {
        const char *bytes;
        const char *expected;
    } rows[] = {
        {"nonsense\r\n\r\n", BAD},
        {"GET / HTTP/3.0\r\n\r\n",
         REFUSED("505 HTTP Version Not Supported", "66",
                 "The protocol version is neither HTTP/1.0 nor HTTP/1.1")},
        {"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
         REFUSED("501 Not Implemented", "36", "The method is not known")},
        {"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n",
         REFUSED("413 Content Too Large", "50", "The body is larger than 1048576 bytes")},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", BAD},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        int other = fixture_connect(&fixture);
        fixture_send(&fixture, other, rows[i].bytes);
        const char *got = fixture_receive(&fixture, other);
        size_t size = strlen(rows[i].expected);
        ck_assert_msg(strncmp(got, rows[i].expected, size) == 0 && strcmp(got + size, "<end>") == 0,
                      "%s: %s", rows[i].bytes, got);
        close(other);
    }
    fixture_turn(&fixture);
    ck_assert_int_eq(fixture.pool.stats.connections, 1);
}
END_TEST

START_TEST(refusal_waits_for_its_turn)
{
    send_text(GET("/a") "nonsense\r\n\r\n" GET("/now"));
    expect("");
    say(waiting[0], "a");
    expect(OK("1", "a") BAD "<end>");
}
END_TEST

/* Closing with bytes unread would reset the connection, and the client would lose the reply. */
START_TEST(refused_client_may_send_on)
{
    send_text("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
    char bytes[8192] = {0};
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(write(client, bytes, sizeof(bytes)), sizeof(bytes));
        fixture_turn(&fixture);
    }
    ck_assert_ptr_nonnull(strstr(fixture_receive(&fixture, client), " 413 "));
    ck_assert_int_eq(fixture.pool.stats.connections, 1);
    pass(5000);
    ck_assert_int_eq(fixture.pool.stats.connections, 0);
}
END_TEST

START_TEST(half_closed_client_gets_its_replies)
{
    send_text(GET("/a") GET("/now"));
    shutdown(client, SHUT_WR);
    fixture_turn(&fixture);
    say(waiting[0], "a");
    expect(OK("1", "a") "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
                        "Connection: close\r\n\r\nnow<end>");
    ck_assert_int_eq(fixture.pool.stats.connections, 0);
}
END_TEST

START_TEST(cut_requests_are_refused)
{
    static const char *const cut[] = {
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    };
    for (size_t i = 0; i < ROWS(cut); i++) {
        int other = fixture_connect(&fixture);
        fixture_send(&fixture, other, cut[i]);
        shutdown(other, SHUT_WR);
        ck_assert_str_eq(fixture_receive(&fixture, other), BAD "<end>");
        close(other);
    }
    ck_assert_int_eq(waiting_count, 0);
}
END_TEST

START_TEST(requests_outlive_their_client)
{
    send_text("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" GET("/b") "GET /c");
    ck_assert_int_eq(waiting_count, 2);
    http_connection_close(fixture.pool.busy);
    say(waiting[1], "between close and its callback");
    fixture_turn(&fixture);
    ck_assert(http_request_gone(waiting[0]));
    ck_assert_uint_eq(fixture.pool.load->bodies_bytes, 2);
    ck_assert_str_eq(waiting[0]->path, "/a");
    say(waiting[0], "nobody hears this");
    ck_assert_uint_eq(fixture.pool.load->bodies_bytes, 0);
}
END_TEST

START_TEST(large_replies_wait_for_the_client)
{
    size_t size = 4 << 20, got = 0;
    struct buffer body = {0};
    char bytes[65536];
    send_text(GET("/a"));
    memset(buffer_reserve(&body, size), 'x', size);
    body.size = size;
    http_reply(waiting[0], 200, "text/plain", &body);
    send_text(GET("/now")); /* not even read while the client takes nothing */
    ck_assert(fixture.pool.busy->writing);
    for (ssize_t n; (n = read(client, bytes, sizeof(bytes))) > 0; fixture_turn(&fixture))
        got += n;
    ck_assert_uint_gt(got, size + strlen(OK("3", "now")));
    ck_assert_uint_eq(fixture.pool.stats.replies[2], 2);
}
END_TEST

START_TEST(stalled_client_is_cut)
{
    size_t size = 4 << 20;
    int64_t limit = fixture.pool.options.stalled_timeout_ms;
    struct buffer body = {0};
    char bytes[65536];
    send_text(GET("/a"));
    memset(buffer_reserve(&body, size), 'x', size);
    body.size = size;
    http_reply(waiting[0], 200, "text/plain", &body);
    pass(0);
    pass(limit - 100);
    ck_assert_int_eq(fixture.pool.stats.connections, 1);
    while (read(client, bytes, sizeof(bytes)) > 0) /* a little progress … */
        ;
    fixture_turn(&fixture);
    pass(limit + 1000);
    ck_assert_int_eq(fixture.pool.stats.connections, 1); /* … begins it anew */
    pass(2 * limit + 2000);
    ck_assert_int_eq(fixture.pool.stats.connections, 0);
    ck_assert_uint_eq(fixture.pool.stats.timed_out, 1);
}
END_TEST

#define LATE REFUSED("408 Request Timeout", "47", "The request did not arrive in time") "<end>"

START_TEST(deadlines)
{
    static const struct {
        const char *bytes;
        int64_t limit_ms;
        const char *expected;
    } rows[] = {
        {"", 75 * 1000, "<end>"},
        {GET("/now"), 75 * 1000, OK("3", "now") "<end>"},
        {"G", 10 * 1000, LATE},
        {"\r\n", 10 * 1000, LATE},
        {"GET / HTTP/1.1\r\nHost: x\r\n", 10 * 1000, LATE},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nh", 30 * 1000, LATE},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 30 * 1000, LATE},
        {GET("/now") "GET", 10 * 1000, OK("3", "now") LATE},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        int other = fixture_connect(&fixture);
        uv_update_time(&fixture.loop);
        fixture_send(&fixture, other, rows[i].bytes);
        int before = fixture.pool.stats.connections;
        pass(rows[i].limit_ms - 500);
        ck_assert_msg(fixture.pool.stats.timed_out == i, "%s: too early", rows[i].bytes);
        ck_assert_int_eq(fixture.pool.stats.connections, before);
        pass(rows[i].limit_ms + 10);
        ck_assert_str_eq(fixture_receive(&fixture, other), rows[i].expected);
        close(other);
        if (fixture.pool.stats.timed_out > i + 1) { /* the other connection of this test */
            fixture.pool.stats.timed_out = i + 1;
            close(client);
            client = fixture_connect(&fixture);
        }
    }
}
END_TEST

/* Bytes that trickle in do not move the deadline. */
START_TEST(slow_head)
{
    send_text("GET / HTTP/1.1\r\n");
    pass(9 * 1000);
    send_text("Host: x\r\n");
    pass(10 * 1000 + 10);
    expect(LATE);
}
END_TEST

START_TEST(working_handler_has_no_deadline)
{
    send_text(GET("/a"));
    pass(1000 * 1000);
    say(waiting[0], "a");
    expect(OK("1", "a"));
}
END_TEST

START_TEST(stopping)
{
    int busy = fixture_connect(&fixture), partial = fixture_connect(&fixture);
    send_text(GET("/now"));
    expect(OK("3", "now"));
    fixture_send(&fixture, busy, GET("/a") GET("/b"));
    fixture_send(&fixture, partial, "GET /now HT");
    http_pool_stop(&fixture.pool);
    expect("<end>");
    say(waiting[0], "a");
    ck_assert_str_eq(fixture_receive(&fixture, busy), OK("1", "a"));
    say(waiting[1], "b");
    ck_assert_str_eq(fixture_receive(&fixture, busy),
                     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n"
                     "Connection: close\r\n\r\nb<end>");
    fixture_send(&fixture, partial, "TP/1.1\r\nHost: x\r\n\r\n");
    ck_assert_str_eq(fixture_receive(&fixture, partial),
                     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
                     "Connection: close\r\n\r\nnow<end>");
    close(busy);
    close(partial);
    fixture_turn(&fixture);
    ck_assert_int_eq(fixture.pool.handles, 0);
}
END_TEST

START_TEST(longest_idle_is_evicted)
{
    int second = fixture_connect(&fixture), third = fixture_connect(&fixture);
    send_text(GET("/now")); /* now second is idle longest */
    fixture_send(&fixture, third, GET("/a"));
    expect(OK("3", "now"));
    ck_assert(http_pool_evict(&fixture.pool));
    ck_assert_str_eq(fixture_receive(&fixture, second), "<end>");
    ck_assert(http_pool_evict(&fixture.pool));
    expect("<end>");
    ck_assert(!http_pool_evict(&fixture.pool));
    say(waiting[0], "a");
    ck_assert_str_eq(fixture_receive(&fixture, third), OK("1", "a"));
    close(second);
    close(third);
}
END_TEST

START_TEST(fields_of_a_reply)
{
    send_text(GET("/a"));
    http_reply_field(waiting[0], "Link", "<%s>; rel=\"next\"", "/x\r\nEvil: 1");
    http_reply(waiting[0], 304, NULL, NULL);
    expect("HTTP/1.1 304 Not Modified\r\nLink: </x  Evil: 1>; rel=\"next\"\r\n\r\n");
}
END_TEST

/* --- streams --- */

static int gone, drained;

static void on_gone(void *context)
{
    gone++;
    http_stream_end(context);
}

static void on_drained(void *context)
{
    (void)context;
    drained++;
}

static const struct http_stream_events events = {.on_drained = on_drained, .on_gone = on_gone};

#define STREAM "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"

START_TEST(stream)
{
    gone = drained = 0;
    send_text(GET("/a") GET("/now"));
    ck_assert(http_stream_begin(waiting[0], 200, "text/plain", &events, waiting[0]));
    expect(STREAM);
    ck_assert_uint_eq(http_stream_write(waiting[0], "hello", 5), 0);
    expect("5\r\nhello\r\n");
    http_stream_write(waiting[0], "", 0);
    expect("");
    http_stream_write(waiting[0], "0123456789abcdef", 16);
    http_stream_end(waiting[0]);
    expect("10\r\n0123456789abcdef\r\n0\r\n\r\n" OK("3", "now"));
    ck_assert_int_eq(gone + drained, 0);
}
END_TEST

START_TEST(stream_waits_for_its_turn)
{
    gone = drained = 0;
    send_text(GET("/a") GET("/b"));
    http_stream_begin(waiting[1], 200, "text/plain", &events, waiting[1]);
    ck_assert_uint_gt(http_stream_write(waiting[1], "b", 1), 0);
    expect("");
    say(waiting[0], "a");
    ck_assert_int_eq(drained, 1);
    http_stream_end(waiting[1]);
    expect(OK("1", "a") STREAM "1\r\nb\r\n0\r\n\r\n");
}
END_TEST

START_TEST(stream_in_1_0_ends_with_the_connection)
{
    send_text("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    http_stream_begin(waiting[0], 200, "text/plain", &events, waiting[0]);
    http_stream_write(waiting[0], "hello", 5);
    http_stream_end(waiting[0]);
    expect("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhello<end>");
}
END_TEST

START_TEST(stream_of_head)
{
    send_text("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" GET("/now"));
    http_stream_begin(waiting[0], 200, "text/plain", &events, waiting[0]);
    ck_assert_uint_eq(http_stream_write(waiting[0], "hello", 5), 0);
    http_stream_end(waiting[0]);
    expect(STREAM OK("3", "now"));
}
END_TEST

START_TEST(stream_drains)
{
    static char block[65536];
    char bytes[65536];
    gone = drained = 0;
    send_text(GET("/a"));
    http_stream_begin(waiting[0], 200, "text/plain", &events, waiting[0]);
    while (http_stream_write(waiting[0], block, sizeof(block)) < 4 * sizeof(block))
        ;
    ck_assert_int_eq(drained, 0);
    while (read(client, bytes, sizeof(bytes)) > 0)
        fixture_turn(&fixture);
    ck_assert_int_eq(drained, 1);
    ck_assert_uint_eq(http_stream_write(waiting[0], "x", 1), 0);
    http_stream_end(waiting[0]);
    expect("1\r\nx\r\n0\r\n\r\n");
    ck_assert_int_eq(gone, 0);
}
END_TEST

START_TEST(stream_hears_that_the_client_left)
{
    gone = 0;
    send_text(GET("/a"));
    http_stream_begin(waiting[0], 200, "text/plain", &events, waiting[0]);
    close(client);
    fixture_turn(&fixture);
    ck_assert_int_eq(gone, 1);

    client = fixture_connect(&fixture);
    send_text(GET("/b"));
    http_connection_close(fixture.pool.busy);
    fixture_turn(&fixture);
    ck_assert(!http_stream_begin(waiting[1], 200, "text/plain", &events, waiting[1]));
    ck_assert_uint_eq(http_stream_write(waiting[1], "x", 1), 0);
    http_stream_end(waiting[1]);
    ck_assert_int_eq(gone, 1);
}
END_TEST

START_TEST(stream_that_is_ended_short_has_no_last_chunk)
{
    send_text(GET("/a") GET("/now"));
    http_stream_begin(waiting[0], 200, "text/plain", &events, waiting[0]);
    http_stream_write(waiting[0], "hello", 5);
    http_stream_abort(waiting[0]);
    expect(STREAM "5\r\nhello\r\n<end>");
}
END_TEST

START_TEST(replies_are_counted_until_they_are_sent)
{
    fixture.pool.load->max_replies_bytes = 10;
    send_text(GET("/a") GET("/b") GET("/c"));
    ck_assert(http_reply_fits(waiting[0], 1000)); /* one always does */
    say(waiting[1], "12345678");                  /* not sent before the first */
    ck_assert(http_reply_fits(waiting[2], 2));
    ck_assert(!http_reply_fits(waiting[2], 3));
    http_reply_hold(waiting[0], 5);
    ck_assert_uint_eq(fixture.pool.load->replies_bytes, 13);
    say(waiting[0], "a");
    ck_assert_uint_eq(fixture.pool.load->replies_bytes, 0);
    say(waiting[2], "c");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api/http_connection");
    TCase *tcase = tcase_create("connection");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, replies_keep_the_order_of_requests);
    tcase_add_test(tcase, few_requests_are_in_flight);
    tcase_add_test(tcase, head_gets_no_body);
    tcase_add_test(tcase, http_1_0);
    tcase_add_test(tcase, nothing_follows_a_closing_request);
    tcase_add_test(tcase, expectations);
    tcase_add_test(tcase, refusals);
    tcase_add_test(tcase, refusal_waits_for_its_turn);
    tcase_add_test(tcase, refused_client_may_send_on);
    tcase_add_test(tcase, half_closed_client_gets_its_replies);
    tcase_add_test(tcase, cut_requests_are_refused);
    tcase_add_test(tcase, requests_outlive_their_client);
    tcase_add_test(tcase, large_replies_wait_for_the_client);
    tcase_add_test(tcase, stalled_client_is_cut);
    tcase_add_test(tcase, deadlines);
    tcase_add_test(tcase, slow_head);
    tcase_add_test(tcase, working_handler_has_no_deadline);
    tcase_add_test(tcase, stopping);
    tcase_add_test(tcase, longest_idle_is_evicted);
    tcase_add_test(tcase, fields_of_a_reply);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("stream");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, stream);
    tcase_add_test(tcase, stream_waits_for_its_turn);
    tcase_add_test(tcase, stream_in_1_0_ends_with_the_connection);
    tcase_add_test(tcase, stream_of_head);
    tcase_add_test(tcase, stream_drains);
    tcase_add_test(tcase, stream_hears_that_the_client_left);
    tcase_add_test(tcase, stream_that_is_ended_short_has_no_last_chunk);
    tcase_add_test(tcase, replies_are_counted_until_they_are_sent);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
