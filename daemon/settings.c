#include "daemon/settings.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "api/http_address.h"
#include "base/json.h"
#include "base/text.h"
#include "daemon/envfile.h"
#include "daemon/setting.h"

#define PREFIX "DIRECTOR_"
#define TASK_ENV_PREFIX PREFIX "TASK_ENV_"

/* --- the table ------------------------------------------------------------------------------- */

static const struct setting_choice log_levels[] = {
    {"debug", LOG_LEVEL_DEBUG},
    {"info", LOG_LEVEL_INFO},
    {"warning", LOG_LEVEL_WARNING},
    {"error", LOG_LEVEL_ERROR},
    {NULL, 0},
};

enum { LOG_FORMAT_AUTO = LOG_FORMAT_JSON + 1 }; /* only until settings_load returns */
static const struct setting_choice log_formats[] = {
    {"auto", LOG_FORMAT_AUTO},
    {"logfmt", LOG_FORMAT_LOGFMT},
    {"journald", LOG_FORMAT_JOURNALD},
    {"json", LOG_FORMAT_JSON},
    {NULL, 0},
};

/* The field's offset; a field of another type than the row's does not compile. */
#define FIELD(type, field) \
    (offsetof(struct settings, field) + 0 * sizeof(&((struct settings *)0)->field == (type *)0))
#define TEXT(field) SETTING_TEXT, FIELD(const char *, field), 0, 0, NULL
#define LIST(field) SETTING_LIST, FIELD(struct text_list, field), 0, 0, NULL
#define BOOL(field) SETTING_BOOL, FIELD(bool, field), 0, 0, NULL
#define CHOICE(field, type, choices) SETTING_CHOICE, FIELD(enum type, field), 0, 0, choices
#define INT(field, min, max) SETTING_INT, FIELD(int, field), min, max, NULL
#define MODE(field) SETTING_MODE, FIELD(int, field), 0, 0777, NULL
#define DURATION(field, min, max) SETTING_DURATION, FIELD(int64_t, field), min, max, NULL
#define BYTES(field, min, max) SETTING_BYTES, FIELD(size_t, field), min, max, NULL

#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

enum { AT_START = false, ON_RELOAD = true };

