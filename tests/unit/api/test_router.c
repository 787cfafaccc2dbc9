/* api/router.h: which handler gets what, and what the router replies itself. */
#include "api/router.h"

#include "api/body.h"
#include "api/reply.h"
#include "tests/unit/api/http_fixture.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

static void say(struct http_request *request, const char *name)
{
    struct buffer text = {0};
    buffer_add_text(&text, name);
    for (int i = 0; i < HTTP_MAX_PARAMS && request->params[i] != NULL; i++)
        buffer_printf(&text, " [%s]", request->params[i]);
    for (int i = 0; i < request->query.count; i++)
        buffer_printf(&text, " %s=%s", request->query.params[i].name,
                      request->query.params[i].value);
    http_reply(request, 200, "text/plain", &text);
}

#define HANDLER(name)                              \
    static void name(struct http_request *request) \
    {                                              \
        say(request, #name);                       \
    }
HANDLER(list)
HANDLER(create)
HANDLER(special)
HANDLER(one)
HANDLER(output)

static void post_json(struct http_request *request)
{
    struct json_span body;
    struct buffer text = {0};
    if (!body_json(request, &body))
        return;
    buffer_add(&text, body.text, body.size);
    reply_json(request, 200, &text);
}

static const struct route routes[] = {
    {METHOD_GET, "/api/things", list},
    {METHOD_POST, "/api/things", create},
    {METHOD_GET, "/api/things/special", special},
    {METHOD_GET, "/api/things/<id>", one},
    {METHOD_DELETE, "/api/things/<id>", one},
    {METHOD_GET, "/api/things/<id>/tasks/<task>/log", output},
    {METHOD_POST, "/api/json", post_json},
    {0},
};

static void on_request(struct http_request *request)
{
    router_dispatch(routes, request);
}

/* The status and the body of the reply to a request, as `200 body`. */
static const char *ask(struct fixture *fixture, const char *request)
{
    static char text[512];
    int client = fixture_connect(fixture);
    fixture_send(fixture, client, request);
    const char *reply = fixture_receive(fixture, client);
    const char *body = strstr(reply, "\r\n\r\n");
    ck_assert_msg(body != NULL, "%s", reply);
    snprintf(text, sizeof(text), "%.3s %s", reply + strlen("HTTP/1.1 "), body + 4);
    close(client);
    return text;
}

START_TEST(routed)
{
    static const struct {
        const char *line;
        const char *expected;
    } rows[] = {
        {"GET /api/things", "200 list"},
        {"POST /api/things", "200 create"},
        {"HEAD /api/things", "200 "},
        {"GET /api/things?b=1&a=%41+x", "200 list b=1 a=A x"},
        {"GET /api/things?", "200 list"},
        {"GET http://x/api/things", "200 list"},
        {"GET /api/things/special", "200 special"},
        {"GET /api/things/specials", "200 one [specials]"},
        {"GET /api/things/a.b", "200 one [a.b]"},
        {"DELETE /api/things/a", "200 one [a]"},
        {"GET /api/things/a%2Fb%20c+d", "200 one [a/b c+d]"},
        {"GET /api/things/x/tasks/y/log?tail=1", "200 output [x] [y] tail=1"},
        {"GET /api/things/x/tasks/y/logs",
         "404 {\"error\":\"/api/things/x/tasks/y/logs not found\"}\n"},
        {"GET /api/things/", "404 {\"error\":\"/api/things/ not found\"}\n"},
        {"GET /api/things/a/", "404 {\"error\":\"/api/things/a/ not found\"}\n"},
        {"GET /api/Things", "404 {\"error\":\"/api/Things not found\"}\n"},
        {"GET /api/thing", "404 {\"error\":\"/api/thing not found\"}\n"},
        {"GET //api/things", "404 {\"error\":\"//api/things not found\"}\n"},
        {"GET /", "404 {\"error\":\"/ not found\"}\n"},
        {"OPTIONS /x", "404 {\"error\":\"/x not found\"}\n"},
        {"GET /x%zz", "404 {\"error\":\"/x%zz not found\"}\n"},
        {"PUT /api/things", "405 {\"error\":\"PUT is not allowed for /api/things\"}\n"},
        {"TRACE /api/things", "405 {\"error\":\"TRACE is not allowed for /api/things\"}\n"},
        {"GET /api/things/%zz",
         "400 {\"error\":\"in the path: '%' is not followed by two hexadecimal digits\"}\n"},
        {"GET /api/things/%00",
         "400 {\"error\":\"in the path: the byte NUL cannot be part of a text\"}\n"},
        {"GET /api/things/%ff", "400 {\"error\":\"in the path: the text is not UTF-8\"}\n"},
        {"GET /api/things?a=%f",
         "400 {\"error\":\"'a': '%' is not followed by two hexadecimal digits\"}\n"},
    };
    struct fixture fixture;
    fixture_init(&fixture, on_request, NULL);
    for (size_t i = 0; i < ROWS(rows); i++) {
        char request[256];
        snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: x\r\n\r\n", rows[i].line);
        const char *got = ask(&fixture, request);
        ck_assert_msg(strcmp(got, rows[i].expected) == 0, "%s: expected %s, got %s", rows[i].line,
                      rows[i].expected, got);
    }
    fixture_done(&fixture);
}
END_TEST

START_TEST(allowed)
{
    static const struct {
        const char *line;
        const char *expected;
    } rows[] = {
        {"OPTIONS /api/things",
         "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, POST, OPTIONS\r\n\r\n"},
        {"OPTIONS /api/things/x",
         "HTTP/1.1 204 No Content\r\nAllow: DELETE, GET, HEAD, OPTIONS\r\n\r\n"},
        {"OPTIONS *", "HTTP/1.1 204 No Content\r\nAllow: DELETE, GET, HEAD, POST, OPTIONS\r\n\r\n"},
        {"HEAD /api/json", "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: "
                           "application/json\r\nContent-Length: 46\r\n"
                           "Allow: POST, OPTIONS\r\n\r\n"},
    };
    struct fixture fixture;
    fixture_init(&fixture, on_request, NULL);
    for (size_t i = 0; i < ROWS(rows); i++) {
        char request[256];
        int client = fixture_connect(&fixture);
        snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: x\r\n\r\n", rows[i].line);
        fixture_send(&fixture, client, request);
        ck_assert_str_eq(fixture_receive(&fixture, client), rows[i].expected);
        close(client);
    }
    fixture_done(&fixture);
}
END_TEST

START_TEST(json_bodies)
{
    static const struct {
        const char *fields;
        const char *body;
        const char *expected; /* begins with */
    } rows[] = {
        {"Content-Type: application/json", "{\"a\": 1.0}", "200 {\"a\": 1.0}\n"},
        {"Content-Type: Application/JSON; charset=utf-8", "1", "200 1\n"},
        {"Content-Type: application/vnd.x+json", "[]", "200 []\n"},
        {"Content-Type: application/+json", "[]", "415 "},
        {"Content-Type: application/jsonx", "[]", "415 "},
        {"Content-Type: application/json-seq", "[]", "415 "},
        {"Content-Type: text/json", "[]", "415 "},
        {"X: y", "[]", "415 {\"error\":\"The Content-Type must be application/json, not ''\"}\n"},
        {"Content-Type: application/json\r\nContent-Encoding: gzip", "[]", "415 "},
        {"Content-Type: application/json", "{\"a\":", "400 {\"error\":\"Malformed JSON: "},
        {"Content-Type: application/json", "\xff", "400 {\"error\":\"Malformed JSON: "},
        {"X: y", "", "200 \n"},
    };
    struct fixture fixture;
    fixture_init(&fixture, on_request, NULL);
    for (size_t i = 0; i < ROWS(rows); i++) {
        char request[512];
        snprintf(request, sizeof(request),
                 "POST /api/json HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %zu\r\n\r\n%s",
                 rows[i].fields, strlen(rows[i].body), rows[i].body);
        const char *got = ask(&fixture, request);
        ck_assert_msg(strncmp(got, rows[i].expected, strlen(rows[i].expected)) == 0, "%s %s: %s",
                      rows[i].fields, rows[i].body, got);
    }
    fixture_done(&fixture);
}
END_TEST

static void reply_in_full(struct http_request *request)
{
    static const char *const reasons[] = {"'a' is \"wrong\"", "b\xff"};
    reply_errors(request, 400, "Payload is not valid", reasons, 2);
}

static void reply_later(struct http_request *request)
{
    reply_unavailable(request, 5, "The database is away");
}

START_TEST(errors)
{
    struct fixture fixture;
    fixture_init(&fixture, reply_in_full, NULL);
    ck_assert_str_eq(ask(&fixture, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                     "400 {\"error\":\"Payload is not valid\",\"errors\":[\"'a' is \\\"wrong\\\"\","
                     "\"b\xef\xbf\xbd\"]}\n");
    fixture.pool.handler = reply_later;
    int client = fixture_connect(&fixture);
    fixture_send(&fixture, client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    ck_assert_str_eq(fixture_receive(&fixture, client),
                     "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                     "Content-Length: 33\r\nRetry-After: 5\r\n\r\n"
                     "{\"error\":\"The database is away\"}\n");
    close(client);
    fixture_done(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api/router");
    TCase *tcase = tcase_create("router");
    tcase_add_test(tcase, routed);
    tcase_add_test(tcase, allowed);
    tcase_add_test(tcase, json_bodies);
    tcase_add_test(tcase, errors);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
