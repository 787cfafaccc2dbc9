#include "scheduler/catalog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "base/memory.h"
#include "scheduler/registration.h"

/* From a change of a file until the kernel has surely reported it. */
#define SHOW_US 50000
/* Between loads for a database that does not know what is loaded. */
#define RENEW_US (10 * US_PER_SECOND)

/* Who waits for a load. */
struct waiter {
    struct waiter *next;
    bool insists;
    catalog_cb on_loaded;
    void *context;
};

/* The generation that is in force, and the one that is being loaded. */
struct generation {
    struct definition_set *set;
    struct catalog_entry *entries;      /* one for each definition of the set, in its order */
    struct catalog_schedule *schedules; /* of all of them, in the same order */
    struct definition_file *files;
    int file_count;
    char digest[17];
};

struct catalog {
    struct catalog_options options;
    struct generation now;
    struct generation next;
    int64_t loaded_us;
    int64_t renewable_us; /* monotonic: from when on catalog_renew may load */
    bool busy;
    bool stopped;
    struct waiter *waiting; /* for the load under way */
    struct waiter *later;   /* for the one after it */
    uv_work_t work;
    struct definition_limits limits;  /* of the load under way */
    bool insistent;                   /* likewise: somebody insists on what is being written */
    int64_t wait_us;                  /* likewise: before the second look at the files; 0: none */
    struct error error;               /* of listing the directory */
    struct error failure;             /* of the last load as a whole; code 0: it went well */
    struct definition_file *recalled; /* the last good files of an earlier life, until a load */
    int recalled_count;
    int registered; /* definitions of `next` whose ids are known, or asked for */
    int chunk;      /* of the call under way: its first definition */
};

static void begin(struct catalog *catalog);

/* --- generations ----------------------------------------------------------------------------- */

/* The file's name in the directory. */
static const char *bare_name(const struct definition_file *file)
{
    return strrchr(file->name, '/') + 1;
}

static void generation_done(struct generation *generation)
{
    definition_set_free(generation->set);
    free(generation->entries);
    free(generation->schedules);
    if (generation->files != NULL)
        definition_files_free(generation->files, generation->file_count);
    *generation = (struct generation){0};
}

/* Once something is loaded here, that is what stays. */
static void forget_recalled(struct catalog *catalog)
{
    if (catalog->recalled != NULL)
        definition_files_free(catalog->recalled, catalog->recalled_count);
    catalog->recalled = NULL;
    catalog->recalled_count = 0;
}

/* FNV-1a: tells whether two daemons have the same files; no more is asked of it. */
static void hash_bytes(uint64_t *hash, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *hash = (*hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
}

static void compute_digest(struct generation *generation)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < generation->file_count; i++) {
        const struct definition_file *file = &generation->files[i];
        const char *name = bare_name(file);
        hash_bytes(&hash, name, strlen(name) + 1);
        if (file->text != NULL)
            hash_bytes(&hash, file->text, file->size);
    }
    snprintf(generation->digest, sizeof generation->digest, "%016llx", (unsigned long long)hash);
}

/* --- the end of a load ----------------------------------------------------------------------- */

static void log_problems(const struct definition_set *set)
{
    char text[DEFINITION_PROBLEM_TEXT_SIZE];
    for (int i = 0; i < set->warning_count; i++) {
        definition_problem_format(&set->warnings[i], text);
        log_warning("definition accepted with a warning", log_text("warning", text));
    }
    for (int i = 0; i < set->error_count; i++) {
        definition_problem_format(&set->errors[i], text);
        log_error("definition refused", log_text("error", text));
    }
}

static void finish(struct catalog *catalog, const struct error *error)
{
    struct waiter *waiting = catalog->waiting;
    catalog->failure = error == NULL ? (struct error){0} : *error;
    catalog->waiting = NULL;
    catalog->busy = false;
    while (waiting != NULL) {
        struct waiter *next = waiting->next;
        waiting->on_loaded(waiting->context, error);
        free(waiting);
        waiting = next;
    }
    if (catalog->later != NULL && !catalog->busy) {
        catalog->waiting = catalog->later;
        catalog->later = NULL;
        begin(catalog);
    }
}

