#include "store/spool.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/crash_point.h"
#include "base/log.h"
#include "base/memory.h"
#include "store/spool_record.h"

/* An end is written when the database has not taken it after so long; and a file that could not be
 * written is tried again after so long. */
#define LATE_MS 1000
/* What is written at once. */
#define JOB_BYTES (4u << 20)

struct spool {
    struct spool_options options;
    struct spool_file file;
    int64_t size; /* of the file, as far as it holds whole records */
    struct store_finish *held;
    struct store_finish *writing;
    int held_count;
    int saved_count;
    bool away;
    bool full;   /* the first one held does not fit */
    bool failed; /* the last write; waits for the timer */
    bool told;   /* that writing fails */
    bool reading;
    bool unsound; /* the file is to be kept aside */
    bool flushed; /* nothing is done any more */
    int64_t read_offset;
    uv_timer_t timer;
    void (*on_flushed)(void *context);
    void *flush_context;
    void (*on_closed)(void *context);
    void *close_context;

    /* The job under way, the worker's meanwhile. */
    bool busy;
    uv_work_t work;
    int code;
    struct error error;
    int64_t offset;
    struct buffer records;
    struct spool_chunk chunk;
    char *kept;
    spool_chunk_cb on_chunk;
    void *chunk_context;
};

static void tend(struct spool *spool);

static void queue(struct spool *spool, uv_work_cb run, uv_after_work_cb on_done)
{
    spool->busy = true;
    uv_queue_work(spool->options.loop, &spool->work, run, on_done);
}

static struct spool *finish_job(const uv_work_t *work)
{
    struct spool *spool = work->data;
    spool->busy = false;
    return spool;
}

/* --- writing --------------------------------------------------------------------------------- */

static bool is_due(const struct spool *spool, const struct store_finish *finish)
{
    return spool->away || spool->on_flushed != NULL ||
           uv_now(spool->options.loop) - finish->spooling.since_ms >= LATE_MS;
}

static void hold(struct spool *spool, struct store_finish *finish)
{
    finish->spooling.state = SPOOLING_HELD;
    spool->held_count++;
}

/* Moves what is due, and fits, from `held` to `writing`. */
static void take_due(struct spool *spool)
{
    struct store_finish *finish;
    while ((finish = spool->held) != NULL && is_due(spool, finish) &&
           spool->records.size < JOB_BYTES) {
        size_t size = (size_t)spool->offset + spool->records.size + spool_record_size(finish);
        spool->full = size > spool->options.max_bytes;
        if (spool->full)
            break;
        spool_record_add(&spool->records, finish);
        finish->spooling.state = SPOOLING_WRITING;
        DL_DELETE2(spool->held, finish, spooling.prev, spooling.next);
        DL_APPEND2(spool->writing, finish, spooling.prev, spooling.next);
        spool->held_count--;
    }
}

static void run_write(uv_work_t *work)
{
    struct spool *spool = work->data;
    spool->code = spool_file_write(&spool->file, spool->offset, &spool->records, &spool->error);
}

static void put_back(struct spool *spool)
{
    struct store_finish *finish;
    DL_FOREACH2(spool->writing, finish, spooling.next)
    hold(spool, finish);
    DL_CONCAT2(spool->writing, spool->held, spooling.prev, spooling.next);
    spool->held = spool->writing;
    spool->writing = NULL;
    if (!spool->told)
        log_error("the spool cannot be written: results that the database does not take stay in "
                  "memory only; trying again every second",
                  log_error_text(&spool->error));
    spool->failed = spool->told = true;
}

static void note_saved(struct spool *spool)
{
    struct store_finish *finish;
    if (spool->offset == 0 && spool->size > 0)
        log_info("the database has taken all results of the spool");
    if (spool->offset == 0 && spool->records.size > 0)
        log_warning("results wait in the spool until the database takes them",
                    log_text("path", spool->file.path));
    DL_FOREACH2(spool->writing, finish, spooling.next)
    {
        finish->spooling.state = SPOOLING_SAVED;
        spool->saved_count++;
    }
    spool->writing = NULL;
    spool->size = spool->offset + (int64_t)spool->records.size;
    if (spool->told)
        log_info("the spool can be written again");
    spool->told = false;
}

static void on_written(uv_work_t *work, int status)
{
    struct spool *spool = finish_job(work);
    (void)status;
    CRASH_POINT("spooled");
    if (spool->code < 0)
        put_back(spool);
    else
        note_saved(spool);
    buffer_done(&spool->records);
    tend(spool);
}

/* What the file held before goes when nobody needs it any more. */
static bool begin_write(struct spool *spool)
{
    bool was_full = spool->full;
    bool cut = spool->saved_count == 0 && spool->size > 0;
    spool->offset = spool->saved_count == 0 ? 0 : spool->size;
    take_due(spool);
    if (spool->full && !was_full)
        log_error("the spool is full (DIRECTOR_MAX_SPOOL): further results stay in memory only "
                  "until the database takes them",
                  log_text("path", spool->file.path));
    if (spool->writing == NULL && !cut)
        return false;
    queue(spool, run_write, on_written);
    return true;
}

/* --- keeping aside --------------------------------------------------------------------------- */

static void run_keep_aside(uv_work_t *work)
{
    struct spool *spool = work->data;
    spool->code = spool_file_keep_aside(&spool->file, &spool->kept, &spool->error);
}

static void on_kept_aside(uv_work_t *work, int status)
{
    struct spool *spool = finish_job(work);
    (void)status;
    spool->unsound = false;
    if (spool->code < 0)
        log_error("the spool cannot be kept aside", log_error_text(&spool->error));
    else
        log_error("the spool of an earlier daemon is kept aside: not all of it could be used",
                  log_text("path", spool->kept));
    spool->size = 0;
    free(spool->kept);
    spool->kept = NULL;
    tend(spool);
}

