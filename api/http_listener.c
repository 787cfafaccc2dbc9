#include "api/http_listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/http_address.h"
#include "base/memory.h"

#define BACKLOG 511

struct http_listener {
    uv_poll_t poll;
    int fd;
    char *address;
    char *path; /* of a unix socket, else NULL */
    struct stat file;
    http_listener_cb on_ready;
    void *context;
    void (*on_closed)(void *context);
};

/* The address that was bound, as a person writes it. */
static char *format_bound(int fd)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return mem_text("unknown");
    return mem_format(bound.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* --- sockets --- */

static int fail(struct error *error, int number)
{
    return error_set(error, -number, "%s", uv_strerror(-number));
}

/* Options that accepted connections inherit: replies go out at once, and a peer that vanished is
 * noticed within two minutes even while nothing is sent. */
static void set_tcp_options(int fd, int family)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, 1},    {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},    {IPPROTO_TCP, TCP_KEEPIDLE, 60},
        {IPPROTO_TCP, TCP_KEEPINTVL, 10}, {IPPROTO_TCP, TCP_KEEPCNT, 6},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
    if (family == AF_INET6) /* `[::]:8000` beside `0.0.0.0:8000` is fine */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int));
}

/* Does nobody answer at this socket file any more? Its owner was killed then, and left it. */
static bool is_stale(const struct http_address *endpoint)
{
    struct stat file;
    if (lstat(endpoint->path, &file) != 0 || !S_ISSOCK(file.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool refused = connect(fd, (const struct sockaddr *)&endpoint->socket, endpoint->size) != 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_endpoint(int fd, const struct http_address *endpoint)
{
    const struct sockaddr *address = (const struct sockaddr *)&endpoint->socket;
    if (bind(fd, address, endpoint->size) == 0)
        return 0;
    if (errno != EADDRINUSE || endpoint->path == NULL)
        return -1;
    if (!is_stale(endpoint) || unlink(endpoint->path) != 0) {
        errno = EADDRINUSE;
        return -1;
    }
    return bind(fd, address, endpoint->size);
}

/* Nobody connects before listen, so it does not matter that the umask holds until then. */
static int bind_and_listen(int fd, const struct http_address *endpoint, mode_t socket_mode)
{
    if (bind_endpoint(fd, endpoint) != 0)
        return -1;
    if (endpoint->path != NULL && chmod(endpoint->path, socket_mode) != 0)
        return -1;
    return listen(fd, BACKLOG);
}

/* Returns the listening socket or a negative error. */
static int listen_at(const struct http_address *endpoint, mode_t socket_mode, struct error *error)
{
    int family = endpoint->socket.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(error, errno);
    if (family != AF_UNIX)
        set_tcp_options(fd, family);
    if (bind_and_listen(fd, endpoint, socket_mode) == 0)
        return fd;
    int number = errno;
    close(fd);
    return fail(error, number);
}

int http_listener_open(struct http_listener **listener, uv_loop_t *loop, const char *address,
                       mode_t socket_mode, http_listener_cb on_ready, void *context,
                       struct error *error)
{
    struct http_address endpoint;
    int fd = http_address_parse(address, &endpoint, error);
    if (fd == 0)
        fd = listen_at(&endpoint, socket_mode, error);
    if (fd < 0) {
        error_wrap(error, "%s", address);
        return fd;
    }
    struct http_listener *opened = mem_new(1, sizeof(*opened));
    opened->fd = fd;
    opened->on_ready = on_ready;
    opened->context = context;
    opened->address = endpoint.path != NULL ? mem_text(address) : format_bound(fd);
    if (endpoint.path != NULL && lstat(endpoint.path, &opened->file) == 0)
        opened->path = mem_text(endpoint.path);
    uv_poll_init(loop, &opened->poll, fd);
    opened->poll.data = opened;
    *listener = opened;
    return 0;
}

const char *http_listener_address(const struct http_listener *listener)
{
    return listener->address;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct http_listener *listener = poll->data;
    (void)status; /* accept says what is wrong */
    (void)events;
    listener->on_ready(listener, listener->context);
}

void http_listener_start(struct http_listener *listener)
{
    uv_poll_start(&listener->poll, UV_READABLE, on_poll);
}

void http_listener_stop(struct http_listener *listener)
{
    uv_poll_stop(&listener->poll);
}

int http_listener_accept(struct http_listener *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct http_listener *listener = handle->data;
    void (*on_closed)(void *context) = listener->on_closed;
    void *context = listener->context;
    free(listener->address);
    free(listener->path);
    free(listener);
    on_closed(context);
}

/* Only the file that we made: somebody else may listen at this path by now. */
static void remove_file(const struct http_listener *listener)
{
    struct stat file;
    if (listener->path != NULL && lstat(listener->path, &file) == 0 &&
        file.st_dev == listener->file.st_dev && file.st_ino == listener->file.st_ino)
        unlink(listener->path);
}

void http_listener_close(struct http_listener *listener, void (*on_closed)(void *context))
{
    listener->on_closed = on_closed;
    remove_file(listener);
    uv_poll_stop(&listener->poll);
    close(listener->fd);
    uv_close((uv_handle_t *)&listener->poll, on_poll_closed);
}