static void take_over(struct catalog *catalog)
{
    struct generation former = catalog->now;
    catalog->now = catalog->next;
    catalog->next = (struct generation){0};
    catalog->loaded_us = store_now_us(catalog->options.store);
    log_problems(catalog->now.set);
    log_info("definitions loaded", log_int("definitions", catalog->now.set->definition_count),
             log_int("files", catalog->now.file_count),
             log_int("errors", catalog->now.set->error_count),
             log_text("directory", catalog->options.directory));
    catalog->options.on_change(catalog->options.context);
    generation_done(&former);
    forget_recalled(catalog);
    finish(catalog, NULL);
}

/* The database refused: nothing of the new generation counts. */
static void give_up(struct catalog *catalog, const struct pg_failure *failure)
{
    struct error error;
    error_set(&error, -EIO, "the definitions could not be stored: %s", failure->text);
    if (!catalog->stopped)
        log_error("definitions not loaded", log_error_text(&error));
    generation_done(&catalog->next);
    finish(catalog, &error);
}

/* A database that is slow now takes them another time. */
static bool is_slow(const struct catalog *catalog, const struct pg_failure *failure)
{
    if (failure == NULL || failure->class != PG_SLOW)
        return false;
    log_warning("the database is slow to take the definitions; trying again",
                log_text("directory", catalog->options.directory));
    return true;
}

/* --- rows ------------------------------------------------------------------------------------ */

static void on_remembered(void *context, const struct pg_failure *failure)
{
    (void)failure; /* the good versions are kept for a restart another time */
    take_over(context);
}

static void remember_files(struct catalog *catalog)
{
    const struct generation *next = &catalog->next;
    struct store_file *files = mem_new((size_t)next->file_count + 1, sizeof *files);
    for (int i = 0; i < next->file_count; i++) {
        bool good = next->set->files[i].state == DEFINITION_FILE_LOADED;
        files[i] = (struct store_file){bare_name(&next->files[i]),
                                       good ? next->files[i].text : NULL, next->files[i].size};
    }
    store_remember_files(catalog->options.store, catalog->options.host, catalog->options.directory,
                         files, next->file_count, on_remembered, catalog);
    free(files);
}

static void on_schedule_row(void *context, int place, int64_t id, int64_t anchor_us,
                            int64_t cursor_us)
{
    struct catalog *catalog = context;
    struct catalog_schedule *schedule = &catalog->next.schedules[place];
    schedule->id = id;
    schedule->anchor_us = anchor_us;
    schedule->cursor_us = cursor_us;
}

static void register_schedules(struct catalog *catalog);

static void on_schedules(void *context, const struct pg_failure *failure)
{
    struct catalog *catalog = context;
    if (is_slow(catalog, failure))
        register_schedules(catalog);
    else if (failure != NULL)
        give_up(catalog, failure);
    else
        remember_files(catalog);
}

static void register_schedules(struct catalog *catalog)
{
    struct buffer json = {0};
    registration_schedules(&json, catalog->next.set);
    store_register_schedules(catalog->options.store, (struct json_span){json.data, json.size},
                             on_schedule_row, on_schedules, catalog);
    buffer_done(&json);
}

static void on_definition_row(void *context, int place, int64_t id)
{
    struct catalog *catalog = context;
    catalog->next.entries[catalog->chunk + place].id = id;
}

static void register_definitions(struct catalog *catalog);

static void on_definitions(void *context, const struct pg_failure *failure)
{
    struct catalog *catalog = context;
    CRASH_POINT("definitions-registered");
    if (is_slow(catalog, failure)) {
        catalog->registered = catalog->chunk;
        register_definitions(catalog);
    } else if (failure != NULL) {
        give_up(catalog, failure);
    } else {
        register_definitions(catalog);
    }
}

/* One call for as many definitions as fit; it comes back here for the next ones. */
static void register_definitions(struct catalog *catalog)
{
    const struct definition_set *set = catalog->next.set;
    if (catalog->registered == set->definition_count) {
        register_schedules(catalog);
        return;
    }
    struct buffer json = {0};
    catalog->chunk = catalog->registered;
    catalog->registered = registration_definitions(&json, set, catalog->registered);
    store_register_definitions(catalog->options.store, (struct json_span){json.data, json.size},
                               on_definition_row, on_definitions, catalog);
    buffer_done(&json);
}

static int count_schedules(const struct definition_set *set)
{
    int count = 0;
    for (int i = 0; i < set->definition_count; i++)
        count += set->definitions[i]->schedule_count;
    return count;
}

