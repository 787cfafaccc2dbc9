#include "store/spool_record.h"

#include "tests/unit/store/spool_fixture.h"

static struct buffer record_of(int number)
{
    struct sample sample;
    struct buffer bytes = {0};
    sample_init(&sample, number);
    spool_record_add(&bytes, &sample.finish);
    ck_assert_uint_eq(bytes.size, spool_record_size(&sample.finish));
    ck_assert_uint_eq(spool_record_seal(bytes.data), bytes.size);
    return bytes;
}

START_TEST(what_is_written_is_read)
{
    struct sample sample;
    struct store_finish found;
    size_t size;
    struct buffer bytes = record_of(_i);
    sample_init(&sample, _i);
    buffer_add_text(&bytes, "more");
    ck_assert_int_eq(spool_record_read(bytes.data, bytes.size, &found, &size), SPOOL_WHOLE);
    ck_assert_uint_eq(size, bytes.size - 4);
    sample_check(&found, &sample.finish);
    buffer_done(&bytes);
}
END_TEST

/* The format is on people's disks: it stays as it is. */
START_TEST(format)
{
    static const unsigned char head[SPOOL_HEADER_BYTES] = {
        0x01, 0x50, 0x73, 0x64, 0x59, 0x00, 0x00, 0x00,
        0x9a, 0xf5, 0x35, 0x4f, 0xc6, 0xce, 0xbd, 0xa4,
    };
    struct buffer bytes = record_of(2);
    ck_assert_mem_eq(bytes.data, head, sizeof head);
    buffer_done(&bytes);
}
END_TEST

START_TEST(short_at_every_byte)
{
    struct store_finish found;
    size_t needed;
    struct buffer bytes = record_of(2);
    for (size_t size = 0; size < bytes.size; size++) {
        ck_assert_int_eq(spool_record_read(bytes.data, size, &found, &needed), SPOOL_CUT);
        ck_assert_uint_eq(needed, size < SPOOL_HEADER_BYTES ? SPOOL_HEADER_BYTES : bytes.size);
    }
    buffer_done(&bytes);
}
END_TEST

START_TEST(every_bit_counts)
{
    struct store_finish found;
    size_t size;
    struct buffer bytes = record_of(2);
    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        ck_assert_msg(spool_record_read(bytes.data, bytes.size, &found, &size) == SPOOL_CORRUPT,
                      "bit %zu", bit);
        bytes.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    buffer_done(&bytes);
}
END_TEST

/* Behind right checksums a body is looked at all the same. */
START_TEST(bodies_that_nobody_wrote)
{
    static const struct {
        const char *what;
        size_t at;
        unsigned char byte;
    } rows[] = {
        {"position below 0", 32 + 3, 0x80},
        {"position too large", 32 + 2, 0x01},
        {"attempt 0", 36, 0},
        {"unknown flag", 64, 0x1c},
        {"reason without its flag", 64, 8},
        {"result without its flag", 64, 4},
        {"reason longer than what is there", 68, 0xff},
        {"reason ends early", 72 + 3, 0},
        {"reason does not end", 72 + 9, 'x'},
        {"empty reason with its flag", 68, 0},
    };
    struct store_finish found;
    size_t size;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buffer bytes = record_of(2);
        bytes.data[SPOOL_HEADER_BYTES + rows[i].at] = (char)rows[i].byte;
        spool_record_seal(bytes.data);
        ck_assert_msg(spool_record_read(bytes.data, bytes.size, &found, &size) == SPOOL_CORRUPT,
                      "%s", rows[i].what);
        buffer_done(&bytes);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spool_record");
    TCase *tests = tcase_create("spool_record");
    tcase_add_loop_test(tests, what_is_written_is_read, 0, 6);
    tcase_add_test(tests, format);
    tcase_add_test(tests, short_at_every_byte);
    tcase_add_test(tests, every_bit_counts);
    tcase_add_test(tests, bodies_that_nobody_wrote);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
