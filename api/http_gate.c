#include "api/http_gate.h"

#include <string.h>

void http_gate_init(struct http_gate *gate)
{
    *gate = (struct http_gate){.state = HTTP_GATE_BEFORE};
}

void http_gate_init_trailer(struct http_gate *gate)
{
    *gate = (struct http_gate){.state = HTTP_GATE_LINE_START};
}

/* No control character has a place in a head but CR and LF at the end of a line, and HTAB. */
static bool is_forbidden(unsigned char c)
{
    return (c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f;
}

static int step_line_start(struct http_gate *gate, const struct http_options *options, char c)
{
    if (c == '\r') {
        gate->state = HTTP_GATE_END_LF;
        return 0;
    }
    /* A blank would fold this line into the one before (obs-fold), a colon would leave the field
     * without a name. */
    if (c == ' ' || c == '\t' || c == ':')
        return 400;
    gate->state = HTTP_GATE_FIELD;
    return ++gate->fields > options->max_fields ? 431 : 0;
}

static int step_before(struct http_gate *gate, char c)
{
    if (c == ' ' || c == '\t')
        return 400;
    gate->state = c == '\r' ? HTTP_GATE_BEFORE_LF : HTTP_GATE_METHOD;
    return 0;
}

/* Within a line: a blank ends method and target, CR ends the line from anywhere. */
static int step_line(struct http_gate *gate, const struct http_options *options, char c)
{
    if (c == '\r')
        gate->state = HTTP_GATE_LINE_LF;
    else if (c == ' ' && gate->state == HTTP_GATE_METHOD)
        gate->state = HTTP_GATE_TARGET;
    else if (c == ' ' && gate->state == HTTP_GATE_TARGET)
        gate->state = HTTP_GATE_VERSION;
    else if (gate->state == HTTP_GATE_TARGET && ++gate->target > options->max_target_bytes)
        return 414;
    return 0;
}

static int step_lf(struct http_gate *gate, char c)
{
    if (c != '\n')
        return 400;
    switch (gate->state) {
    case HTTP_GATE_BEFORE_LF:
        gate->state = HTTP_GATE_BEFORE;
        break;
    case HTTP_GATE_LINE_LF:
        gate->state = HTTP_GATE_LINE_START;
        break;
    default:
        gate->state = HTTP_GATE_END;
    }
    return 0;
}

static int step(struct http_gate *gate, const struct http_options *options, char c)
{
    if (gate->bytes++ >= options->max_head_bytes)
        return 431;
    if (is_forbidden((unsigned char)c))
        return 400;
    bool wants_lf = gate->state == HTTP_GATE_BEFORE_LF || gate->state == HTTP_GATE_LINE_LF ||
                    gate->state == HTTP_GATE_END_LF;
    if (wants_lf || c == '\n')
        return wants_lf ? step_lf(gate, c) : 400;
    if (gate->state == HTTP_GATE_BEFORE)
        return step_before(gate, c);
    if (gate->state == HTTP_GATE_LINE_START)
        return step_line_start(gate, options, c);
    return step_line(gate, options, c);
}

int http_gate_feed(struct http_gate *gate, const struct http_options *options, const char *bytes,
                   size_t n, size_t *used)
{
    for (size_t i = 0; i < n && gate->state != HTTP_GATE_END; i++) {
        int status = step(gate, options, bytes[i]);
        if (status != 0)
            return status;
        ++*used;
    }
    return 0;
}
