#include "store/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "store/replay.h"
#include "store/spool.h"

/* --- links ----------------------------------------------------------------------------------- */

static void on_state(void *context, struct pg_link *link, bool up, const char *reason)
{
    struct store *store = context;
    void (*on_up)(void *) = store->on_up;
    if (on_up != NULL && store_is_up(store)) {
        store->on_up = NULL;
        on_up(store->up_context);
    }
    if (link != store->engine)
        return;
    if (up)
        log_info("database connected");
    else
        log_warning("database away; trying again until it is back", log_text("error", reason));
    spool_set_away(store->spool, !up);
    if (up && store->events.on_up != NULL)
        store->events.on_up(store->events.context);
}

/* What a hint is sent as: the node's id, a blank, and the reasons' words. */
static const struct {
    enum store_hints hint;
    const char *word;
} hint_words[] = {{HINT_READY, " ready"}, {HINT_STOP, " stop"}};
enum { HINT_WORDS = sizeof hint_words / sizeof *hint_words };

static void on_notify(void *context, const char *channel, const char *payload)
{
    struct store *store = context;
    (void)channel;
    char own[ID_TEXT_SIZE];
    unsigned hints = 0;
    id_format(&store->node, own);
    for (int i = 0; i < HINT_WORDS; i++)
        hints |= strstr(payload, hint_words[i].word) != NULL ? hint_words[i].hint : 0;
    if (store->events.on_hint != NULL && strncmp(payload, own, strlen(own)) != 0)
        store->events.on_hint(store->events.context, hints);
}

static void on_overdue(void *context, const char *statement)
{
    (void)context;
    log_warning("a query took longer than DIRECTOR_QUERY_TIMEOUT allows and was cancelled",
                log_text("statement", statement));
}

static int on_ensure(void *context, struct error *error)
{
    const struct store *store = context;
    return store->ensure == NULL ? 0 : store->ensure(store->ensure_context, error);
}

static struct pg_link *open_link(struct store *store, const struct store_options *options,
                                 const char *const *channels)
{
    struct pg_link_options link = {
        .loop = options->loop,
        .conninfo = options->conninfo,
        .statements = statements,
        .statement_count = STATEMENT_COUNT,
        .channels = channels,
        .reply_timeout_ms = options->reply_timeout_ms,
        .ensure = on_ensure,
        .on_state = on_state,
        .on_notify = on_notify,
        .on_overdue = on_overdue,
        .context = store,
    };
    return pg_link_open(&link);
}

struct store *store_open(const struct store_options *options)
{
    static const char *const channels[] = {HINT_CHANNEL, NULL};
    struct store *store = mem_new(1, sizeof *store);
    store->loop = options->loop;
    store->read_deadline_ms = options->reply_timeout_ms;
    store->write_deadline_ms = 2 * options->reply_timeout_ms;
    store->epoch_us = clock_wall_us() + options->clock_offset_us - clock_boot_us();
    store->is_set_back = true; /* perhaps, while no daemon ran */
    store->ensure = options->ensure;
    store->ensure_context = options->ensure_context;
    store->launch = open_link(store, options, NULL);
    store->engine = open_link(store, options, NULL);
    store->claim = open_link(store, options, NULL);
    store->read = open_link(store, options, NULL);
    store->list = open_link(store, options, NULL);
    store->logs = open_link(store, options, NULL);
    store->listen = open_link(store, options, channels);
    store->spool = spool_new(&(struct spool_options){
        .loop = options->loop, .path = options->spool_path, .max_bytes = options->max_spool});
    store->launches = store_launches_new(store, options);
    store->finishes = store_finishes_new(store, options);
    store->fires = store_fires_new(store, options);
    return store;
}

void store_set_events(struct store *store, const struct store_events *events)
{
    store->events = *events;
}

enum { LINKS = 7 };

struct store_closing {
    struct store *store;
    struct pg_link *links[LINKS];
    int links_left;
    void (*on_closed)(void *context);
    void *context;
};

static void on_spool_closed(void *context)
{
    struct store_closing *closing = context;
    struct store *store = closing->store;
    batcher_free(store->launches);
    batcher_free(store->finishes);
    batcher_free(store->fires);
    replay_free(store->replay);
    free(store);
    closing->on_closed(closing->context);
    free(closing);
}

/* All at once: what still ends on one link may yet ask the others for something. */
static void on_link_closed(void *context)
{
    struct store_closing *closing = context;
    if (--closing->links_left > 0)
        return;
    for (int i = 0; i < LINKS; i++)
        pg_link_free(closing->links[i]);
    spool_close(closing->store->spool, on_spool_closed, closing);
}

