/* The daemon's settings: one table of DIRECTOR_ names, and the typed values that it yields.
 *
 * Values come from a file of NAME=value lines and from the environment; the environment wins, and
 * an empty value stands for the default. A row of the table in settings.c holds all there is to
 * know about a setting; `--help`, docs/configuration.md and systemd/directord.conf are made from
 * it. To add one, add a row there and a field here.
 *
 * Durations are milliseconds and sizes bytes. All text belongs to the struct and lives until
 * settings_done.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "scheduler/definition_load.h"

struct text_list {
    const char **items; /* and a NULL behind them */
    size_t count;
};

struct settings {
    /* Where things are. */
    const char *database_uri; /* empty: the private PostgreSQL */
    const char *state_dir;
    const char *workflows_dir; /* absolute, without `.` and needless slashes */
    const char *postgres_bin;  /* the private PostgreSQL's programs; empty: found by itself */
    struct text_list listen;   /* `127.0.0.1:8000`, `[::1]:8000`, `unix:/path`, as written */
    int socket_mode;           /* of the latter */

    /* What runs, and when. */
    int concurrency;
    struct text_list queues;   /* `*` is every queue */
    struct text_list task_env; /* `NAME=value` for every task, from DIRECTOR_TASK_ENV_NAME */
    int64_t shutdown_grace_ms;
    int64_t poll_interval_ms;
    int64_t heartbeat_ms;
    int64_t lease_ms;
    int64_t query_timeout_ms;
    size_t max_spool;
    int max_batch;
    int max_waiting_launches;
    int default_retention_offset; /* -1: keep everything */
    int64_t fires_retention_ms;

    /* What a task may use. */
    size_t log_limit;
    size_t max_result;
    size_t max_input;

    /* What a definition file may hold. */
    struct definition_limits file_limits;

    /* The API. */
    bool auth_enabled;
    int workflows_per_page;
    size_t max_body;
    size_t max_bodies;  /* of all requests together */
    size_t max_replies; /* of all clients together */
    size_t max_head;
    size_t max_target;
    int max_header_fields;
    int max_connections;
    int64_t head_timeout_ms;
    int64_t body_timeout_ms;
    int64_t idle_timeout_ms;
    int64_t reply_timeout_ms;

    /* The log. */
    enum log_level log_level;
    enum log_format log_format;

    struct text_list
        warnings; /* whole lines for the log: names that are known but mean nothing here */
    struct arena memory;
};

/* Reads the file (may be NULL) and the environment (NAME=value, NULL at the end). The error says
 * where and what, and names the nearest known setting: `directord.conf:3: unknown setting
 * DIRECTOR_CONCURENCY (did you mean DIRECTOR_CONCURRENCY?)`. -EINVAL, or what opening the file
 * gave. On failure `settings` is left alone. */
int settings_load(const char *file, const char *const environment[], struct settings *settings,
                  struct error *error);
/* Takes from `fresh` what a reload may change. Every other setting that differs becomes a line in
 * fresh->warnings: it waits for a restart. */
void settings_reload(struct settings *settings, struct settings *fresh);
void settings_done(struct settings *settings);
/* The list for `--help`: for each setting a line `NAME=default`, and an indented one that explains
 * it. */
void settings_help(FILE *out);