static void make_entries(struct catalog *catalog)
{
    struct generation *next = &catalog->next;
    const struct definition_set *set = next->set;
    next->entries = mem_new((size_t)set->definition_count + 1, sizeof *next->entries);
    next->schedules = mem_new((size_t)count_schedules(set) + 1, sizeof *next->schedules);
    struct catalog_schedule *schedule = next->schedules;
    for (int i = 0; i < set->definition_count; i++) {
        struct definition *definition = set->definitions[i];
        next->entries[i] = (struct catalog_entry){.definition = definition, .schedules = schedule};
        for (int k = 0; k < definition->schedule_count; k++)
            schedule++->schedule = &definition->schedules[k];
    }
    catalog->registered = 0;
    register_definitions(catalog);
}

/* --- files ----------------------------------------------------------------------------------- */

/* What was read of the file before, if anything: by this daemon, else by an earlier one. */
static const struct definition_file *find_former(const struct catalog *catalog, const char *name)
{
    const struct generation *now = &catalog->now;
    const struct definition_file *files = now->set == NULL ? catalog->recalled : now->files;
    int count = now->set == NULL ? catalog->recalled_count : now->file_count;
    for (int i = 0; i < count; i++) {
        if (strcmp(files[i].name, name) == 0 && files[i].text != NULL)
            return &files[i];
    }
    return NULL;
}

/* A file in the middle of being written keeps the text that it had when it was read last. */
static void keep_former(const struct catalog *catalog, struct definition_file *file)
{
    const struct definition_file *former = find_former(catalog, file->name);
    log_info("a definition file is being written; what was loaded of it stays until it is complete",
             log_text("file", file->name));
    free(file->text);
    file->text = former == NULL ? NULL : mem_text_n(former->text, former->size);
    file->size = former == NULL ? 0 : former->size;
    file->error = (struct error){0};
    file->unsettled = true;
}

/* Nothing but another look shows that the directory can be read again. */
static bool is_unseen(int code)
{
    return code == -ENOENT || code == -ENOTDIR || code == -EACCES || code == -EMFILE ||
           code == -ENFILE;
}

static void fail_load(struct catalog *catalog)
{
    const struct error *error = &catalog->error;
    bool is_told = strcmp(error->text, catalog->failure.text) == 0;
    if (error->code != -ECANCELED && !is_told)
        log_error("definitions not loaded; what was loaded before stays", log_error_text(error));
    if (is_unseen(error->code))
        catalog->options.await_directory(catalog->options.context);
    generation_done(&catalog->next);
    finish(catalog, &catalog->error);
}

/* The two steps in the thread pool touch only `next`, `error` and what does not change during a
 * load. */
static void compile_files(uv_work_t *work)
{
    struct catalog *catalog = work->data;
    struct generation *next = &catalog->next;
    struct definition_set *previous = catalog->now.set;
    struct definition_set *recalled = NULL;
    if (previous == NULL && catalog->recalled_count > 0)
        previous = recalled = definitions_load_files(catalog->recalled, catalog->recalled_count,
                                                     &catalog->limits, NULL);
    next->set = definitions_load_files(next->files, next->file_count, &catalog->limits, previous);
    definition_set_free(recalled);
    compute_digest(next);
}

static void on_compiled(uv_work_t *work, int status)
{
    struct catalog *catalog = work->data;
    (void)status;
    if (catalog->stopped) {
        error_set(&catalog->error, -ECANCELED, "the daemon is stopping");
        fail_load(catalog);
        return;
    }
    make_entries(catalog);
}

/* Until the file has not changed for so long. */
static int64_t time_left_us(const struct definition_file *file, int64_t quiet_us)
{
    int64_t age_us = clock_wall_us() - file->changed_us;
    return age_us >= 0 && age_us < quiet_us ? quiet_us - age_us : 0;
}

/* A file that is being cut down shows so a moment before the kernel reports it: one that was
 * changed just now gets this moment. */
static void let_changes_show(const struct generation *next)
{
    int64_t wait_us = 0;
    for (int i = 0; i < next->file_count; i++) {
        int64_t left_us = time_left_us(&next->files[i], SHOW_US);
        wait_us = left_us > wait_us ? left_us : wait_us;
    }
    usleep((useconds_t)wait_us);
}