/* What the database has not taken is on the disk now. */
static void on_spool_flushed(void *context)
{
    struct store_closing *closing = context;
    struct store *store = closing->store;
    store_launches_stop(store);
    store_finishes_stop(store);
    store_fires_stop(store);
    for (int i = 0; i < LINKS; i++)
        pg_link_close(closing->links[i], on_link_closed, closing);
}

void store_close(struct store *store, void (*on_closed)(void *context), void *context)
{
    struct store_closing *closing = mem_new(1, sizeof *closing);
    *closing = (struct store_closing){
        .store = store,
        .links = {store->launch, store->engine, store->claim, store->read, store->list, store->logs,
                  store->listen},
        .links_left = LINKS,
        .on_closed = on_closed,
        .context = context,
    };
    spool_flush(store->spool, on_spool_flushed, closing);
}

bool store_is_up(const struct store *store)
{
    return pg_link_stats(store->read)->up && pg_link_stats(store->launch)->up;
}

void store_await_up(struct store *store, void (*on_up)(void *context), void *context)
{
    store->on_up = on_up;
    store->up_context = context;
}

int64_t store_steady_since_us(const struct store *store)
{
    const struct pg_link_stats *stats = pg_link_stats(store->engine);
    if (!stats->up)
        return 0;
    return stats->up_since_us > store->forward_us ? stats->up_since_us : store->forward_us;
}

const char *store_last_error(const struct store *store)
{
    return pg_link_stats(store->engine)->last_error;
}

/* --- clock ----------------------------------------------------------------------------------- */

int64_t store_now_us(const struct store *store)
{
    return clock_boot_us() + store->epoch_us;
}

int64_t store_clock_offset_us(const struct store *store)
{
    return store_now_us(store) - clock_wall_us();
}

struct id_maker *store_id_maker(struct store *store)
{
    return &store->id_maker;
}

struct clock_call {
    struct store *store;
    int64_t sent_us; /* boot-time clock */
};

/* A measurement whose round trip was slow says nothing. */
#define CLOCK_MAX_TRIP_US 100000
/* More than a measurement can be wrong. */
#define CLOCK_SET_BACK_US US_PER_SECOND

static void set_epoch(struct store *store, int64_t epoch_us)
{
    int64_t back_us = store->epoch_us - epoch_us;
    store->epoch_us = epoch_us;
    if (back_us < -CLOCK_SET_BACK_US)
        store->forward_us = clock_boot_us();
    if (back_us < CLOCK_SET_BACK_US)
        return;
    log_warning("the database's clock was set back; what was due by the old one is due by the new",
                log_int("ms", back_us / 1000));
    store->is_set_back = true;
}

static void set_back(struct store *store);

/* What failed goes again with the next measurement. */
static void on_set_back(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct store *store = context;
    bool more = failure == NULL && pg_rows_bool(rows, 0, 0);
    store_note(store, STATEMENT_SET_CLOCK_BACK, failure);
    store->is_set_back = store->is_set_back || failure != NULL || more;
    if (more)
        set_back(store);
}

static void set_back(struct store *store)
{
    if (!store->is_set_back)
        return;
    store->is_set_back = false;
    pg_send(
        store->engine,
        &(struct pg_call){.statement = STATEMENT_SET_CLOCK_BACK, .flags = PG_REPEATABLE | PG_WAIT},
        NULL, on_set_back, store);
}

static void on_clock(void *context, const struct pg_rows *rows, const struct pg_failure *failure)
{
    struct clock_call *call = context;
    int64_t trip_us = clock_boot_us() - call->sent_us;
    if (failure == NULL && trip_us < CLOCK_MAX_TRIP_US)
        set_epoch(call->store, pg_rows_time(rows, 0, 0) - (call->sent_us + trip_us / 2));
    if (failure == NULL) /* else the store may be closing */
        set_back(call->store);
    free(call);
}

void store_measure_clock(struct store *store)
{
    struct clock_call *call = mem_new(1, sizeof *call);
    *call = (struct clock_call){store, clock_boot_us()};
    pg_send(store->read, &(struct pg_call){.statement = STATEMENT_CLOCK}, NULL, on_clock, call);
}

/* --- calls ----------------------------------------------------------------------------------- */

void store_answer(void *context, const struct answer *answer)
{
    struct store *store = context;
    store->events.on_answer(store->events.context, answer);
}

void store_release(struct store *store, int *reserved)
{
    int count = *reserved;
    *reserved = 0;
    if (count > 0)
        store->events.release(store->events.context, count);
}

