/* What a task does: its compiled action read back, and its templates filled in.
 *
 * The loader compiles each task's keys into a small JSON text that is stored with the definition's
 * version; a daemon that claims the task, today or after an upgrade, reads it back here. Keys that
 * hold their default are left out of the text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "executor/executor.h"

#define ACTION_GRACE_MS 10000
#define ACTION_RETRY_INTERVAL_MS 10000
#define ACTION_RETRY_MAX_INTERVAL_MS 3600000

struct action_retry {
    int limit; /* attempts after the first one; 0: none */
    int64_t interval_ms;
    double backoff; /* each further wait is this many times as long, up to max_interval_ms */
    int64_t max_interval_ms;
    const int *exit_codes; /* NULL: any; else the ordinary exits that are tried again */
    int exit_code_count;
};

struct action_variable {
    const char *name;
    const char *value;
};

struct action {
    bool noop;                  /* no process; nothing below means anything */
    const char *const *command; /* NULL-terminated argv, or NULL when it is a script */
    const char *script;         /* text for the shell, or NULL */
    const char *const *shell;   /* NULL-terminated; what stands before `-c TEXT`: /bin/sh -e */
    const struct action_variable *env;
    int env_count;
    const char *cwd;   /* NULL: the daemon's choice */
    const char *user;  /* NULL: the daemon's */
    const char *group; /* NULL: the user's */
    struct cgroup_limits limits;
    int64_t grace_ms;   /* between SIGTERM and SIGKILL */
    int64_t timeout_ms; /* of one attempt; 0: none */
    int64_t log_limit;  /* bytes of output kept of one attempt; 0: as the daemon is set */
    enum result_source result;
    struct action_retry retry;
};

/* Reads a compiled action; NULL or an empty text is a noop. What the action points to lives in
 * `arena`. Fails
 * (-EINVAL) on a text that the loader of this or an older version did not write. */
int action_parse(const char *json, struct arena *arena, struct action *action, struct error *error);

/* What to start: everything filled in. */
struct action_start {
    const char *const *argv; /* NULL-terminated */
    struct action_variable *env;
    int env_count;
    const char *cwd; /* NULL: the daemon's choice */
};

/* Replaces `{{ payload.a.b }}` and `{{ results.KEY.c }}` in command, env and cwd by the value's
 * text: a string bare, anything else as JSON. Any other `{{` stays as it stands. A missing value
 * fails (-ENOENT) and is named. Both spans are checked JSON; `results` is an object by task key;
 * keys may hold dots, and the longest key that fits is meant. What `start` points to lives in
 * `arena` (or in the action). Not for a noop. */
int action_expand(const struct action *action, struct json_span payload, struct json_span results,
                  struct arena *arena, struct action_start *start, struct error *error);
