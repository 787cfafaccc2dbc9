/* How a daemon lives:
 *
 *     state directory ─> private PostgreSQL ─> database checked and migrated ─> links ─>
 *     definitions ─> node registered, past ended ─> timetable ─> listening ─> ready
 *     … signal … ─> no new work ─> tasks ended ─> requests ended ─> all closed ─>
 *     private PostgreSQL stopped
 *
 * While tasks are waited for, the API goes on with reads and cancels: so one can see what it waits
 * for, and put an end to it.
 * A database that cannot be reached yet is waited for, listening: requests get 503. One that
 * refuses ends the start.
 */
#include "daemon/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "api/api.h"
#include "api/http_server.h"
#include "base/log.h"
#include "base/memory.h"
#include "daemon/machine.h"
#include "daemon/notify.h"
#include "daemon/postgres.h"
#include "daemon/signals.h"
#include "daemon/state_dir.h"
#include "executor/executor.h"
#include "scheduler/catalog.h"
#include "scheduler/engine.h"
#include "scheduler/timetable.h"
#include "scheduler/upkeep.h"
#include "scheduler/watcher.h"
#include "store/database.h"
#include "store/store.h"

/* Between looks at a database that cannot be reached yet. */
#define DATABASE_RETRY_MS 1000
/* libuv's default of four threads is for files alone. */
#define THREADS "16"
/* For requests under way when the daemon stops. */
#define REQUESTS_GRACE_MS 2000

struct daemon {
    struct settings *settings;
    const char *config;
    uv_loop_t loop;
    struct state_dir state_dir;
    struct machine machine;
    struct postgres *postgres; /* NULL: somebody else's database */
    const char *conninfo;
    char host[256];
    char boot_id[64];
    struct database_check *check; /* while it is under way */
    struct store *store;
    struct catalog *catalog;
    struct executor *executor;
    struct engine *engine;
    struct timetable *timetable;
    struct upkeep *upkeep;
    struct watcher *watcher; /* NULL: the kernel has no watches left, reload by hand */
    struct http_server *http;
    struct api api;
    struct error database_error;
    struct notify_watchdog watchdog;
    uv_timer_t retry;    /* of the database check */
    uv_timer_t deadline; /* of requests while stopping */
    uv_signal_t signals[SIGNALS_COUNT];
    bool scheduling; /* the timetable has the definitions */
    bool ready;
    bool stopping;
    bool engine_stopped;
    bool closed; /* or about to be */
    enum exit_status status;
};

static void stop(struct daemon *daemon);
static void check_database(struct daemon *daemon);

/* What ends the start. */
static void fail(struct daemon *daemon, enum exit_status status, const struct error *error)
{
    log_error("cannot start", log_error_text(error));
    daemon->status = status;
    stop(daemon);
}

/* --- before the loop ------------------------------------------------------------------------- */

static void read_first_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    *line = '\0';
    if (file == NULL)
        return;
    if (fgets(line, (int)size, file) != NULL)
        line[strcspn(line, "\n")] = '\0';
    fclose(file);
}

static int check_workflows_dir(const char *path, struct error *error)
{
    DIR *dir = opendir(path);
    if (dir == NULL)
        return error_set(error, -errno, "DIRECTOR_WORKFLOWS_DIR %s: %s", path, strerror(errno));
    closedir(dir);
    return 0;
}

/* The private PostgreSQL lies in the state directory, so both come before anything that waits. */
static enum exit_status prepare(struct daemon *daemon, struct error *error)
{
    const struct settings *settings = daemon->settings;
    gethostname(daemon->host, sizeof daemon->host - 1);
    read_first_line("/proc/sys/kernel/random/boot_id", daemon->boot_id, sizeof daemon->boot_id);
    if (check_workflows_dir(settings->workflows_dir, error) < 0)
        return EXIT_STATUS_CONFIG;
    int code = state_dir_open(settings->state_dir, &daemon->state_dir, error);
    if (code < 0)
        return code == -EBUSY ? EXIT_STATUS_UNAVAILABLE : EXIT_STATUS_CONFIG;
    machine_prepare(&daemon->machine, daemon->state_dir.path);
    if (*settings->database_uri != '\0') {
        daemon->conninfo = settings->database_uri;
        return EXIT_STATUS_OK;
    }
    notify_status("Starting the private PostgreSQL");
    daemon->postgres = postgres_start(daemon->state_dir.path, settings->postgres_bin, error);
    if (daemon->postgres == NULL)
        return error->code == -EINVAL ? EXIT_STATUS_CONFIG : EXIT_STATUS_UNAVAILABLE;
    daemon->conninfo = postgres_conninfo(daemon->postgres);
    return EXIT_STATUS_OK;
}