int store_reserve(struct store *store, const struct batcher *batcher, int *reserved, int own)
{
    store_release(store, reserved);
    if (batcher_is_slow(batcher))
        return 0;
    int slots = store->events.reserve(store->events.context, own);
    *reserved = slots > own ? slots - own : 0;
    return slots;
}

void store_note(struct store *store, enum statement statement, const struct pg_failure *failure)
{
    char *failing = store->failing[statement];
    const char *name = statements[statement].name;
    if (failure == NULL) {
        if (*failing != '\0')
            log_info("the database call works again", log_text("statement", name));
        *failing = '\0';
        return;
    }
    if (failure->class == PG_AWAY || failure->is_overdue || strcmp(failing, failure->sqlstate) == 0)
        return;
    memcpy(failing, failure->sqlstate, sizeof failure->sqlstate);
    LOG_AT(pg_failure_is_passing(failure) ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR,
           "a database call fails; it is made again, and this is said once",
           log_text("statement", name), log_text("error", failure->text),
           log_text("sqlstate", failure->sqlstate));
}

struct done_call {
    struct store *store;
    enum statement statement;
    store_done_cb on_done;
    void *context;
    int reserved;
    bool answers;
    bool claims;    /* it is the claim under way */
    answer_cb each; /* gets what concerns the caller; may be NULL */
};

static void on_done_answer(void *context, const struct answer *answer)
{
    struct done_call *call = context;
    bool own = answer->kind == ANSWER_CANCELED || answer->kind == ANSWER_FINAL ||
               answer->kind == ANSWER_MISSING || answer->kind == ANSWER_REFUSED;
    if (call->each != NULL && own)
        call->each(call->context, answer);
    else
        store_answer(call->store, answer);
}

static void on_done_reply(void *context, const struct pg_rows *rows,
                          const struct pg_failure *failure)
{
    struct done_call *call = context;
    if (call->claims)
        call->store->claiming = (struct id){0};
    store_release(call->store, &call->reserved);
    if (call->each == NULL) /* else a client hears of it */
        store_note(call->store, call->statement, failure);
    if (rows != NULL && call->answers)
        answer_each(rows, on_done_answer, call);
    if (call->on_done != NULL)
        call->on_done(call->context, failure);
    free(call);
}

static void send_done(struct store *store, struct pg_link *link, const struct pg_call *pg,
                      struct pg_params *params, const struct done_call *template)
{
    struct done_call *call = mem_new(1, sizeof *call);
    *call = *template;
    call->store = store;
    call->statement = (enum statement)pg->statement;
    pg_send(link, pg, params, on_done_reply, call);
}

void store_call(struct store *store, struct pg_link *link, enum statement statement, unsigned flags,
                struct pg_params *params, store_done_cb on_done, void *context)
{
    send_done(store, link, &(struct pg_call){.statement = statement, .flags = flags}, params,
              &(struct done_call){.on_done = on_done, .context = context});
}

void store_send_list(struct store *store, enum statement statement, struct pg_params *params,
                     pg_reply_cb on_reply, void *context)
{
    pg_send(store->list,
            &(struct pg_call){.statement = statement,
                              .flags = PG_REPEATABLE | PG_READ,
                              .deadline_ms = store->read_deadline_ms},
            params, on_reply, context);
}

static void send_answers(struct store *store, struct pg_link *link, enum statement statement,
                         struct pg_params *params, const struct done_call *template)
{
    struct done_call call = *template;
    call.answers = true;
    send_done(store, link,
              &(struct pg_call){.statement = statement,
                                .flags = PG_REPEATABLE,
                                .deadline_ms = store->write_deadline_ms},
              params, &call);
}

void store_claim(struct store *store, int slots, store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    store->claiming = id_random();
    pg_params_id(&params, &store->claiming);
    pg_params_id(&params, &store->node);
    pg_params_int4(&params, slots);
    pg_params_bool(&params, false);
    send_answers(store, store->claim, STATEMENT_CLAIM, &params,
                 &(struct done_call){
                     .on_done = on_done, .context = context, .reserved = slots, .claims = true});
}

void store_cancel(struct store *store, const struct id *workflow, const char *reason,
                  answer_cb each, store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_array_begin(&params, PG_ID);
    pg_params_id(&params, workflow);
    pg_params_array_end(&params);
    pg_params_text(&params, reason);
    send_answers(store, store->engine, STATEMENT_CANCEL, &params,
                 &(struct done_call){.on_done = on_done, .context = context, .each = each});
}

