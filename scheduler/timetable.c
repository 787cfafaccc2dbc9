#include "scheduler/timetable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "base/memory.h"
#include "scheduler/decide.h"
#include "scheduler/trigger.h"

/* The longest sleep: after it the database's clock is asked again where we stand. */
#define MAX_SLEEP_US US_PER_SECOND
/* Before a schedule whose decision failed is tried again. */
#define RETRY_US US_PER_SECOND
/* Before a schedule is tried again for which the database found it too early. */
#define TOO_EARLY_US 10000
/* What deciding may take of one turn of the loop. */
#define TURN_US 5000
/* The offset of the clocks is known to a fraction of this: with it no fire comes too early for the
 * database. */
#define MARGIN_US 1000

struct timetable_entry {
    struct timetable *timetable;
    struct definition *definition; /* held */
    struct definition *decided;    /* held: that of the decision under way, which points into it */
    const struct definition_schedule *schedule;
    int64_t id;
    int64_t definition_id;
    int64_t anchor_us;
    int64_t cursor_us;
    int64_t delay_us; /* jitter */
    int64_t next_us;  /* nominal */
    int64_t wake_us;  /* when to look at it: next_us + delay_us, or later after a failure */
    int place;        /* in the heap; -1: not there (nothing due ever again, or being decided) */
    bool deciding;
    bool dropped; /* no longer of the catalog: freed when its decision is answered */
    bool seen;    /* while the catalog is taken over */
    struct store_firing firing;
    struct decision decision;
    UT_hash_handle hh;
};

struct timetable {
    uv_loop_t *loop;
    struct store *store;
    struct catalog *catalog;
    struct timetable_entry *entries; /* by id */
    struct timetable_entry **heap;   /* the earliest wake_us at 0 */
    int heap_count;
    int heap_capacity;
    int timer_fd;
    uv_poll_t poll;
    bool stopped;
    int64_t since_us; /* database time since when this daemon decides */
    void (*on_closed)(void *context);
    void *closed_context;
};

/* --- heap ------------------------------------------------------------------------------------ */

static void put(struct timetable *timetable, int place, struct timetable_entry *entry)
{
    timetable->heap[place] = entry;
    entry->place = place;
}

static void sift_up(struct timetable *timetable, struct timetable_entry *entry, int place)
{
    while (place > 0) {
        struct timetable_entry *parent = timetable->heap[(place - 1) / 2];
        if (parent->wake_us <= entry->wake_us)
            break;
        put(timetable, place, parent);
        place = (place - 1) / 2;
    }
    put(timetable, place, entry);
}

static void sift_down(struct timetable *timetable, struct timetable_entry *entry, int place)
{
    for (;;) {
        int child = 2 * place + 1;
        if (child >= timetable->heap_count)
            break;
        if (child + 1 < timetable->heap_count &&
            timetable->heap[child + 1]->wake_us < timetable->heap[child]->wake_us)
            child++;
        if (timetable->heap[child]->wake_us >= entry->wake_us)
            break;
        put(timetable, place, timetable->heap[child]);
        place = child;
    }
    put(timetable, place, entry);
}

static void heap_add(struct timetable *timetable, struct timetable_entry *entry)
{
    if (timetable->heap_count == timetable->heap_capacity) {
        timetable->heap_capacity = timetable->heap_capacity * 2 + 64;
        timetable->heap =
            mem_resize(timetable->heap, (size_t)timetable->heap_capacity, sizeof *timetable->heap);
    }
    sift_up(timetable, entry, timetable->heap_count++);
}

static void heap_remove(struct timetable *timetable, struct timetable_entry *entry)
{
    if (entry->place < 0)
        return;
    struct timetable_entry *last = timetable->heap[--timetable->heap_count];
    int place = entry->place;
    entry->place = -1;
    if (last == entry)
        return;
    sift_down(timetable, last, place);
    sift_up(timetable, last, last->place);
}

/* --- timer ----------------------------------------------------------------------------------- */

static void on_clock_set(struct timetable *timetable)
{
    log_warning("the clock was set; every schedule is looked at again");
    store_measure_clock(timetable->store);
}

/* For the earliest entry, at most a second from now; while the database is away, for then. */
static int set_timer(const struct timetable *timetable)
{
    int64_t now_us = clock_wall_us();
    int64_t at_us = now_us + MAX_SLEEP_US;
    if (timetable->heap_count > 0 && store_is_up(timetable->store)) {
        int64_t wake_us =
            timetable->heap[0]->wake_us - store_clock_offset_us(timetable->store) + MARGIN_US;
        at_us = wake_us < at_us ? wake_us : at_us;
    }
    if (at_us <= now_us)
        at_us = now_us + 1;
    struct itimerspec spec = {.it_value = {at_us / US_PER_SECOND, at_us % US_PER_SECOND * 1000}};
    return timerfd_settime(timetable->timer_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &spec,
                           NULL);
}

/* That the clock was set is told once, to who sets the timer or who reads it. The time to wake may
 * then have been reckoned by the clock before. */
static void arm(struct timetable *timetable)
{
    while (set_timer(timetable) < 0 && errno == ECANCELED)
        on_clock_set(timetable);
}

