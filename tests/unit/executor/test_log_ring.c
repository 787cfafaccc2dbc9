#include "executor/log_ring.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

static void check_text(const struct log_ring *ring, const char *wanted, const char *row)
{
    struct buffer text = {0};
    log_ring_text(ring, &text);
    ck_assert_msg(strcmp(buffer_text(&text), wanted) == 0, "%s: got [%s], wanted [%s]", row,
                  buffer_text(&text), wanted);
    buffer_done(&text);
}

START_TEST(keeps_head_and_tail)
{
    static const struct {
        size_t head, tail;
        const char *pieces[8];
        const char *wanted;
    } rows[] = {
        {4, 12, {NULL}, ""},
        {4, 12, {"abc"}, "abc"},
        {4, 12, {"abcdefghijklmnop"}, "abcdefghijklmnop"},
        {4, 12, {"abcd", "efghijklmnop", "q"}, "abcd\n[… 1 bytes left out …]\nfghijklmnopq"},
        {4, 4, {"abcdefghijklmnopqrstuvwxyz"}, "abcd\n[… 18 bytes left out …]\nwxyz"},
        {4, 4, {"ab", "cdef", "ghi", "jk", "lmnopqrst"}, "abcd\n[… 12 bytes left out …]\nqrst"},
        {0, 4, {"abc", "def"}, "\n[… 2 bytes left out …]\ncdef"},
        {4, 0, {"abc", "def"}, "abcd\n[… 2 bytes left out …]\n"},
        {0, 0, {"abc"}, "\n[… 3 bytes left out …]\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct log_ring ring;
        char row[16];
        snprintf(row, sizeof row, "row %zu", i);
        log_ring_init(&ring, rows[i].head, rows[i].tail);
        for (const char *const *piece = rows[i].pieces; *piece; piece++)
            log_ring_add(&ring, OUTPUT_STDOUT, 0, *piece, strlen(*piece));
        check_text(&ring, rows[i].wanted, row);
        log_ring_done(&ring);
    }
}
END_TEST

static void describe(void *context, const struct log_chunk *chunk)
{
    buffer_printf(context, "%d@%d+%d:%.*s ", (int)chunk->stream, (int)chunk->at_us,
                  (int)chunk->offset, (int)chunk->size, chunk->text);
}

static void check_chunks(const struct log_ring *ring, const char *wanted)
{
    struct buffer text = {0};
    log_ring_each(ring, 0, describe, &text);
    ck_assert_str_eq(buffer_text(&text), wanted);
    buffer_done(&text);
}

START_TEST(parts_streams_and_times)
{
    struct log_ring ring;
    log_ring_init(&ring, 8, 8);
    log_ring_add(&ring, OUTPUT_STDOUT, 0, "ab", 2);
    log_ring_add(&ring, OUTPUT_STDOUT, LOG_MERGE_US - 1, "c", 1);
    log_ring_add(&ring, OUTPUT_STDERR, LOG_MERGE_US - 1, "d", 1);
    log_ring_add(&ring, OUTPUT_STDERR, 2 * LOG_MERGE_US, "e", 1);
    check_chunks(&ring, "1@0+0:abc 2@99999+3:d 2@200000+4:e ");
    log_ring_done(&ring);
}
END_TEST

START_TEST(chunk_round_the_end_comes_in_two)
{
    struct log_ring ring;
    log_ring_init(&ring, 2, 4);
    log_ring_add(&ring, OUTPUT_STDOUT, 7, "abcdefghi", 9);
    check_chunks(&ring, "1@7+0:ab 1@7+5:f 1@7+6:ghi ");
    ck_assert_int_eq(log_ring_omitted(&ring), 3);
    log_ring_done(&ring);
}
END_TEST

/* Single bytes of alternating streams: the memory for chunks stays bounded, what is kept is true,
 * and ends with the last byte. */
static void check_byte(void *context, const struct log_chunk *chunk)
{
    int64_t *kept = context;
    ck_assert_uint_eq(chunk->size, 1);
    ck_assert_int_eq((unsigned char)*chunk->text, chunk->offset % 251);
    ck_assert_int_eq(chunk->stream, chunk->offset % 2 ? OUTPUT_STDERR : OUTPUT_STDOUT);
    *kept += 1;
}

START_TEST(fine_alternation_is_bounded)
{
    struct log_ring ring;
    int64_t kept = 0;
    log_ring_init(&ring, 1024, 3072);
    for (int i = 0; i < 100000; i++) {
        char byte = (char)(i % 251);
        log_ring_add(&ring, i % 2 ? OUTPUT_STDERR : OUTPUT_STDOUT, i, &byte, 1);
    }
    log_ring_each(&ring, 0, check_byte, &kept);
    ck_assert_int_eq(kept + log_ring_omitted(&ring), 100000);
    ck_assert_int_ge(kept, 4096 / LOG_BYTES_PER_CHUNK);
    ck_assert_uint_le(ring.capacity, 4096);
    ck_assert_uint_le(ring.head.capacity + ring.tail.capacity, 4096 / LOG_BYTES_PER_CHUNK * 2);
    log_ring_done(&ring);
}
END_TEST

/* Against the plain definition: the first `head` and the last `tail` bytes, for every way of
 * cutting. */
START_TEST(kept_bytes_are_exact)
{
    char all[200];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)('a' + i % 26);
    for (size_t step = 1; step <= sizeof all; step++) {
        struct log_ring ring;
        struct buffer wanted = {0};
        log_ring_init(&ring, 10, 33);
        for (size_t at = 0; at < sizeof all; at += step)
            log_ring_add(&ring, OUTPUT_STDOUT, 0, all + at,
                         at + step < sizeof all ? step : sizeof all - at);
        buffer_printf(&wanted, "%.10s\n[… 157 bytes left out …]\n%.33s", all,
                      all + sizeof all - 33);
        check_text(&ring, buffer_text(&wanted), "step");
        buffer_done(&wanted);
        log_ring_done(&ring);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_ring");
    TCase *tcase = tcase_create("log_ring");
    tcase_add_test(tcase, keeps_head_and_tail);
    tcase_add_test(tcase, parts_streams_and_times);
    tcase_add_test(tcase, chunk_round_the_end_comes_in_two);
    tcase_add_test(tcase, fine_alternation_is_bounded);
    tcase_add_test(tcase, kept_bytes_are_exact);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
