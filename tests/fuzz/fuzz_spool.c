/* Fuzzes store/spool_record.h: whatever lies on the disk is read without harm, also behind right
 * checksums, and what is read is written again as it was. */
#include "store/spool_record.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static size_t read_one(const char *bytes, size_t size)
{
    struct buffer again = {0};
    struct store_finish finish;
    size_t used;
    if (spool_record_read(bytes, size, &finish, &used) != SPOOL_WHOLE)
        return 0;
    spool_record_add(&again, &finish);
    if (spool_record_seal(again.data) != used || memcmp(again.data, bytes, used) != 0)
        abort();
    buffer_done(&again);
    return used;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *bytes = mem_text_n((const char *)data, size);
    for (size_t at = 0, used; (used = read_one(bytes + at, size - at)) > 0;)
        at += used;
    /* The same as the body of one record: its size and magic number are taken from a real one. */
    struct buffer record = {0};
    spool_record_add(&record, &(struct store_finish){.attempt = 1});
    uint32_t body_bytes = (uint32_t)size;
    record.size = SPOOL_HEADER_BYTES;
    memcpy(record.data + 4, &body_bytes, sizeof body_bytes);
    buffer_add(&record, data, size);
    spool_record_seal(record.data);
    read_one(record.data, record.size);
    buffer_done(&record);
    free(bytes);
    return 0;
}