/* In the order in which `--help` shows them. */
static const struct setting table[] = {
    {"DIRECTOR_DATABASE_URI", TEXT(database_uri), "", AT_START,
     "The PostgreSQL database, as a libpq URI: postgresql://user@host/database. Empty: a private "
     "server in the state directory, which needs no set-up."},
    {"DIRECTOR_STATE_DIR", TEXT(state_dir), "", AT_START,
     "The private PostgreSQL and results that wait for the database. Empty: $STATE_DIRECTORY, else "
     "/var/lib/directord for root and ~/.local/state/directord for others."},
    {"DIRECTOR_POSTGRES_BIN", TEXT(postgres_bin), "", AT_START,
     "The directory of the programs initdb and postgres. Empty: the newest version in "
     "/usr/lib/postgresql, else PATH."},
    {"DIRECTOR_WORKFLOWS_DIR", TEXT(workflows_dir), "", AT_START,
     "The directory of the definitions. Empty: workflows.d of the source tree that the program was "
     "built in, else " DIRECTORD_SYSCONFDIR "/directord/workflows.d."},
    {"DIRECTOR_LISTEN", LIST(listen), "127.0.0.1:8000", AT_START,
     "Where the API listens: ADDRESS:PORT, [IPv6]:PORT or unix:/PATH, several with commas between. "
     "Names are not looked up."},
    {"DIRECTOR_SOCKET_MODE", MODE(socket_mode), "0660", AT_START,
     "The permissions of a unix socket that the API listens at, in octal. Who may write to it may "
     "connect."},
    {"DIRECTOR_AUTH_ENABLED", BOOL(auth_enabled), "false", AT_START,
     "Whether the API asks for a login."},

    /* A heartbeat names all of them. */
    {"DIRECTOR_CONCURRENCY", INT(concurrency, 1, 10000), "", AT_START,
     "How many tasks run at once. Empty: four for each core."},
    {"DIRECTOR_QUEUES", LIST(queues), "*", AT_START,
     "The queues whose tasks this daemon runs, with commas between; * is every queue."},
    {"DIRECTOR_SHUTDOWN_GRACE", DURATION(shutdown_grace_ms, 0, DAY), "30s", ON_RELOAD,
     "How long tasks may run on when the daemon stops. Then they are stopped too, and count as a "
     "failed attempt."},
    {"DIRECTOR_WORKFLOWS_PER_PAGE", INT(workflows_per_page, 1, 10000), "1000", ON_RELOAD,
     "Workflows in an answer of the API that names no per_page."},
    {"DIRECTOR_DEFAULT_RETENTION_OFFSET", INT(default_retention_offset, -1, INT_MAX), "-1",
     AT_START, "How many finished instances of a workflow are kept. -1: all."},
    {"DIRECTOR_FIRES_RETENTION", DURATION(fires_retention_ms, HOUR, 3650 * DAY), "30d", AT_START,
     "How long the history of schedules is kept."},
    {"DIRECTOR_LOG_LEVEL", CHOICE(log_level, log_level, log_levels), "info", ON_RELOAD,
     "The least that is logged."},
    {"DIRECTOR_LOG_FORMAT", CHOICE(log_format, log_format, log_formats), "auto", AT_START,
     "How a line of the log is written. auto: logfmt, or journald when systemd reads it."},

    {"DIRECTOR_LOG_LIMIT", BYTES(log_limit, KIB, GIB), "1MiB", AT_START,
     "What is kept of the output of one attempt: the first quarter and the last three."},
    {"DIRECTOR_MAX_RESULT", BYTES(max_result, 1, 64 * MIB), "1MiB", AT_START,
     "The largest result of a task. A larger one fails it."},
    /* The database makes it of the results in one statement, and has a claim's time for it. */
    {"DIRECTOR_MAX_INPUT", BYTES(max_input, KIB, 64 * MIB), "16MiB", AT_START,
     "The largest input of a task: the payload and the results before it. A larger one fails it."},
    {"DIRECTOR_MAX_FILE_SIZE", BYTES(file_limits.max_bytes, KIB, 64 * MIB), "1MiB", ON_RELOAD,
     "The largest definition file."},
    {"DIRECTOR_MAX_FILE_NODES", INT(file_limits.max_nodes, 100, 10000000), "50000", ON_RELOAD,
     "The most YAML nodes in a definition file, with aliases written out."},
    {"DIRECTOR_MAX_FILE_DEPTH", INT(file_limits.max_depth, 8, JSON_MAX_DEPTH), "32", ON_RELOAD,
     "The deepest nesting in a definition file."},

    {"DIRECTOR_MAX_CONNECTIONS", INT(max_connections, 1, 100000), "1024", AT_START,
     "Connections to the API. More wait to be accepted."},
    {"DIRECTOR_MAX_TARGET", BYTES(max_target, 256, MIB), "8KiB", AT_START,
     "The longest request target. A longer one is answered 414."},
    {"DIRECTOR_MAX_HEAD", BYTES(max_head, KIB, 16 * MIB), "16KiB", AT_START,
     "The largest head of a request. A larger one is answered 431."},
    {"DIRECTOR_MAX_HEADER_FIELDS", INT(max_header_fields, 10, 10000), "100", AT_START,
     "The most header fields in a request. More are answered 431."},
    {"DIRECTOR_MAX_BODY", BYTES(max_body, KIB, 256 * MIB), "1MiB", AT_START,
     "The largest body of a request. A larger one is answered 413."},
    {"DIRECTOR_MAX_BODIES", BYTES(max_bodies, KIB, 64 * GIB), "64MiB", AT_START,
     "The bodies of all requests together. Past it, requests are answered 503."},
    {"DIRECTOR_MAX_REPLIES", BYTES(max_replies, MIB, 64 * GIB), "64MiB", AT_START,
     "Replies that their clients have not taken yet, together. Past it, reads are answered "
     "503."},
    {"DIRECTOR_MAX_WAITING_LAUNCHES", INT(max_waiting_launches, 1, 1000000), "10000", ON_RELOAD,
     "Launches that wait for their commit. More are answered 503."},
    {"DIRECTOR_HEAD_TIMEOUT", DURATION(head_timeout_ms, 100, HOUR), "10s", AT_START,
     "How long the head of a request may take to come. Then the answer is 408."},
    {"DIRECTOR_BODY_TIMEOUT", DURATION(body_timeout_ms, 100, HOUR), "30s", AT_START,
     "How long the body of a request may take to come. Then the answer is 408."},
    {"DIRECTOR_IDLE_TIMEOUT", DURATION(idle_timeout_ms, 100, DAY), "75s", AT_START,
     "How long a connection may be idle between requests."},
    {"DIRECTOR_REPLY_TIMEOUT", DURATION(reply_timeout_ms, 100, HOUR), "30s", AT_START,
     "How long a client may read nothing of its reply before the connection is closed."},

    {"DIRECTOR_QUERY_TIMEOUT", DURATION(query_timeout_ms, 100, HOUR), "15s", AT_START,
     "How long the database may say nothing to a query. Then the connection is replaced; what "
     "writes is sent once more. A query is cancelled after 70 % of it, and what was too much at "
     "once is tried in smaller parts. Shorter than DIRECTOR_LEASE."},
    {"DIRECTOR_MAX_SPOOL", BYTES(max_spool, 0, 64 * GIB), "256MiB", AT_START,
     "The largest file of results that wait in the state directory while the database does not "
     "take them. More stay in memory only, and are lost with the daemon."},
    {"DIRECTOR_MAX_BATCH", INT(max_batch, 1, 10000), "1000", AT_START,
     "The most launches, finishes or claims in one transaction."},
    {"DIRECTOR_POLL_INTERVAL", DURATION(poll_interval_ms, 10, HOUR), "1s", AT_START,
     "How often the database is asked for work that nobody announced."},
    {"DIRECTOR_HEARTBEAT", DURATION(heartbeat_ms, 100, HOUR), "5s", AT_START,
     "How often the daemon tells the database that it lives."},
    {"DIRECTOR_LEASE", DURATION(lease_ms, 300, DAY), "30s", AT_START,
     "How long after its last heartbeat a daemon counts as dead and its tasks as lost; at least "
     "three heartbeats."},
};
enum { ROWS = sizeof table / sizeof table[0] };