static void read_directory(struct catalog *catalog)
{
    struct generation *next = &catalog->next;
    catalog->error = (struct error){0};
    definition_files_read(catalog->options.directory, &catalog->limits, &next->files,
                          &next->file_count, &catalog->error);
}

static void read_files(uv_work_t *work)
{
    struct catalog *catalog = work->data;
    usleep((useconds_t)catalog->wait_us);
    read_directory(catalog);
    let_changes_show(&catalog->next);
}

/* Says the watcher or the reading itself. */
static bool is_being_written(const struct catalog *catalog, const struct definition_file *file)
{
    const struct catalog_options *options = &catalog->options;
    return file->unsettled ||
           options->is_unsettled(options->context, bare_name(file), file->size == 0);
}

/* Does its age alone tell whether the file is complete? Who wrote before the first load was not
 * watched; and what somebody insists on is not waited for until it is closed. */
static bool is_doubtful(const struct catalog *catalog, const struct definition_file *file)
{
    bool is_first = catalog->now.set == NULL;
    return is_being_written(catalog, file) ? catalog->insistent : is_first && file->doubtful;
}

static int64_t doubt_left_us(const struct catalog *catalog, const struct definition_file *file)
{
    int ms = is_being_written(catalog, file) ? DEFINITION_INSIST_MS : DEFINITION_SETTLE_MS;
    return is_doubtful(catalog, file) ? time_left_us(file, ms * INT64_C(1000)) : 0;
}

/* May what was read of the file be a part of it? */
static bool is_part(const struct catalog *catalog, const struct definition_file *file)
{
    return is_doubtful(catalog, file) ? doubt_left_us(catalog, file) > 0
                                      : is_being_written(catalog, file);
}

static void settle_files(struct catalog *catalog)
{
    const struct catalog_options *options = &catalog->options;
    for (int i = 0; i < catalog->next.file_count; i++) {
        struct definition_file *file = &catalog->next.files[i];
        if (!is_part(catalog, file)) {
            if (is_being_written(catalog, file))
                options->settle_file(options->context, bare_name(file));
            file->unsettled = false;
            continue;
        }
        if (file->unsettled || !is_being_written(catalog, file)) /* the watcher does not know */
            options->await_file(options->context, bare_name(file));
        keep_former(catalog, file);
    }
}

static void on_read(uv_work_t *work, int status);

static void look(struct catalog *catalog, int64_t wait_us)
{
    catalog->wait_us = wait_us;
    catalog->options.begin_read(catalog->options.context);
    uv_queue_work(catalog->options.loop, &catalog->work, read_files, on_read);
}

/* What may be a part is looked at once more when it should be complete; but what is being written
 * is left to the next one who insists. False: there is none, or that was the second look. */
static bool look_again(struct catalog *catalog)
{
    struct generation *next = &catalog->next;
    int64_t longest_us = 0;
    for (int i = 0; i < next->file_count; i++) {
        const struct definition_file *file = &next->files[i];
        int64_t left_us = is_being_written(catalog, file) ? 0 : doubt_left_us(catalog, file);
        longest_us = left_us > longest_us ? left_us : longest_us;
    }
    if (longest_us == 0 || catalog->wait_us > 0)
        return false;
    definition_files_free(next->files, next->file_count);
    *next = (struct generation){0};
    look(catalog, longest_us);
    return true;
}

static void on_read(uv_work_t *work, int status)
{
    struct catalog *catalog = work->data;
    (void)status;
    catalog->options.end_read(catalog->options.context);
    if (look_again(catalog))
        return;
    settle_files(catalog);
    if (catalog->error.code != 0)
        fail_load(catalog);
    else
        uv_queue_work(catalog->options.loop, &catalog->work, compile_files, on_compiled);
}

static void load_files(struct catalog *catalog)
{
    catalog->work.data = catalog;
    catalog->limits = catalog->options.limits;
    look(catalog, 0);
}

static void on_recalled_file(void *context, const struct store_file *file)
{
    struct catalog *catalog = context;
    catalog->recalled = mem_resize(catalog->recalled, (size_t)catalog->recalled_count + 1,
                                   sizeof *catalog->recalled);
    catalog->recalled[catalog->recalled_count++] = (struct definition_file){
        .name = definition_file_name(catalog->options.directory, file->name),
        .text = mem_text_n(file->text, file->size),
        .size = file->size,
    };
}

