/* api/http_server.h: listeners, the cap on connections, stop and close, on real sockets of this
 * machine. */
#include "api/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/reply.h"
#include "base/log.h"
#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))
#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

static uv_loop_t loop;
static struct http_server *server;
static struct error error;
static struct http_request *held; /* by on_request, while `hold` */
static bool hold;
static int ended;

static void on_request(struct http_request *request)
{
    ck_assert_ptr_eq(request->context, &loop);
    if (hold)
        held = request;
    else
        http_reply(request, 204, NULL, NULL);
}

static void on_end(void *context)
{
    (void)context;
    ended++;
}

static int open_server(const struct http_options *options, const char *first, const char *second)
{
    const char *addresses[] = {first, second, NULL};
    return http_server_open(&server, &loop, options, addresses, on_request, &loop, &error);
}

static void open_default(const char *first, const char *second)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    ck_assert_msg(open_server(&options, first, second) == 0, "%s", error.text);
}

static void turn(void)
{
    for (int i = 0; i < 8; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void close_server(void)
{
    ended = 0;
    http_server_close(server, on_end, NULL);
    ck_assert_int_eq(ended, 0);
    turn();
    ck_assert_int_eq(ended, 1);
    server = NULL;
}

static char folder[] = "/tmp/http_server.XXXXXX";
static char path[64], unix_address[72];

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&loop);
    held = NULL;
    hold = false;
    strcpy(folder, "/tmp/http_server.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/api.sock", folder);
    snprintf(unix_address, sizeof(unix_address), "unix:%s", path);
}

static void teardown(void)
{
    if (server != NULL)
        close_server();
    turn();
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    unlink(path);
    rmdir(folder);
}