/* --- what is next ---------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct spool *spool = timer->data;
    spool->failed = false;
    tend(spool);
}

static void end_flush(struct spool *spool)
{
    spool->flushed = true;
    if (spool->saved_count > 0)
        log_warning("results wait in the spool for the next start",
                    log_int("results", spool->saved_count), log_text("path", spool->file.path));
    if (spool->held_count > 0)
        log_error("results are lost, neither the database nor the spool has them: their attempts "
                  "will end as node_lost",
                  log_int("results", spool->held_count));
    spool->on_flushed(spool->flush_context);
}

/* Called after every change: begins what is to be done, if nothing is being done. */
static void tend(struct spool *spool)
{
    if (spool->busy || spool->reading || spool->flushed)
        return;
    if (spool->unsound && spool->saved_count == 0)
        queue(spool, run_keep_aside, on_kept_aside);
    else if ((spool->failed || !begin_write(spool)) && spool->on_flushed != NULL)
        end_flush(spool);
    if ((spool->held != NULL || spool->failed) && !uv_is_active((uv_handle_t *)&spool->timer))
        uv_timer_start(&spool->timer, on_timer, LATE_MS, 0);
}

/* --- ends of attempts ------------------------------------------------------------------------ */

struct spool *spool_new(const struct spool_options *options)
{
    struct spool *spool = mem_new(1, sizeof *spool);
    spool->options = *options;
    spool_file_init(&spool->file, options->path);
    spool->work.data = spool;
    spool->timer.data = spool;
    uv_timer_init(options->loop, &spool->timer);
    return spool;
}

void spool_hold(struct spool *spool, struct store_finish *finish)
{
    finish->spooling.since_ms = uv_now(spool->options.loop);
    hold(spool, finish);
    DL_APPEND2(spool->held, finish, spooling.prev, spooling.next);
    if (spool->away || !uv_is_active((uv_handle_t *)&spool->timer))
        tend(spool);
}

static void forget(struct spool *spool, struct store_finish *finish)
{
    if (finish->spooling.state == SPOOLING_HELD) {
        DL_DELETE2(spool->held, finish, spooling.prev, spooling.next);
        spool->held_count--;
    } else if (finish->spooling.state == SPOOLING_WRITING) {
        DL_DELETE2(spool->writing, finish, spooling.prev, spooling.next);
    } else {
        spool->saved_count--;
    }
}

void spool_release(struct spool *spool, struct store_finish *finish)
{
    if (spool->flushed)
        return;
    forget(spool, finish);
    if (spool->size > 0 && spool->saved_count == 0)
        tend(spool);
}

void spool_set_away(struct spool *spool, bool away)
{
    spool->away = away;
    tend(spool);
}

/* --- what an earlier daemon has left --------------------------------------------------------- */

static void run_read(uv_work_t *work)
{
    struct spool *spool = work->data;
    spool->code = spool_file_read(&spool->file, &spool->read_offset, &spool->chunk, &spool->error);
}

static void adopt(struct spool *spool)
{
    for (int i = 0; i < spool->chunk.count; i++)
        spool->chunk.finishes[i].spooling.state = SPOOLING_SAVED;
    spool->saved_count += spool->chunk.count;
}

static void note_end(struct spool *spool)
{
    if (spool->code < 0)
        log_error("the spool of an earlier daemon cannot be read any further",
                  log_error_text(&spool->error));
    else if (spool->chunk.cut > 0)
        log_warning("the last record of the spool was not written whole and is left out",
                    log_int("bytes", (int64_t)spool->chunk.cut));
    spool->unsound = spool->unsound || spool->code < 0;
    spool->size = spool->read_offset + (int64_t)spool->chunk.cut;
    spool->reading = false;
}

static void on_read(uv_work_t *work, int status)
{
    struct spool *spool = finish_job(work);
    struct spool_chunk chunk = spool->chunk;
    (void)status;
    if (chunk.count > 0)
        adopt(spool);
    else
        note_end(spool);
    spool->chunk = (struct spool_chunk){0};
    if (spool->on_flushed != NULL || chunk.count == 0)
        spool_chunk_free(&chunk);
    if (spool->on_flushed == NULL)
        spool->on_chunk(spool->chunk_context, chunk.count > 0 ? &chunk : NULL);
    tend(spool);
}

void spool_read(struct spool *spool, spool_chunk_cb on_chunk, void *context)
{
    spool->reading = true;
    spool->on_chunk = on_chunk;
    spool->chunk_context = context;
    queue(spool, run_read, on_read);
}

void spool_refuse(struct spool *spool, struct store_finish *finish)
{
    spool->unsound = true;
    spool_release(spool, finish);
}

/* --- the end --------------------------------------------------------------------------------- */

void spool_flush(struct spool *spool, void (*on_flushed)(void *context), void *context)
{
    if (spool->reading) { /* the next daemon begins anew */
        spool->reading = false;
        spool->unsound = false;
    }
    spool->on_flushed = on_flushed;
    spool->flush_context = context;
    uv_timer_start(&spool->timer, on_timer, 0, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct spool *spool = handle->data;
    void (*on_closed)(void *) = spool->on_closed;
    void *context = spool->close_context;
    spool_file_done(&spool->file);
    free(spool);
    on_closed(context);
}

void spool_close(struct spool *spool, void (*on_closed)(void *context), void *context)
{
    spool->on_closed = on_closed;
    spool->close_context = context;
    uv_close((uv_handle_t *)&spool->timer, on_timer_closed);
}
