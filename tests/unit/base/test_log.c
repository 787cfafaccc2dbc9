/* base/log.h: the three formats, what quoting keeps out, cuts, and a reader that does not read. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "tests/unit/unit.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))
#define TIME_SIZE strlen("2026-11-23T21:10:21.663Z ")

static int reader; /* the other end of standard error */
static int saved_stderr;

static void catch_stderr(void)
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
    fcntl(reader, F_SETFL, O_NONBLOCK);
}

static void release_stderr(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(reader);
}

/* All that was written since the last call. */
static const char *caught(void)
{
    static char text[256 * 1024];
    size_t size = 0;
    for (ssize_t n; (n = read(reader, text + size, sizeof(text) - 1 - size)) > 0;)
        size += (size_t)n;
    text[size] = '\0';
    return text;
}

static int count_lines(const char *text)
{
    int lines = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++)
        lines++;
    return lines;
}

START_TEST(formats)
{
    struct id id;
    struct error error;
    ck_assert(id_parse("0199f0c2-1234-7abc-9def-0123456789ab", 36, &id));
    error_set(&error, -ENOENT, "no such file");
#define LOG_EXAMPLE                                                             \
    log_warning("task failed", log_id("workflow", &id), log_int("attempt", -2), \
                log_text("node", NULL), log_text("status", "error"), log_error_text(&error))
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    LOG_EXAMPLE;
    const char *line = caught();
    ck_assert_uint_gt(strlen(line), TIME_SIZE);
    ck_assert_msg(line[10] == 'T' && line[19] == '.' && line[23] == 'Z', "%s", line);
    ck_assert_str_eq(line + TIME_SIZE,
                     "warning \"task failed\" workflow=0199f0c2-1234-7abc-9def-0123456789ab "
                     "attempt=-2 status=error error=\"no such file\"\n");
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_JOURNALD);
    LOG_EXAMPLE;
    ck_assert_str_eq(caught(),
                     "<4>warning \"task failed\" workflow=0199f0c2-1234-7abc-9def-0123456789ab "
                     "attempt=-2 status=error error=\"no such file\"\n");
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    LOG_EXAMPLE;
    line = caught();
    ck_assert_int_eq(json_check(line, strlen(line), NULL), 0);
    ck_assert_str_eq(strstr(line, "Z\",") + 3,
                     "\"level\":\"warning\",\"event\":\"task failed\",\"workflow\":"
                     "\"0199f0c2-1234-7abc-9def-0123456789ab\",\"attempt\":-2,"
                     "\"status\":\"error\",\"error\":\"no such file\"}\n");
}
END_TEST

