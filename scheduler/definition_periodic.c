/* A workflow's `periodic`: one schedule or a list of them. */
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "scheduler/definition_compile.h"
#include "scheduler/yaml_json.h"
#include "scheduler/yaml_read.h"

static const char *const periodic_keys[] = {
    "catchup", "catchup_window", "crontab",  "day_match", "end_at",   "interval", "jitter",
    "name",    "payload",        "schedule", "start_at",  "timezone", NULL};

/* A schedule of the workflow, by its identity. */
struct known {
    const struct definition_schedule *schedule;
    UT_hash_handle hh;
};

/* One entry while it is read. */
struct entry {
    struct draft *draft;
    struct report *report;
    const struct yaml_node *keys;
    struct definition_schedule *schedule;
};

static const struct yaml_node *member(const struct entry *entry, const char *key)
{
    return yaml_member(entry->keys, key);
}

/* --- the trigger ------------------------------------------------------------------------------ */

/* The zone's name, checked at its own place; NULL for the default and after an error. */
static const char *read_zone(const struct entry *entry)
{
    const struct yaml_node *node = member(entry, "timezone");
    const char *name = node ? read_some_text(entry->report, node, "'timezone'") : NULL;
    if (!name)
        return NULL;
    struct zone *zone;
    struct error error = {0};
    if (zone_open(entry->draft->compile->zones, name, &zone, &error) < 0) {
        report_error(entry->report, node, "%s", error.text);
        return NULL;
    }
    zone_unref(zone);
    return name;
}

static const char *read_day_match(const struct entry *entry)
{
    static const char *const words[] = {"any", "all", NULL};
    const struct yaml_node *node = member(entry, "day_match");
    int choice = node ? read_choice(entry->report, node, "'day_match'", words) : -1;
    return choice < 0 ? NULL : words[choice];
}

static void warn_interval(const struct entry *entry)
{
    static const char *const crontab_keys[] = {"timezone", "day_match"};
    for (size_t i = 0; i < 2; i++) {
        const struct yaml_node *key = yaml_member_key(entry->keys, crontab_keys[i]);
        if (key && entry->schedule->trigger.kind == TRIGGER_INTERVAL)
            report_warning(entry->report, key,
                           "'%s' means nothing to an interval, which follows elapsed time",
                           key->text);
    }
}

static int parse_trigger(const struct entry *entry, const struct yaml_node *key, const char *text,
                         struct error *error)
{
    struct trigger *trigger = &entry->schedule->trigger;
    struct zone_cache *zones = entry->draft->compile->zones;
    const char *zone = read_zone(entry);
    const char *day_match = read_day_match(entry);
    if (strcmp(key->text, "interval") == 0)
        return trigger_parse_interval(text, trigger, error);
    if (strcmp(key->text, "crontab") == 0)
        return trigger_parse_crontab(text, zones, zone, day_match, trigger, error);
    char *modern = NULL;
    int status = trigger_parse_schedule(text, zones, zone, day_match, trigger, &modern, error);
    if (status == 0)
        report_warning(entry->report, key, "'schedule' is the old spelling: write '%s' instead",
                       modern);
    free(modern);
    return status;
}

/* The key that holds the trigger, or NULL after an error. */
static const struct yaml_node *find_trigger(const struct entry *entry)
{
    static const char *const kinds[] = {"interval", "crontab", "schedule"};
    const struct yaml_node *found = NULL;
    for (size_t i = 0; i < 3; i++) {
        const struct yaml_node *key = yaml_member_key(entry->keys, kinds[i]);
        if (key && found) {
            report_error(entry->report, key, "both '%s' and '%s': expected one of them",
                         found->text, key->text);
            return NULL;
        }
        found = key ? key : found;
    }
    if (!found)
        report_error(entry->report, entry->keys,
                     "no trigger in 'periodic': expected 'interval' or 'crontab'");
    return found;
}

static bool read_trigger(const struct entry *entry)
{
    const struct yaml_node *key = find_trigger(entry);
    if (!key)
        return false;
    const struct yaml_node *node = member(entry, key->text);
    const char *text =
        read_some_text(entry->report, node, arena_format(entry->report->arena, "'%s'", key->text));
    struct error error = {0};
    if (!text)
        return false;
    if (parse_trigger(entry, key, text, &error) < 0) {
        report_error(entry->report, node, "%s", error.text);
        return false;
    }
    warn_interval(entry);
    if (trigger_wants_day_match(&entry->schedule->trigger))
        report_warning(
            entry->report, node,
            "both day fields are restricted, and a day that matches either is enough: "
            "write 'day_match: any' if that is meant, 'day_match: all' if both must match");
    return true;
}

