/* Where the HTTP server listens: TCP on a numeric address, or a unix socket. */
#pragma once

#include <sys/socket.h>

#include "base/error.h"

/* Ready for bind. */
struct http_address {
    struct sockaddr_storage socket;
    socklen_t size;
    const char *path; /* of a unix socket, in the text that was parsed; else NULL */
};

/* Reads `127.0.0.1:8000`, `[::1]:8000` or `unix:/path`. Names are not looked up. -EINVAL. */
int http_address_parse(const char *text, struct http_address *address, struct error *error);
