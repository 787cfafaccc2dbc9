#include "store/spool_file.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "store/spool_record.h"
#include "tests/unit/store/spool_fixture.h"

static char directory[32];
static char path[64];
static struct spool_file file;
static struct error error;

static void setup(void)
{
    sample_directory(directory);
    snprintf(path, sizeof path, "%s/spool", directory);
    spool_file_init(&file, path);
}

static void teardown(void)
{
    spool_file_done(&file);
    sample_remove(directory);
}

static int64_t size_on_disk(void)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : -1;
}

/* Appends samples `from` to `to` - 1 behind the first `size` bytes. */
static int write_samples(int64_t size, int from, int to)
{
    struct buffer records = {0};
    struct sample sample;
    for (int i = from; i < to; i++) {
        sample_init(&sample, i);
        spool_record_add(&records, &sample.finish);
    }
    int code = spool_file_write(&file, size, &records, &error);
    buffer_done(&records);
    return code;
}

/* Reads all there is, which are the samples from 0 on; returns how many. `*code` is what the last
 * read returned, `*cut` what it left out. */
static int read_samples(int *code, size_t *cut)
{
    struct spool_chunk chunk;
    struct sample sample;
    int64_t offset = 0;
    int count = 0;
    while ((*code = spool_file_read(&file, &offset, &chunk, &error)) == 0 && chunk.count > 0) {
        for (int i = 0; i < chunk.count; i++) {
            sample_init(&sample, count++);
            sample_check(&chunk.finishes[i], &sample.finish);
        }
        spool_chunk_free(&chunk);
    }
    *cut = chunk.cut;
    spool_chunk_free(&chunk);
    return count;
}

static void check_samples(int count)
{
    int code;
    size_t cut;
    ck_assert_int_eq(read_samples(&code, &cut), count);
    ck_assert_int_eq(code, 0);
    ck_assert_uint_eq(cut, 0);
}

START_TEST(what_is_written_is_read)
{
    check_samples(0); /* without a file */
    ck_assert_int_eq(write_samples(0, 0, 3), 0);
    ck_assert_int_eq(write_samples(size_on_disk(), 3, 10), 0);
    check_samples(10);
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
}
END_TEST

START_TEST(the_end_is_cut_before_it_is_written)
{
    ck_assert_int_eq(write_samples(0, 0, 3), 0);
    int64_t good = size_on_disk();
    ck_assert_int_eq(write_samples(good, 7, 9), 0); /* as if this had failed */
    ck_assert_int_eq(write_samples(good, 3, 4), 0);
    check_samples(4);
    ck_assert_int_eq(write_samples(0, 0, 0), 0);
    ck_assert_int_eq(size_on_disk(), 0);
    check_samples(0);
}
END_TEST

START_TEST(a_power_cut_at_every_byte)
{
    ck_assert_int_eq(write_samples(0, 0, 2), 0);
    int64_t good = size_on_disk();
    ck_assert_int_eq(write_samples(good, 2, 3), 0);
    for (int64_t size = size_on_disk() - 1; size > good; size--) {
        int code;
        size_t cut;
        ck_assert_int_eq(truncate(path, size), 0);
        ck_assert_int_eq(read_samples(&code, &cut), 2);
        ck_assert_int_eq(code, 0);
        ck_assert_uint_eq(cut, (size_t)(size - good));
    }
}
END_TEST

START_TEST(damage_ends_the_reading)
{
    int code;
    char byte;
    size_t cut;
    ck_assert_int_eq(write_samples(0, 0, 2), 0);
    int64_t good = size_on_disk();
    ck_assert_int_eq(write_samples(good, 2, 5), 0);
    ck_assert_int_eq(pread(file.fd, &byte, 1, good + _i), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(file.fd, &byte, 1, good + _i), 1);
    ck_assert_int_eq(read_samples(&code, &cut), 2);
    ck_assert_int_eq(code, -EBADMSG);
    char *place = mem_format("byte %lld ", (long long)good);
    ck_assert_ptr_nonnull(strstr(error.text, place));
    free(place);
}
END_TEST

START_TEST(a_file_kept_aside)
{
    char *kept = NULL;
    ck_assert_int_eq(write_samples(0, 0, 2), 0);
    int64_t size = size_on_disk();
    ck_assert_int_eq(spool_file_keep_aside(&file, &kept, &error), 0);
    struct stat status;
    ck_assert_int_eq(stat(kept, &status), 0);
    ck_assert_int_eq(status.st_size, size);
    check_samples(0);
    ck_assert_int_eq(write_samples(0, 0, 1), 0);
    check_samples(1);
    free(kept);
}
END_TEST

