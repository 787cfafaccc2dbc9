#include "scheduler/watcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <uthash.h>

#include "base/log.h"
#include "base/memory.h"
#include "scheduler/definition_load.h"

/* Quiet for so long after a file was closed: an editor that writes twice is done by then. */
#define SETTLE_MS DEFINITION_SETTLE_MS
/* Renames that belong together (a symbolic link swapped, several files moved). */
#define RENAME_MS 20
/* Is the directory still the one that is watched? */
#define CHECK_MS 500

#define EVENTS                                                                          \
    (IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | \
     IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR)

/* A file that was created or written to and not closed since, or not before files were read. */
struct unsettled {
    UT_hash_handle hh;
    bool written;
    bool closed;
    char name[];
};

/* A file that is watched itself until it is closed. */
struct awaited {
    UT_hash_handle hh;
    int watch;
};

struct watcher {
    struct watcher_options options;
    int fd;
    int watch;          /* -1: the directory is not there */
    uv_stat_t identity; /* of the directory when it was last there */
    struct unsettled *unsettled;
    struct awaited *awaited;
    uv_poll_t poll;
    uv_timer_t settle;
    uv_timer_t check;
    uv_fs_t stat;
    bool checking;
    bool closing;
    int handles_left;
    void (*on_closed)(void *context);
    void *closed_context;
};

static void release(struct watcher *watcher);

/* --- unsettled files ------------------------------------------------------------------------- */

static struct unsettled *find_unsettled(const struct watcher *watcher, const char *name)
{
    struct unsettled *found;
    HASH_FIND_STR(watcher->unsettled, name, found);
    return found;
}

static struct unsettled *add_unsettled(struct watcher *watcher, const char *name)
{
    size_t size = strlen(name) + 1;
    struct unsettled *added = mem_new(1, sizeof *added + size);
    memcpy(added->name, name, size);
    HASH_ADD_STR(watcher->unsettled, name, added);
    return added;
}

static void on_begun(struct watcher *watcher, const char *name, bool written)
{
    struct unsettled *entry = find_unsettled(watcher, name);
    if (entry == NULL)
        entry = add_unsettled(watcher, name);
    entry->written = written;
    entry->closed = false;
}

static void on_complete(struct watcher *watcher, const char *name)
{
    struct unsettled *found = find_unsettled(watcher, name);
    if (found != NULL)
        found->closed = true;
}

static void forget(struct watcher *watcher, struct unsettled *entry)
{
    HASH_DEL(watcher->unsettled, entry);
    free(entry);
}

static void clear_unsettled(struct watcher *watcher, bool closed_only)
{
    struct unsettled *entry, *next;
    HASH_ITER(hh, watcher->unsettled, entry, next)
    {
        if (entry->closed || !closed_only)
            forget(watcher, entry);
    }
}

/* --- events ---------------------------------------------------------------------------------- */

static void on_settled(uv_timer_t *timer)
{
    struct watcher *watcher = timer->data;
    watcher->options.on_change(watcher->options.context);
}

/* A later event of the same kind begins the wait anew; a rename never shortens that of a write. */
static void report_in(struct watcher *watcher, uint64_t delay_ms)
{
    if (uv_is_active((uv_handle_t *)&watcher->settle) &&
        uv_timer_get_due_in(&watcher->settle) > delay_ms)
        return;
    uv_timer_start(&watcher->settle, on_settled, delay_ms, 0);
}

/* Definition files, and the link `..data` that is swapped where a volume is mounted. */
static bool concerns_us(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (strcmp(name, "..data") == 0)
        return true;
    return *name != '.' && dot != NULL && (strcmp(dot, ".yml") == 0 || strcmp(dot, ".yaml") == 0);
}

static void on_file_event(struct watcher *watcher, uint32_t events, const char *name)
{
    if (events & (IN_CREATE | IN_MODIFY))
        on_begun(watcher, name, events & IN_MODIFY);
    else if (!(events & IN_ATTRIB))
        on_complete(watcher, name);
    if (!(events & IN_MODIFY)) /* a link that is created has its content */
        report_in(watcher, events & IN_MOVED_TO ? RENAME_MS : SETTLE_MS);
}

/* Of a watch that is not the directory's, or no longer. */
static void on_other_event(struct watcher *watcher, const struct inotify_event *event)
{
    struct awaited *found;
    HASH_FIND_INT(watcher->awaited, &event->wd, found);
    if (found == NULL)
        return;
    HASH_DEL(watcher->awaited, found);
    free(found);
    report_in(watcher, SETTLE_MS);
}

static void on_overflow(struct watcher *watcher)
{
    clear_unsettled(watcher, false);
    report_in(watcher, SETTLE_MS);
}

static void on_event(struct watcher *watcher, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) {
        on_overflow(watcher);
        return;
    }
    if (event->wd != watcher->watch) {
        on_other_event(watcher, event);
        return;
    }
    if (event->mask & IN_IGNORED)
        watcher->watch = -1;
    if (event->len == 0 || !concerns_us(event->name))
        return;
    on_file_event(watcher, event->mask, event->name);
}

