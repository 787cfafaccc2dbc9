#include "api/http_parser.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/api/http_transcript.h"
#include "tests/unit/unit.h"

struct row {
    const char *name;
    const char *bytes;
    const char *expected;
    size_t size; /* of bytes where they contain NUL, else 0 */
};

#define HOST "Host: x\r\n"
#define POST "POST /p HTTP/1.1\r\n" HOST
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const struct row accepted[] = {
    {"plain", "GET / HTTP/1.1\r\n" HOST "\r\n", "GET /\n", 0},
    {"query", "GET /a/b?c=d&e HTTP/1.1\r\n" HOST "\r\n", "GET /a/b?c=d&e\n", 0},
    {"1.0 closes", "GET / HTTP/1.0\r\n\r\n", "GET / close\n", 0},
    {"1.0 keeps", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /\n", 0},
    {"1.1 closes", "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "GET / close\n", 0},
    {"close in a list", "GET / HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n", "GET / close\n",
     0},
    {"empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "GET /\n", 0},
    {"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET /\n", 0},
    {"host with port", "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", "GET /\n", 0},
    {"absolute form", "GET http://h:1/a?b HTTP/1.1\r\n" HOST "\r\n", "GET /a?b\n", 0},
    {"absolute form, no path", "GET HTTP://h?b HTTP/1.1\r\n" HOST "\r\n", "GET /?b\n", 0},
    {"asterisk", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS *\n", 0},
    {"unserved method", "TRACE / HTTP/1.1\r\n" HOST "\r\n", "TRACE /\n", 0},
    {"length 0", POST "Content-Length: 0\r\n\r\n", "POST /p\n", 0},
    {"length", POST "Content-Length: 5\r\n\r\nhello", "POST /p \"hello\"\n", 0},
    {"length is a minimum of digits", POST "Content-Length: 0005\r\n\r\nhello",
     "POST /p \"hello\"\n", 0},
    {"pipelined", POST "Content-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\n" HOST "\r\n",
     "POST /p \"hi\"\nGET /2\n", 0},
    {"CRLF behind a body", POST "Content-Length: 2\r\n\r\nhi\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n",
     "POST /p \"hi\"\nGET /2\n", 0},
    {"chunked", CHUNKED "3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n", "POST /p \"abc0123456789\"\n",
     0},
    {"chunked in capitals", POST "Transfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
     "POST /p \"a\"\n", 0},
    {"chunked, empty", CHUNKED "0\r\n\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n", "POST /p\nGET /2\n", 0},
    {"chunk extensions", CHUNKED "1;a\r\nx\r\n1;b=\"c;d\";e=f\r\ny\r\n0;g\r\n\r\n",
     "POST /p \"xy\"\n", 0},
    {"trailer", CHUNKED "1\r\nx\r\n0\r\nDigest: 1\r\nX:\r\n\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n",
     "POST /p \"x\"\nGET /2\n", 0},
    {"expectation", POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", "POST /p \"x\"\n",
     0},
    {"expectation in 1.0", "GET / HTTP/1.0\r\nExpect: tea\r\n\r\n", "GET / close\n", 0},
    {"bytes of a body are free", POST "Content-Length: 4\r\n\r\n\r\n\n\x01",
     "POST /p \"\r\n\n\x01\"\n", 0},
    {"unfinished head", "GET / HTTP/1.1\r\nHos", "head\n", 0},
    {"unfinished body", POST "Content-Length: 5\r\n\r\nhell", "body\n", 0},
    {"unfinished chunk", CHUNKED "5\r\nhell", "body\n", 0},
    {"unfinished trailer", CHUNKED "0\r\nA: b\r\n", "body\n", 0},
    {"only an empty line", "\r\n", "head\n", 0},
};

static const struct row refused[] = {
    {"CR in a value", "GET / HTTP/1.1\r\n" HOST "X: \rxTransfer-Encoding: chunked\r\n\r\n", "400\n",
     0},
    {"CR ends the head", "GET / HTTP/1.1\r\n" HOST "\r\rX", "400\n", 0},
    {"CR before the end", "GET / HTTP/1.1\r\n" HOST "\r\n\rX", "GET /\n400\n", 0},
    {"LF behind the request line", "GET / HTTP/1.1\n" HOST "\r\n", "400\n", 0},
    {"LF in the target", "GET /x\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "400\n", 0},
    {"LF behind a field", "GET / HTTP/1.1\r\nHost: x\n\r\n", "400\n", 0},
    {"LF ends the head", "GET / HTTP/1.1\r\n" HOST "\n", "400\n", 0},
    {"LF before the head", "\nGET / HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"NUL in a value", "GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n", "400\n", 30},
    {"NUL in the target", "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", "400\n", 28},
    {"TLS", "\x16\x03\x01\x02", "400\n", 0},
    {"DEL in a value", "GET / HTTP/1.1\r\n" HOST "A: \x7f\r\n\r\n", "400\n", 0},
    {"folded line", "GET / HTTP/1.1\r\n" HOST " Content-Length: 5\r\n\r\nhello", "400\n", 0},
    {"folded by HTAB", "GET / HTTP/1.1\r\n" HOST "\tx\r\n\r\n", "400\n", 0},
    {"blank before the first field", "GET / HTTP/1.1\r\n " HOST "\r\n", "400\n", 0},
    {"blank before the request", " GET / HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"field without a name", "GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n", "400\n", 0},
    {"field without a colon", "GET / HTTP/1.1\r\n" HOST "Foo\r\n\r\n", "400\n", 0},
    {"blank before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400\n", 0},
    {"blank before a length's colon", POST "Content-Length : 5\r\n\r\nhello", "400\n", 0},
    {"no host", "GET / HTTP/1.1\r\n\r\n", "400\n", 0},
    {"two hosts", "GET / HTTP/1.1\r\n" HOST HOST "\r\n", "400\n", 0},
    {"two hosts in 1.0", "GET / HTTP/1.0\r\n" HOST HOST "\r\n", "400\n", 0},
    {"bad host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400\n", 0},
    {"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400\n", 0},
    {"0.9", "GET /\r\n", "head\n", 0},
    {"0.9 with an end", "GET /\r\n\r\n", "400\n", 0},
    {"version 0.9", "GET / HTTP/0.9\r\n" HOST "\r\n", "505\n", 0},
    {"version 1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", "505\n", 0},
    {"version 2.0", "GET / HTTP/2.0\r\n" HOST "\r\n", "505\n", 0},
    {"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505\n", 0},
    {"version of one digit", "GET / HTTP/1\r\n" HOST "\r\n", "400\n", 0},
    {"version of three digits", "GET / HTTP/1.10\r\n" HOST "\r\n", "400\n", 0},
    {"version in small letters", "GET / http/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"RTSP", "OPTIONS / RTSP/1.0\r\n\r\n", "400\n", 0},
    {"two blanks", "GET  / HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"two blanks before the version", "GET /  HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"blank behind the version", "GET / HTTP/1.1 \r\n" HOST "\r\n", "400\n", 0},
    {"HTAB for a blank", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"no target", "GET HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"target without a slash", "GET a HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"asterisk for GET", "GET * HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"target beyond ASCII", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"method in small letters", "get / HTTP/1.1\r\n" HOST "\r\n", "501\n", 0},
    {"unknown method", "BREW /pot HTTP/1.1\r\n" HOST "\r\n", "501\n", 0},
    {"longer than a method", "GETS / HTTP/1.1\r\n" HOST "\r\n", "501\n", 0},
    {"method is no token", "G(T / HTTP/1.1\r\n" HOST "\r\n", "400\n", 0},
    {"CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", "400\n", 0},
    {"Upgrade", "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "400\n",
     0},
    {"Upgrade with a body",
     POST "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", "400\n", 0},
    {"length and chunked", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "400\n", 0},
    {"chunked and length", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
     "400\n", 0},
    {"chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400\n",
     0},
    {"chunked twice", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
     "400\n", 0},
    {"chunked, chunked", POST "Transfer-Encoding: chunked, chunked\r\n\r\n", "400\n", 0},
    {"gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", "400\n", 0},
    {"identity", POST "Transfer-Encoding: identity\r\n\r\n", "400\n", 0},
    {"xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n", "400\n", 0},
    {"quoted", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", "400\n", 0},
    {"chunked and a tab", POST "Transfer-Encoding: chunked\x0b\r\n\r\n", "400\n", 0},
    {"empty encoding", POST "Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello", "400\n", 0},
    {"two lengths", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400\n", 0},
    {"list of lengths", POST "Content-Length: 5, 5\r\n\r\nhello", "400\n", 0},
    {"signed length", POST "Content-Length: +5\r\n\r\nhello", "400\n", 0},
    {"negative length", POST "Content-Length: -5\r\n\r\nhello", "400\n", 0},
    {"hexadecimal length", POST "Content-Length: 0x5\r\n\r\nhello", "400\n", 0},
    {"empty length", POST "Content-Length:\r\n\r\n", "400\n", 0},
    {"length of 2^64", POST "Content-Length: 18446744073709551616\r\n\r\n", "400\n", 0},
    {"length of 2^64 and 5", POST "Content-Length: 18446744073709551621\r\n\r\n", "400\n", 0},
    {"chunk size 0x1", CHUNKED "0x1\r\na\r\n0\r\n\r\n", "400\n", 0},
    {"chunk size -1", CHUNKED "-1\r\na\r\n0\r\n\r\n", "400\n", 0},
    {"chunk size empty", CHUNKED "\r\na\r\n0\r\n\r\n", "400\n", 0},
    {"blank behind a chunk size", CHUNKED "1 \r\na\r\n0\r\n\r\n", "400\n", 0},
    {"chunk size overflows", CHUNKED "10000000000000001\r\na\r\n0\r\n\r\n", "400\n", 0},
    {"LF behind a chunk size", CHUNKED "1\na\r\n0\r\n\r\n", "400\n", 0},
    {"CR alone behind a chunk size", CHUNKED "1\r\ra\r\n0\r\n\r\n", "400\n", 0},
    {"chunk longer than its size", CHUNKED "1\r\nab\r\n0\r\n\r\n", "400\n", 0},
    {"chunk without CRLF", CHUNKED "1\r\na0\r\n\r\n", "400\n", 0},
    {"LF in a chunk extension", CHUNKED "1;a\nb\r\na\r\n0\r\n\r\n", "400\n", 0},
    {"length in the trailer", CHUNKED "0\r\nContent-Length: 5\r\n\r\nhello", "400\n", 0},
    {"encoding in the trailer", CHUNKED "0\r\ntransfer-encoding: chunked\r\n\r\n", "400\n", 0},
    {"host in the trailer", CHUNKED "0\r\nHost: y\r\n\r\n", "400\n", 0},
    {"LF in the trailer", CHUNKED "0\r\nA: b\n\r\n", "400\n", 0},
    {"LF for a trailer", CHUNKED "0\r\n\n", "400\n", 0},
    {"folded trailer", CHUNKED "0\r\nA: b\r\n c\r\n\r\n", "400\n", 0},
    {"trailer without a name", CHUNKED "0\r\n: b\r\n\r\n", "400\n", 0},
    {"unknown expectation", POST "Expect: tea\r\nContent-Length: 1\r\n\r\nx", "417\n", 0},
    {"the second of two", "GET / HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n\r\n", "GET /\n400\n",
     0},
};

static size_t size_of(const struct row *row)
{
    return row->size > 0 ? row->size : strlen(row->bytes);
}

static void check_row(const struct row *row)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    struct buffer out = {0};
    transcript(&options, row->bytes, size_of(row), NULL, NULL, false, &out);
    ck_assert_msg(strcmp(buffer_text(&out), row->expected) == 0, "%s: expected %s, got %s",
                  row->name, row->expected, out.data);
    buffer_done(&out);
}

START_TEST(test_accepted)
{
    check_row(&accepted[_i]);
}
END_TEST

START_TEST(test_refused)
{
    check_row(&refused[_i]);
}
END_TEST

/* First a piece of the given size, then the rest. */
static size_t cut_once(void *context)
{
    size_t *first = context, size = *first;
    *first = SIZE_MAX;
    return size;
}

static void check_cut(const struct row *row, const char *expected, transcript_cut cut,
                      void *context, const char *how, size_t number)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    struct buffer out = {0};
    transcript(&options, row->bytes, size_of(row), cut, context, true, &out);
    ck_assert_msg(strcmp(buffer_text(&out), expected) == 0, "%s, %s %zu: expected %s, got %s",
                  row->name, how, number, expected, out.data);
    buffer_done(&out);
}

static void check_cuts(const struct row *row)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    struct buffer whole = {0};
    transcript(&options, row->bytes, size_of(row), NULL, NULL, true, &whole);
    const char *expected = buffer_text(&whole);
    for (size_t first = 1; first < size_of(row); first++) {
        size_t context = first;
        check_cut(row, expected, cut_once, &context, "cut at", first);
    }
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t context = seed;
        check_cut(row, expected, transcript_random_cut, &context, "seed", seed);
    }
    buffer_done(&whole);
}

START_TEST(test_any_cut_is_the_same)
{
    for (size_t i = 0; i < sizeof(accepted) / sizeof(*accepted); i++)
        check_cuts(&accepted[i]);
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        check_cuts(&refused[i]);
}
END_TEST

START_TEST(test_fields)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    struct buffer out = {0};
    static const char bytes[] =
        "GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB:  \t \r\nC:c\r\nD: \t d e \t\r\n"
        "E: \xc3\xa4\r\nAuthorization: Basic QTpi\r\n\r\n";
    transcript(&options, bytes, sizeof(bytes) - 1, NULL, NULL, true, &out);
    ck_assert_str_eq(buffer_text(&out),
                     "GET /\n  Host: x\n  A: \n  B: \n  C: c\n  D: d e\n  E: \xc3\xa4\n"
                     "  Authorization: Basic QTpi\n");
    buffer_done(&out);
}
END_TEST

/* --- limits: each at its edge and one beyond --- */

static const struct http_options small = {.max_target_bytes = 10,
                                          .max_head_bytes = 64,
                                          .max_fields = 3,
                                          .max_body_bytes = 10,
                                          .max_bodies_bytes = 100};

static const struct row limits[] = {
    {"target", "GET /234567890 HTTP/1.1\r\n" HOST "\r\n", "GET /234567890\n", 0},
    {"target too long", "GET /2345678901 HTTP/1.1\r\n" HOST "\r\n", "414\n", 0},
    {"target too long to end", "GET /2345678901", "414\n", 0},
    {"head of 64", "GET / HTTP/1.1\r\n" HOST "A: 45678901234567890123456789012345\r\n\r\n",
     "GET /\n", 0},
    {"head of 65", "GET / HTTP/1.1\r\n" HOST "A: 456789012345678901234567890123456\r\n\r\n",
     "431\n", 0},
    {"empty lines count",
     "\r\n\r\nGET / HTTP/1.1\r\n" HOST "A: 4567890123456789012345678901\r\n\r\n", "GET /\n", 0},
    {"empty lines count to the end",
     "\r\n\r\nGET / HTTP/1.1\r\n" HOST "A: 45678901234567890123456789012\r\n\r\n", "431\n", 0},
    {"three fields", "GET / HTTP/1.1\r\n" HOST "A:\r\nB:\r\n\r\n", "GET /\n", 0},
    {"four fields", "GET / HTTP/1.1\r\n" HOST "A:\r\nB:\r\nC:\r\n\r\n", "431\n", 0},
    {"body", POST "Content-Length: 10\r\n\r\n0123456789", "POST /p \"0123456789\"\n", 0},
    {"body too large", POST "Content-Length: 11\r\n\r\n", "413\n", 0},
    {"body too large to wait for", POST "Expect: 100-continue\r\nContent-Length:11\r\n\r\n",
     "431\n", 0},
    {"chunks",
     "POST / "
     "HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
     "POST / \"0123456789\"\n", 0},
    {"chunk too large", "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\nb\r\n",
     "413\n", 0},
    {"chunks too large",
     "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\n5\r\n01234\r\n6\r\n", "413\n",
     0},
    {"extensions",
     "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\n"
     "1;3456789012345678901234567890123456789012345678901234567890123\r\na\r\n0\r\n\r\n",
     "POST / \"a\"\n", 0},
    {"extensions too large",
     "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\n"
     "1;34567890123456789012345678901234567890123456789012345678901234567890123456789\r\n",
     "413\n", 0},
    {"trailer too large",
     "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\n0\r\n"
     "A: 45678901234567890123456789012345678901234567890123456789012345",
     "431\n", 0},
    {"trailer of four fields",
     "POST / "
     "HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\n0\r\nA:\r\nB:\r\nC:\r\nD:\r\n\r\n",
     "431\n", 0},
};

START_TEST(test_limits)
{
    const struct row *row = &limits[_i];
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct buffer out = {0};
        uint64_t context = seed;
        transcript(&small, row->bytes, strlen(row->bytes), seed > 0 ? transcript_random_cut : NULL,
                   &context, false, &out);
        ck_assert_msg(strcmp(buffer_text(&out), row->expected) == 0,
                      "%s, seed %u: expected %s, got %s", row->name, (unsigned)seed, row->expected,
                      out.data);
        buffer_done(&out);
    }
}
END_TEST

START_TEST(test_bodies_of_all)
{
    struct http_options options = small;
    struct http_load *load = http_load_new(11, SIZE_MAX);
    struct http_parser *parser = http_parser_new(&options, load);
    struct http_request *first = NULL, *second = NULL;
    static const char bytes[] = POST "Content-Length: 6\r\n\r\nabcdef";
    const char *at = bytes, *end = bytes + sizeof(bytes) - 1;
    ck_assert_int_eq(http_parser_feed(parser, &at, end, &first), HTTP_EVENT_HEAD);
    ck_assert_int_eq(http_parser_feed(parser, &at, end, &first), HTTP_EVENT_DONE);
    ck_assert_uint_eq(load->bodies_bytes, 6);
    at = bytes;
    ck_assert_int_eq(http_parser_feed(parser, &at, end, &second), HTTP_EVENT_HEAD);
    ck_assert_int_eq(http_parser_feed(parser, &at, end, &second), HTTP_EVENT_REFUSE);
    ck_assert_int_eq(http_parser_status(parser), 503);
    ck_assert(!http_request_set_body(second, "abcdef", 6));
    ck_assert(http_request_set_body(second, "abcde", 5));
    ck_assert(http_request_set_body(second, "edcba", 5)); /* instead of the other */
    ck_assert_uint_eq(load->bodies_bytes, 11);
    http_request_free(first);
    ck_assert(http_request_set_body(second, "more than eleven", 16)); /* one always has room */
    http_request_free(second);
    ck_assert_uint_eq(load->bodies_bytes, 0);
    http_parser_free(parser);
    http_load_release(load);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api/http_parser");
    TCase *tcase = tcase_create("parser");
    tcase_add_loop_test(tcase, test_accepted, 0, sizeof(accepted) / sizeof(*accepted));
    tcase_add_loop_test(tcase, test_refused, 0, sizeof(refused) / sizeof(*refused));
    tcase_add_test(tcase, test_any_cut_is_the_same);
    tcase_add_test(tcase, test_fields);
    tcase_add_loop_test(tcase, test_limits, 0, sizeof(limits) / sizeof(*limits));
    tcase_add_test(tcase, test_bodies_of_all);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
