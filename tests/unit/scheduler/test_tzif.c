/* Time zone files, written here byte by byte. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "scheduler/tzif.h"
#include "tests/unit/unit.h"

/* A file with the offsets 0, 3600 and 7200 as its types, and changes 1000 s apart from 1000 s on
 * that take the types 1, 2, 0, 1, … in turn. */
struct file {
    char version;
    uint32_t changes;
    uint32_t types;
    uint32_t leap_seconds;
    const char *footer;
};

static void add_number(struct buffer *out, int64_t number, size_t size)
{
    uint64_t big = htobe64((uint64_t)number);
    buffer_add(out, (char *)&big + 8 - size, size);
}

static void add_block(struct buffer *out, const struct file *file, uint32_t changes, size_t size)
{
    static const char zeros[16];
    buffer_add_text(out, "TZif");
    buffer_add_char(out, file->version);
    buffer_add(out, zeros, 15);
    const uint32_t counts[] = {1, 1, file->leap_seconds, changes, file->types, 4};
    for (int i = 0; i < 6; i++)
        add_number(out, counts[i], 4);
    for (uint32_t i = 0; i < changes; i++)
        add_number(out, 1000 * (i + 1), size);
    for (uint32_t i = 0; i < changes; i++)
        buffer_add_char(out, (char)((i + 1) % 3));
    for (uint32_t i = 0; i < file->types; i++) {
        add_number(out, 3600 * i, 4);
        buffer_add(out, zeros, 2);
    }
    buffer_add(out, "AAA", 4);
    buffer_add(out, zeros, file->leap_seconds * (size + 4) + 2);
}

static struct buffer build(const struct file *file)
{
    struct buffer out = {0};
    add_block(&out, file, file->version ? 0 : file->changes, 4);
    if (file->version)
        add_block(&out, file, file->changes, 8);
    if (file->footer)
        buffer_add_text(&out, file->footer);
    return out;
}

#define SPAN(at, from, until, offset)                    \
    do {                                                 \
        struct zone_span span = tzif_span_at(&tzif, at); \
        ck_assert_int_eq(span.from_s, from);             \
        ck_assert_int_eq(span.until_s, until);           \
        ck_assert_int_eq(span.offset_s, offset);         \
    } while (0)

static struct tzif parsed(struct file file)
{
    struct buffer bytes = build(&file);
    struct tzif tzif;
    struct error error;
    ck_assert_msg(tzif_parse(bytes.data, bytes.size, &tzif, &error) == 0, "%s", error.text);
    buffer_done(&bytes);
    return tzif;
}

START_TEST(table_without_rule)
{
    static const struct file files[] = {{0, 3, 3, 0, NULL}, {'2', 3, 3, 0, "\n\n"}};
    struct tzif tzif = parsed(files[_i]);
    SPAN(999, ZONE_FIRST_S, 1000, 0);
    SPAN(1000, 1000, 2000, 3600);
    SPAN(2999, 2000, 3000, 7200);
    SPAN(3000, 3000, ZONE_LAST_S, 0);
    tzif_done(&tzif);
}
END_TEST

START_TEST(rule_after_the_table)
{
    struct tzif tzif = parsed((struct file){'4', 2, 3, 0, "\nBBB-3\n"});
    SPAN(1999, 1000, 2000, 3600);
    SPAN(2000, 2000, ZONE_LAST_S, 10800);
    tzif_done(&tzif);
}
END_TEST

START_TEST(rule_alone)
{
    struct tzif tzif = parsed((struct file){'3', 0, 1, 0, "\nBBB-3\n"});
    SPAN(0, ZONE_FIRST_S, ZONE_LAST_S, 10800);
    tzif_done(&tzif);
}
END_TEST

#define TEN "0123456789"

static const struct {
    struct file file;
    const char *message;
} refusals[] = {
    {{'2', 1, 0, 0, "\n\n"}, "no type of local time"},
    {{'2', 1, 3, 1, "\n\n"}, "leap seconds"},
    {{'2', 1, 3, 0, "CET-1\n\n"}, "ends too early"},
    {{'2', 1, 3, 0, "\nnonsense!\n"}, "no POSIX TZ string"},
    {{'2', 1, 3, 0, "\n<" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN ">0\n"}, "up to 127"},
};

static void expect_refusal(const struct buffer *bytes, const char *message)
{
    struct tzif tzif;
    struct error error;
    ck_assert_msg(tzif_parse(bytes->data, bytes->size, &tzif, &error) == -EINVAL, "no refusal: %s",
                  message);
    ck_assert_msg(strstr(error.text, message) != NULL, "%s", error.text);
}

START_TEST(refusal)
{
    struct buffer bytes = build(&refusals[_i].file);
    expect_refusal(&bytes, refusals[_i].message);
    buffer_done(&bytes);
}
END_TEST

/* One wrong byte in a file of version 1 with three changes and three types. */
static const struct {
    size_t at;
    unsigned char byte;
    const char *message;
} slips[] = {
    {0, 't', "not a time zone file"},
    {44 + 4 + 2, 0, "out of order"},
    {44 + 3 * 4, 3, "a type of local time that is not there"},
    {44 + 3 * 4 + 3, 0x7f, "an offset from UTC"},
};

START_TEST(one_wrong_byte)
{
    struct buffer bytes = build(&(struct file){0, 3, 3, 0, NULL});
    bytes.data[slips[_i].at] = (char)slips[_i].byte;
    expect_refusal(&bytes, slips[_i].message);
    buffer_done(&bytes);
}
END_TEST

/* A file cut short anywhere is refused, and nothing behind its end is read. */
START_TEST(every_cut)
{
    static const struct file files[] = {{0, 3, 3, 0, NULL}, {'2', 3, 3, 0, "\nCET-1\n"}};
    struct buffer bytes = build(&files[_i]);
    for (size_t size = 0; size < bytes.size; size++) {
        char *cut = mem_new(size, 1);
        memcpy(cut, bytes.data, size);
        struct tzif tzif;
        ck_assert_msg(tzif_parse(cut, size, &tzif, NULL) == -EINVAL, "%zu bytes were taken", size);
        free(cut);
    }
    buffer_done(&bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tzif");
    TCase *tests = tcase_create("tzif");
    tcase_add_loop_test(tests, table_without_rule, 0, 2);
    tcase_add_test(tests, rule_after_the_table);
    tcase_add_test(tests, rule_alone);
    tcase_add_loop_test(tests, refusal, 0, sizeof refusals / sizeof *refusals);
    tcase_add_loop_test(tests, every_cut, 0, 2);
    tcase_add_loop_test(tests, one_wrong_byte, 0, sizeof slips / sizeof *slips);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
