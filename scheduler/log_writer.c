#include "scheduler/log_writer.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pace.h"

#define TICK_MS 100
#define TAIL_MS 1000
/* After a failure. */
#define PAUSE_US US_PER_SECOND
/* What one batch holds, and what one log has of it: who prints a lot leaves room for the others. */
#define BATCH_LOGS 256
#define BATCH_ROWS 1024
#define BATCH_BYTES (1024 * 1024)
#define SHARE_ROWS 256
#define SHARE_BYTES (128 * 1024)

/* In the writer's list while the ring has something that is not written. */
struct run_log {
    struct log_writer *writer;
    struct run_log *prev, *next;
    struct store_held attempt;
    const struct log_ring *ring;
    struct log_ring own; /* the ring of an attempt that has ended */
    int64_t written;     /* everything before this offset is written, or forgotten */
    int64_t sent;        /* the same once the batch under way is written */
    int64_t goal;        /* of the present writing; 0 when none has begun */
    int64_t due_us;      /* when the next one begins: monotonic, like begun_us */
    int64_t begun_us;    /* of the last one */
    int64_t deadline_us; /* of on_written */
    bool listed;
    bool under_way;
    bool ended;
    run_log_cb on_written; /* NULL: nobody waits */
    void *context;
};

/* The batch under way, or the one that is being filled. Until it is answered it stays as it is,
 * with bytes of its own: nobody knows whether one whose reply was lost has been committed, or will
 * be. Sent again with the very same rows it changes nothing then, and no byte stands in two rows.
 */
struct batch {
    bool doubtful;                  /* a reply was lost: it may have been committed */
    struct run_log *of[BATCH_LOGS]; /* NULL: dropped meanwhile */
    struct store_log logs[BATCH_LOGS];
    struct log_row rows[BATCH_ROWS];
    int log_count;
    int row_count;
    size_t bytes;
    char text[BATCH_BYTES]; /* that the rows point into */
    /* The log that is being added: what it may still have, and whether it has more than that. */
    int share_rows;
    size_t share_bytes;
    bool cut;
};

struct log_writer {
    struct log_writer_options options;
    struct run_log *logs;
    struct batch batch;
    struct pace pace; /* rows of the next one, and logs */
    bool under_way;
    bool stopped;
    int64_t paused_until_us;
    uv_timer_t tick; /* runs while there are logs in the list */
};

static void on_tick(uv_timer_t *timer);

/* --- the list -------------------------------------------------------------------------------- */

static void enlist(struct run_log *log)
{
    struct log_writer *writer = log->writer;
    uint64_t ms = (uint64_t)writer->options.tick_ms;
    if (writer->logs == NULL)
        uv_timer_start(&writer->tick, on_tick, ms, ms);
    DL_APPEND(writer->logs, log);
    log->listed = true;
}

static void delist(struct run_log *log)
{
    DL_DELETE(log->writer->logs, log);
    log->listed = false;
    if (log->writer->logs == NULL)
        uv_timer_stop(&log->writer->tick);
}

bool log_writer_is_idle(const struct log_writer *writer)
{
    return writer->logs == NULL;
}

/* The batch can do without it. */
static void leave_batch(struct run_log *log)
{
    struct batch *batch = &log->writer->batch;
    for (int i = 0; i < batch->log_count; i++)
        if (batch->of[i] == log)
            batch->of[i] = NULL;
}

static void free_log(struct run_log *log)
{
    if (log->under_way)
        leave_batch(log);
    if (log->listed)
        delist(log);
    log_ring_done(&log->own);
    free(log);
}

/* Its end waits no longer. */
static void release(struct run_log *log)
{
    run_log_cb on_written = log->on_written;
    log->on_written = NULL;
    if (on_written != NULL)
        on_written(log->context);
}

/* Of the logs that nobody waits for, those that have waited longest go when they are too large
 * together. */
static void drop_late(struct log_writer *writer)
{
    struct run_log *log, *next, *last = NULL;
    size_t bytes = 0;
    DL_FOREACH(writer->logs, log)
    {
        if (log->ended && log->on_written == NULL) {
            bytes += log->own.capacity;
            last = log;
        }
    }
    DL_FOREACH_SAFE(writer->logs, log, next)
    {
        if (bytes <= LOG_LATE_BYTES || log == last)
            break;
        if (!log->ended || log->on_written != NULL)
            continue;
        struct id task = id_task(&log->attempt.workflow, log->attempt.position);
        log_warning("the database is too slow for the logs; the end of one is lost",
                    log_id("task", &task), log_int("attempt", log->attempt.attempt));
        bytes -= log->own.capacity;
        free_log(log);
    }
}