void store_admit(struct store *store, const char *project, const char *name, store_done_cb on_done,
                 void *context)
{
    struct pg_params params = {0};
    pg_params_text(&params, project);
    pg_params_text(&params, name);
    send_answers(store, store->engine, STATEMENT_ADMIT, &params,
                 &(struct done_call){.on_done = on_done, .context = context});
}

void store_expire(struct store *store, int limit, store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_int4(&params, limit);
    send_answers(store, store->engine, STATEMENT_EXPIRE, &params,
                 &(struct done_call){.on_done = on_done, .context = context});
}

void store_relaunch_failed(struct store *store, const struct id *id, const struct id *original,
                           int64_t created_us, answer_cb each, store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, id);
    pg_params_id(&params, original);
    pg_params_time(&params, created_us);
    send_answers(store, store->engine, STATEMENT_RELAUNCH_FAILED, &params,
                 &(struct done_call){.on_done = on_done, .context = context, .each = each});
}

void store_hint(struct store *store, unsigned hints)
{
    struct pg_params params = {0};
    struct buffer payload = {0};
    char own[ID_TEXT_SIZE];
    id_format(&store->node, own);
    buffer_add_text(&payload, own);
    for (int i = 0; i < HINT_WORDS; i++) {
        if (hints & hint_words[i].hint)
            buffer_add_text(&payload, hint_words[i].word);
    }
    pg_params_text(&params, buffer_text(&payload));
    store_call(store, store->listen, STATEMENT_HINT, 0, &params, NULL, NULL);
    buffer_done(&payload);
}

/* --- nodes ----------------------------------------------------------------------------------- */

void store_register_node(struct store *store, const struct store_node *node, store_done_cb on_done,
                         void *context)
{
    struct pg_params params = {0};
    store->node = node->id;
    pg_params_id(&params, &node->id);
    pg_params_text(&params, node->host);
    pg_params_text(&params, node->boot_id);
    pg_params_text(&params, node->state_directory);
    pg_params_text(&params, node->version);
    pg_params_array_begin(&params, PG_TEXT);
    for (const char *const *queue = node->queues; *queue != NULL; queue++)
        pg_params_text(&params, *queue);
    pg_params_array_end(&params);
    pg_params_int4(&params, node->slots);
    pg_params_int8(&params, node->max_input);
    pg_params_id(&params, &node->directory_id);
    pg_params_int8(&params, clock_boot_us());
    store_call(store, store->engine, STATEMENT_REGISTER_NODE, PG_REPEATABLE | PG_WAIT, &params,
               on_done, context);
}

/* Whose answers, and what they claimed, are not known yet. */
static void add_batches_under_way(const struct store *store, struct pg_params *params)
{
    pg_params_array_begin(params, PG_ID);
    batcher_add_under_way(store->launches, params);
    batcher_add_under_way(store->finishes, params);
    batcher_add_under_way(store->fires, params);
    if (!id_is_null(&store->claiming))
        pg_params_id(params, &store->claiming);
    pg_params_array_end(params);
}

void store_heartbeat(struct store *store, const char *state, const char *digest,
                     const struct store_held *held, int count, store_done_cb on_done, void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, &store->node);
    pg_params_text(&params, state);
    pg_params_text(&params, digest);
    pg_params_time(&params, store_now_us(store));
    add_batches_under_way(store, &params);
    pg_params_array_begin(&params, PG_ID);
    for (int i = 0; i < count; i++)
        pg_params_id(&params, &held[i].workflow);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_INT4);
    for (int i = 0; i < count; i++)
        pg_params_int4(&params, held[i].position);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_INT4);
    for (int i = 0; i < count; i++)
        pg_params_int4(&params, held[i].attempt);
    pg_params_array_end(&params);
    /* Not repeated: the next heartbeat says it better. After an outage it goes first, so that the
     * lease holds when the claims arrive that come with ends of attempts. */
    send_done(store, store->engine,
              &(struct pg_call){.statement = STATEMENT_HEARTBEAT, .flags = PG_FIRST}, &params,
              &(struct done_call){.on_done = on_done, .context = context, .answers = true});
}

void store_reap(struct store *store, int64_t lease_ms, int limit, store_done_cb on_done,
                void *context)
{
    struct pg_params params = {0};
    pg_params_id(&params, &store->node);
    pg_params_int8(&params, lease_ms);
    pg_params_time(&params, store_now_us(store));
    pg_params_int4(&params, limit);
    send_answers(store, store->engine, STATEMENT_REAP, &params,
                 &(struct done_call){.on_done = on_done, .context = context});
}
