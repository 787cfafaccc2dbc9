/* Ends of attempts for the tests of the spool, all different, and a directory for its file. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/spool_file.h"
#include "tests/unit/unit.h"

struct sample {
    struct store_finish finish;
    char result[32];
};

/* Number 0 has no result and no reason, number 1 an empty reason. */
static inline void sample_init(struct sample *sample, int number)
{
    static const char *const reasons[] = {NULL, "", "timed_out"};
    memset(sample, 0, sizeof *sample);
    sample->finish.node.bytes[0] = 7;
    sample->finish.workflow.bytes[15] = (unsigned char)number;
    sample->finish.position = number;
    sample->finish.attempt = number + 1;
    sample->finish.success = number % 2 == 1;
    sample->finish.retryable = number % 3 == 1;
    sample->finish.reason = reasons[number % 3];
    sample->finish.exit_status = number - 1;
    sample->finish.signal = number * 2;
    sample->finish.peak_memory_bytes = INT64_C(5000000000) * number;
    sample->finish.cpu_us = INT64_C(6000000000) * number;
    if (number == 0)
        return;
    int size = snprintf(sample->result, sizeof sample->result, "{\"n\":%d}", number);
    sample->finish.result = (struct json_span){sample->result, (size_t)size};
}

static inline void sample_check(const struct store_finish *found, const struct store_finish *want)
{
    ck_assert_int_eq(id_compare(&found->node, &want->node), 0);
    ck_assert_int_eq(id_compare(&found->workflow, &want->workflow), 0);
    ck_assert_int_eq(found->position, want->position);
    ck_assert_int_eq(found->attempt, want->attempt);
    ck_assert_int_eq(found->success, want->success);
    ck_assert_int_eq(found->retryable, want->retryable);
    ck_assert_pstr_eq(found->reason, want->reason);
    ck_assert_int_eq(found->exit_status, want->exit_status);
    ck_assert_int_eq(found->signal, want->signal);
    ck_assert_int_eq(found->peak_memory_bytes, want->peak_memory_bytes);
    ck_assert_int_eq(found->cpu_us, want->cpu_us);
    ck_assert_uint_eq(found->result.size, want->result.size);
    ck_assert_int_eq(found->result.text == NULL, want->result.text == NULL);
    if (want->result.text != NULL)
        ck_assert_mem_eq(found->result.text, want->result.text, want->result.size);
}

static inline void sample_directory(char path[32])
{
    strcpy(path, "/tmp/directord-spool-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
}

static inline void sample_remove(const char *path)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", path);
    ck_assert_int_eq(system(command), 0);
}
