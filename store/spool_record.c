#include "store/spool_record.h"

#include <string.h>

/* The last byte is the version of the format. */
#define MAGIC 0x64735001u
/* A size beyond this was never written: results have at most 64 MiB. */
#define MAX_BODY_BYTES (65u << 20)

enum { FLAG_SUCCESS = 1, FLAG_RETRYABLE = 2, FLAG_REASON = 4, FLAG_RESULT = 8, FLAGS = 15 };

struct header {
    uint32_t magic;
    uint32_t body_bytes;
    uint32_t body_crc;
    uint32_t crc; /* of the fields before */
};
_Static_assert(sizeof(struct header) == SPOOL_HEADER_BYTES, "no padding");

/* Behind it come the reason, with its NUL, and the result. */
struct body {
    struct id node;
    struct id workflow;
    int32_t position;
    int32_t attempt;
    int32_t exit_status;
    int32_t signal;
    int64_t peak_memory_bytes;
    int64_t cpu_us;
    uint32_t flags;
    uint32_t reason_bytes;
};
_Static_assert(sizeof(struct body) == 72, "no padding");

/* CRC32C (RFC 3720, B.4), four bits at a time. */
static uint32_t crc32c(const void *bytes, size_t size)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    const unsigned char *byte = bytes;
    uint32_t crc = UINT32_MAX;
    for (; size > 0; size--, byte++) {
        crc = table[(crc ^ *byte) & 15] ^ crc >> 4;
        crc = table[(crc ^ *byte >> 4) & 15] ^ crc >> 4;
    }
    return ~crc;
}

static size_t reason_bytes(const struct store_finish *finish)
{
    return finish->reason == NULL ? 0 : strlen(finish->reason) + 1;
}

size_t spool_record_size(const struct store_finish *finish)
{
    return sizeof(struct header) + sizeof(struct body) + reason_bytes(finish) + finish->result.size;
}

void spool_record_add(struct buffer *out, const struct store_finish *finish)
{
    const struct header header = {
        .magic = MAGIC,
        .body_bytes = (uint32_t)(spool_record_size(finish) - sizeof header),
    };
    const struct body body = {
        .node = finish->node,
        .workflow = finish->workflow,
        .position = finish->position,
        .attempt = finish->attempt,
        .exit_status = finish->exit_status,
        .signal = finish->signal,
        .peak_memory_bytes = finish->peak_memory_bytes,
        .cpu_us = finish->cpu_us,
        .flags = (finish->success ? FLAG_SUCCESS : 0) | (finish->retryable ? FLAG_RETRYABLE : 0) |
                 (finish->reason != NULL ? FLAG_REASON : 0) |
                 (finish->result.text != NULL ? FLAG_RESULT : 0),
        .reason_bytes = (uint32_t)reason_bytes(finish),
    };
    buffer_add(out, &header, sizeof header);
    buffer_add(out, &body, sizeof body);
    buffer_add(out, finish->reason, body.reason_bytes);
    buffer_add(out, finish->result.text, finish->result.size);
}

size_t spool_record_seal(char *record)
{
    struct header header;
    memcpy(&header, record, sizeof header);
    header.body_crc = crc32c(record + sizeof header, header.body_bytes);
    header.crc = crc32c(&header, offsetof(struct header, crc));
    memcpy(record, &header, sizeof header);
    return sizeof header + header.body_bytes;
}

/* Is this what spool_record_add writes? */
static bool is_sound(const struct body *body, const char *rest, size_t rest_bytes)
{
    bool has_reason = (body->flags & FLAG_REASON) != 0;
    bool has_result = (body->flags & FLAG_RESULT) != 0;
    return (body->flags & ~(uint32_t)FLAGS) == 0 && body->position >= 0 &&
           body->position < ID_MAX_TASKS && body->attempt > 0 && body->reason_bytes <= rest_bytes &&
           has_reason == (body->reason_bytes > 0) &&
           (!has_reason || strnlen(rest, body->reason_bytes) == body->reason_bytes - 1) &&
           has_result == (body->reason_bytes < rest_bytes);
}

static bool read_body(const char *bytes, size_t size, struct store_finish *finish)
{
    struct body body;
    if (size < sizeof body)
        return false;
    memcpy(&body, bytes, sizeof body);
    const char *rest = bytes + sizeof body;
    size_t rest_bytes = size - sizeof body;
    if (!is_sound(&body, rest, rest_bytes))
        return false;
    *finish = (struct store_finish){
        .node = body.node,
        .workflow = body.workflow,
        .position = body.position,
        .attempt = body.attempt,
        .success = (body.flags & FLAG_SUCCESS) != 0,
        .retryable = (body.flags & FLAG_RETRYABLE) != 0,
        .reason = (body.flags & FLAG_REASON) != 0 ? rest : NULL,
        .exit_status = body.exit_status,
        .signal = body.signal,
        .peak_memory_bytes = body.peak_memory_bytes,
        .cpu_us = body.cpu_us,
    };
    if ((body.flags & FLAG_RESULT) != 0)
        finish->result =
            (struct json_span){rest + body.reason_bytes, rest_bytes - body.reason_bytes};
    return true;
}

enum spool_reading spool_record_read(const char *bytes, size_t size, struct store_finish *finish,
                                     size_t *record_size)
{
    struct header header;
    *record_size = sizeof header;
    if (size < sizeof header)
        return SPOOL_CUT;
    memcpy(&header, bytes, sizeof header);
    if (header.magic != MAGIC || header.crc != crc32c(&header, offsetof(struct header, crc)) ||
        header.body_bytes > MAX_BODY_BYTES)
        return SPOOL_CORRUPT;
    *record_size = sizeof header + header.body_bytes;
    if (size < *record_size)
        return SPOOL_CUT;
    bytes += sizeof header;
    if (header.body_crc != crc32c(bytes, header.body_bytes) ||
        !read_body(bytes, header.body_bytes, finish))
        return SPOOL_CORRUPT;
    return SPOOL_WHOLE;
}