/* Puts the entry where its next instant is; `not_before_us` holds it back. */
static void schedule_entry(struct timetable_entry *entry, int64_t not_before_us)
{
    struct timetable *timetable = entry->timetable;
    heap_remove(timetable, entry);
    if (!trigger_next(&entry->schedule->trigger, entry->anchor_us, entry->cursor_us,
                      &entry->next_us)) {
        entry->next_us = 0;
        return;
    }
    entry->wake_us = entry->next_us + entry->delay_us;
    if (entry->wake_us < not_before_us)
        entry->wake_us = not_before_us;
    heap_add(timetable, entry);
}

/* --- deciding -------------------------------------------------------------------------------- */

static void free_entry(struct timetable_entry *entry)
{
    heap_remove(entry->timetable, entry);
    HASH_DEL(entry->timetable->entries, entry);
    definition_release(entry->definition);
    free(entry->decision.fires);
    free(entry);
}

static void on_decided(struct store_firing *firing, int64_t cursor_us,
                       const struct pg_failure *failure)
{
    struct timetable_entry *entry =
        (struct timetable_entry *)((char *)firing - offsetof(struct timetable_entry, firing));
    struct timetable *timetable = entry->timetable;
    int64_t not_before_us = 0;
    CRASH_POINT("fired");
    entry->deciding = false;
    free(entry->decision.fires);
    entry->decision.fires = NULL;
    definition_release(entry->decided);
    entry->decided = NULL;
    if (cursor_us == 0 || (failure != NULL && store_is_unregistered(failure))) {
        catalog_renew(timetable->catalog);
        not_before_us = store_now_us(timetable->store) + RETRY_US;
    } else if (failure != NULL) {
        if (failure->class != PG_AWAY && !failure->is_overdue) /* the store has said that */
            log_error("a schedule's fires could not be decided; trying again in a second",
                      log_text("workflow", entry->definition->fullname),
                      log_text("schedule", entry->schedule->identity),
                      log_text("error", failure->text));
        not_before_us = store_now_us(timetable->store) + RETRY_US;
    } else if (cursor_us == entry->firing.seen_us) {
        /* Not yet, by the database's clock: ours has been wrong. */
        store_measure_clock(timetable->store);
        not_before_us = store_now_us(timetable->store) + TOO_EARLY_US;
    } else {
        entry->cursor_us = cursor_us;
    }
    if (entry->dropped)
        free_entry(entry);
    else
        schedule_entry(entry, not_before_us);
    if (!timetable->stopped)
        arm(timetable);
}

static void on_fired(struct store_firing *firing, const struct answer *fired)
{
    const struct timetable_entry *entry =
        (struct timetable_entry *)((char *)firing - offsetof(struct timetable_entry, firing));
    char at[TIME_TEXT_SIZE];
    time_format_short(fired->at_us, at);
    bool ran = strcmp(fired->reason, "ran") == 0;
    log_info("schedule fired", log_text("workflow", entry->definition->fullname),
             log_text("schedule", entry->schedule->identity), log_text("scheduled", at),
             log_text("outcome", fired->reason),
             ran ? log_id("instance", &fired->workflow) : log_text("instance", NULL));
}

static void make_ids(struct timetable *timetable, struct decision *decision)
{
    for (int i = 0; i < decision->count; i++) {
        struct store_fire *fire = &decision->fires[i];
        if (strcmp(fire->outcome, "ran") != 0)
            continue;
        fire->created_us = store_now_us(timetable->store);
        fire->id = id_make_workflow(store_id_maker(timetable->store), &fire->created_us);
    }
}

static void decide(struct timetable_entry *entry, int64_t now_us)
{
    struct timetable *timetable = entry->timetable;
    const struct decide_point at = {.anchor_us = entry->anchor_us,
                                    .delay_us = entry->delay_us,
                                    .cursor_us = entry->cursor_us,
                                    .since_us = timetable->since_us,
                                    .now_us = now_us};
    heap_remove(timetable, entry);
    if (!decide_fires(entry->schedule, &at, &entry->decision)) {
        schedule_entry(entry, 0);
        return;
    }
    make_ids(timetable, &entry->decision);
    entry->deciding = true;
    entry->decided = definition_hold(entry->definition);
    entry->firing = (struct store_firing){
        .schedule = entry->id,
        .seen_us = entry->cursor_us,
        .cursor_us = entry->decision.cursor_us,
        .delay_us = entry->delay_us,
        .definition = entry->definition_id,
        .payload = {entry->schedule->payload, strlen(entry->schedule->payload)},
        .fires = entry->decision.fires,
        .fire_count = entry->decision.count,
        .on_done = on_decided,
        .on_fired = on_fired,
    };
    CRASH_POINT("before-fire");
    store_fire(timetable->store, &entry->firing);
    CRASH_POINT("fire-sent");
}

/* What is due. While the database is away nothing is decided, lest a fire wait in a queue and run
 * much later: what it misses is for `catchup`. */
