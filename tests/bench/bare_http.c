/* The yardstick for the HTTP benchmarks: libuv and llhttp with nothing around them. Every complete
 * request gets the same reply, in one write; no limits, no checks, no router. `bare_http PORT`
 * listens on 127.0.0.1. */
#include <llhttp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const char reply[] = "HTTP/1.1 200 OK\r\n"
                            "Date: Mon, 23 Nov 2026 21:10:21 GMT\r\n"
                            "Content-Type: application/json\r\n"
                            "Content-Length: 19\r\n"
                            "\r\n"
                            "{\"message\":\"pong\"}\n";

struct client {
    uv_tcp_t tcp;
    llhttp_t parser;
};

static char read_buffer[64 * 1024];
static llhttp_settings_t settings;

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(read_buffer, sizeof(read_buffer));
}

static int on_message_complete(llhttp_t *parser)
{
    struct client *client = parser->data;
    uv_buf_t buffer = uv_buf_init((char *)reply, sizeof(reply) - 1);
    return uv_try_write((uv_stream_t *)&client->tcp, &buffer, 1) == (int)buffer.len ? 0 : -1;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct client *client = stream->data;
    if (n < 0 || llhttp_execute(&client->parser, buffer->base, n) != HPE_OK)
        uv_close((uv_handle_t *)stream, on_closed);
}

static void on_connection(uv_stream_t *server, int status)
{
    if (status < 0)
        return;
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        abort();
    llhttp_init(&client->parser, HTTP_REQUEST, &settings);
    client->parser.data = client;
    uv_tcp_init(server->loop, &client->tcp);
    client->tcp.data = client;
    uv_accept(server, (uv_stream_t *)&client->tcp);
    uv_tcp_nodelay(&client->tcp, 1);
    uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    uv_tcp_t server;
    signal(SIGPIPE, SIG_IGN);
    settings.on_message_complete = on_message_complete;
    uv_tcp_init(uv_default_loop(), &server);
    int status = argc == 2 ? uv_ip4_addr("127.0.0.1", atoi(argv[1]), &address) : UV_EINVAL;
    if (status == 0)
        status = uv_tcp_bind(&server, (struct sockaddr *)&address, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&server, 511, on_connection);
    if (status < 0) {
        fprintf(stderr, "usage: bare_http PORT (%s)\n", uv_strerror(status));
        return EXIT_FAILURE;
    }
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
