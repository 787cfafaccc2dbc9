#include "daemon/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"

void notify_ready(void)
{
    sd_notify(0, "READY=1");
}

void notify_reloading(void)
{
    /* The time is what Type=notify-reload asks for; Type=notify does not mind. */
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_us());
}

void notify_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void notify_still_starting(void)
{
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRId64, 120 * US_PER_SECOND);
}

void notify_status(const char *format, ...)
{
    va_list args;
    char text[512];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sd_notifyf(0, "STATUS=%s", text);
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    sd_notify(0, "WATCHDOG=1");
}

void notify_watchdog_start(struct notify_watchdog *watchdog, uv_loop_t *loop)
{
    uint64_t period_us = 0;
    uv_timer_init(loop, &watchdog->timer);
    if (sd_watchdog_enabled(0, &period_us) <= 0)
        return;
    uint64_t half_ms = period_us / 2000;
    uv_timer_start(&watchdog->timer, on_watchdog, 0, half_ms > 0 ? half_ms : 1);
    uv_unref((uv_handle_t *)&watchdog->timer);
}

void notify_watchdog_stop(struct notify_watchdog *watchdog, uv_close_cb on_closed)
{
    uv_close((uv_handle_t *)&watchdog->timer, on_closed);
}
