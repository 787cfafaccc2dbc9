#include "scheduler/zone.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "scheduler/tzif.h"

#define DEFAULT_DIRECTORY "/usr/share/zoneinfo"
#define MAX_NAME_SIZE 255
#define MAX_FILE_SIZE (1 << 20) /* the largest of the tz database has 4 KiB */
/* A cache looks so often for a near name: the search compares with each of hundreds. */
#define MAX_HINTS 20

struct zone {
    int references; /* changed atomically: zones cross threads */
    struct tzif tzif;
    UT_hash_handle hh;
    char name[];
};

struct name_list {
    char **names;
    size_t count;
};

struct zone_cache {
    struct zone *zones;     /* by name, one reference each */
    struct name_list known; /* all that there are, listed for the first hint */
    int hints;
};

/* --- references and the cache ---------------------------------------------------------------- */

struct zone_cache *zone_cache_new(void)
{
    return mem_new(1, sizeof(struct zone_cache));
}

void zone_cache_free(struct zone_cache *cache)
{
    if (!cache)
        return;
    struct zone *zone;
    struct zone *next;
    HASH_ITER(hh, cache->zones, zone, next)
    {
        HASH_DEL(cache->zones, zone);
        zone_unref(zone);
    }
    for (size_t i = 0; i < cache->known.count; i++)
        free(cache->known.names[i]);
    free(cache->known.names);
    free(cache);
}

struct zone *zone_ref(struct zone *zone)
{
    __atomic_add_fetch(&zone->references, 1, __ATOMIC_RELAXED);
    return zone;
}