/* Each bound is tried by itself first, so that an error stands at its place. */
static void read_bounds(const struct entry *entry)
{
    const struct yaml_node *start = member(entry, "start_at");
    const struct yaml_node *end = member(entry, "end_at");
    const char *start_at = start ? read_some_text(entry->report, start, "'start_at'") : NULL;
    const char *end_at = end ? read_some_text(entry->report, end, "'end_at'") : NULL;
    struct trigger *trigger = &entry->schedule->trigger;
    struct error error = {0};
    if (start_at && trigger_bound(trigger, start_at, NULL, &error) < 0) {
        report_error(entry->report, start, "%s", error.text);
        start_at = NULL;
    }
    if (end_at && trigger_bound(trigger, start_at, end_at, &error) < 0)
        report_error(entry->report, end, "%s", error.text);
}

/* --- the other keys --------------------------------------------------------------------------- */

static void read_identity(const struct entry *entry)
{
    struct definition_schedule *schedule = entry->schedule;
    const struct yaml_node *node = member(entry, "name");
    const char *name = node ? read_name(entry->report, node, "a schedule's name") : NULL;
    if (name) {
        schedule->identity = arena_text(entry->draft->arena, name);
        return;
    }
    char *normal = trigger_format(&schedule->trigger);
    schedule->identity = arena_text(entry->draft->arena, normal);
    free(normal);
}

static void read_payload(const struct entry *entry)
{
    const struct yaml_node *node = member(entry, "payload");
    entry->schedule->payload = "{}";
    if (node && node->kind != YAML_MAPPING)
        report_error(entry->report, node, "'payload' is %s: expected a mapping",
                     yaml_kind_text(node->kind));
    else if (node)
        entry->schedule->payload =
            yaml_json_text(entry->draft->arena, node, YAML_JSON_AS_WRITTEN, entry->report);
}

static void read_catchup(const struct entry *entry)
{
    static const char *const words[] = {"latest", "all", "none", NULL};
    static const enum catchup values[] = {CATCHUP_LATEST, CATCHUP_ALL, CATCHUP_NONE};
    const struct yaml_node *node = member(entry, "catchup");
    int choice = node ? read_choice(entry->report, node, "'catchup'", words) : 0;
    entry->schedule->catchup = choice < 0 ? CATCHUP_LATEST : values[choice];
    node = member(entry, "catchup_window");
    if (node &&
        read_duration(entry->report, node, "'catchup_window'",
                      &entry->schedule->catchup_window_us) &&
        entry->schedule->catchup_window_us == 0)
        report_error(entry->report, node,
                     "'catchup_window' is 0: expected more, or 'catchup: none'");
}

static void read_schedule(const struct entry *entry)
{
    const struct yaml_node *jitter = member(entry, "jitter");
    entry->schedule->line = entry->keys->line;
    if (jitter)
        read_duration(entry->report, jitter, "'jitter'", &entry->schedule->jitter_us);
    read_payload(entry);
    read_catchup(entry);
    if (!read_trigger(entry)) /* then there is nothing to bound or to name */
        return;
    read_bounds(entry);
    read_identity(entry);
}

static void check_identity(const struct entry *entry, struct known **all, struct arena *scratch)
{
    const struct definition_schedule *schedule = entry->schedule;
    struct known *known;
    if (!schedule->identity)
        return;
    HASH_FIND_STR(*all, schedule->identity, known);
    if (known) {
        report_error(entry->report, entry->keys,
                     "the schedule '%s' stands in line %d already: expected a 'name' that tells "
                     "them apart",
                     schedule->identity, known->schedule->line);
        return;
    }
    known = arena_new(scratch, 1, sizeof *known);
    known->schedule = schedule;
    HASH_ADD_KEYPTR(hh, *all, schedule->identity, strlen(schedule->identity), known);
}

static void read_schedules(struct draft *draft, struct yaml_node *const *entries, int count)
{
    struct report *report = draft->compile->report;
    struct definition_schedule *schedules = draft->definition->schedules;
    struct known *all = NULL;
    struct arena scratch = {0};
    for (int i = 0; i < count; i++) {
        struct entry entry = {draft, report, entries[i],
                              &schedules[draft->definition->schedule_count]};
        if (!read_mapping(report, entries[i], "'periodic'", KEY_OF_TRIGGER, periodic_keys))
            continue;
        draft->definition->schedule_count++;
        read_schedule(&entry);
        check_identity(&entry, &all, &scratch);
    }
    HASH_CLEAR(hh, all);
    arena_done(&scratch);
}

void draft_schedules(struct draft *draft)
{
    struct report *report = draft->compile->report;
    struct yaml_node *node = yaml_member(draft->workflow, "periodic");
    if (!node)
        return;
    bool is_list = node->kind == YAML_LIST;
    if (is_list && !read_list(report, node, "'periodic'"))
        return;
    int count = is_list ? node->count : 1;
    draft->definition->schedules =
        arena_new(draft->arena, (size_t)count, sizeof *draft->definition->schedules);
    read_schedules(draft, is_list ? node->items : &node, count);
}
