#include "store/spool_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "store/spool_record.h"

/* What is read at once; a larger record is read alone. */
#define WINDOW_BYTES (4u << 20)
/* The most records of a chunk. */
#define CHUNK_RECORDS 1000

void spool_file_init(struct spool_file *file, const char *path)
{
    *file = (struct spool_file){.path = mem_text(path), .fd = -1};
}

void spool_file_done(struct spool_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
}

static int fail(const struct spool_file *file, const char *what, struct error *error)
{
    int code = -errno;
    return error_set(error, code, "cannot %s %s: %s", what, file->path, strerror(-code));
}

/* A new name is on the disk once its directory is. */
static int sync_directory(const struct spool_file *file, struct error *error)
{
    char *path = mem_text(file->path);
    int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd < 0 || fsync(fd) < 0 ? fail(file, "make", error) : 0;
    if (fd >= 0)
        close(fd);
    free(path);
    return code;
}

/* --- writing --------------------------------------------------------------------------------- */

static int open_to_write(struct spool_file *file, struct error *error)
{
    if (file->fd < 0)
        file->fd = open(file->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file->fd < 0)
        return fail(file, "open", error);
    int code = file->named ? 0 : sync_directory(file, error);
    file->named = code == 0;
    return code;
}

static int write_all(const struct spool_file *file, int64_t offset, const struct buffer *bytes,
                     struct error *error)
{
    for (size_t done = 0; done < bytes->size;) {
        ssize_t n =
            pwrite(file->fd, bytes->data + done, bytes->size - done, offset + (int64_t)done);
        if (n < 0 && errno != EINTR)
            return fail(file, "write", error);
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int spool_file_write(struct spool_file *file, int64_t size, struct buffer *records,
                     struct error *error)
{
    for (size_t at = 0; at < records->size;)
        at += spool_record_seal(records->data + at);
    int code = open_to_write(file, error);
    if (code == 0 && ftruncate(file->fd, size) < 0)
        code = fail(file, "cut", error);
    if (code == 0)
        code = write_all(file, size, records, error);
    if (code == 0 && records->size > 0 && fdatasync(file->fd) < 0)
        code = fail(file, "sync", error);
    return code;
}

/* --- reading --------------------------------------------------------------------------------- */

static int open_to_read(struct spool_file *file, struct error *error)
{
    if (file->fd < 0)
        file->fd = open(file->path, O_RDWR | O_CLOEXEC);
    return file->fd < 0 ? fail(file, "open", error) : 0;
}

/* Fills `bytes` with `size` bytes, or with what there is. */
static int read_window(const struct spool_file *file, int64_t offset, size_t size,
                       struct buffer *bytes, struct error *error)
{
    buffer_clear(bytes);
    buffer_reserve(bytes, size);
    while (bytes->size < size) {
        ssize_t n = pread(file->fd, bytes->data + bytes->size, size - bytes->size,
                          offset + (int64_t)bytes->size);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return fail(file, "read", error);
        bytes->size += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Takes the whole records at the beginning of the window that are of one node. `*taken` are their
 * bytes; the answer is about what follows. */
static enum spool_reading take_records(struct spool_chunk *chunk, size_t *taken, size_t *needed)
{
    struct store_finish finish;
    enum spool_reading reading = SPOOL_CUT;
    *taken = 0;
    while (chunk->count < CHUNK_RECORDS) {
        reading = spool_record_read(chunk->bytes.data + *taken, chunk->bytes.size - *taken, &finish,
                                    needed);
        if (reading != SPOOL_WHOLE ||
            (chunk->count > 0 && id_compare(&finish.node, &chunk->finishes[0].node) != 0))
            break;
        if (chunk->finishes == NULL)
            chunk->finishes = mem_new(CHUNK_RECORDS, sizeof finish);
        chunk->finishes[chunk->count++] = finish;
        *taken += *needed;
    }
    return reading;
}

static int read_chunk(struct spool_file *file, int64_t *offset, struct spool_chunk *chunk,
                      struct error *error)
{
    size_t size = WINDOW_BYTES, taken, needed = 0;
    enum spool_reading reading;
    do {
        int code = read_window(file, *offset, size, &chunk->bytes, error);
        if (code < 0)
            return code;
        reading = take_records(chunk, &taken, &needed);
        if (chunk->bytes.size < size)
            break; /* the end of the file */
        size = needed;
    } while (chunk->count == 0 && reading == SPOOL_CUT);
    if (chunk->count == 0 && reading == SPOOL_CORRUPT)
        return error_set(error, -EBADMSG, "%s: what lies at byte %lld is no record", file->path,
                         (long long)*offset);
    if (chunk->count == 0)
        chunk->cut = chunk->bytes.size;
    *offset += (int64_t)taken;
    return 0;
}

int spool_file_read(struct spool_file *file, int64_t *offset, struct spool_chunk *chunk,
                    struct error *error)
{
    *chunk = (struct spool_chunk){0};
    int code = open_to_read(file, error);
    if (code == -ENOENT)
        return 0;
    if (code == 0)
        code = read_chunk(file, offset, chunk, error);
    if (code < 0)
        spool_chunk_free(chunk);
    return code;
}

void spool_chunk_free(struct spool_chunk *chunk)
{
    free(chunk->finishes);
    buffer_done(&chunk->bytes);
    *chunk = (struct spool_chunk){0};
}

/* --- setting aside --------------------------------------------------------------------------- */

/* Several may be kept in one second. */
static char *free_name(const struct spool_file *file)
{
    long long now_s = clock_wall_us() / US_PER_SECOND;
    char *name = mem_format("%s.bad-%lld", file->path, now_s);
    for (int i = 1; access(name, F_OK) == 0; i++) {
        free(name);
        name = mem_format("%s.bad-%lld.%d", file->path, now_s, i);
    }
    return name;
}

int spool_file_keep_aside(struct spool_file *file, char **kept, struct error *error)
{
    char *name = free_name(file);
    if (rename(file->path, name) < 0) {
        int code = fail(file, "rename", error);
        free(name);
        return code;
    }
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    file->named = false;
    *kept = name;
    return sync_directory(file, error);
}