START_TEST(levels)
{
    static const struct {
        const char *text;
        enum log_level level;
        bool known;
    } rows[] = {
        {"debug", LOG_LEVEL_DEBUG, true},     {"info", LOG_LEVEL_INFO, true},
        {"Warning", LOG_LEVEL_WARNING, true}, {"ERROR", LOG_LEVEL_ERROR, true},
        {"loud", LOG_LEVEL_INFO, false},      {"", LOG_LEVEL_INFO, false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        bool known = !rows[i].known;
        ck_assert_msg(log_level_parse(rows[i].text, &known) == rows[i].level, "%s", rows[i].text);
        ck_assert_msg(known == rows[i].known, "%s", rows[i].text);
    }
    log_start(LOG_LEVEL_WARNING, LOG_FORMAT_JOURNALD);
    log_debug("one");
    log_info("two");
    ck_assert_str_eq(caught(), "");
    log_warning("three");
    log_error("four");
    ck_assert_str_eq(caught(), "<4>warning \"three\"\n<3>error \"four\"\n");
    log_start(LOG_LEVEL_DEBUG, LOG_FORMAT_JOURNALD);
    log_debug("five");
    ck_assert_str_eq(caught(), "<7>debug \"five\"\n");
}
END_TEST

START_TEST(values_cannot_forge)
{
    static const struct {
        const char *value, *written;
    } rows[] = {
        {"plain-1.0/x:y", "plain-1.0/x:y"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"x\n<3>error \"forged\"", "\"x\\n<3>error \\\"forged\\\"\""},
        {"x\r\t\x1b[31m\x7f", "\"x\\u000d\\t\\u001b[31m\\u007f\""},
        {"\xc2\x85\xc2\x9b", "\"\\u0085\\u009b\""},
        {"\xe2\x80\xa8\xe2\x80\xa9", "\"\\u2028\\u2029\""},
        {"caf\xc3\xa9\xc2\xa0\xe2\x80\xaa", "\"caf\xc3\xa9\xc2\xa0\xe2\x80\xaa\""},
        {"\xff\xc3", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char expected[200];
        log_start(LOG_LEVEL_INFO, LOG_FORMAT_JOURNALD);
        log_info("x", log_text("value", rows[i].value), log_int("n", 1));
        snprintf(expected, sizeof(expected), "<6>info \"x\" value=%s n=1\n", rows[i].written);
        ck_assert_str_eq(caught(), expected);
        log_start(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
        log_info("x", log_text("value", rows[i].value), log_int("n", 1));
        const char *line = caught();
        ck_assert_msg(json_check(line, strlen(line), NULL) == 0, "%s", line);
        ck_assert_msg(strchr(line, '\n') == line + strlen(line) - 1, "%s", line);
    }
}
END_TEST

static bool ends_in(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* Lengths around the limit, in one value and in many, of text that grows by escaping and of text
 * that does not. */
START_TEST(long_lines_are_cut)
{
    static const char *const units[] = {"x", " ", "\x01", "\xc3\xa9", "\xff"};
    static char value[20000];
    for (size_t i = 0; i < ROWS(units); i++) {
        for (size_t size = 16200; size < 16450; size += i == 0 ? 1 : 7) {
            for (size_t at = 0; at < size; at++)
                value[at] = units[i][at % strlen(units[i])];
            value[size] = '\0';
            log_start(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
            log_info("x", log_text("value", value), log_int("n", 1), log_text("value2", value));
            const char *line = caught();
            ck_assert_msg(json_check(line, strlen(line), NULL) == 0, "unit %zu, size %zu", i, size);
            ck_assert_msg(strlen(line) <= 16 * 1024, "unit %zu, size %zu", i, size);
            ck_assert_msg(ends_in(line, ",\"cut\":true}\n"), "unit %zu, size %zu", i, size);
        }
    }
    memset(value, 'k', 300);
    value[300] = '\0';
    struct log_field fields[400] = {{0}};
    for (size_t i = 0; i < ROWS(fields) - 1; i++)
        fields[i] = log_text("key", value + i % 300);
    log_write(LOG_LEVEL_INFO, "x", fields);
    const char *line = caught();
    ck_assert_uint_le(strlen(line), 16 * 1024);
    ck_assert(ends_in(line, ",\"cut\":true}\n"));
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    log_write(LOG_LEVEL_INFO, "x", fields);
    ck_assert(ends_in(caught(), " cut=true\n"));
}
END_TEST

START_TEST(errno_stays)
{
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    close(reader);
    errno = EXDEV;
    log_info("nobody reads this");
    ck_assert_int_eq(errno, EXDEV);
}
END_TEST

/* Standard error as a socket that keeps writes apart. */
static void catch_writes(void)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    close(reader);
    reader = ends[0];
    fcntl(reader, F_SETFL, O_NONBLOCK);
}

/* The next write, NULL when there was none. */
static const char *caught_write(void)
{
    static char text[2 * PIPE_BUF];
    ssize_t n = read(reader, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    return n < 0 ? NULL : text;
}

START_TEST(held_lines_share_writes)
{
    enum { COUNT = 1000 };
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_JOURNALD);
    catch_writes();
    log_hold();
    log_info("one");
    log_info("two");
    ck_assert_ptr_null(caught_write());
    log_warning("three");
    ck_assert_str_eq(caught_write(), "<6>info \"one\"\n<6>info \"two\"\n<4>warning \"three\"\n");
    log_info("four");
    log_release();
    ck_assert_str_eq(caught_write(), "<6>info \"four\"\n");
    log_info("five");
    ck_assert_str_eq(caught_write(), "<6>info \"five\"\n");

    int next = 0, writes = 0;
    log_hold();
    for (int i = 0; i <= COUNT; i++) {
        if (i < COUNT)
            log_info("many", log_int("i", i));
        else
            log_release();
        for (const char *text; (text = caught_write()) != NULL; writes++) {
            ck_assert_uint_le(strlen(text), PIPE_BUF);
            for (int length; *text != '\0'; text += length, next++) {
                int number;
                ck_assert_int_eq(sscanf(text, "<6>info \"many\" i=%d\n%n", &number, &length), 1);
                ck_assert_int_eq(number, next);
            }
        }
    }
    ck_assert_int_eq(next, COUNT);
    ck_assert_int_lt(writes, COUNT / 100);
}
END_TEST

/* Of all that were held, where the reader is stuck. */
START_TEST(held_lines_are_counted_when_lost)
{
    enum { COUNT = 100000 };
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_JOURNALD);
    fcntl(reader, F_SETPIPE_SZ, 2 * 4096);
    log_hold();
    for (int i = 0; i < COUNT; i++)
        log_info("filling", log_int("i", i));
    log_release();
    int kept = count_lines(caught());
    ck_assert_int_gt(kept, 0);
    log_info("back");
    char expected[200];
    snprintf(expected, sizeof(expected),
             "<4>warning \"log lines lost\" count=%d\n<6>info \"back\"\n", COUNT - kept);
    ck_assert_str_eq(caught(), expected);
}
END_TEST

START_TEST(a_stuck_reader_costs_lines_but_no_time)
{
    log_start(LOG_LEVEL_INFO, LOG_FORMAT_JOURNALD);
    fcntl(reader, F_SETPIPE_SZ, 2 * 4096);
    for (int i = 0; i < 100000; i++)
        log_info("filling", log_int("i", i));
    int kept = count_lines(caught());
    ck_assert_int_gt(kept, 0);
    ck_assert_int_lt(kept, 100000);
    log_info("back");
    char expected[200];
    snprintf(expected, sizeof(expected),
             "<4>warning \"log lines lost\" count=%d\n<6>info \"back\"\n", 100000 - kept);
    ck_assert_str_eq(caught(), expected);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/log");
    TCase *tests = tcase_create("log");
    tcase_add_checked_fixture(tests, catch_stderr, release_stderr);
    tcase_add_test(tests, formats);
    tcase_add_test(tests, levels);
    tcase_add_test(tests, values_cannot_forge);
    tcase_add_test(tests, long_lines_are_cut);
    tcase_add_test(tests, errno_stays);
    tcase_add_test(tests, held_lines_share_writes);
    tcase_add_test(tests, held_lines_are_counted_when_lost);
    tcase_add_test(tests, a_stuck_reader_costs_lines_but_no_time);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