/* --- a batch --------------------------------------------------------------------------------- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Adds rows until the log's share, or the batch, is full. */
static void add_chunk(void *context, const struct log_chunk *chunk)
{
    struct batch *batch = context;
    struct run_log *log = batch->of[batch->log_count];
    size_t done = 0;
    while (!batch->cut && done < chunk->size) {
        size_t n = smaller(smaller(chunk->size - done, LOG_ROW_BYTES), batch->share_bytes);
        if (n == 0 || batch->share_rows == 0) {
            batch->cut = true;
            break;
        }
        char *text = batch->text + batch->bytes;
        memcpy(text, chunk->text + done, n);
        log->sent = chunk->offset + (int64_t)done + (int64_t)n;
        batch->rows[batch->row_count++] = (struct log_row){.log = batch->log_count,
                                                           .stream = (int)chunk->stream,
                                                           .at_us = chunk->at_us,
                                                           .start = chunk->offset + (int64_t)done,
                                                           .text = text,
                                                           .size = n};
        batch->bytes += n;
        batch->share_bytes -= n;
        batch->share_rows--;
        done += n;
    }
}

static bool is_full(const struct log_writer *writer)
{
    const struct batch *batch = &writer->batch;
    return batch->log_count == BATCH_LOGS || batch->log_count >= writer->pace.now ||
           batch->row_count >= writer->pace.now || batch->bytes >= BATCH_BYTES;
}

static void add_log(struct log_writer *writer, struct run_log *log, int64_t now_us)
{
    struct batch *batch = &writer->batch;
    const struct log_ring *ring = log->ring;
    if (log->goal == 0) {
        log->goal = ring->total;
        log->begun_us = now_us;
    }
    batch->of[batch->log_count] = log;
    batch->share_rows = (int)smaller(SHARE_ROWS, (size_t)(writer->pace.now - batch->row_count));
    batch->share_bytes = smaller(SHARE_BYTES, BATCH_BYTES - batch->bytes);
    batch->cut = false;
    log->sent = log->written;
    log_ring_each(ring, log->written, add_chunk, batch);
    if (!batch->cut)
        log->sent = ring->total;
    batch->logs[batch->log_count++] = (struct store_log){
        .attempt = log->attempt, .head_end = ring->head_limit, .tail_start = ring->tail_start};
    log->under_way = true;
}

static void add_logs(struct log_writer *writer, bool ended, int64_t now_us)
{
    struct run_log *log;
    DL_FOREACH(writer->logs, log)
    {
        if (is_full(writer))
            break;
        if (log->ended == ended && !log->under_way && (ended || log->due_us <= now_us))
            add_log(writer, log, now_us);
    }
}

static void fill(struct log_writer *writer, int64_t now_us)
{
    writer->batch.doubtful = false;
    writer->batch.row_count = 0;
    writer->batch.bytes = 0;
    add_logs(writer, true, now_us);
    add_logs(writer, false, now_us);
}

static void on_appended(void *context, const struct pg_failure *failure);

static void send_batch(struct log_writer *writer)
{
    struct batch *batch = &writer->batch;
    int64_t now_us = clock_mono_us();
    if (writer->under_way || writer->stopped || now_us < writer->paused_until_us ||
        !writer->options.is_up(writer->options.store))
        return;
    if (batch->log_count == 0)
        fill(writer, now_us);
    if (batch->log_count == 0)
        return;
    writer->under_way = true;
    writer->options.append(writer->options.store,
                           &(struct log_batch){.logs = batch->logs,
                                               .log_count = batch->log_count,
                                               .rows = batch->rows,
                                               .row_count = batch->row_count},
                           on_appended, writer);
    CRASH_POINT("logs-sent");
}

/* --- its reply ------------------------------------------------------------------------------- */

/* Everything that the ring had when the writing began is written, or was forgotten meanwhile. */
static bool is_at_goal(const struct run_log *log)
{
    return log->written >= log->goal ||
           (log->written >= log->ring->head_limit && log->ring->tail_start >= log->goal);
}

static void plan_next(struct run_log *log)
{
    bool is_tail = log->ring->total > log->ring->head_limit;
    int ms = is_tail ? log->writer->options.tail_ms : log->writer->options.tick_ms;
    log->due_us = log->begun_us + (int64_t)ms * 1000;
}

static void come_last(struct run_log *log)
{
    DL_DELETE(log->writer->logs, log);
    DL_APPEND(log->writer->logs, log);
}

static void go_on(struct run_log *log)
{
    if (log->ended && log->written >= log->ring->total) {
        release(log);
        free_log(log);
        return;
    }
    if (is_at_goal(log)) {
        log->goal = 0;
        plan_next(log);
    }
    if (log->written >= log->ring->total) {
        delist(log);
        return;
    }
    come_last(log); /* it has had its share */
}