/* Names that are somebody else's: worth a word in the log, not worth a refusal. */
static const struct foreign {
    const char *name, *meaning;
} foreign_names[] = {
    {"DIRECTOR_API_URL", "is for clients of the API"},
    {"DIRECTOR_HOME", "is replaced by DIRECTOR_WORKFLOWS_DIR"},
    {"DIRECTOR_CONFIG", "is replaced by the option --config"},
    {"DIRECTOR_BROKER_URI", "is not needed: tasks are queued in the database"},
    {"DIRECTOR_RESULT_BACKEND_URI", "is not needed: results are kept in the database"},
    {"DIRECTOR_DATABASE_POOL_RECYCLE", "is not needed: connections are watched all the time"},
    {"DIRECTOR_FLOWER_URL", "has no meaning without Celery"},
    {"DIRECTOR_SENTRY_DSN", "has no meaning here: failures are in the log"},
    {"DIRECTOR_ENABLE_DARK_THEME", "has no meaning without Director's web page"},
    {"DIRECTOR_ENABLE_HISTORY_MODE", "has no meaning without Director's web page"},
    {"DIRECTOR_ENABLE_CDN", "has no meaning without Director's web page"},
    {"DIRECTOR_STATIC_FOLDER", "has no meaning without Director's web page"},
    {"DIRECTOR_REFRESH_INTERVAL", "has no meaning without Director's web page"},
    {"DIRECTOR_REPO_LINK", "has no meaning without Director's web page"},
    {"DIRECTOR_DOCUMENTATION_LINK", "has no meaning without Director's web page"},
    {"DIRECTOR_WORKFLOW_ID", "is set for tasks, by the daemon"},
    {"DIRECTOR_PROJECT", "is set for tasks, by the daemon"},
    {"DIRECTOR_WORKFLOW", "is set for tasks, by the daemon"},
    {"DIRECTOR_TASK_ID", "is set for tasks, by the daemon"},
    {"DIRECTOR_TASK_KEY", "is set for tasks, by the daemon"},
    {"DIRECTOR_ATTEMPT", "is set for tasks, by the daemon"},
    {"DIRECTOR_SCHEDULED_AT", "is set for tasks, by the daemon"},
    {"DIRECTOR_RESULT", "is set for tasks, by the daemon"},
    {"DIRECTOR_NODE", "is set for tasks, by the daemon"},
};

