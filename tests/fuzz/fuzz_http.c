/* The HTTP parser: the same bytes give the same requests and the same refusal however they are
 * split. The first byte of the input chooses the split. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/api/http_transcript.h"

/* Small, so that the fuzzer comes to the limits, and the wire limit of chunks too. */
static const struct http_options options = {.max_target_bytes = 64,
                                            .max_head_bytes = 512,
                                            .max_fields = 10,
                                            .max_body_bytes = 256,
                                            .max_bodies_bytes = 300};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer whole = {0}, split = {0};
    if (size == 0)
        return 0;
    uint64_t seed = data[0] + 1;
    const char *bytes = (const char *)data + 1;
    transcript(&options, bytes, size - 1, NULL, NULL, true, &whole);
    transcript(&options, bytes, size - 1, transcript_random_cut, &seed, true, &split);
    if (whole.size != split.size || memcmp(buffer_text(&whole), buffer_text(&split), whole.size)) {
        fprintf(stderr, "whole:\n%s\nsplit:\n%s\n", whole.data, split.data);
        abort();
    }
    buffer_done(&whole);
    buffer_done(&split);
    return 0;
}
