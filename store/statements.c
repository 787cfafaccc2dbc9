#include "store/statements.h"

#include "store/logs.h"

/* What a macro stands for, as a piece of SQL. */
#define TEXT(tokens) #tokens
#define TEXT_OF(macro) TEXT(macro)

/* The columns of a workflow before its payload; workflow_rows.c reads them in this order. */
#define WORKFLOW_COLUMNS                                                                    \
    "w.id, w.project, w.name, w.status::text AS status, w.periodic, w.created, w.updated, " \
    "w.started, w.finished, w.scheduled, w.relaunched_from, w.reason, w.comment"

/* The columns of a task before its result; workflow_rows.c reads them in this order. */
#define TASK_COLUMNS                                                                          \
    "t.position, d.key, t.status::text AS status, t.is_hook, t.attempt, t.queue, t.node_id, " \
    "t.created, t.updated, t.started, t.finished, t.reason, "                                 \
    "CASE WHEN NOT t.is_hook THEN d.previous END AS previous"

/* The tasks of workflow $1 with their definitions. */
#define DEFINED_TASKS                                   \
    "tasks t JOIN workflows w ON w.id = t.workflow_id " \
    "JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position"

/* The columns of a node; node_rows.c reads them in this order. */
#define NODE_COLUMNS                                                                          \
    "n.id, n.host, n.version, n.queues, n.slots, n.state, n.digest, n.started, n.heartbeat, " \
    "(SELECT coalesce(sum(c.held), 0) FROM claims c WHERE c.node_id = n.id) AS running"

/* The columns of a schedule; schedule_rows.c reads them in this order. */
#define SCHEDULE_COLUMNS                                                                 \
    "s.id, s.project, s.name, s.identity, s.trigger, s.timezone, s.catchup, s.comment, " \
    "CASE WHEN s.removed IS NOT NULL THEN 'removed' WHEN s.paused THEN 'paused' "        \
    "ELSE 'active' END AS state, "                                                       \
    "(SELECT coalesce(f.until, f.scheduled) FROM fires f WHERE f.schedule_id = s.id "    \
    "ORDER BY f.scheduled DESC LIMIT 1) AS last"

/* Which schedules: those of a workflow, or one by its id; all when both are NULL. */
#define SCHEDULE_CHOICE                  \
    "($1::bigint IS NULL OR s.id = $1) " \
    "AND ($2::text IS NULL OR s.project || '.' || s.name = $2)"

