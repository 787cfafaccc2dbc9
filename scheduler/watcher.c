#include "scheduler/watcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <uthash.h>

#include "base/log.h"
#include "base/memory.h"

/* Quiet for so long after a file was closed: an editor that writes twice is done by then. */
#define SETTLE_MS 500
/* Renames that belong together (a symbolic link swapped, several files moved). */
#define RENAME_MS 20
/* Is the directory still the one that is watched? */
#define CHECK_MS 2000

#define EVENTS                                                                               \
    (IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | \
     IN_ONLYDIR)

/* A file that was written to and not closed since. */
struct unsettled {
    UT_hash_handle hh;
    char name[];
};

struct watcher {
    struct watcher_options options;
    int fd;
    int watch; /* -1: the directory is not there */
    uv_stat_t identity;
    struct unsettled *unsettled;
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

/* --- unsettled files
 * ---------------------------------------------------------------------------------------- */

static struct unsettled *find_unsettled(const struct watcher *watcher, const char *name)
{
    struct unsettled *found;
    HASH_FIND_STR(watcher->unsettled, name, found);
    return found;
}

char **watcher_unsettled(const struct watcher *watcher)
{
    size_t count = HASH_COUNT(watcher->unsettled);
    size_t bytes = 0;
    for (struct unsettled *entry = watcher->unsettled; entry != NULL; entry = entry->hh.next)
        bytes += strlen(entry->name) + 1;
    char **names = mem_new(1, (count + 1) * sizeof *names + bytes);
    char *text = (char *)(names + count + 1);
    char **name = names;
    for (struct unsettled *entry = watcher->unsettled; entry != NULL; entry = entry->hh.next) {
        *name++ = text;
        text = stpcpy(text, entry->name) + 1;
    }
    return names;
}

static void add_unsettled(struct watcher *watcher, const char *name)
{
    if (find_unsettled(watcher, name) != NULL)
        return;
    size_t size = strlen(name) + 1;
    struct unsettled *added = mem_new(1, sizeof *added + size);
    memcpy(added->name, name, size);
    HASH_ADD_STR(watcher->unsettled, name, added);
}

static void remove_unsettled(struct watcher *watcher, const char *name)
{
    struct unsettled *found = find_unsettled(watcher, name);
    if (found == NULL)
        return;
    HASH_DEL(watcher->unsettled, found);
    free(found);
}

static void clear_unsettled(struct watcher *watcher)
{
    struct unsettled *entry, *next;
    HASH_ITER(hh, watcher->unsettled, entry, next)
    {
        HASH_DEL(watcher->unsettled, entry);
        free(entry);
    }
}

/* --- events
 * -------------------------------------------------------------------------------------------------
 */

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

/* Definition files, and the hidden link that is swapped where a directory is mounted as a whole
 * (`..data`). */
static bool concerns_us(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (strncmp(name, "..", 2) == 0)
        return true;
    return *name != '.' && dot != NULL && (strcmp(dot, ".yml") == 0 || strcmp(dot, ".yaml") == 0);
}

static void on_event(struct watcher *watcher, const struct inotify_event *event)
{
    if (event->mask & (IN_IGNORED | IN_DELETE_SELF)) {
        if (watcher->watch == event->wd && event->mask & IN_IGNORED)
            watcher->watch = -1;
        return;
    }
    if (event->mask & IN_Q_OVERFLOW) {
        clear_unsettled(watcher);
        report_in(watcher, SETTLE_MS);
        return;
    }
    if (event->len == 0 || !concerns_us(event->name))
        return;
    if (event->mask & IN_MODIFY) {
        add_unsettled(watcher, event->name);
        return;
    }
    remove_unsettled(watcher, event->name);
    report_in(watcher, event->mask & IN_MOVED_TO ? RENAME_MS : SETTLE_MS);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct watcher *watcher = poll->data;
    char buffer[16 * 1024] __attribute__((aligned(__alignof__(struct inotify_event))));
    (void)status;
    (void)events;
    ssize_t size = read(watcher->fd, buffer, sizeof buffer);
    for (ssize_t at = 0; at < size;) {
        const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
        on_event(watcher, event);
        at += (ssize_t)(sizeof *event + event->len);
    }
}

/* --- the directory itself
 * ----------------------------------------------------------------------------------- */

static void watch_directory(struct watcher *watcher)
{
    if (watcher->watch >= 0)
        inotify_rm_watch(watcher->fd, watcher->watch);
    watcher->watch = inotify_add_watch(watcher->fd, watcher->options.directory, EVENTS);
    clear_unsettled(watcher);
}

static void on_stat(uv_fs_t *request)
{
    struct watcher *watcher = request->data;
    bool there = request->result == 0;
    bool same = there && watcher->watch >= 0 &&
                request->statbuf.st_ino == watcher->identity.st_ino &&
                request->statbuf.st_dev == watcher->identity.st_dev;
    uv_stat_t identity = request->statbuf;
    uv_fs_req_cleanup(request);
    watcher->checking = false;
    if (watcher->closing) {
        release(watcher);
        return;
    }
    if (same)
        return;
    if (!there) {
        if (watcher->identity.st_ino != 0)
            log_warning("the workflows directory is gone; what was loaded stays",
                        log_text("directory", watcher->options.directory));
        watcher->identity = (uv_stat_t){0};
        return;
    }
    bool first = watcher->identity.st_ino == 0 && watcher->watch >= 0;
    watcher->identity = identity;
    if (first)
        return;
    watch_directory(watcher);
    report_in(watcher, SETTLE_MS);
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

/* --- life
 * ---------------------------------------------------------------------------------------------------
 */

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
    watch_directory(made);
    uv_poll_init(options->loop, &made->poll, fd);
    uv_timer_init(options->loop, &made->settle);
    uv_timer_init(options->loop, &made->check);
    made->poll.data = made->settle.data = made->check.data = made;
    uv_poll_start(&made->poll, UV_READABLE, on_readable);
    uv_timer_start(&made->check, on_check, 0, CHECK_MS);
    *watcher = made;
    return 0;
}

static void release(struct watcher *watcher)
{
    if (--watcher->handles_left > 0)
        return;
    void (*on_closed)(void *) = watcher->on_closed;
    void *context = watcher->closed_context;
    clear_unsettled(watcher);
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
