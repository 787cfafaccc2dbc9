/* A JSON reply that is read from the database slice by slice, so that it may be of any length and
 * still takes no more memory than a slice.
 *
 * Its owner asks for a slice, adds what the rows become to `out`, and then says with one of the
 * calls below how it goes on. What fits into the first slice is an ordinary reply. Else it is
 * streamed: the next slice is read when the client has taken the one before. The owner lives in the
 * request's arena. Each call but the first two ends it, and so do these where there is no room for
 * the reply (see http_reply_fits).
 */
#pragma once

#include "api/http_request.h"
#include "store/pg_failure.h"

struct slices {
    struct http_request *request;
    void (*read_next)(void *context); /* asks for the next slice */
    void (*on_end)(void *context);    /* frees what the arena does not hold; may be NULL */
    void *context;
    struct buffer out; /* what is not written yet */
    /* The rest is slices.c's own. */
    bool admitted; /* there is room for it */
    bool streaming;
    bool reading; /* waits for the database and not for the client */
    bool gone;    /* the client has left */
};

/* A slice is in `out`, and there are more: read_next is called when its turn has come. */
void slices_go_on(struct slices *slices);
/* More may fit into what is in `out`: read_next is called at once, and `out` counts as a slice
 * already. Not while streaming. */
void slices_read_more(struct slices *slices);
/* The last slice is in `out`: that is the reply, or its end. */
void slices_end(struct slices *slices);
/* A slice could not be read: an error is the reply, or the stream is ended short. */
void slices_fail(struct slices *slices, const struct pg_failure *failure);
/* Frees what was gathered, so that another reply can be made. Not while streaming. */
void slices_drop(struct slices *slices);

/* How many rows to look at for the next slice, when the last one had room for `rows`: PostgreSQL
 * measures each of them. */
int64_t slices_look(int64_t rows, int64_t most);