const struct pg_statement statements[STATEMENT_COUNT] = {
    [STATEMENT_LAUNCH] =
        {
            .name = "launch",
            .sql = "SELECT * FROM launch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            .repeat_parameter = 4,
            .types = {PG_ID, PG_ID, PG_INT4, PG_BOOL, PG_ID_ARRAY, PG_INT8_ARRAY, PG_TIME_ARRAY,
                      PG_JSON_ARRAY, PG_TEXT_ARRAY, PG_ID_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY,
                      PG_TEXT_ARRAY},
        },
    [STATEMENT_CLAIM] =
        {
            .name = "claim",
            .sql = "SELECT * FROM claim($1, $2, $3, $4)",
            .repeat_parameter = 4,
            .types = {PG_ID, PG_ID, PG_INT4, PG_BOOL},
        },
    [STATEMENT_FINISH] =
        {
            .name = "finish",
            .sql = "SELECT * FROM finish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
                   "$14, $15)",
            .repeat_parameter = 4,
            .types = {PG_ID, PG_ID, PG_INT4, PG_BOOL, PG_ID_ARRAY, PG_INT4_ARRAY, PG_INT4_ARRAY,
                      PG_BOOL_ARRAY, PG_BOOL_ARRAY, PG_JSON_ARRAY, PG_TEXT_ARRAY, PG_INT4_ARRAY,
                      PG_INT4_ARRAY, PG_INT8_ARRAY, PG_INT8_ARRAY},
        },
    [STATEMENT_FIRE] =
        {
            .name = "fire",
            .sql =
                "SELECT * FROM fire($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
                "$15, $16, $17)",
            .repeat_parameter = 4,
            .types = {PG_ID, PG_ID, PG_INT4, PG_BOOL, PG_INT8_ARRAY, PG_TIME_ARRAY, PG_TIME_ARRAY,
                      PG_INT8_ARRAY, PG_JSON_ARRAY, PG_INT4_ARRAY, PG_TIME_ARRAY, PG_TIME_ARRAY,
                      PG_TEXT_ARRAY, PG_INT8_ARRAY, PG_TIME_ARRAY, PG_ID_ARRAY, PG_TIME_ARRAY},
        },
    [STATEMENT_CANCEL] =
        {
            .name = "cancel",
            .sql = "SELECT * FROM cancel($1, $2)",
            .types = {PG_ID_ARRAY, PG_TEXT},
        },
    [STATEMENT_ADMIT] =
        {
            .name = "admit",
            .sql = "SELECT * FROM admit($1, $2)",
            .types = {PG_TEXT, PG_TEXT},
        },
    [STATEMENT_HEARTBEAT] =
        {
            .name = "heartbeat",
            .sql = "SELECT * FROM heartbeat($1, $2, $3, $4, $5, $6, $7, $8)",
            .types = {PG_ID, PG_TEXT, PG_TEXT, PG_TIME, PG_ID_ARRAY, PG_ID_ARRAY, PG_INT4_ARRAY,
                      PG_INT4_ARRAY},
        },
    [STATEMENT_REAP] =
        {
            .name = "reap",
            .sql = "SELECT * FROM reap($1, make_interval(secs => $2::double precision / 1000), $3, "
                   "$4)",
            .types = {PG_ID, PG_INT8, PG_TIME, PG_INT4},
        },
    [STATEMENT_SET_CLOCK_BACK] =
        {
            .name = "set_clock_back",
            .sql = "SELECT set_clock_back(10000)",
        },
    [STATEMENT_REGISTER_NODE] =
        {
            .name = "register_node",
            .sql = "SELECT register_node($1, $2, $3, $4, $5, $6, $7, $8, $9, "
                   "make_interval(secs => $10::double precision / 1000000))",
            .types = {PG_ID, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT_ARRAY, PG_INT4, PG_INT8,
                      PG_ID, PG_INT8},
        },
    [STATEMENT_REGISTER_DEFINITIONS] =
        {
            .name = "register_definitions",
            .sql = "SELECT id FROM register_definitions($1) ORDER BY place",
            .types = {PG_JSON},
        },
    [STATEMENT_REGISTER_SCHEDULES] =
        {
            .name = "register_schedules",
            .sql = "SELECT id, anchor, cursor FROM register_schedules($1) ORDER BY place",
            .types = {PG_JSON},
        },
    [STATEMENT_REMEMBER_FILES] =
        {
            .name = "remember_files",
            .sql = "SELECT remember_files($1, $2, $3, $4, $5)",
            .types = {PG_TEXT, PG_TEXT, PG_TEXT_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY},
        },
    [STATEMENT_RECALL_FILES] =
        {
            .name = "recall_files",
            .sql = "SELECT name, content FROM definition_files WHERE host = $1 AND directory = $2 "
                   "ORDER BY name",
            .types = {PG_TEXT, PG_TEXT},
        },
    [STATEMENT_CLOCK] =
        {
            .name = "clock",
            .sql = "SELECT clock_timestamp() AS now",
        },
    [STATEMENT_HINT] =
        {
            .name = "hint",
            .sql = "SELECT pg_notify('" HINT_CHANNEL "', $1)",
            .types = {PG_TEXT},
        },
    [STATEMENT_FIND_WORKFLOW] =
        {
            .name = "find_workflow",
            .sql = "SELECT " WORKFLOW_COLUMNS ", CASE WHEN $1 THEN w.payload END "
                   "FROM workflows w WHERE w.id = $2",
            .types = {PG_BOOL, PG_ID},
        },
    /* $2 tasks at most; the last column tells whether the result, here at most $3 bytes, is
       there. */
    [STATEMENT_FIND_TASKS] =
        {
            .name = "find_tasks",
            .sql = "SELECT " TASK_COLUMNS ", CASE WHEN t.result_bytes <= $3 THEN t.result END, "
                   "coalesce(t.result_bytes <= $3, true) FROM " DEFINED_TASKS
                   " WHERE t.workflow_id = $1 ORDER BY t.position LIMIT $2",
            .types = {PG_ID, PG_INT8, PG_INT4},
        },
    [STATEMENT_SLICE_TASKS] =
        {
            .name = "slice_tasks",
            .sql = "SELECT * FROM slice_tasks($1, $2, $3, $4, $5, " TEXT_OF(STORE_SLICE_BYTES) ")",
            .types = {PG_ID, PG_INT4, PG_INT4, PG_BOOL, PG_INT8},
        },
    /* $2 to $9 choose, $10 and $11 are the page; a payload of more than $12 bytes is NULL. */
    [STATEMENT_LIST_WORKFLOWS] =
        {
            .name = "list_workflows",
            .sql = "SELECT " WORKFLOW_COLUMNS ", "
                   "CASE WHEN $1 AND w.payload_bytes <= $12 THEN w.payload END "
                   "FROM choose_workflows($2, $3, $4, $5, $6, $7, $8, $9, NULL, $10, $11) w "
                   "ORDER BY w.id DESC",
            .types = {PG_BOOL, PG_TEXT, PG_TEXT, PG_TEXT_ARRAY, PG_BOOL, PG_TIME, PG_TIME, PG_TEXT,
                      PG_ID, PG_INT8, PG_INT8, PG_INT4},
        },
    /* The same; $12 is the last id of the page. */
    [STATEMENT_SLICE_WORKFLOWS] =
        {
            .name = "slice_workflows",
            .sql = "SELECT * FROM slice_workflows($1, $2, $3, $4, $5, $6, $7, $8, $9, $12, $10, "
                   "$11, " TEXT_OF(STORE_SLICE_BYTES) ")",
            .types = {PG_BOOL, PG_TEXT, PG_TEXT, PG_TEXT_ARRAY, PG_BOOL, PG_TIME, PG_TIME, PG_TEXT,
                      PG_ID, PG_INT8, PG_INT8, PG_ID},
        },
    [STATEMENT_LIST_SCHEDULES] =
        {
            .name = "list_schedules",
            .sql = "SELECT " SCHEDULE_COLUMNS " FROM schedules s WHERE " SCHEDULE_CHOICE
                   " ORDER BY s.project, s.name, s.identity LIMIT $3 OFFSET $4",
            .types = {PG_INT8, PG_TEXT, PG_INT8, PG_INT8},
        },
    [STATEMENT_PAUSE_SCHEDULES] =
        {
            .name = "pause_schedules",
            .sql = "SELECT " SCHEDULE_COLUMNS
                   " FROM pause_schedules($1, $2, $3, $4) s ORDER BY s.identity",
            .types = {PG_INT8, PG_TEXT, PG_BOOL, PG_TEXT},
        },
    [STATEMENT_LIST_FIRES] =
        {
            .name = "list_fires",
            .sql =
                "SELECT s.id, f.scheduled, f.outcome, f.workflow_id, f.count, f.until, f.decided "
                "FROM schedules s CROSS JOIN LATERAL "
                "(SELECT * FROM fires f WHERE f.schedule_id = s.id "
                "ORDER BY f.scheduled DESC LIMIT $3 + $4) f WHERE " SCHEDULE_CHOICE
                " ORDER BY f.scheduled DESC, s.id LIMIT $3 OFFSET $4",
            .types = {PG_INT8, PG_TEXT, PG_INT8, PG_INT8},
        },
    [STATEMENT_EXPIRE] =
        {
            .name = "expire",
            .sql = "SELECT * FROM expire($1)",
            .types = {PG_INT4},
        },
    [STATEMENT_RELAUNCH_FAILED] =
        {
            .name = "relaunch_failed",
            .sql = "SELECT * FROM relaunch_failed($1, $2, $3)",
            .types = {PG_ID, PG_ID, PG_TIME},
        },
    [STATEMENT_CLEAR_WORKFLOWS] =
        {
            .name = "clear_workflows",
            .sql = "SELECT clear_workflows($1, $2)",
            .types = {PG_INT4, PG_INT4},
        },
    [STATEMENT_CLEAR_HISTORY] =
        {
            .name = "clear_history",
            .sql =
                "SELECT clear_history($1, make_interval(secs => $2::double precision / 1000), $3)",
            .types = {PG_INT8_ARRAY, PG_INT8, PG_INT4},
        },
    [STATEMENT_LIST_NODES] =
        {
            .name = "list_nodes",
            .sql = "SELECT " NODE_COLUMNS " FROM nodes n ORDER BY n.started DESC, n.id LIMIT $1 "
                   "OFFSET $2",
            .types = {PG_INT8, PG_INT8},
        },
    [STATEMENT_DRAIN_NODE] =
        {
            .name = "drain_node",
            .sql = "WITH n AS (UPDATE nodes AS n SET state = CASE WHEN n.state = 'active' "
                   "THEN 'draining' ELSE n.state END WHERE n.id = $1 RETURNING n.*) "
                   "SELECT " NODE_COLUMNS " FROM n",
            .types = {PG_ID},
        },
    [STATEMENT_APPEND_LOGS] =
        {
            .name = "append_logs",
            .sql = "SELECT append_logs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            .types = {PG_ID, PG_ID_ARRAY, PG_INT4_ARRAY, PG_INT4_ARRAY, PG_INT8_ARRAY,
                      PG_INT8_ARRAY, PG_INT4_ARRAY, PG_INT8_ARRAY, PG_INT4_ARRAY, PG_TIME_ARRAY,
                      PG_BYTES_ARRAY},
        },
    [STATEMENT_FIND_LOG] =
        {
            .name = "find_log",
            .sql = "SELECT t.attempt, t.held, t.status IN ('success', 'error', 'canceled') "
                   "FROM workflows w "
                   "LEFT JOIN tasks t ON t.workflow_id = w.id AND t.position = $2 "
                   "WHERE w.id = $1",
            .types = {PG_ID, PG_INT4},
        },
    /* $4 is the offset. The first condition on it is for the index: no row is longer. */
    [STATEMENT_READ_LOG] =
        {
            .name = "read_log",
            .sql = "SELECT l.start, l.stream, l.content FROM task_logs l "
                   "WHERE l.workflow_id = $1 AND l.position = $2 AND l.attempt = $3 "
                   "AND l.start > $4 - " TEXT_OF(
                       LOG_ROW_BYTES) " "
                                      "AND l.start + octet_length(l.content) > $4 "
                                      "ORDER BY l.start LIMIT $5",
            .types = {PG_ID, PG_INT4, PG_INT4, PG_INT8, PG_INT8},
        },
    [STATEMENT_READ_LOG_BACK] =
        {
            .name = "read_log_back",
            .sql = "SELECT l.start, l.stream, l.content FROM task_logs l "
                   "WHERE l.workflow_id = $1 AND l.position = $2 AND l.attempt = $3 "
                   "AND l.start < $4 ORDER BY l.start DESC LIMIT $5",
            .types = {PG_ID, PG_INT4, PG_INT4, PG_INT8, PG_INT8},
        },
};
