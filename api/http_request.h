/* A request as its handler sees it, and the ways to reply.
 *
 * A handler gets a complete request (head and body) and must answer it exactly once, at once or
 * later: with http_reply (or a function of reply.h, which all end there), or with http_stream_begin
 * … http_stream_end. Until then the request and everything in it is the handler's to read; after
 * that call it is gone. When the client leaves early the request stays valid and the reply is
 * simply dropped, so a handler need not care.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/query.h"
#include "base/buffer.h"
#include "base/memory.h"

enum http_method {
    METHOD_OTHER, /* known to the parser, served by no route */
    METHOD_DELETE,
    METHOD_GET,
    METHOD_HEAD,
    METHOD_OPTIONS,
    METHOD_PATCH,
    METHOD_POST,
    METHOD_PUT,
};

/* Name and value as they came, without the blanks around them. */
struct http_field {
    const char *name;
    const char *value;
};

#define HTTP_MAX_PARAMS 4

enum http_request_state {
    HTTP_REQUEST_READING,   /* its body is still arriving */
    HTTP_REQUEST_HANDLING,  /* the handler has it */
    HTTP_REQUEST_STREAMING, /* between http_stream_begin and http_stream_end */
    HTTP_REQUEST_REPLIED,
};

struct http_stream_events {
    /* What http_stream_write said was waiting has gone. May be NULL. */
    void (*on_drained)(void *context);
    /* The client has left: stop, and call http_stream_end. */
    void (*on_gone)(void *context);
};

struct http_connection;

struct http_request {
    struct arena arena; /* for the handler too; freed after the reply */
    void *context;      /* as given to http_server_open */
    enum http_method method;
    const char *method_text;
    const char *path;                    /* as sent, still percent-encoded; `*` of OPTIONS too */
    const char *query_text;              /* behind the `?`, still encoded; "" when there is none */
    const char *params[HTTP_MAX_PARAMS]; /* set by the router: the pattern's segments, decoded */
    struct query query;                  /* set by the router: decoded */
    const struct http_field *fields;
    int field_count;
    struct buffer body; /* size 0 when there is none */

    /* The rest belongs to the HTTP floor. */
    struct http_connection *connection; /* NULL when the client has left */
    struct http_request *next;          /* the connection's queue, in order of arrival */
    struct http_load *load;             /* where body and reply are counted */
    char *head;                         /* where path, fields and the like point to */
    enum http_request_state state;
    bool minor_zero;     /* HTTP/1.0 */
    bool keep_alive;     /* as the client wishes */
    bool wants_continue; /* `Expect: 100-continue`, not answered yet */
    bool head_made;      /* of the reply */
    bool chunked;        /* the reply is */
    bool drain_due;      /* on_drained is to be called */
    size_t held_bytes;   /* of the reply, as counted in `load` */
    int status;          /* of the reply */
    const char *content_type;
    struct buffer extra_fields; /* whole lines of the reply's head */
    struct buffer reply_head;
    struct buffer reply_body;
    struct buffer waiting; /* stream: written by the handler, not yet given to the socket */
    const struct http_stream_events *events;
    void *events_context;
};

typedef void (*http_handler)(struct http_request *request);

/* The value of the first field of that name (in any case), or NULL. */
const char *http_request_field(const struct http_request *request, const char *name);
/* Takes a copy of `bytes` for the body, which counts as one does. False when there is no room for
 * it beside the bodies of other requests: nothing has changed then. One always has room. */
bool http_request_set_body(struct http_request *request, const char *bytes, size_t n);
/* True when nobody waits for the reply any more. */
bool http_request_gone(const struct http_request *request);

/* Adds a field to the head of the reply that follows. The value is made by printf; control
 * characters in it become blanks, so that no value can begin a line of its own. */
void http_reply_field(struct http_request *request, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Do so many bytes of reply fit beside those that other clients have not taken yet? One reply
 * always does. A handler that may still refuse asks before it makes a large one. */
bool http_reply_fits(const struct http_request *request, size_t bytes);
/* Counts so many of them until the request ends, instead of those it held before. http_reply counts
 * its own. */
void http_reply_hold(struct http_request *request, size_t bytes);

/* Sends the reply. The content of `body` is moved out of it (NULL: no body, then `content_type` is
 * NULL too); `content_type` must outlive the request. HEAD gets the head alone, 204 and 304 never
 * carry a body. */
void http_reply(struct http_request *request, int status, const char *content_type,
                struct buffer *body);

/* Begins a reply of unknown length (chunked; until the connection's end in HTTP/1.0). `events` must
 * outlive the request; its functions are called from the loop, never from within a call of these
 * three. Returns false when the client has left already: then no event comes, and only
 * http_stream_end is left to do. */
bool http_stream_begin(struct http_request *request, int status, const char *content_type,
                       const struct http_stream_events *events, void *context);
/* Queues the bytes and returns how many wait for the client, these included: 0 when all were handed
 * over or it has left. A caller that sees more than it likes waits for on_drained. */
size_t http_stream_write(struct http_request *request, const char *bytes, size_t n);
void http_stream_end(struct http_request *request);
/* Ends it short, together with the connection, so that the client notices that it has not got
 * everything. */
void http_stream_abort(struct http_request *request);

/* --- for the HTTP floor itself --- */

/* What the requests of one server hold together. It lives as long as the server and each of the
 * requests. */
struct http_load {
    size_t bodies_bytes;
    size_t replies_bytes; /* of replies that are not sent yet */
    size_t max_bodies_bytes;
    size_t max_replies_bytes;
    size_t holders;
};

/* Held once. */
struct http_load *http_load_new(size_t max_bodies_bytes, size_t max_replies_bytes);
void http_load_release(struct http_load *load);

struct http_request *http_request_new(struct http_load *load);
void http_request_free(struct http_request *request);
/* Writes the reply's head into reply_head. */
void http_reply_make_head(struct http_request *request, const char *date);
/* Moves what waits of a stream into reply_body, when that is empty. */
void http_stream_take_waiting(struct http_request *request);
