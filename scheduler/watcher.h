/* The watcher: sees that definition files changed, and when they have settled.
 *
 * A file that is renamed into place is complete: the change is reported at once. One that is
 * written in place is reported when it has been closed and nothing more has happened for
 * DEFINITION_SETTLE_MS; until it is closed it is unsettled, and nobody should read it. A directory
 * that vanishes changes nothing; it is watched again when it is back.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "base/error.h"

struct watcher;

struct watcher_options {
    uv_loop_t *loop;
    const char *directory; /* outlives the watcher */
    void (*on_change)(void *context);
    void *context;
};

/* Fails when the kernel has no watches left (fs.inotify.max_user_instances, …_watches). */
int watcher_new(const struct watcher_options *options, struct watcher **watcher,
                struct error *error);
/* To be said before the files are read … */
void watcher_begin_read(struct watcher *watcher);
/* … and after it; … */
void watcher_end_read(struct watcher *watcher);
/* … and then: is somebody in the middle of writing the file of that name in the directory, or wrote
 * to it meanwhile? What was read of it may be a part. So it is if that was nothing (`is_empty`) of
 * a file that was created and not closed. */
bool watcher_is_unsettled(const struct watcher *watcher, const char *name, bool is_empty);
/* Somebody is writing the file of that name in the directory, and it was not seen here: since
 * before the directory was watched, or by another name. A change is reported when it is complete.
 */
void watcher_await(struct watcher *watcher, const char *name);
/* The file of that name counts as complete, unless it is written to again. */
void watcher_settle(struct watcher *watcher, const char *name);
/* The directory could not be read. Once it is there (again) that is reported as a change, also when
 * it is the same as before. */
void watcher_await_directory(struct watcher *watcher);
void watcher_close(struct watcher *watcher, void (*on_closed)(void *context), void *context);