/* --- one assignment -------------------------------------------------------------------------- */

static void list_add(struct text_list *list, struct arena *memory, const char *item)
{
    const char **items = arena_new(memory, list->count + 2, sizeof *items);
    memcpy(items, list->items, list->count * sizeof *items);
    items[list->count++] = item;
    list->items = items;
}

static const struct setting *find_row(const char *name)
{
    for (int i = 0; i < ROWS; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

static const struct foreign *find_foreign(const char *name)
{
    for (size_t i = 0; i < sizeof foreign_names / sizeof foreign_names[0]; i++)
        if (strcmp(foreign_names[i].name, name) == 0)
            return &foreign_names[i];
    return NULL;
}

static int refuse_unknown(const char *name, struct error *error)
{
    const char *names[ROWS];
    for (int i = 0; i < ROWS; i++)
        names[i] = table[i].name + strlen(PREFIX);
    const char *nearest = text_nearest(name + strlen(PREFIX), names, ROWS);
    if (nearest)
        return error_set(error, -EINVAL, "unknown setting %.100s (did you mean " PREFIX "%s?)",
                         name, nearest);
    return error_set(error, -EINVAL,
                     "unknown setting %.100s (directord --help lists them; what tasks shall see is "
                     "set with " TASK_ENV_PREFIX "NAME)",
                     name);
}

/* `name` is what tasks will see. A later value replaces an earlier one. */
static int set_task_env(struct settings *settings, const char *name, const char *value,
                        struct error *error)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_')
        return error_set(
            error, -EINVAL,
            TASK_ENV_PREFIX "%.100s: expected the name of a variable after " TASK_ENV_PREFIX, name);
    const char *item = arena_format(&settings->memory, "%s=%s", name, value);
    struct text_list *list = &settings->task_env;
    size_t n = strlen(name) + 1;
    for (size_t i = 0; i < list->count; i++)
        if (strncmp(list->items[i], item, n) == 0) {
            list->items[i] = item;
            return 0;
        }
    list_add(list, &settings->memory, item);
    return 0;
}

static int set_by_name(struct settings *settings, const char *name, const char *value,
                       struct error *error)
{
    const struct setting *row = find_row(name);
    if (row)
        return setting_set(row, value, settings, &settings->memory, error);
    if (strncmp(name, TASK_ENV_PREFIX, strlen(TASK_ENV_PREFIX)) == 0)
        return set_task_env(settings, name + strlen(TASK_ENV_PREFIX), value, error);

    const struct foreign *foreign = find_foreign(name);
    if (!foreign)
        return refuse_unknown(name, error);
    list_add(&settings->warnings, &settings->memory,
             arena_format(&settings->memory, "%s %s", foreign->name, foreign->meaning));
    return 0;
}

/* --- the sources, weakest first -------------------------------------------------------------- */

static int set_from_file(void *context, const char *name, const char *value, struct error *error)
{
    struct settings *settings = context;
    if (strncmp(name, PREFIX, strlen(PREFIX)) == 0)
        return set_by_name(settings, name, value, error);
    list_add(&settings->warnings, &settings->memory,
             arena_format(&settings->memory, "%.100s in the settings file is not ours, and ignored",
                          name));
    return 0;
}

static int set_from_environment(struct settings *settings, const char *const environment[],
                                struct error *error)
{
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        if (strncmp(*environment, PREFIX, strlen(PREFIX)) != 0 || !equals)
            continue;
        char *name = arena_text_n(&settings->memory, *environment, (size_t)(equals - *environment));
        if (set_by_name(settings, name, equals + 1, error) < 0)
            return error_wrap(error, "environment");
    }
    return 0;
}