static void read_events(struct watcher *watcher)
{
    char buffer[16 * 1024] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t size;
    while ((size = read(watcher->fd, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < size;) {
            const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
            on_event(watcher, event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    read_events(poll->data);
}

/* --- reading --------------------------------------------------------------------------------- */

void watcher_begin_read(struct watcher *watcher)
{
    clear_unsettled(watcher, true);
}

void watcher_end_read(struct watcher *watcher)
{
    read_events(watcher); /* a write that was read in part is among them */
}

bool watcher_is_unsettled(const struct watcher *watcher, const char *name, bool is_empty)
{
    const struct unsettled *found = find_unsettled(watcher, name);
    return found != NULL && (found->written || (is_empty && !found->closed));
}

void watcher_settle(struct watcher *watcher, const char *name)
{
    on_complete(watcher, name);
}

/* The paths that are watched were looked up by the thread pool just before: if their file system
 * hangs, it hung there. */
void watcher_await(struct watcher *watcher, const char *name)
{
    struct awaited *awaited = NULL;
    char *path = mem_format("%s/%s", watcher->options.directory, name);
    int watch = inotify_add_watch(watcher->fd, path, IN_CLOSE_WRITE | IN_ONESHOT);
    free(path);
    if (watch >= 0)
        HASH_FIND_INT(watcher->awaited, &watch, awaited);
    if (awaited != NULL)
        return;
    if (watch >= 0) {
        awaited = mem_new(1, sizeof *awaited);
        awaited->watch = watch;
        HASH_ADD_INT(watcher->awaited, watch, awaited);
    }
    report_in(watcher, SETTLE_MS); /* it may have been closed just before */
}

static void forget_awaited(struct watcher *watcher)
{
    struct awaited *entry, *next;
    HASH_ITER(hh, watcher->awaited, entry, next)
    {
        HASH_DEL(watcher->awaited, entry);
        free(entry);
    }
}

/* --- the directory itself -------------------------------------------------------------------- */

static void unwatch_directory(struct watcher *watcher)
{
    if (watcher->watch >= 0)
        inotify_rm_watch(watcher->fd, watcher->watch);
    watcher->watch = -1;
    clear_unsettled(watcher, false);
}

/* `identity` was asked before: should the directory be replaced in between, the next look shows it.
 */
static void watch_directory(struct watcher *watcher, const uv_stat_t *identity)
{
    unwatch_directory(watcher);
    watcher->identity = *identity;
    watcher->watch = inotify_add_watch(watcher->fd, watcher->options.directory, EVENTS);
}

void watcher_await_directory(struct watcher *watcher)
{
    unwatch_directory(watcher);
    watcher->identity = (uv_stat_t){0};
}

static void on_looked(struct watcher *watcher, const uv_stat_t *found)
{
    bool watched = watcher->watch >= 0;
    if (found == NULL) {
        if (watched || watcher->identity.st_ino != 0)
            log_warning("the workflows directory is gone; what was loaded stays",
                        log_text("directory", watcher->options.directory));
        unwatch_directory(watcher);
        watcher->identity = (uv_stat_t){0};
        return;
    }
    if (watched && found->st_ino == watcher->identity.st_ino &&
        found->st_dev == watcher->identity.st_dev)
        return;
    watch_directory(watcher, found);
    if (watcher->watch >= 0) /* one that took the other's place is complete */
        report_in(watcher, watched ? RENAME_MS : SETTLE_MS);
}

static void on_stat(uv_fs_t *request)
{
    struct watcher *watcher = request->data;
    uv_stat_t found = request->statbuf;
    bool there = request->result == 0;
    uv_fs_req_cleanup(request);
    watcher->checking = false;
    if (watcher->closing)
        release(watcher);
    else
        on_looked(watcher, there ? &found : NULL);
}

static void on_check(uv_timer_t *timer)
{
    struct watcher *watcher = timer->data;
    if (watcher->checking)
        return;
    watcher->checking = true;
    watcher->stat.data = watcher;
    uv_fs_stat(watcher->options.loop, &watcher->stat, watcher->options.directory, on_stat);
}

/* --- life ------------------------------------------------------------------------------------ */

static int give_up(struct watcher *watcher, struct error *error)
{
    error_set(error, -errno, "%s cannot be watched for changes: %s", watcher->options.directory,
              strerror(errno));
    close(watcher->fd);
    free(watcher);
    return error->code;
}

int watcher_new(const struct watcher_options *options, struct watcher **watcher,
                struct error *error)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0)
        return error_set(error, -errno, "%s cannot be watched for changes: %s", options->directory,
                         strerror(errno));
    struct watcher *made = mem_new(1, sizeof *made);
    made->options = *options;
    made->fd = fd;
    made->watch = -1;
    if (uv_fs_stat(options->loop, &made->stat, options->directory, NULL) == 0) {
        watch_directory(made, &made->stat.statbuf);
        if (made->watch < 0)
            return give_up(made, error);
    }
    uv_poll_init(options->loop, &made->poll, fd);
    uv_timer_init(options->loop, &made->settle);
    uv_timer_init(options->loop, &made->check);
    made->poll.data = made->settle.data = made->check.data = made;
    uv_poll_start(&made->poll, UV_READABLE, on_readable);
    uv_timer_start(&made->check, on_check, CHECK_MS, CHECK_MS);
    *watcher = made;
    return 0;
}

static void release(struct watcher *watcher)
{
    if (--watcher->handles_left > 0)
        return;
    void (*on_closed)(void *) = watcher->on_closed;
    void *context = watcher->closed_context;
    clear_unsettled(watcher, false);
    forget_awaited(watcher);
    close(watcher->fd);
    free(watcher);
    on_closed(context);
}

static void on_handle_closed(uv_handle_t *handle)
{
    release(handle->data);
}

void watcher_close(struct watcher *watcher, void (*on_closed)(void *context), void *context)
{
    watcher->closing = true;
    watcher->on_closed = on_closed;
    watcher->closed_context = context;
    watcher->handles_left = 3;
    if (watcher->checking)
        watcher->handles_left++; /* on_stat comes yet */
    uv_close((uv_handle_t *)&watcher->poll, on_handle_closed);
    uv_close((uv_handle_t *)&watcher->settle, on_handle_closed);
    uv_close((uv_handle_t *)&watcher->check, on_handle_closed);
}
