/* What systemd hears of the daemon: its state, and that its loop still turns.
 *
 * Without systemd (no NOTIFY_SOCKET) every call does nothing.
 */
#pragma once

#include <uv.h>

void notify_ready(void);
void notify_reloading(void); /* to be followed by notify_ready */
void notify_stopping(void);
/* The start goes on, whatever TimeoutStartSec= says; to be repeated within two minutes. */
void notify_still_starting(void);
/* The line that `systemctl status` shows. */
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Feeds the unit's watchdog from the loop, twice in its period; a loop that hangs is thus found and
 * restarted. */
struct notify_watchdog {
    uv_timer_t timer;
};
void notify_watchdog_start(struct notify_watchdog *watchdog, uv_loop_t *loop);
/* The handle is closed when `on_closed` has been called. */
void notify_watchdog_stop(struct notify_watchdog *watchdog, uv_close_cb on_closed);
