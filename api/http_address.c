#include "api/http_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int parse_unix(const char *path, struct http_address *address, struct error *error)
{
    struct sockaddr_un *local = (struct sockaddr_un *)&address->socket;
    if (*path != '/')
        return error_set(error, -EINVAL, "expected unix:/PATH");
    if (strlen(path) >= sizeof(local->sun_path))
        return error_set(error, -EINVAL, "the path of a socket has at most %zu bytes",
                         sizeof(local->sun_path) - 1);
    local->sun_family = AF_UNIX;
    memcpy(local->sun_path, path, strlen(path) + 1);
    address->size = sizeof(*local);
    address->path = path;
    return 0;
}

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 5 && text[digits] == '\0' && atoi(text) <= 65535;
}

static int parse_tcp(const char *text, struct http_address *address, struct error *error)
{
    static const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                          .ai_socktype = SOCK_STREAM};
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE];
    struct addrinfo *found = NULL;
    const char *colon = strrchr(text, ':');
    bool bracketed = *text == '[' && colon != NULL && colon[-1] == ']';
    size_t n = colon == NULL ? 0 : (size_t)(colon - text) - (bracketed ? 2 : 0);
    if (colon != NULL && is_port(colon + 1) && n > 0 && n < sizeof(host)) {
        memcpy(host, text + bracketed, n);
        host[n] = '\0';
        /* Names are not looked up, and IPv6 without brackets would be ambiguous. */
        if (bracketed == (strchr(host, ':') != NULL) &&
            getaddrinfo(host, colon + 1, &hints, &found) != 0)
            found = NULL;
    }
    if (found == NULL)
        return error_set(
            error, -EINVAL,
            "expected ADDRESS:PORT (such as 127.0.0.1:8000), [IPv6]:PORT or unix:/PATH");
    memcpy(&address->socket, found->ai_addr, found->ai_addrlen);
    address->size = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

int http_address_parse(const char *text, struct http_address *address, struct error *error)
{
    *address = (struct http_address){0};
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, address, error);
    return parse_tcp(text, address, error);
}
