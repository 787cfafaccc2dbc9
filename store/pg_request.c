#include "store/pg_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/memory.h"

static void check_params(const struct pg_statement *statement, const struct pg_params *params)
{
    int i = 0;
    for (; i < params->count && statement->types[i] != 0; i++)
        if (params->params[i].type != 0 && params->params[i].type != statement->types[i])
            break;
    if (i < params->count || statement->types[i] != 0) {
        fprintf(stderr, "pg_request: %s: parameter $%d is missing, too much or of a wrong type\n",
                statement->name, i + 1);
        abort();
    }
}

struct pg_request *pg_request_new(const struct pg_call *call, const struct pg_statement *statement,
                                  struct pg_params *params, pg_reply_cb on_reply, void *context)
{
    struct pg_request *request = mem_new(1, sizeof(*request));
    request->call = *call;
    request->on_reply = on_reply;
    request->context = context;
    request->patient = (call->flags & PG_WAIT) != 0;
    request->deadline_us =
        call->deadline_ms > 0 ? clock_mono_us() + call->deadline_ms * INT64_C(1000) : INT64_MAX;
    if (params != NULL) {
        request->params = *params;
        *params = (struct pg_params){0};
    }
    if (statement != NULL)
        check_params(statement, &request->params);
    return request;
}

static int send_statement(PGconn *connection, const struct pg_statement *statement,
                          struct pg_params *params)
{
    const char *values[PG_MAX_PARAMS];
    int sizes[PG_MAX_PARAMS];
    int formats[PG_MAX_PARAMS];
    const char *bytes = buffer_text(&params->bytes);
    for (int i = 0; i < params->count; i++) {
        const struct pg_param *param = &params->params[i];
        values[i] = param->size < 0 ? NULL : bytes + param->offset;
        sizes[i] = param->size < 0 ? 0 : param->size;
        formats[i] = 1;
    }
    return PQsendQueryPrepared(connection, statement->name, params->count, values, sizes, formats,
                               1);
}

bool pg_request_transmit(struct pg_request *request, PGconn *connection,
                         const struct pg_statement *statement)
{
    int sent;
    if (statement == NULL) {
        sent = PQsendQueryParams(connection, "SELECT 1", 0, NULL, NULL, NULL, NULL, 1);
    } else {
        if (request->sendings > 0 && statement->repeat_parameter > 0)
            pg_params_set_bool(&request->params, statement->repeat_parameter - 1, true);
        sent = send_statement(connection, statement, &request->params);
    }
    request->sendings++;
    if (request->call.flags & PG_REPEATABLE)
        request->patient = !(request->call.flags & PG_READ);
    return sent && PQpipelineSync(connection);
}

void pg_request_take(struct pg_request *request, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
        PQclear(request->rows.result);
        request->rows.result = result;
        return;
    }
    if (request->failure.class == 0)
        pg_failure_of_result(&request->failure, result);
    PQclear(result);
}

bool pg_request_repeats(const struct pg_request *request)
{
    return (request->call.flags & PG_REPEATABLE) &&
           (request->failure.class == PG_RETRY || request->failure.class == PG_RESOURCE);
}

void pg_request_reset(struct pg_request *request)
{
    PQclear(request->rows.result);
    request->rows.result = NULL;
    request->failure = (struct pg_failure){0};
}

void pg_request_end(struct pg_request *request, const struct pg_failure *failure)
{
    request->on_reply(request->context, failure == NULL ? &request->rows : NULL, failure);
    PQclear(request->rows.result);
    pg_params_done(&request->params);
    free(request);
}

void pg_request_end_all(struct pg_request *list, const struct pg_failure *failure)
{
    struct pg_request *request;
    struct pg_request *next;
    DL_FOREACH_SAFE(list, request, next)
    pg_request_end(request, failure);
}