static void on_recalled(void *context, const struct pg_failure *failure)
{
    struct catalog *catalog = context;
    if (failure != NULL && !catalog->stopped)
        log_error("the last good definition files could not be read back",
                  log_text("error", failure->text));
    load_files(catalog);
}

static void begin(struct catalog *catalog)
{
    catalog->busy = true;
    catalog->insistent = false;
    for (const struct waiter *waiter = catalog->waiting; waiter != NULL; waiter = waiter->next)
        catalog->insistent = catalog->insistent || waiter->insists;
    if (catalog->stopped) {
        error_set(&catalog->error, -ECANCELED, "the daemon is stopping");
        finish(catalog, &catalog->error);
        return;
    }
    if (catalog->now.set == NULL && catalog->recalled == NULL)
        store_recall_files(catalog->options.store, catalog->options.host,
                           catalog->options.directory, on_recalled_file, on_recalled, catalog);
    else
        load_files(catalog);
}

/* --- face ------------------------------------------------------------------------------------ */

struct catalog *catalog_new(const struct catalog_options *options)
{
    struct catalog *catalog = mem_new(1, sizeof *catalog);
    catalog->options = *options;
    return catalog;
}

void catalog_set_limits(struct catalog *catalog, const struct definition_limits *limits)
{
    catalog->options.limits = *limits;
}

static void load(struct catalog *catalog, bool insists, catalog_cb on_loaded, void *context)
{
    struct waiter *waiter = mem_new(1, sizeof *waiter);
    *waiter = (struct waiter){NULL, insists, on_loaded, context};
    struct waiter **list = catalog->busy ? &catalog->later : &catalog->waiting;
    waiter->next = *list;
    *list = waiter;
    if (!catalog->busy)
        begin(catalog);
}

void catalog_load(struct catalog *catalog, catalog_cb on_loaded, void *context)
{
    load(catalog, false, on_loaded, context);
}

void catalog_reload(struct catalog *catalog, catalog_cb on_loaded, void *context)
{
    load(catalog, true, on_loaded, context);
}

static void on_renewed(void *context, const struct error *error)
{
    (void)context; /* the catalog has logged what is to be said */
    (void)error;
}

void catalog_renew(struct catalog *catalog)
{
    int64_t now_us = clock_mono_us();
    if (catalog->busy || catalog->stopped || now_us < catalog->renewable_us)
        return;
    catalog->renewable_us = now_us + RENEW_US;
    log_warning("the database does not know the definitions that are loaded; registering them anew",
                log_text("directory", catalog->options.directory));
    catalog_load(catalog, on_renewed, NULL);
}

const struct catalog_entry *catalog_entries(const struct catalog *catalog, int *count)
{
    *count = catalog->now.set == NULL ? 0 : catalog->now.set->definition_count;
    return catalog->now.entries;
}

static int compare_name(const void *fullname, const void *entry)
{
    return strcmp(fullname, ((const struct catalog_entry *)entry)->definition->fullname);
}

const struct catalog_entry *catalog_find(const struct catalog *catalog, const char *fullname)
{
    int count;
    const struct catalog_entry *entries = catalog_entries(catalog, &count);
    return count == 0 ? NULL
                      : bsearch(fullname, entries, (size_t)count, sizeof *entries, compare_name);
}

const struct definition_set *catalog_set(const struct catalog *catalog)
{
    return catalog->now.set;
}

const struct definition_file *catalog_files(const struct catalog *catalog, int *count)
{
    *count = catalog->now.file_count;
    return catalog->now.files;
}

bool catalog_failure(const struct catalog *catalog, struct definition_problem *problem)
{
    *problem = (struct definition_problem){
        .file = catalog->options.directory,
        .text = catalog->failure.text,
    };
    return catalog->failure.code != 0;
}

int64_t catalog_loaded_us(const struct catalog *catalog)
{
    return catalog->loaded_us;
}

const char *catalog_digest(const struct catalog *catalog)
{
    return catalog->now.digest;
}

void catalog_stop(struct catalog *catalog)
{
    catalog->stopped = true;
}

void catalog_free(struct catalog *catalog)
{
    if (catalog == NULL)
        return;
    generation_done(&catalog->now);
    forget_recalled(catalog);
    free(catalog);
}
