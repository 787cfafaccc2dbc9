-- The engine: every move of a workflow or a task is made by one of the functions here (what all of them use), in
-- 0003_execution.sql (claim, finish), 0004_workflows.sql (launch, fire, admit, cancel), 0005_nodes.sql (heartbeat, reap) and
-- 0008_upkeep.sql (time limits, relaunch, clearing away).
--
--                 launch, fire                      claim, or the call that made it ready
--     (nothing) ───────────────> pending ──────────────────────────────────────────────> progress
--                                   │ ^                                                     │
--                    cancel, or a   │ └── finish, reap: failed, attempts left ──────────────┤
--                    predecessor    │ └── heartbeat: its node never began it ───────────────┤
--                    failed         v                                                       v
--                                canceled <──────────────── cancel ─────────── finish: success | error
--
-- Rules that every function keeps:
--
-- * Lock order: admissions by fullname, then schedules by id, then workflows by id, then claims by batch, then nodes. A
--   claim that a call makes itself is in nobody's way. A task is written only by who holds its workflow's row.
-- * The lock on the workflows is a statement of its own. Under READ COMMITTED a later statement's snapshot is taken after
--   the lock was granted; a lock inside the same WITH would read what was true before it waited, and two last tasks
--   that finish together would both leave the workflow to the other.
-- * Every change names the state that it expects. What does not match any more was somebody else's and is left alone.
-- * Each batch has an id. It is written into the rows that it claims, and into `claims`, so that a batch whose answer was
--   lost can be sent again with `p_repeat` and gets the same rows instead of others.
-- * Rows are found by primary key, one by one: plans are made while the tables are empty, when walking through a whole
--   index looks as cheap, and stay while the tables grow. So a row of a large table is looked up in a LATERAL subquery
--   with a LIMIT, which the planner cannot turn round, and updated at its place (`ctid`), which does not change while the
--   workflow is locked. A condition that would fit a partial index (`due`, `limited`) is written so that it
--   does not where that index is not meant.
-- * `now()` would be the start of the transaction, which may lie before a lock that it waited for: each function reads
--   the clock once, after its locks.

-- What every engine function answers: a set of these, of several kinds. Answers that differ in little else come as one row
-- for many, with arrays: a thousand rows through three functions cost 2 µs each, and ids in an array next to nothing.
--   claimed   a task that this node now owns and must start: which, what it is and its input; of those without an action
--             (noop) which alone, in `workflow_ids`, `positions` and `attempts`. `oversize` is set instead of args and
--             results where these are larger than the node takes
--   ended     the workflows `workflow_ids`, of one definition, became `status`
--   stop      an attempt that must be stopped: held by `node_id`
--   room      an instance of project.name ended whose definition has a concurrency limit: admit may have work
--   left      `count` tasks are ready, but were not claimed in this call
--   later     a further attempt of a task is due at `at`
--   skipped   tasks that claim found belong to workflows that somebody else holds just now
--   refused   item number `item` (from 1) of a launch was not taken: reason `overlap`, `key_reused`
--   duplicate item number `item` of a launch repeats an idempotency key: `workflow_id` is what it made then
--   lost      an attempt that this node says it holds is no longer its own
--   draining  this node is to take nothing new
--   differs   `count` other nodes have definition files that differ from this one's
--   canceled  the workflow is canceled (now, or was already); missing: there is no such workflow;
--   final     the workflow had ended before as `status`
--   fired     a fire's row was written: `item` is its place in the batch, `reason` the outcome
--   more      reap has ended as many attempts as one call may, and there are others
--   cursor    schedule `count`, its batch's number `item`, stands at `at` (another daemon moved it, or it moved as asked)
CREATE TYPE answer AS (
    kind text,
    workflow_id uuid,
    "position" integer,
    attempt integer,
    status text,
    reason text,
    item integer,
    count bigint,
    at timestamptz,
    node_id uuid,
    project text,
    name text,
    key text,
    is_hook boolean,
    periodic boolean,
    created timestamptz,
    scheduled timestamptz,
    action json,
    payload json,
    args json,
    results json,
    outcome json,
    oversize bigint,
    workflow_ids uuid[],
    positions integer[],
    attempts integer[]
);

-- One answer, by the names of what it carries.
CREATE FUNCTION say(kind text, workflow_id uuid DEFAULT NULL, "position" integer DEFAULT NULL,
                    attempt integer DEFAULT NULL, status text DEFAULT NULL, reason text DEFAULT NULL,
                    item integer DEFAULT NULL, count bigint DEFAULT NULL, at timestamptz DEFAULT NULL,
                    node_id uuid DEFAULT NULL, project text DEFAULT NULL, name text DEFAULT NULL,
                    workflow_ids uuid[] DEFAULT NULL, positions integer[] DEFAULT NULL,
                    attempts integer[] DEFAULT NULL) RETURNS answer
LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW (kind, workflow_id, "position", attempt, status, reason, item, count, at, node_id, project, name,
                NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, workflow_ids,
                positions, attempts)::answer
$$;

-- Locks workflows, by id, and tells their definitions and places, in the order of the ids; NULL for one that is gone.
CREATE FUNCTION lock_workflows(p_ids uuid[], OUT definitions bigint[], OUT rows tid[])
LANGUAGE plpgsql AS $$
BEGIN
    SELECT array_agg(l.definition_id ORDER BY i.place), array_agg(l.row ORDER BY i.place) INTO definitions, rows
      FROM (SELECT * FROM unnest(p_ids) WITH ORDINALITY AS u (id, place) ORDER BY u.id) i
      LEFT JOIN LATERAL (SELECT w.definition_id, w.ctid AS row FROM workflows w WHERE w.id = i.id FOR UPDATE) l ON true;
END $$;

-- Notes which tasks a batch has claimed. A batch that is sent again may find new ones, and ones that it had lost.
CREATE FUNCTION note_claim(p_batch uuid, p_node uuid, p_workflows uuid[], p_positions integer[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO claims AS c (batch, node_id, workflow_ids, positions, held)
    VALUES (p_batch, p_node, p_workflows, p_positions, cardinality(p_workflows))
        ON CONFLICT (batch) DO UPDATE
       SET held = c.held + excluded.held,
           (workflow_ids, positions) = (
               SELECT array_agg(a.workflow_id ORDER BY a.workflow_id, a.position),
                      array_agg(a.position ORDER BY a.workflow_id, a.position)
                 FROM (SELECT * FROM unnest(c.workflow_ids, c.positions) AS o (workflow_id, "position")
                       UNION
                       SELECT * FROM unnest(excluded.workflow_ids, excluded.positions)) a);
END $$;

-- Counts tasks that are no longer held; one item for each, the batch that claimed it. Once in a transaction. Where few of a
-- large batch are left, the others are forgotten: whoever looks for what is held looks at each.
-- Locks: the claims, by batch.
CREATE FUNCTION let_go(p_batches uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_sparse uuid[];
BEGIN
    PERFORM 1
       FROM (SELECT DISTINCT u.batch FROM unnest(p_batches) AS u (batch) ORDER BY u.batch) n
      CROSS JOIN LATERAL (SELECT 1 FROM claims c WHERE c.batch = n.batch FOR UPDATE) l;
    WITH less AS MATERIALIZED (
        SELECT c.row, c.held - n.count AS held
          FROM (SELECT u.batch, count(*)::integer AS count FROM unnest(p_batches) AS u (batch) GROUP BY u.batch) n
         CROSS JOIN LATERAL (SELECT c.ctid AS row, c.held FROM claims c WHERE c.batch = n.batch LIMIT 1) c
    ), over AS (
        DELETE FROM claims c USING less l WHERE c.ctid = l.row AND l.held <= 0
    ), rest AS (
        UPDATE claims c SET held = l.held FROM less l WHERE c.ctid = l.row AND l.held > 0
        RETURNING c.batch, c.held, pg_column_size(c.positions) AS bytes -- four for each; known without reading them
    )
    SELECT array_agg(r.batch) INTO v_sparse FROM rest r WHERE r.bytes > greatest(400, 16 * r.held);
    IF v_sparse IS NOT NULL THEN
        UPDATE claims c SET (workflow_ids, positions) = (
               SELECT coalesce(array_agg(h.workflow_id), '{}'), coalesce(array_agg(h.position), '{}')
                 FROM held_tasks h WHERE h.batch = c.batch)
         WHERE c.batch = ANY (v_sparse);
    END IF;
END $$;

-- What a task with these predecessors is given. `results` has the newest result of every task that it waited for, near
-- or far, by key; `args` is Director's: [], [r] or [[r1, r2, …]] in the order of `previous`. Only their size is told
-- where that is more than `p_max`.
CREATE FUNCTION task_input(p_workflow uuid, p_definition bigint, p_previous integer[], p_max bigint,
                           OUT args text, OUT results text, OUT size bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_newest integer[]; -- of those with one key
BEGIN
    IF p_previous = '{}' THEN
        args := '[]';
        results := '{}';
        size := 4;
        RETURN;
    END IF;
    WITH RECURSIVE ancestor ("position") AS (
        SELECT unnest(p_previous)
        UNION
        SELECT p FROM ancestor a
         CROSS JOIN LATERAL (SELECT d.previous FROM definition_tasks d
                              WHERE d.definition_id = p_definition AND d.position = a.position LIMIT 1) d,
               unnest(d.previous) AS p
    ), newest AS (
        SELECT DISTINCT ON (d.key) d.key, t.position, t.result_bytes
          FROM ancestor a
         CROSS JOIN LATERAL (SELECT d.key FROM definition_tasks d
                              WHERE d.definition_id = p_definition AND d.position = a.position LIMIT 1) d
         CROSS JOIN LATERAL (SELECT t.position, t.result_bytes FROM tasks t
                              WHERE t.workflow_id = p_workflow AND t.position = a.position
                                AND t.status = 'success' LIMIT 1) t
         ORDER BY d.key, t.position DESC
    )
    SELECT array_agg(n.position), sum(octet_length(n.key) + 4 + coalesce(n.result_bytes, 4)) INTO v_newest, size
      FROM newest n;
    size := coalesce(size, 0) + (SELECT sum(coalesce(t.result_bytes, 4) + 1) FROM tasks t
                                  WHERE t.workflow_id = p_workflow AND t.position = ANY (p_previous));
    IF size > p_max THEN
        RETURN;
    END IF;
    SELECT '[' || string_agg(coalesce(t.result::text, 'null'), ',' ORDER BY o.place) || ']' INTO args
      FROM unnest(p_previous) WITH ORDINALITY AS o ("position", place)
     CROSS JOIN LATERAL (SELECT t.result FROM tasks t
                          WHERE t.workflow_id = p_workflow AND t.position = o.position LIMIT 1) t;
    IF cardinality(p_previous) > 1 THEN
        args := '[' || args || ']';
    END IF;
    SELECT '{' || coalesce(string_agg(to_json(d.key) || ':' || coalesce(t.result::text, 'null'), ',' ORDER BY d.key), '')
           || '}' INTO results
      FROM unnest(v_newest) AS n ("position")
     CROSS JOIN LATERAL (SELECT d.key FROM definition_tasks d
                          WHERE d.definition_id = p_definition AND d.position = n.position LIMIT 1) d
     CROSS JOIN LATERAL (SELECT t.result FROM tasks t
                          WHERE t.workflow_id = p_workflow AND t.position = n.position LIMIT 1) t;
END $$;

-- What a hook is told of the workflow that has ended, and the result of the task whose failure came first.
CREATE FUNCTION hook_input(p_workflow workflows, OUT args text, OUT outcome text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_key text;
    v_result text := 'null';
BEGIN
    IF p_workflow.status = 'error' THEN
        SELECT d.key, coalesce(t.result::text, 'null') INTO v_key, v_result
          FROM tasks t
          JOIN definition_tasks d ON d.definition_id = p_workflow.definition_id AND d.position = t.position
         WHERE t.workflow_id = p_workflow.id AND t.status = 'error' AND NOT t.is_hook
         ORDER BY t.finished, t.position LIMIT 1;
        v_result := coalesce(v_result, 'null');
        args := '[' || v_result || ']';
    END IF;
    outcome := '{"reason":' || coalesce(to_json(p_workflow.reason)::text, 'null') || ',"result":' || v_result
               || ',"status":' || to_json(p_workflow.status)::text
               || ',"task":' || coalesce(to_json(v_key)::text, 'null') || '}';
END $$;

-- Tasks that this transaction has claimed, but that are too much for one answer, go back as if they had not been.
CREATE FUNCTION put_back(p_batch uuid, p_workflows uuid[], p_positions integer[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    UPDATE tasks t SET status = 'pending', held = false, due = v_now, updated = v_now, attempt = t.attempt - 1,
                       node_id = NULL, claim = NULL, started = NULL
      FROM unnest(p_workflows, p_positions) AS b (workflow_id, "position")
     CROSS JOIN LATERAL (SELECT t.ctid AS row FROM tasks t
                          WHERE t.workflow_id = b.workflow_id AND t.position = b.position LIMIT 1) o
     WHERE t.ctid = o.row;
    PERFORM let_go(array_fill(p_batch, ARRAY [cardinality(p_workflows)]));
    RETURN NEXT say('left', count => cardinality(p_workflows));
END $$;

-- The answer `claimed` for those of the tasks that have no action; without arrays where all have one.
CREATE FUNCTION claimed_noops(p_node uuid, p_workflows uuid[], p_positions integer[], p_attempts integer[],
                              p_definitions bigint[]) RETURNS answer
LANGUAGE plpgsql STABLE SET enable_hashjoin = on AS $$
BEGIN
    RETURN (
        WITH kind AS MATERIALIZED (
            SELECT k.*
              FROM (SELECT DISTINCT u.* FROM unnest(p_definitions, p_positions) AS u (definition_id, "position")) k
             CROSS JOIN LATERAL (SELECT d.action IS NULL AS is_noop FROM definition_tasks d
                                  WHERE d.definition_id = k.definition_id AND d.position = k.position LIMIT 1) d
             WHERE d.is_noop
        )
        SELECT say('claimed', node_id => p_node, workflow_ids => array_agg(c.workflow_id ORDER BY c.place),
                   positions => array_agg(c.position ORDER BY c.place), attempts => array_agg(c.attempt ORDER BY c.place))
          FROM unnest(p_workflows, p_positions, p_attempts, p_definitions) WITH ORDINALITY
               AS c (workflow_id, "position", attempt, definition_id, place)
          JOIN kind k ON k.definition_id = c.definition_id AND k.position = c.position);
END $$;

-- The answers `claimed` for tasks that this transaction has claimed, or had when it was first sent. Once what they are
-- given is more than `p_max_input` in all, the others are put back: an answer is in memory at once, here and there.
CREATE FUNCTION claimed_tasks(p_batch uuid, p_node uuid, p_workflows uuid[], p_positions integer[], p_attempts integer[],
                              p_definitions bigint[], p_max_input bigint) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_noops answer := claimed_noops(p_node, p_workflows, p_positions, p_attempts, p_definitions);
    v_workflow workflows;
    v_task definition_tasks;
    v_before definition_tasks;  -- the one before it, as long as it is of the same workflow
    v_input record;
    v_args text;
    v_outcome text;
    v_bytes bigint := 0;
    v_back uuid[];
    v_back_positions integer[];
BEGIN
    IF v_noops.workflow_ids IS NOT NULL THEN
        RETURN NEXT v_noops;
        IF cardinality(v_noops.workflow_ids) = cardinality(p_workflows) THEN
            RETURN;
        END IF;
    END IF;
    FOR i IN 1 .. cardinality(p_workflows) LOOP
        SELECT * INTO v_task FROM definition_tasks d WHERE d.definition_id = p_definitions[i] AND d.position = p_positions[i];
        CONTINUE WHEN v_task.action IS NULL;
        IF v_bytes > p_max_input THEN
            v_back := v_back || p_workflows[i];
            v_back_positions := v_back_positions || p_positions[i];
            CONTINUE;
        END IF;
        IF v_workflow.id IS DISTINCT FROM p_workflows[i] THEN
            SELECT * INTO v_workflow FROM workflows w WHERE w.id = p_workflows[i];
            v_before := NULL;
        END IF;
        IF v_before.previous IS DISTINCT FROM v_task.previous THEN -- else they share it
            v_input := task_input(p_workflows[i], p_definitions[i], v_task.previous, p_max_input);
        END IF;
        v_before := v_task;
        v_args := v_input.args;
        v_outcome := NULL;
        IF v_task.role <> 'task' THEN
            SELECT coalesce(h.args, v_input.args), h.outcome INTO v_args, v_outcome FROM hook_input(v_workflow) h;
        END IF;
        v_bytes := v_bytes + v_workflow.payload_bytes + coalesce(octet_length(v_args), 0)
                   + coalesce(octet_length(v_input.results), 0);
        RETURN QUERY
        SELECT 'claimed', p_workflows[i], p_positions[i], p_attempts[i], NULL::text, NULL::text, NULL::integer, NULL::bigint,
               NULL::timestamptz, p_node, v_workflow.project, v_workflow.name, v_task.key, v_task.role <> 'task',
               v_workflow.periodic, v_workflow.created, v_workflow.scheduled, v_task.action, v_workflow.payload,
               v_args::json, v_input.results::json, v_outcome::json, CASE WHEN v_input.args IS NULL THEN v_input.size END,
               NULL::uuid[], NULL::integer[], NULL::integer[];
    END LOOP;
    IF v_back IS NOT NULL THEN
        RETURN QUERY SELECT b.* FROM put_back(p_batch, v_back, v_back_positions) b;
    END IF;
END $$;

-- Locks what this batch claimed before its answer was lost, and answers those of the tasks that are still this node's.
-- Locks: their workflows, by id.
CREATE FUNCTION claimed_before(p_batch uuid, p_node uuid, p_max_input bigint) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_workflows(c.workflow_ids) FROM claims c WHERE c.batch = p_batch;
    RETURN QUERY
    SELECT r.* FROM (
        SELECT array_agg(h.workflow_id) AS workflows, array_agg(h.position) AS positions,
               array_agg(h.attempt) AS attempts, array_agg(w.definition_id) AS definitions
          FROM held_tasks h
         CROSS JOIN LATERAL (SELECT * FROM workflows w WHERE w.id = h.workflow_id LIMIT 1) w
         WHERE h.batch = p_batch AND h.node_id = p_node AND h.status = 'progress'
        HAVING count(*) > 0
    ) c CROSS JOIN LATERAL claimed_tasks(p_batch, p_node, c.workflows, c.positions, c.attempts, c.definitions,
                                         p_max_input) r;
END $$;