/* --- listening ------------------------------------------------------------------------------- */

static int listen_once(struct daemon *daemon, struct error *error)
{
    const struct settings *settings = daemon->settings;
    struct http_options options = HTTP_OPTIONS_DEFAULT;
    if (daemon->http != NULL)
        return 0;
    options.max_target_bytes = settings->max_target;
    options.max_head_bytes = settings->max_head;
    options.max_fields = settings->max_header_fields;
    options.max_body_bytes = settings->max_body;
    options.max_bodies_bytes = settings->max_bodies;
    options.max_replies_bytes = settings->max_replies;
    options.socket_mode = (mode_t)settings->socket_mode;
    options.max_connections = settings->max_connections;
    options.head_timeout_ms = settings->head_timeout_ms;
    options.body_timeout_ms = settings->body_timeout_ms;
    options.idle_timeout_ms = settings->idle_timeout_ms;
    options.stalled_timeout_ms = settings->reply_timeout_ms;
    return http_server_open(&daemon->http, &daemon->loop, &options, settings->listen.items,
                            api_handle, &daemon->api, error);
}

#define UNIX_PREFIX "unix:"

static bool is_unix(const char *address)
{
    return strncmp(address, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0;
}

static void suggest(const struct daemon *daemon)
{
    const char *address = http_server_address(daemon->http, 0);
    char *base = is_unix(address) ? mem_format("--unix-socket %s http://localhost",
                                               address + strlen(UNIX_PREFIX))
                                  : mem_format("http://%s", address);
    if (catalog_find(daemon->catalog, "example.ETL") != NULL)
        printf("try:      curl -s %s/api/workflows -H 'Content-Type: application/json' -d "
               "'{\"project\":\"example\",\"name\":\"ETL\",\"payload\":{}}'\n",
               base);
    else
        printf("try:      curl -s %s/api/definitions\n", base);
    free(base);
}

/* For whoever typed the command; under systemd the log says it. */
static void greet(const struct daemon *daemon)
{
    int definitions;
    const char *address;
    catalog_entries(daemon->catalog, &definitions);
    if (getenv("NOTIFY_SOCKET") != NULL || getenv("JOURNAL_STREAM") != NULL)
        return;
    printf("directord " DIRECTORD_VERSION " runs %d workflow definition%s from %s\n", definitions,
           definitions == 1 ? "" : "s", daemon->settings->workflows_dir);
    printf("state:    %s\n", daemon->postgres == NULL ? "the database of DIRECTOR_DATABASE_URI"
                                                      : daemon->state_dir.path);
    for (size_t i = 0; (address = http_server_address(daemon->http, i)) != NULL; i++)
        printf("%s%s%s\n", i == 0 ? "API:      " : "          ", is_unix(address) ? "" : "http://",
               address);
    suggest(daemon);
    printf("stop:     Ctrl-C\n");
    fflush(stdout);
}

static void log_ready(const struct daemon *daemon)
{
    struct buffer addresses = {0};
    const char *address;
    for (size_t i = 0; (address = http_server_address(daemon->http, i)) != NULL; i++)
        buffer_printf(&addresses, "%s%s", i == 0 ? "" : ",", address);
    log_info("ready", log_text("listen", buffer_text(&addresses)));
    buffer_done(&addresses);
}

static void become_ready(struct daemon *daemon)
{
    struct error error;
    if (listen_once(daemon, &error) < 0) {
        fail(daemon, EXIT_STATUS_UNAVAILABLE, &error);
        return;
    }
    daemon->ready = true;
    notify_status("Running");
    notify_ready();
    log_ready(daemon);
    greet(daemon);
}

/* --- definitions and engine ------------------------------------------------------------------ */

static void on_store_up(void *context)
{
    struct daemon *daemon = context;
    if (!daemon->stopping)
        become_ready(daemon);
}

static void on_engine_started(void *context)
{
    struct daemon *daemon = context;
    if (daemon->stopping)
        return;
    daemon->scheduling = true;
    timetable_set(daemon->timetable, daemon->catalog);
    daemon->upkeep = upkeep_new(&(struct upkeep_options){
        .loop = &daemon->loop,
        .store = daemon->store,
        .catalog = daemon->catalog,
        .default_retention_offset = daemon->settings->default_retention_offset,
        .fires_retention_ms = daemon->settings->fires_retention_ms,
    });
    /* The engine's connection has come up; those of requests may need a moment more. */
    if (store_is_up(daemon->store))
        become_ready(daemon);
    else
        store_await_up(daemon->store, on_store_up, daemon);
}

static void on_catalog_change(void *context)
{
    struct daemon *daemon = context;
    engine_set_digest(daemon->engine, catalog_digest(daemon->catalog));
    if (daemon->scheduling && !daemon->stopping)
        timetable_set(daemon->timetable, daemon->catalog);
}

static void on_first_load(void *context, const struct error *error)
{
    struct daemon *daemon = context;
    if (daemon->stopping)
        return;
    if (error != NULL)
        fail(daemon, EXIT_STATUS_CONFIG, error);
    else
        engine_start(daemon->engine, on_engine_started, daemon);
}

static void on_files_loaded(void *context, const struct error *error)
{
    (void)context; /* the catalog has logged what is to be said */
    (void)error;
}

static void on_files_changed(void *context)
{
    struct daemon *daemon = context;
    if (!daemon->stopping)
        catalog_load(daemon->catalog, on_files_loaded, daemon);
}

static void begin_read(void *context)
{
    const struct daemon *daemon = context;
    if (daemon->watcher != NULL)
        watcher_begin_read(daemon->watcher);
}

static void end_read(void *context)
{
    const struct daemon *daemon = context;
    if (daemon->watcher != NULL)
        watcher_end_read(daemon->watcher);
}

static bool is_unsettled(void *context, const char *name, bool is_empty)
{
    const struct daemon *daemon = context;
    return daemon->watcher != NULL && watcher_is_unsettled(daemon->watcher, name, is_empty);
}

static void await_file(void *context, const char *name)
{
    const struct daemon *daemon = context;
    if (daemon->watcher != NULL)
        watcher_await(daemon->watcher, name);
}

static void settle_file(void *context, const char *name)
{
    const struct daemon *daemon = context;
    if (daemon->watcher != NULL)
        watcher_settle(daemon->watcher, name);
}

static void await_directory(void *context)
{
    const struct daemon *daemon = context;
    if (daemon->watcher != NULL)
        watcher_await_directory(daemon->watcher);
}

static void watch_files(struct daemon *daemon)
{
    struct error error;
    if (watcher_new(&(struct watcher_options){.loop = &daemon->loop,
                                              .directory = daemon->settings->workflows_dir,
                                              .on_change = on_files_changed,
                                              .context = daemon},
                    &daemon->watcher, &error) < 0)
        log_warning("definitions are reloaded on request only", log_error_text(&error));
}

static int ensure_postgres(void *context, struct error *error)
{
    struct daemon *daemon = context;
    return daemon->postgres == NULL ? 0 : postgres_ensure(daemon->postgres, error);
}

static void open_store(struct daemon *daemon, const struct database_facts *facts)
{
    const struct settings *settings = daemon->settings;
    char *spool_path = mem_format("%s/spool", daemon->state_dir.path);
    daemon->store = store_open(&(struct store_options){
        .loop = &daemon->loop,
        .conninfo = daemon->conninfo,
        .reply_timeout_ms = (int)settings->query_timeout_ms,
        .max_batch = settings->max_batch,
        .clock_offset_us = facts->clock_offset_us,
        .spool_path = spool_path,
        .max_spool = settings->max_spool,
        .ensure = ensure_postgres,
        .ensure_context = daemon,
    });
    free(spool_path);
}

static void open_engine(struct daemon *daemon)
{
    const struct settings *settings = daemon->settings;
    daemon->executor = executor_new(
        &daemon->loop, &(struct executor_options){.cgroups = &daemon->machine.cgroups,
                                                  .launcher = daemon->machine.launcher});
    daemon->engine = engine_new(&(struct engine_options){
        .loop = &daemon->loop,
        .store = daemon->store,
        .executor = daemon->executor,
        .node = {.host = daemon->host,
                 .boot_id = daemon->boot_id,
                 .state_directory = daemon->state_dir.path,
                 .directory_id = daemon->state_dir.id,
                 .version = DIRECTORD_VERSION,
                 .queues = settings->queues.items,
                 .slots = settings->concurrency,
                 .max_input = (int64_t)settings->max_input},
        .poll_ms = settings->poll_interval_ms,
        .heartbeat_ms = settings->heartbeat_ms,
        .lease_ms = settings->lease_ms,
        .max_result = settings->max_result,
        .log_limit = settings->log_limit,
        .task_env = settings->task_env.items,
    });
}

static void open_catalog(struct daemon *daemon)
{
    const struct settings *settings = daemon->settings;
    daemon->catalog = catalog_new(&(struct catalog_options){
        .loop = &daemon->loop,
        .store = daemon->store,
        .directory = settings->workflows_dir,
        .host = daemon->host,
        .limits = settings->file_limits,
        .begin_read = begin_read,
        .end_read = end_read,
        .is_unsettled = is_unsettled,
        .await_file = await_file,
        .settle_file = settle_file,
        .await_directory = await_directory,
        .on_change = on_catalog_change,
        .context = daemon,
    });
}

static void begin_work(struct daemon *daemon, const struct database_facts *facts)
{
    struct error error;
    open_store(daemon, facts);
    open_engine(daemon);
    watch_files(daemon);
    open_catalog(daemon);
    daemon->api.store = daemon->store;
    daemon->api.catalog = daemon->catalog;
    daemon->api.engine = daemon->engine;
    if (timetable_new(&daemon->loop, daemon->store, &daemon->timetable, &error) < 0) {
        fail(daemon, EXIT_STATUS_FAILURE, &error);
        return;
    }
    daemon->api.timetable = daemon->timetable;
    notify_status("Loading definitions");
    catalog_load(daemon->catalog, on_first_load, daemon);
}

/* --- the database ---------------------------------------------------------------------------- */

static void on_retry(uv_timer_t *timer)
{
    check_database(timer->data);
}

static void wait_for_database(struct daemon *daemon, const struct error *error)
{
    struct error listening;
    if (daemon->database_error.code == 0)
        log_warning("the database cannot be reached yet; waiting for it", log_error_text(error));
    daemon->database_error = *error;
    daemon->api.database_error = daemon->database_error.text;
    notify_status("Waiting for the database: %s", error->text);
    notify_still_starting();
    if (listen_once(daemon, &listening) < 0) {
        fail(daemon, EXIT_STATUS_UNAVAILABLE, &listening);
        return;
    }
    uv_timer_start(&daemon->retry, on_retry, DATABASE_RETRY_MS, 0);
}

static void on_verdict(void *context, enum database_verdict verdict,
                       const struct database_facts *facts, const struct error *error)
{
    struct daemon *daemon = context;
    daemon->check = NULL;
    if (daemon->stopping)
        return;
    switch (verdict) {
    case DATABASE_READY:
        begin_work(daemon, facts);
        break;
    case DATABASE_AWAY:
        wait_for_database(daemon, error);
        break;
    case DATABASE_REFUSED:
        fail(daemon, EXIT_STATUS_CONFIG, error);
        break;
    }
}

static void check_database(struct daemon *daemon)
{
    daemon->check = database_check_start(&(struct database_options){
        .loop = &daemon->loop,
        .conninfo = daemon->conninfo,
        .migrations = migrations,
        .ensure = ensure_postgres,
        .on_verdict = on_verdict,
        .context = daemon,
    });
}

/* --- the end --------------------------------------------------------------------------------- */

static void on_closed(void *context)
{
    (void)context;
}

static void close_timers(struct daemon *daemon)
{
    uv_close((uv_handle_t *)&daemon->retry, NULL);
    uv_close((uv_handle_t *)&daemon->deadline, NULL);
    notify_watchdog_stop(&daemon->watchdog, NULL);
}

/* The loop may end with them, and hears them until then. */
static void let_signals_go(struct daemon *daemon)
{
    for (int i = 0; i < SIGNALS_COUNT; i++)
        uv_unref((uv_handle_t *)&daemon->signals[i]);
}

/* Nobody answers any more: what asked is freed. */
static void on_store_closed(void *context)
{
    struct daemon *daemon = context;
    if (daemon->timetable != NULL)
        timetable_close(daemon->timetable, on_closed, daemon);
    if (daemon->upkeep != NULL)
        upkeep_close(daemon->upkeep, on_closed, daemon);
    engine_close(daemon->engine, on_closed, daemon);
}

/* What still ran has ended; nobody asks any more. */
static void on_executor_closed(void *context)
{
    struct daemon *daemon = context;
    store_close(daemon->store, on_store_closed, daemon);
}

/* What is left are handles, and the loop ends when they are closed. */
static void close_all(struct daemon *daemon)
{
    if (daemon->closed)
        return;
    daemon->closed = true;
    close_timers(daemon);
    let_signals_go(daemon);
    postgres_give_up(daemon->postgres);
    if (daemon->check != NULL)
        database_check_stop(daemon->check);
    if (daemon->http != NULL)
        http_server_close(daemon->http, NULL, NULL);
    if (daemon->watcher != NULL)
        watcher_close(daemon->watcher, on_closed, daemon);
    daemon->watcher = NULL; /* a load under way may yet ask for it */
    if (daemon->executor != NULL)
        executor_close(daemon->executor, on_executor_closed, daemon);
}

static void on_requests_ended(void *context)
{
    struct daemon *daemon = context;
    uv_timer_stop(&daemon->deadline);
    close_all(daemon);
}

static void on_requests_overdue(uv_timer_t *timer)
{
    on_requests_ended(timer->data);
}

static void on_engine_stopped(void *context)
{
    struct daemon *daemon = context;
    daemon->engine_stopped = true;
    if (daemon->http == NULL) {
        close_all(daemon);
        return;
    }
    uv_timer_start(&daemon->deadline, on_requests_overdue, REQUESTS_GRACE_MS, 0);
    http_server_stop(daemon->http, on_requests_ended, daemon);
}

static void stop(struct daemon *daemon)
{
    if (daemon->stopping) {
        if (daemon->engine != NULL && !daemon->engine_stopped)
            engine_hurry(daemon->engine);
        return;
    }
    daemon->stopping = true;
    daemon->api.stopping = true;
    notify_stopping();
    uv_timer_stop(&daemon->retry);
    if (daemon->catalog != NULL)
        catalog_stop(daemon->catalog);
    if (daemon->timetable != NULL)
        timetable_stop(daemon->timetable);
    if (daemon->upkeep != NULL)
        upkeep_stop(daemon->upkeep);
    if (daemon->engine != NULL)
        engine_stop(daemon->engine, daemon->settings->shutdown_grace_ms, on_engine_stopped, daemon);
    else
        on_engine_stopped(daemon);
}

/* --- signals --------------------------------------------------------------------------------- */

static void on_reloaded(void *context, const struct error *error)
{
    struct daemon *daemon = context;
    (void)error; /* the catalog has logged it; what was loaded stays */
    if (!daemon->stopping)
        notify_ready();
}

static void set_api_limits(struct daemon *daemon)
{
    daemon->api.workflows_per_page = daemon->settings->workflows_per_page;
    daemon->api.max_waiting_launches = daemon->settings->max_waiting_launches;
}

static void reload_settings(struct daemon *daemon)
{
    struct settings fresh;
    struct error error;
    if (settings_load(daemon->config, (const char *const *)environ, &fresh, &error) < 0) {
        log_error("settings not reloaded; the former ones stay", log_error_text(&error));
        return;
    }
    settings_reload(daemon->settings, &fresh);
    for (size_t i = 0; i < fresh.warnings.count; i++)
        log_warning("setting without effect", log_text("reason", fresh.warnings.items[i]));
    log_start(daemon->settings->log_level, daemon->settings->log_format);
    set_api_limits(daemon);
    catalog_set_limits(daemon->catalog, &daemon->settings->file_limits);
    settings_done(&fresh);
}

static void reload(struct daemon *daemon)
{
    if (!daemon->ready || daemon->stopping)
        return;
    notify_reloading();
    reload_settings(daemon);
    catalog_reload(daemon->catalog, on_reloaded, daemon);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;
    if (number == SIGHUP) {
        reload(daemon);
        return;
    }
    if (number == SIGUSR1) {
        if (daemon->ready)
            engine_drain(daemon->engine);
        return;
    }
    log_info(daemon->stopping ? "stopping at once" : "stopping",
             log_text("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
    stop(daemon);
}

static void watch_signals(struct daemon *daemon)
{
    for (int i = 0; i < SIGNALS_COUNT; i++) {
        uv_signal_init(&daemon->loop, &daemon->signals[i]);
        daemon->signals[i].data = daemon;
        uv_signal_start(&daemon->signals[i], on_signal, signals_numbers[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    signals_release();
}

/* Held back first, since a closed handle leaves the default action, which is to die. */
static void unwatch_signals(struct daemon *daemon)
{
    signals_hold();
    for (int i = 0; i < SIGNALS_COUNT; i++)
        uv_close((uv_handle_t *)&daemon->signals[i], NULL);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
}

/* --- all of it ------------------------------------------------------------------------------- */

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

/* The first work makes all threads of the pool, and that is here while signals are held back: they
 * never hear any. */
static void make_threads(struct daemon *daemon)
{
    static uv_work_t work;
    uv_queue_work(&daemon->loop, &work, do_nothing, NULL);
}

static void run_loop(struct daemon *daemon)
{
    uv_loop_init(&daemon->loop);
    uv_timer_init(&daemon->loop, &daemon->retry);
    uv_timer_init(&daemon->loop, &daemon->deadline);
    daemon->retry.data = daemon;
    daemon->deadline.data = daemon;
    make_threads(daemon);
    watch_signals(daemon);
    notify_watchdog_start(&daemon->watchdog, &daemon->loop);
    check_database(daemon);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    unwatch_signals(daemon);
    catalog_free(daemon->catalog);
    uv_loop_close(&daemon->loop);
}

enum exit_status daemon_run(struct settings *settings, const char *config)
{
    struct error error = {0};
    struct daemon *daemon = mem_new(1, sizeof *daemon);
    daemon->settings = settings;
    daemon->config = config;
    daemon->state_dir.lock_fd = -1;
    daemon->api.loop = &daemon->loop;
    set_api_limits(daemon);
    daemon->api.max_target = settings->max_target;
    log_info("starting", log_text("version", DIRECTORD_VERSION));
    /* Each connection that comes back takes a thread, for seconds where the server is frozen. */
    setenv("UV_THREADPOOL_SIZE", THREADS, 0);
    signals_hold();
    daemon->status = prepare(daemon, &error);
    if (daemon->status == EXIT_STATUS_OK) {
        run_loop(daemon);
    } else if (error.code == -EINTR) {
        daemon->status = EXIT_STATUS_OK;
    } else {
        log_error("cannot start", log_error_text(&error));
    }
    if (daemon->postgres != NULL)
        notify_status("Stopping the private PostgreSQL");
    postgres_stop(daemon->postgres);
    machine_done(&daemon->machine);
    state_dir_close(&daemon->state_dir);
    enum exit_status status = daemon->status;
    free(daemon);
    log_info("stopped", log_int("status", status));
    return status;
}