/* --- defaults that depend on where we are ---------------------------------------------------- */

static const char *find_variable(const char *const environment[], const char *name)
{
    size_t n = strlen(name);
    for (; *environment; environment++)
        if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=')
            return *environment + n + 1;
    return "";
}

/* systemd may name several directories, with colons between; the first is ours. */
static int find_state_dir(struct settings *settings, const char *const environment[],
                          struct error *error)
{
    const char *given = find_variable(environment, "STATE_DIRECTORY");
    const char *home = find_variable(environment, "HOME");
    if (*given)
        settings->state_dir = arena_text_n(&settings->memory, given, strcspn(given, ":"));
    else if (geteuid() == 0)
        settings->state_dir = "/var/lib/directord";
    else if (*home)
        settings->state_dir = arena_format(&settings->memory, "%s/.local/state/directord", home);
    else
        return error_set(error, -EINVAL, "DIRECTOR_STATE_DIR: needed where HOME is not set");
    return 0;
}

/* A program that lies in a directory beside `workflows.d` was built there and not installed. */
static const char *find_workflows_dir(struct settings *settings)
{
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(program, '/');
        if (slash)
            *slash = '\0';
    }
    const char *beside = arena_format(&settings->memory, "%s/workflows.d", program);
    struct stat status;
    if (stat(beside, &status) == 0 && S_ISDIR(status.st_mode))
        return beside;
    return DIRECTORD_SYSCONFDIR "/directord/workflows.d";
}

/* Absolute and in one spelling, however it was written: after a restart the last good versions of
 * the files are found by it. Links stay, since one may be swapped while the daemon runs. */
static const char *normal_path(struct settings *settings, const char *path)
{
    char current[PATH_MAX] = "";
    struct buffer normal = {0};
    if (path[0] != '/' && getcwd(current, sizeof current) == NULL)
        return path;
    const char *rest = arena_format(&settings->memory, "%s/%s", current, path);
    while (*(rest += strspn(rest, "/"))) {
        size_t length = strcspn(rest, "/");
        if (length > 1 || *rest != '.')
            buffer_printf(&normal, "/%.*s", (int)length, rest);
        rest += length;
    }
    path = arena_text(&settings->memory, normal.size > 0 ? buffer_text(&normal) : "/");
    buffer_done(&normal);
    return path;
}

/* systemd says which file the journal reads (systemd.exec(5)); standard error may lead elsewhere
 * all the same. */