static void decide_due(struct timetable *timetable)
{
    int64_t begun_us = clock_mono_us();
    int64_t now_us = store_now_us(timetable->store);
    if (now_us < timetable->since_us) /* the clock was set back */
        timetable->since_us = now_us;
    store_fires_hold(timetable->store);
    while (timetable->heap_count > 0 && timetable->heap[0]->wake_us <= now_us &&
           clock_mono_us() - begun_us < TURN_US)
        decide(timetable->heap[0], now_us);
    store_fires_send(timetable->store);
}

static void on_timer(uv_poll_t *poll, int status, int events)
{
    struct timetable *timetable = poll->data;
    uint64_t expirations;
    (void)status;
    (void)events;
    if (read(timetable->timer_fd, &expirations, sizeof expirations) < 0 && errno == ECANCELED)
        on_clock_set(timetable);
    if (store_is_up(timetable->store))
        decide_due(timetable);
    arm(timetable);
}

/* --- contents -------------------------------------------------------------------------------- */

static int64_t jitter_of(const struct definition *definition,
                         const struct definition_schedule *schedule)
{
    if (schedule->jitter_us == 0)
        return 0;
    char *identity = mem_format("%s %s", definition->fullname, schedule->identity);
    int64_t delay_us = trigger_jitter_us(identity, schedule->jitter_us);
    free(identity);
    return delay_us;
}

static struct timetable_entry *find_entry(const struct timetable *timetable, int64_t id)
{
    struct timetable_entry *entry;
    HASH_FIND(hh, timetable->entries, &id, sizeof id, entry);
    return entry;
}

static struct timetable_entry *add_entry(struct timetable *timetable, int64_t id)
{
    struct timetable_entry *entry = mem_new(1, sizeof *entry);
    entry->timetable = timetable;
    entry->id = id;
    entry->place = -1;
    HASH_ADD(hh, timetable->entries, id, sizeof entry->id, entry);
    return entry;
}

static void set_entry(struct timetable *timetable, const struct catalog_entry *owner,
                      const struct catalog_schedule *source)
{
    struct timetable_entry *entry = find_entry(timetable, source->id);
    if (entry == NULL)
        entry = add_entry(timetable, source->id);
    struct definition *former = entry->definition;
    entry->definition = definition_hold(owner->definition);
    if (former != NULL)
        definition_release(former);
    entry->schedule = source->schedule;
    entry->definition_id = owner->id;
    entry->anchor_us = source->anchor_us;
    if (entry->cursor_us < source->cursor_us)
        entry->cursor_us = source->cursor_us;
    entry->delay_us = jitter_of(owner->definition, source->schedule);
    entry->dropped = false;
    entry->seen = true;
    if (!entry->deciding)
        schedule_entry(entry, 0);
}

void timetable_set(struct timetable *timetable, struct catalog *catalog)
{
    timetable->catalog = catalog;
    int count;
    const struct catalog_entry *entries = catalog_entries(catalog, &count);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < entries[i].definition->schedule_count; k++)
            set_entry(timetable, &entries[i], &entries[i].schedules[k]);
    }
    struct timetable_entry *entry, *next;
    HASH_ITER(hh, timetable->entries, entry, next)
    {
        if (!entry->seen) {
            entry->dropped = true;
            heap_remove(timetable, entry);
            if (!entry->deciding)
                free_entry(entry);
        } else {
            entry->seen = false;
        }
    }
    if (!timetable->stopped)
        arm(timetable);
}

int64_t timetable_next_us(const struct timetable *timetable, int64_t schedule_id)
{
    const struct timetable_entry *entry = find_entry(timetable, schedule_id);
    return entry == NULL ? 0 : entry->next_us;
}

/* --- life ------------------------------------------------------------------------------------ */

int timetable_new(uv_loop_t *loop, struct store *store, struct timetable **timetable,
                  struct error *error)
{
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        return error_set(error, -errno, "timerfd: %s", strerror(errno));
    struct timetable *made = mem_new(1, sizeof *made);
    made->loop = loop;
    made->store = store;
    made->timer_fd = fd;
    made->since_us = store_now_us(store);
    uv_poll_init(loop, &made->poll, fd);
    made->poll.data = made;
    uv_poll_start(&made->poll, UV_READABLE, on_timer);
    arm(made);
    *timetable = made;
    return 0;
}

void timetable_stop(struct timetable *timetable)
{
    timetable->stopped = true;
    uv_poll_stop(&timetable->poll);
}

static void on_closed(uv_handle_t *handle)
{
    struct timetable *timetable = handle->data;
    struct timetable_entry *entry, *next;
    HASH_ITER(hh, timetable->entries, entry, next)
    free_entry(entry);
    void (*on_closed_cb)(void *) = timetable->on_closed;
    void *context = timetable->closed_context;
    close(timetable->timer_fd);
    free(timetable->heap);
    free(timetable);
    on_closed_cb(context);
}

void timetable_close(struct timetable *timetable, void (*on_closed_cb)(void *context),
                     void *context)
{
    timetable_stop(timetable);
    timetable->on_closed = on_closed_cb;
    timetable->closed_context = context;
    uv_close((uv_handle_t *)&timetable->poll, on_closed);
}
