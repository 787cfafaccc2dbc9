/* The directory half of scheduler/definition_load.h: files into memory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"
#include "scheduler/definition_load.h"

static bool is_definition_file(const char *name)
{
    const char *dot = strrchr(name, '.');
    return *name != '.' && dot && (strcmp(dot, ".yml") == 0 || strcmp(dot, ".yaml") == 0);
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct definition_file *)a)->name,
                  ((const struct definition_file *)b)->name);
}

/* The names, sorted; each file's is still without its directory. */
static int list_files(const char *dir, struct definition_file **files, int *count,
                      struct error *error)
{
    DIR *stream = opendir(dir);
    if (!stream)
        return error_set(error, -errno, "cannot read the directory '%s': %s", dir, strerror(errno));
    struct definition_file *list = NULL;
    int used = 0, capacity = 0;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(stream)); errno = 0) {
        if (!is_definition_file(entry->d_name))
            continue;
        if (used == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            list = mem_resize(list, (size_t)capacity, sizeof *list);
        }
        list[used++] = (struct definition_file){.name = mem_text(entry->d_name)};
    }
    int failure = errno;
    closedir(stream);
    if (failure) {
        definition_files_free(list, used);
        return error_set(error, -failure, "cannot read the directory '%s': %s", dir,
                         strerror(failure));
    }
    if (used)
        qsort(list, (size_t)used, sizeof *list, compare_files);
    *files = list;
    *count = used;
    return 0;
}

/* O_NONBLOCK, so that a FIFO cannot hold the loader up. */
static int open_regular(const char *path, struct stat *status, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, status) < 0) {
        int failure = errno;
        if (fd >= 0)
            close(fd);
        return error_set(error, -failure, "cannot be read: %s", strerror(failure));
    }
    if (S_ISREG(status->st_mode))
        return fd;
    close(fd);
    return error_set(error, -EINVAL, "is no regular file");
}

/* Reads up to one byte more than the limit, to see that there is more. */
static int read_content(int fd, size_t max_bytes, struct buffer *content, struct error *error)
{
    while (content->size <= max_bytes) {
        char *room = buffer_reserve(content, max_bytes + 1 - content->size);
        ssize_t n = read(fd, room, max_bytes + 1 - content->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(error, -errno, "cannot be read: %s", strerror(errno));
        if (n == 0)
            return 0;
        content->size += (size_t)n;
    }
    return error_set(error, -EFBIG, "is larger than %zu bytes", max_bytes);
}

/* 1 while somebody has the file open for writing, who may have begun before anybody watched it, or
 * by another name: then there is no lease to read it (fcntl(2)). A negative errno where that cannot
 * be asked, such as by others than the file's owner. The lease is given back at once; the signal
 * for a writer who comes in between is one that nobody minds. */
static int has_writer(int fd)
{
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return -errno;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN ? 1 : -errno;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return 0;
}

static bool has_changed(const struct stat *before, const struct stat *after)
{
    return before->st_size != after->st_size || before->st_mtim.tv_sec != after->st_mtim.tv_sec ||
           before->st_mtim.tv_nsec != after->st_mtim.tv_nsec;
}

/* After it was read: whether that may have been a part. */
static void judge_file(struct definition_file *file, int fd, const struct stat *before)
{
    struct stat after;
    int writer = has_writer(fd);
    if (fstat(fd, &after) < 0)
        after = *before;
    file->unsettled = writer > 0 || has_changed(before, &after);
    file->doubtful = writer < 0;
    file->changed_us = after.st_mtim.tv_sec * US_PER_SECOND + after.st_mtim.tv_nsec / 1000;
}

static void read_file(struct definition_file *file, const char *path, size_t max_bytes)
{
    struct buffer content = {0};
    struct stat status = {0};
    int fd = open_regular(path, &status, &file->error);
    if (fd < 0)
        return;
    if (read_content(fd, max_bytes, &content, &file->error) == 0) {
        file->size = content.size;
        file->text = buffer_take(&content);
    }
    judge_file(file, fd, &status);
    close(fd);
    buffer_done(&content);
}

/* The last part of the path as it was given; `.` and the like have to be looked up. New memory. */
static char *directory_name(const char *dir)
{
    size_t end = strlen(dir);
    while (end > 0 && dir[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && dir[start - 1] != '/')
        start--;
    char *name = mem_text_n(dir + start, end - start);
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        return name;
    char *resolved = realpath(dir, NULL);
    if (resolved) {
        free(name);
        name = mem_text(strrchr(resolved, '/') + 1);
        free(resolved);
    }
    return name;
}

char *definition_file_name(const char *dir, const char *name)
{
    char *directory = directory_name(dir);
    char *full = mem_format("%s/%s", directory, name);
    free(directory);
    return full;
}

/* A name stands in replies and in the database. False if it cannot; then it can afterwards. */
static bool mend_name(char *name)
{
    size_t size = strlen(name), length;
    bool sound = true;
    for (size_t at = 0; at < size; at += length) {
        length = text_utf8_sequence(name + at, size - at);
        if (length > 0)
            continue;
        name[at] = '?';
        length = 1;
        sound = false;
    }
    return sound;
}

int definition_files_read(const char *dir, const struct definition_limits *limits,
                          struct definition_file **files, int *count, struct error *error)
{
    int status = list_files(dir, files, count, error);
    if (status < 0)
        return status;
    for (int i = 0; i < *count; i++) {
        struct definition_file *file = &(*files)[i];
        char *path = mem_format("%s/%s", dir, file->name);
        if (mend_name(file->name))
            read_file(file, path, limits->max_bytes);
        else
            error_set(&file->error, -EILSEQ, "its name is not UTF-8");
        char *name = definition_file_name(dir, file->name);
        free(file->name);
        free(path);
        file->name = name;
    }
    return 0;
}

void definition_files_free(struct definition_file *files, int count)
{
    for (int i = 0; i < count; i++) {
        free(files[i].name);
        free(files[i].text);
    }
    free(files);
}