static enum log_format find_log_format(const char *const environment[])
{
    unsigned long device, inode;
    struct stat status;
    const char *journal = find_variable(environment, "JOURNAL_STREAM");
    if (sscanf(journal, "%lu:%lu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
        status.st_dev == device && status.st_ino == inode)
        return LOG_FORMAT_JOURNALD;
    return LOG_FORMAT_LOGFMT;
}

static int set_defaults(struct settings *settings, struct error *error)
{
    for (int i = 0; i < ROWS; i++) {
        int code = setting_set(&table[i], "", settings, &settings->memory, error);
        if (code < 0)
            return code;
    }
    return 0;
}

static int find_defaults(struct settings *settings, const char *const environment[],
                         struct error *error)
{
    if (settings->concurrency == 0)
        settings->concurrency = 4 * (int)uv_available_parallelism();
    if (settings->workflows_dir[0] == '\0')
        settings->workflows_dir = find_workflows_dir(settings);
    settings->workflows_dir = normal_path(settings, settings->workflows_dir);
    if ((int)settings->log_format == LOG_FORMAT_AUTO)
        settings->log_format = find_log_format(environment);
    if (settings->state_dir[0] == '\0')
        return find_state_dir(settings, environment, error);
    return 0;
}

static int check_addresses(const struct settings *settings, struct error *error)
{
    struct http_address address;
    for (size_t i = 0; i < settings->listen.count; i++) {
        if (http_address_parse(settings->listen.items[i], &address, error) < 0)
            return error_wrap(error, "DIRECTOR_LISTEN: %.100s", settings->listen.items[i]);
    }
    return 0;
}

/* How the times of the database depend on each other, from the shortest to the longest: a statement
 * is cancelled after 70 % of the query timeout; a connection that says nothing is replaced after
 * all of it; what writes is given up after twice as much. A daemon whose connection falls silent
 * must have noticed, and have said on another one that it lives, before its lease is over; it stops
 * claiming at 80 % of that. */
static int check_together(const struct settings *settings, struct error *error)
{
    if (settings->lease_ms < 3 * settings->heartbeat_ms)
        return error_set(error, -EINVAL,
                         "DIRECTOR_LEASE must be at least three times DIRECTOR_HEARTBEAT");
    if (settings->query_timeout_ms >= settings->lease_ms)
        return error_set(error, -EINVAL,
                         "DIRECTOR_QUERY_TIMEOUT must be shorter than DIRECTOR_LEASE");
    if (settings->max_bodies < settings->max_body)
        return error_set(error, -EINVAL, "DIRECTOR_MAX_BODIES must be at least DIRECTOR_MAX_BODY");
    if (settings->max_head < settings->max_target)
        return error_set(error, -EINVAL, "DIRECTOR_MAX_HEAD must be at least DIRECTOR_MAX_TARGET");
    if (settings->auth_enabled)
        return error_set(error, -EINVAL,
                         "DIRECTOR_AUTH_ENABLED: login is not supported yet; leave it false and "
                         "listen where only friends can connect");
    return 0;
}

/* --- the public functions -------------------------------------------------------------------- */

int settings_load(const char *file, const char *const environment[], struct settings *settings,
                  struct error *error)
{
    struct settings loaded = {0};
    loaded.task_env.items = arena_new(&loaded.memory, 1, sizeof(char *));
    loaded.warnings.items = arena_new(&loaded.memory, 1, sizeof(char *));
    int code = set_defaults(&loaded, error);
    if (code == 0 && file)
        code = envfile_read(file, set_from_file, &loaded, error);
    if (code == 0)
        code = set_from_environment(&loaded, environment, error);
    if (code == 0)
        code = find_defaults(&loaded, environment, error);
    if (code == 0)
        code = check_addresses(&loaded, error);
    if (code == 0)
        code = check_together(&loaded, error);
    if (code < 0) {
        settings_done(&loaded);
        return code;
    }
    *settings = loaded;
    return 0;
}

void settings_reload(struct settings *settings, struct settings *fresh)
{
    for (int i = 0; i < ROWS; i++) {
        if (setting_equal(&table[i], settings, fresh))
            continue;
        if (table[i].reloadable)
            setting_copy(&table[i], settings, fresh);
        else
            list_add(&fresh->warnings, &fresh->memory,
                     arena_format(&fresh->memory, "%s has changed and waits for a restart",
                                  table[i].name));
    }
}

void settings_done(struct settings *settings)
{
    arena_done(&settings->memory);
    *settings = (struct settings){0};
}

/* `text` in lines of at most `width` columns, each behind four blanks. */
static void print_wrapped(FILE *out, const char *text, size_t width)
{
    while (*text) {
        size_t n = strlen(text);
        if (n > width)
            for (n = width; n > 0 && text[n] != ' ';)
                n--;
        fprintf(out, "    %.*s\n", (int)n, text);
        text += n + (text[n] == ' ');
    }
}

static void print_setting(FILE *out, const struct setting *row)
{
    struct buffer text = {0}, bounds = {0};
    buffer_add_text(&text, row->help);
    setting_describe(row, &bounds);
    if (bounds.size > 0)
        buffer_printf(&text, " (%s)", buffer_text(&bounds));
    if (row->reloadable)
        buffer_add_text(&text, " Changes on reload.");
    fprintf(out, "%s=%s\n", row->name, row->initial);
    print_wrapped(out, buffer_text(&text), 76);
    buffer_done(&bounds);
    buffer_done(&text);
}

void settings_help(FILE *out)
{
    for (int i = 0; i < ROWS; i++)
        print_setting(out, &table[i]);
    fputs(TASK_ENV_PREFIX "NAME=\n    Any number of these: gives tasks the variable NAME.\n", out);
}