void zone_unref(struct zone *zone)
{
    if (!zone || __atomic_sub_fetch(&zone->references, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    tzif_done(&zone->tzif);
    free(zone);
}

const char *zone_name(const struct zone *zone)
{
    return zone->name;
}

/* --- opening --------------------------------------------------------------------------------- */

static const char *directory(void)
{
    const char *directory = getenv("TZDIR");
    return directory && *directory ? directory : DEFAULT_DIRECTORY;
}

/* Relative, and without a component that begins with a dot. */
static bool name_is_safe(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= MAX_NAME_SIZE && name[0] != '/' && name[0] != '.' &&
           !strstr(name, "/.") && !strstr(name, "//") && name[length - 1] != '/';
}

static bool is_directory(int at, const char *name)
{
    struct stat status;
    return fstatat(at, name, &status, 0) == 0 && S_ISDIR(status.st_mode);
}

/* Adds the names of all files below `path`, with `prefix` in front. `posix` and `right` repeat the
 * whole database. */
static void list_names(struct name_list *list, const char *path, const char *prefix, int depth)
{
    DIR *stream = depth > 0 ? opendir(path) : NULL;
    struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        const char *name = entry->d_name;
        if (name[0] == '.' || strcmp(name, "posix") == 0 || strcmp(name, "right") == 0)
            continue;
        char *full = mem_format("%s%s", prefix, name);
        if (is_directory(dirfd(stream), name)) {
            char *below = mem_format("%s/%s", path, name);
            char *below_prefix = mem_format("%s/", full);
            list_names(list, below, below_prefix, depth - 1);
            free(below_prefix);
            free(below);
            free(full);
        } else {
            list->names = mem_resize(list->names, list->count + 1, sizeof *list->names);
            list->names[list->count++] = full;
        }
    }
    if (stream)
        closedir(stream);
}

/* NULL when no name is near, or the bound is reached. */
static const char *find_near(struct zone_cache *cache, const char *name)
{
    if (cache->hints == MAX_HINTS)
        return NULL;
    if (cache->hints++ == 0)
        list_names(&cache->known, directory(), "", 3);
    return text_nearest(name, (const char *const *)cache->known.names, cache->known.count);
}

static int unknown_zone(struct zone_cache *cache, const char *name, struct error *error)
{
    const char *nearest = find_near(cache, name);
    if (cache->known.count == 0)
        return error_set(error, -EINVAL,
                         "unknown time zone '%s': there is no tz database in %s (install tzdata)",
                         name, directory());
    if (nearest)
        return error_set(error, -EINVAL, "unknown time zone '%s' (did you mean '%s'?)", name,
                         nearest);
    return error_set(error, -EINVAL,
                     "unknown time zone '%s': write an IANA name like 'Europe/Paris'", name);
}

/* Reads what is left of the file into the buffer. */
static int read_all(int fd, struct buffer *bytes)
{
    for (;;) {
        ssize_t n = read(fd, buffer_reserve(bytes, 8192), 8192);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return 0;
        if (n > 0)
            bytes->size += (size_t)n;
        if (bytes->size > MAX_FILE_SIZE)
            return -EFBIG;
    }
}

static int read_file(const char *path, struct buffer *bytes)
{
    /* O_NONBLOCK: a fifo must not hold us up; to a regular file it means nothing. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int rc = read_all(fd, bytes);
    close(fd);
    return rc;
}

static int load(struct zone_cache *cache, const char *name, struct tzif *tzif, struct error *error)
{
    char *path = mem_format("%s/%s", directory(), name);
    struct buffer bytes = {0};
    int rc = read_file(path, &bytes);
    if (rc == -ENOENT || rc == -ENOTDIR || rc == -EISDIR)
        rc = unknown_zone(cache, name, error);
    else if (rc < 0)
        error_set(error, rc, "time zone '%s': cannot read %s: %s", name, path, strerror(-rc));
    else if ((rc = tzif_parse(bytes.data, bytes.size, tzif, error)) < 0)
        error_wrap(error, "time zone '%s': %s", name, path);
    buffer_done(&bytes);
    free(path);
    return rc;
}

static int zone_new(struct zone_cache *cache, const char *name, struct zone **zone,
                    struct error *error)
{
    struct tzif tzif = {0}; /* as it is, UTC */
    int rc = strcmp(name, "UTC") == 0 ? 0 : load(cache, name, &tzif, error);
    if (rc < 0)
        return rc;
    size_t size = strlen(name) + 1;
    *zone = mem_new(1, sizeof **zone + size);
    (*zone)->references = 1;
    (*zone)->tzif = tzif;
    memcpy((*zone)->name, name, size);
    return 0;
}

int zone_open(struct zone_cache *cache, const char *name, struct zone **zone, struct error *error)
{
    if (!name_is_safe(name))
        return error_set(error, -EINVAL,
                         "'%s' is no time zone: write an IANA name like 'Europe/Paris'", name);
    struct zone *found;
    HASH_FIND_STR(cache->zones, name, found);
    if (!found) {
        int rc = zone_new(cache, name, &found, error);
        if (rc < 0)
            return rc;
        HASH_ADD_STR(cache->zones, name, found);
    }
    *zone = zone_ref(found);
    return 0;
}

/* --- questions ------------------------------------------------------------------------------- */

struct zone_span zone_span_at(const struct zone *zone, int64_t at_s)
{
    return tzif_span_at(&zone->tzif, at_s);
}

int64_t zone_reached_at(const struct zone *zone, int64_t local_s)
{
    /* Before this instant no offset can have brought the clock so far. */
    struct zone_span span = zone_span_at(zone, local_s - TZIF_MAX_OFFSET_S);
    while (span.until_s + span.offset_s <= local_s)
        span = zone_span_at(zone, span.until_s);
    int64_t at_s = local_s - span.offset_s;
    return at_s > span.from_s ? at_s : span.from_s;
}

int64_t zone_latest_local(const struct zone *zone, int64_t at_s)
{
    struct zone_span span = zone_span_at(zone, at_s);
    int64_t latest_s = at_s + span.offset_s;
    /* Only the ends of spans can be later, and only those that two extreme offsets can bring so
     * far. */
    while (span.from_s > at_s - 2 * TZIF_MAX_OFFSET_S) {
        span = zone_span_at(zone, span.from_s - 1);
        int64_t end_s = span.until_s - 1 + span.offset_s;
        if (end_s > latest_s)
            latest_s = end_s;
    }
    return latest_s;
}