static int connect_tcp(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons(atoi(strrchr(address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    turn();
    return fd;
}

static int connect_unix(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    turn();
    return fd;
}

static void send_get(int fd)
{
    ck_assert_int_eq(write(fd, GET, strlen(GET)), (ssize_t)strlen(GET));
    turn();
}

/* The status of the reply that has come; 0 when none has, -1 when the connection is closed. */
static int status_of(int fd)
{
    char bytes[1024];
    turn();
    ssize_t n = recv(fd, bytes, sizeof(bytes) - 1, MSG_DONTWAIT);
    if (n <= 0)
        return n == 0 || errno != EAGAIN ? -1 : 0;
    bytes[n] = '\0';
    return atoi(bytes + strlen("HTTP/1.1 "));
}

START_TEST(listens_at_every_address)
{
    open_default("127.0.0.1:0", unix_address);
    const char *address = http_server_address(server, 0);
    ck_assert_int_eq(strncmp(address, "127.0.0.1:", 10), 0);
    ck_assert_int_gt(atoi(address + 10), 0);
    ck_assert_str_eq(http_server_address(server, 1), unix_address);
    ck_assert_ptr_null(http_server_address(server, 2));
    int tcp = connect_tcp(address), local = connect_unix();
    send_get(tcp);
    send_get(local);
    ck_assert_int_eq(status_of(tcp), 204);
    ck_assert_int_eq(status_of(local), 204);
    const struct http_stats *stats = http_server_stats(server);
    ck_assert_int_eq(stats->connections, 2);
    ck_assert_uint_eq(stats->requests, 2);
    ck_assert_uint_eq(stats->replies[2], 2);
    close(tcp);
    close(local);
    close_server();
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(bad_addresses)
{
    static const char expected[] =
        "expected ADDRESS:PORT (such as 127.0.0.1:8000), [IPv6]:PORT or unix:/PATH";
    static const char *const rows[] = {"",
                                       "8000",
                                       "127.0.0.1",
                                       "127.0.0.1:",
                                       ":8000",
                                       "localhost:1",
                                       "1.2.3.4:x",
                                       "1.2.3.4:65536",
                                       "1.2.3:80x",
                                       "::1:80",
                                       "[::1]",
                                       "[::1]:",
                                       "[1.2.3.4]:1",
                                       "[]:80",
                                       "[::1]x:80"};
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    for (size_t i = 0; i < ROWS(rows); i++) {
        char text[256];
        ck_assert_msg(open_server(&options, rows[i], NULL) < 0, "%s", rows[i]);
        snprintf(text, sizeof(text), "%s: %s", rows[i], expected);
        ck_assert_str_eq(error.text, text);
    }
    ck_assert_int_lt(open_server(&options, NULL, NULL), 0);
    ck_assert_str_eq(error.text, "there is no address to listen at");
    char deep[256] = "unix:/tmp/";
    memset(deep + strlen(deep), 'x', 150);
    ck_assert_int_lt(open_server(&options, deep, NULL), 0);
    ck_assert_ptr_nonnull(strstr(error.text, ": the path of a socket has at most 107 bytes"));
    ck_assert_ptr_null(server);
}
END_TEST

START_TEST(address_in_use)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    char expected[256];
    open_default("127.0.0.1:0", unix_address);
    struct http_server *first = server;
    const char *taken = http_server_address(first, 0);
    ck_assert_int_eq(open_server(&options, taken, NULL), -EADDRINUSE);
    snprintf(expected, sizeof(expected), "%s: address already in use", taken);
    ck_assert_str_eq(error.text, expected);
    ck_assert_int_eq(open_server(&options, "127.0.0.1:0", unix_address), -EADDRINUSE);
    snprintf(expected, sizeof(expected), "%s: address already in use", unix_address);
    ck_assert_str_eq(error.text, expected);
    ck_assert_ptr_eq(server, first);
    turn();
    int fd = connect_unix(); /* the first still has its file */
    send_get(fd);
    ck_assert_int_eq(status_of(fd), 204);
    close(fd);
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
    close(dead);
    open_default(unix_address, NULL);
    int fd = connect_unix();
    send_get(fd);
    ck_assert_int_eq(status_of(fd), 204);
    close(fd);
}
END_TEST

START_TEST(other_files_are_left_alone)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    FILE *file = fopen(path, "w");
    fclose(file);
    ck_assert_int_eq(open_server(&options, unix_address, NULL), -EADDRINUSE);
    ck_assert_int_eq(access(path, F_OK), 0);

    /* Nor is the file of whoever took the path over removed. */
    unlink(path);
    open_default(unix_address, NULL);
    unlink(path);
    file = fopen(path, "w");
    fclose(file);
    close_server();
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(idle_connections_make_room)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    options.max_connections = 2;
    ck_assert_int_eq(open_server(&options, "127.0.0.1:0", NULL), 0);
    const char *address = http_server_address(server, 0);
    int first = connect_tcp(address), second = connect_tcp(address), third = connect_tcp(address);
    ck_assert_int_eq(status_of(first), -1);
    send_get(second);
    send_get(third);
    ck_assert_int_eq(status_of(second), 204);
    ck_assert_int_eq(status_of(third), 204);
    ck_assert_uint_eq(http_server_stats(server)->evicted, 1);
    close(first);
    close(second);
    close(third);
}
END_TEST

START_TEST(busy_connections_make_others_wait)
{
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    options.max_connections = 1;
    ck_assert_int_eq(open_server(&options, "127.0.0.1:0", NULL), 0);
    const char *address = http_server_address(server, 0);
    hold = true;
    int first = connect_tcp(address);
    send_get(first);
    int second = connect_tcp(address);
    send_get(second);
    ck_assert_int_eq(status_of(second), 0);
    ck_assert_int_eq(http_server_stats(server)->connections, 1);
    hold = false;
    http_reply(held, 204, NULL, NULL); /* idle now: gives way to the second */
    ck_assert_int_eq(status_of(second), 204);
    ck_assert_int_eq(status_of(first), 204);
    ck_assert_int_eq(status_of(first), -1);
    close(first);
    close(second);
}
END_TEST

START_TEST(survives_without_file_descriptors)
{
    struct rlimit limit, none;
    open_default("127.0.0.1:0", NULL);
    log_start(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    getrlimit(RLIMIT_NOFILE, &limit);
    int clients[8];
    for (size_t i = 0; i < ROWS(clients); i++)
        clients[i] = connect_tcp(http_server_address(server, 0));
    int waiting = socket(AF_INET, SOCK_STREAM, 0);
    int last = dup(0);
    close(last);
    none = (struct rlimit){.rlim_cur = last, .rlim_max = limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons(atoi(strrchr(http_server_address(server, 0), ':') + 1));
    ck_assert_int_eq(connect(waiting, (struct sockaddr *)&to, sizeof(to)), 0);
    turn();
    ck_assert_int_eq(http_server_stats(server)->connections, ROWS(clients));
    close(clients[0]); /* an end on either side gives a descriptor back */
    send_get(waiting);
    ck_assert_int_eq(status_of(waiting), 204);
    setrlimit(RLIMIT_NOFILE, &limit);
    for (size_t i = 1; i < ROWS(clients); i++)
        close(clients[i]);
    close(waiting);
}
END_TEST

START_TEST(stops_when_all_is_answered)
{
    open_default("127.0.0.1:0", unix_address);
    hold = true;
    ended = 0;
    int busy = connect_tcp(http_server_address(server, 0)), idle = connect_unix();
    send_get(busy);
    http_server_stop(server, on_end, NULL);
    turn();
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(status_of(idle), -1);
    ck_assert_int_eq(ended, 0);
    http_reply(held, 204, NULL, NULL);
    ck_assert_int_eq(status_of(busy), 204);
    ck_assert_int_eq(status_of(busy), -1);
    ck_assert_int_eq(ended, 0); /* it listens for the client's end */
    close(busy);
    turn();
    ck_assert_int_eq(ended, 1);
    close(idle);
}
END_TEST

START_TEST(stops_without_connections)
{
    open_default("127.0.0.1:0", NULL);
    ended = 0;
    http_server_stop(server, on_end, NULL);
    ck_assert_int_eq(ended, 0);
    turn();
    ck_assert_int_eq(ended, 1);
}
END_TEST

START_TEST(requests_outlive_the_server)
{
    open_default("127.0.0.1:0", NULL);
    hold = true;
    int fd = connect_tcp(http_server_address(server, 0));
    send_get(fd);
    close_server();
    ck_assert(http_request_gone(held));
    ck_assert_str_eq(held->path, "/");
    http_reply(held, 204, NULL, NULL);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api/http_server");
    TCase *tcase = tcase_create("server");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, listens_at_every_address);
    tcase_add_test(tcase, bad_addresses);
    tcase_add_test(tcase, address_in_use);
    tcase_add_test(tcase, stale_socket_is_replaced);
    tcase_add_test(tcase, other_files_are_left_alone);
    tcase_add_test(tcase, idle_connections_make_room);
    tcase_add_test(tcase, busy_connections_make_others_wait);
    tcase_add_test(tcase, survives_without_file_descriptors);
    tcase_add_test(tcase, stops_when_all_is_answered);
    tcase_add_test(tcase, stops_without_connections);
    tcase_add_test(tcase, requests_outlive_the_server);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
