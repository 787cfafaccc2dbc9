#include "api/http_pool.h"

#include <utlist.h>

#include "api/http_connection.h"

const char *http_pool_date(struct http_pool *pool)
{
    time_t now_s = time(NULL);
    if (now_s != pool->date_s) {
        struct tm tm;
        pool->date_s = now_s;
        /* English names, as RFC 9110 wants them: the process stays in the C locale. */
        strftime(pool->date, sizeof(pool->date), "%a, %d %b %Y %H:%M:%S GMT",
                 gmtime_r(&now_s, &tm));
    }
    return pool->date;
}

static void for_each(struct http_connection *list,
                     void (*act)(struct http_connection *connection, int64_t now_ms),
                     int64_t now_ms)
{
    struct http_connection *connection, *next;
    DL_FOREACH_SAFE(list, connection, next)
    act(connection, now_ms);
}

static void close_one(struct http_connection *connection, int64_t now_ms)
{
    (void)now_ms;
    http_connection_close(connection);
}

void http_pool_sweep(struct http_pool *pool, int64_t now_ms)
{
    for_each(pool->idle, http_connection_check_deadlines, now_ms);
    for_each(pool->busy, http_connection_check_deadlines, now_ms);
}

bool http_pool_evict(struct http_pool *pool)
{
    if (pool->idle == NULL)
        return false;
    pool->stats.evicted++;
    http_connection_close(pool->idle);
    return true;
}

void http_pool_stop(struct http_pool *pool)
{
    pool->stopping = true;
    for_each(pool->idle, close_one, 0);
}

void http_pool_close(struct http_pool *pool)
{
    http_pool_stop(pool);
    for_each(pool->busy, close_one, 0);
}