START_TEST(files_of_one_second_are_kept_apart)
{
    char *kept[3];
    struct stat status;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(write_samples(0, 0, i + 1), 0);
        int64_t size = size_on_disk();
        ck_assert_int_eq(spool_file_keep_aside(&file, &kept[i], &error), 0);
        ck_assert_int_eq(stat(kept[i], &status), 0);
        ck_assert_int_eq(status.st_size, size);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(unlink(kept[i]), 0);
        free(kept[i]);
    }
}
END_TEST

/* There is a descriptor left for the file, and none for its directory. */
START_TEST(a_name_that_is_not_on_the_disk_is_not_believed)
{
    struct rlimit limit, tight;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int lowest = dup(0);
    close(lowest);
    tight = (struct rlimit){.rlim_cur = (rlim_t)lowest + 1, .rlim_max = limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
    ck_assert_int_eq(write_samples(0, 0, 1), -EMFILE);
    ck_assert_int_eq(write_samples(0, 0, 1), -EMFILE);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(write_samples(0, 0, 1), 0);
    check_samples(1);
}
END_TEST

/* finish() is called for one node. */
START_TEST(a_chunk_is_of_one_node)
{
    static const unsigned char nodes[] = {1, 1, 2, 1};
    static const int counts[] = {2, 1, 1, 0};
    struct buffer records = {0};
    struct spool_chunk chunk;
    struct sample sample;
    int64_t offset = 0;
    for (int i = 0; i < 4; i++) {
        sample_init(&sample, i);
        sample.finish.node.bytes[0] = nodes[i];
        spool_record_add(&records, &sample.finish);
    }
    ck_assert_int_eq(spool_file_write(&file, 0, &records, &error), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(spool_file_read(&file, &offset, &chunk, &error), 0);
        ck_assert_int_eq(chunk.count, counts[i]);
        spool_chunk_free(&chunk);
    }
    ck_assert_int_eq(offset, (int64_t)records.size);
    buffer_done(&records);
}
END_TEST

/* More than is read at once: many records, and one that is larger alone. */
START_TEST(a_large_file)
{
    static const size_t sizes[] = {1 << 20, 1 << 20, 9 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    struct buffer records = {0};
    struct spool_chunk chunk;
    int64_t offset = 0;
    int count = 0, chunks = 0;
    for (int i = 0; i < COUNT; i++) {
        char *text = mem_new(sizes[i], 1);
        struct sample sample;
        sample_init(&sample, i);
        sample.finish.result = (struct json_span){text, sizes[i]};
        spool_record_add(&records, &sample.finish);
        free(text);
    }
    ck_assert_int_eq(spool_file_write(&file, 0, &records, &error), 0);
    for (;; chunks++) {
        ck_assert_int_eq(spool_file_read(&file, &offset, &chunk, &error), 0);
        for (int i = 0; i < chunk.count; i++, count++) {
            ck_assert_int_eq(chunk.finishes[i].position, count);
            ck_assert_uint_eq(chunk.finishes[i].result.size, sizes[count]);
        }
        if (chunk.count == 0)
            break;
        spool_chunk_free(&chunk);
    }
    spool_chunk_free(&chunk);
    ck_assert_int_eq(count, COUNT);
    ck_assert_int_gt(chunks, 2);
    buffer_done(&records);
}
END_TEST

START_TEST(a_full_disk)
{
    int code;
    size_t cut;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(write_samples(0, 0, 2), 0);
    int64_t good = size_on_disk();
    /* No assertion in between: check has a file, too. */
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)good + 50, RLIM_INFINITY});
    code = write_samples(good, 2, 3);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    ck_assert_int_eq(code, -EFBIG);
    ck_assert_ptr_nonnull(strstr(error.text, path));
    ck_assert_int_eq(read_samples(&code, &cut), 2);
    ck_assert_int_eq(code, 0);
    ck_assert_int_eq(write_samples(good, 2, 3), 0);
    check_samples(3);
}
END_TEST

START_TEST(a_directory_that_is_not_there)
{
    sample_remove(directory);
    ck_assert_int_eq(write_samples(0, 0, 2), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error.text, path));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spool_file");
    TCase *tests = tcase_create("spool_file");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_written_is_read);
    tcase_add_test(tests, the_end_is_cut_before_it_is_written);
    tcase_add_test(tests, a_power_cut_at_every_byte);
    tcase_add_loop_test(tests, damage_ends_the_reading, 0, 80);
    tcase_add_test(tests, a_file_kept_aside);
    tcase_add_test(tests, files_of_one_second_are_kept_apart);
    tcase_add_test(tests, a_name_that_is_not_on_the_disk_is_not_believed);
    tcase_add_test(tests, a_chunk_is_of_one_node);
    tcase_add_test(tests, a_large_file);
    tcase_add_test(tests, a_full_disk);
    tcase_add_test(tests, a_directory_that_is_not_there);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
