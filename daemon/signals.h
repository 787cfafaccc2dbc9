/* SIGTERM, SIGINT, SIGHUP and SIGUSR1, which only the loop hears.
 *
 * Before the loop runs and after it has ended they are held back: there the private PostgreSQL is
 * started and stopped, and a daemon that died of an impatient Ctrl-C, or with its terminal, would
 * leave it running. A start looks for a signal that waits; a stop takes its time, which is bounded.
 */
#pragma once

#include <stdbool.h>

#define SIGNALS_COUNT 4
extern const int signals_numbers[SIGNALS_COUNT];

/* For this thread, and for those that it makes meanwhile. */
void signals_hold(void);
void signals_release(void);
/* Does a SIGTERM or SIGINT wait to be heard? */
bool signals_ask_to_stop(void);
