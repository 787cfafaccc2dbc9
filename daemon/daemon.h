/* The daemon: everything started in order, the loop, and everything stopped in the opposite order.
 */
#pragma once

#include "daemon/exit_status.h"
#include "daemon/settings.h"

/* Runs until SIGTERM or SIGINT, or until the start fails (said in the log). `config` is the file
 * that `settings` came from, or NULL: SIGHUP reads it again. */
enum exit_status daemon_run(struct settings *settings, const char *config);