static void settle_batch(struct batch *batch)
{
    int count = batch->log_count;
    batch->log_count = 0;
    for (int i = 0; i < count; i++) {
        struct run_log *log = batch->of[i];
        if (log == NULL)
            continue;
        log->under_way = false;
        log->written = log->sent;
        go_on(log);
    }
}

/* Nothing of it is written. The next one is smaller, and begins with the other logs. */
static void drop_batch(struct log_writer *writer)
{
    struct batch *batch = &writer->batch;
    bool many_logs = batch->log_count > batch->row_count;
    pace_slower(&writer->pace, many_logs ? batch->log_count : batch->row_count);
    for (int i = 0; i < batch->log_count; i++) {
        struct run_log *log = batch->of[i];
        if (log == NULL)
            continue;
        log->under_way = false;
        come_last(log);
    }
    batch->log_count = 0;
}

static void on_appended(void *context, const struct pg_failure *failure)
{
    struct log_writer *writer = context;
    CRASH_POINT("logs-appended");
    writer->under_way = false;
    if (failure == NULL) {
        pace_faster(&writer->pace);
        settle_batch(&writer->batch);
    } else if (failure->class == PG_SLOW && !writer->batch.doubtful) {
        drop_batch(writer);
    } else if (pg_failure_is_passing(failure)) {
        writer->batch.doubtful = writer->batch.doubtful || failure->class == PG_AWAY;
        writer->paused_until_us = clock_mono_us() + PAUSE_US;
        return;
    } else {
        log_error("logs were refused by the database and are lost",
                  log_text("error", failure->text), log_text("sqlstate", failure->sqlstate));
        settle_batch(&writer->batch);
    }
    send_batch(writer);
    if (writer->logs == NULL && writer->options.on_idle != NULL)
        writer->options.on_idle(writer->options.context);
}

/* --- time ------------------------------------------------------------------------------------ */

static void on_tick(uv_timer_t *timer)
{
    struct log_writer *writer = timer->data;
    struct run_log *log;
    int64_t now_us = clock_mono_us();
    bool is_up = writer->options.is_up(writer->options.store);
    DL_FOREACH(writer->logs, log)
    {
        if (log->on_written != NULL && (!is_up || log->deadline_us <= now_us))
            release(log);
    }
    drop_late(writer);
    send_batch(writer);
}

struct log_writer *log_writer_new(const struct log_writer_options *options)
{
    struct log_writer *writer = mem_new(1, sizeof *writer);
    writer->options = *options;
    if (writer->options.tick_ms == 0)
        writer->options.tick_ms = TICK_MS;
    if (writer->options.tail_ms == 0)
        writer->options.tail_ms = TAIL_MS;
    if (writer->options.is_up == NULL)
        writer->options.is_up = store_takes_logs;
    if (writer->options.append == NULL)
        writer->options.append = store_append_logs;
    pace_init(&writer->pace, BATCH_ROWS);
    uv_timer_init(options->loop, &writer->tick);
    writer->tick.data = writer;
    return writer;
}

void log_writer_stop(struct log_writer *writer)
{
    struct run_log *log;
    int lost = 0;
    writer->stopped = true;
    uv_timer_stop(&writer->tick);
    DL_FOREACH(writer->logs, log)
    {
        lost++;
        release(log);
    }
    if (lost > 0)
        log_warning("the database did not take the last logs in time; their ends are lost",
                    log_int("logs", lost));
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void log_writer_close(struct log_writer *writer)
{
    struct run_log *log, *next;
    DL_FOREACH_SAFE(writer->logs, log, next)
    free_log(log);
    uv_close((uv_handle_t *)&writer->tick, on_closed);
}

/* --- a log ----------------------------------------------------------------------------------- */

struct run_log *run_log_open(struct log_writer *writer, const struct store_held *attempt,
                             const struct log_ring *ring)
{
    struct run_log *log = mem_new(1, sizeof *log);
    log->writer = writer;
    log->attempt = *attempt;
    log->ring = ring;
    return log;
}

void run_log_touch(struct run_log *log)
{
    if (log->listed || log->writer->stopped)
        return;
    int64_t soon_us = clock_mono_us() + (int64_t)log->writer->options.tick_ms * 1000;
    plan_next(log);
    if (log->due_us < soon_us)
        log->due_us = soon_us;
    enlist(log);
}

bool run_log_end(struct run_log *log, const struct log_ring *ring, run_log_cb on_written,
                 void *context)
{
    struct log_writer *writer = log->writer;
    log->own = *ring;
    log->ring = &log->own;
    log->ended = true;
    if (!log->listed) {
        free_log(log);
        return false;
    }
    if (writer->stopped || !writer->options.is_up(writer->options.store))
        return false;
    log->on_written = on_written;
    log->context = context;
    log->deadline_us = clock_mono_us() + LOG_LAST_MS * INT64_C(1000);
    send_batch(writer);
    return true;
}
