-- The engine: every move of a workflow or a task is made by one of these functions.
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

-- What every engine function answers: a set of these, of several kinds.
--   claimed   a task that this node now owns and must start: which, what it is and its input; of one without an action
--             (noop) which alone. `oversize` is set instead of args and results where these are larger than the node takes
--   ended     a workflow became `status`
--   stop      an attempt that must be stopped: held by `node_id`
--   room      an instance of project.name ended whose definition has a concurrency limit: admit may have work
--   left      `count` tasks are ready, but were not claimed in this call
--   later     a further attempt of a task is due at `at`
--   skipped   `count` tasks that claim found belong to workflows that somebody else holds just now
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
    oversize bigint
);

-- One answer, by the names of what it carries.
CREATE FUNCTION say(kind text, workflow_id uuid DEFAULT NULL, "position" integer DEFAULT NULL,
                    attempt integer DEFAULT NULL, status text DEFAULT NULL, reason text DEFAULT NULL,
                    item integer DEFAULT NULL, count bigint DEFAULT NULL, at timestamptz DEFAULT NULL,
                    node_id uuid DEFAULT NULL, project text DEFAULT NULL, name text DEFAULT NULL) RETURNS answer
LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW (kind, workflow_id, "position", attempt, status, reason, item, count, at, node_id, project, name,
                NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::answer
$$;

-- Locks workflows, by id, and tells their definitions, in the order of the ids; NULL for one that is gone.
CREATE FUNCTION lock_workflows(p_ids uuid[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_definitions bigint[];
BEGIN
    SELECT array_agg(l.definition_id ORDER BY i.place) INTO v_definitions
      FROM (SELECT * FROM unnest(p_ids) WITH ORDINALITY AS u (id, place) ORDER BY u.id) i
      LEFT JOIN LATERAL (SELECT w.definition_id FROM workflows w WHERE w.id = i.id FOR UPDATE) l ON true;
    RETURN v_definitions;
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

-- Counts tasks that are no longer held; one item for each, the batch that claimed it. Once in a transaction.
-- Locks: the claims, by batch.
CREATE FUNCTION let_go(p_batches uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
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
    )
    UPDATE claims c SET held = l.held FROM less l WHERE c.ctid = l.row AND l.held > 0;
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

-- The answers `claimed` for tasks that this transaction has claimed, or had when it was first sent. Once what they are
-- given is more than `p_max_input` in all, the others are put back: an answer is in memory at once, here and there.
CREATE FUNCTION claimed_tasks(p_batch uuid, p_node uuid, p_workflows uuid[], p_positions integer[], p_attempts integer[],
                              p_definitions bigint[], p_max_input bigint) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_noops bigint;
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
    RETURN QUERY
    SELECT (r.a).*
      FROM (SELECT say('claimed', c.workflow_id, c.position, c.attempt, node_id => p_node) AS a
              FROM unnest(p_workflows, p_positions, p_attempts, p_definitions)
                   AS c (workflow_id, "position", attempt, definition_id)
             CROSS JOIN LATERAL (SELECT d.action IS NULL AS is_noop FROM definition_tasks d
                                  WHERE d.definition_id = c.definition_id AND d.position = c.position LIMIT 1) d
             WHERE d.is_noop) r;
    GET DIAGNOSTICS v_noops = ROW_COUNT;
    IF v_noops = cardinality(p_workflows) THEN
        RETURN;
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
               v_args::json, v_input.results::json, v_outcome::json, CASE WHEN v_input.args IS NULL THEN v_input.size END;
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

-- Claims up to `p_slots` tasks that are due in this node's queues, the oldest first over all workflows.
-- Locks: the workflows of its candidates in id order, leaving out those that another transaction holds: the answer
-- `skipped` says so, and the caller asks again soon. So it does of a candidate that has changed before its workflow was
-- locked, and is not where it was found.
CREATE FUNCTION claim(p_batch uuid, p_node uuid, p_slots integer, p_repeat boolean) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_queues text[];
    v_max_input bigint;
    v_now timestamptz := clock_timestamp();
    v_rows tid[];
    v_workflows uuid[];
    v_definitions bigint[];
    v_positions integer[];
    v_attempts integer[];
    v_candidates integer;   -- that fit into the slots
BEGIN
    SELECT CASE WHEN n.state = 'active' THEN n.queues END, n.max_input INTO v_queues, v_max_input
      FROM nodes n WHERE n.id = p_node;
    IF p_repeat THEN
        RETURN QUERY SELECT * FROM claimed_before(p_batch, p_node, v_max_input);
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    IF v_queues IS NULL OR p_slots <= 0 THEN
        RETURN;
    END IF;
    IF v_queues = '{*}' THEN
        -- Every queue that has something due: a walk from name to name over the index.
        WITH RECURSIVE known (queue) AS (
            (SELECT t.queue FROM tasks t WHERE t.due IS NOT NULL ORDER BY t.queue LIMIT 1)
            UNION ALL
            SELECT (SELECT t.queue FROM tasks t WHERE t.due IS NOT NULL AND t.queue > known.queue
                     ORDER BY t.queue LIMIT 1)
              FROM known WHERE known.queue IS NOT NULL
        )
        SELECT coalesce(array_agg(known.queue), '{}') INTO v_queues FROM known WHERE known.queue IS NOT NULL;
    END IF;

    -- A few more than there are slots for, so that one workflow that is locked for long does not keep all others back.
    SELECT array_agg(c.row), array_agg(c.workflow_id), least(count(*), p_slots) INTO v_rows, v_workflows, v_candidates
      FROM (SELECT o.*
              FROM unnest(v_queues) AS q (queue)
             CROSS JOIN LATERAL (SELECT t.ctid AS row, t.workflow_id, t.position, t.due
                                   FROM tasks t
                                  WHERE t.queue = q.queue AND t.due <= v_now
                                  ORDER BY t.due, t.workflow_id, t.position LIMIT p_slots + 8) o
             ORDER BY o.due, o.workflow_id, o.position LIMIT p_slots + 8) c;
    IF v_candidates = 0 THEN
        RETURN;
    END IF;
    SELECT array_agg(o.row), array_agg(o.id), array_agg(o.definition_id) INTO v_rows, v_workflows, v_definitions
      FROM (SELECT c.row, c.id, l.definition_id
              FROM (SELECT * FROM unnest(v_rows, v_workflows) WITH ORDINALITY AS u (row, id, place) ORDER BY u.id) c
             CROSS JOIN LATERAL (SELECT w.definition_id FROM workflows w WHERE w.id = c.id FOR UPDATE SKIP LOCKED) l
             ORDER BY c.place LIMIT p_slots) o;

    v_now := clock_timestamp();
    WITH taken AS (
        UPDATE tasks t
           SET status = 'progress', held = true, due = NULL, node_id = p_node, claim = p_batch,
               attempt = t.attempt + 1, started = v_now, updated = v_now, finished = NULL,
               exit_status = NULL, signal = NULL, peak_memory = NULL, cpu_us = NULL, reason = NULL, result = NULL
          FROM unnest(v_rows, v_workflows, v_definitions) AS c (row, workflow_id, definition_id)
         WHERE t.ctid = c.row AND t.workflow_id = c.workflow_id AND t.status = 'pending'
           AND coalesce(t.due <= v_now, false)
        RETURNING t.workflow_id, t.position, t.attempt, c.definition_id
    ), begun AS (
        UPDATE workflows w SET status = 'progress', started = v_now, updated = v_now
          FROM taken k
         CROSS JOIN LATERAL (SELECT w.ctid AS row FROM workflows w
                              WHERE w.id = k.workflow_id AND w.status = 'pending' LIMIT 1) o
         WHERE w.ctid = o.row
    )
    SELECT array_agg(k.workflow_id), array_agg(k.position), array_agg(k.attempt), array_agg(k.definition_id)
      INTO v_workflows, v_positions, v_attempts, v_definitions
      FROM taken k;

    IF v_workflows IS NOT NULL THEN
        PERFORM note_claim(p_batch, p_node, v_workflows, v_positions);
        RETURN QUERY SELECT * FROM claimed_tasks(p_batch, p_node, v_workflows, v_positions, v_attempts, v_definitions,
                                                 v_max_input);
    END IF;
    IF coalesce(cardinality(v_workflows), 0) < v_candidates THEN
        RETURN NEXT say('skipped', count => v_candidates - coalesce(cardinality(v_workflows), 0));
    END IF;
END $$;

-- Ends attempts: the common part of finish and reap. The caller holds the workflows' locks. An attempt counts only if
-- status, node and attempt still match. Failures go before successes: what is downstream of one becomes canceled, and a
-- success no longer counts down a canceled task. Then workflows whose tasks are all final become final themselves and
-- get their hook. Up to `p_slots` of the tasks that became ready are claimed for `p_node`. An attempt that does not count
-- any more only gives back its hold.
CREATE FUNCTION settle(p_batch uuid, p_node uuid, p_slots integer, p_queues text[], p_max_input bigint,
                       p_workflows uuid[], p_definitions bigint[], p_positions integer[], p_attempts integer[],
                       p_nodes uuid[], p_successes boolean[], p_retryable boolean[], p_results json[], p_reasons text[],
                       p_exits integer[], p_signals integer[], p_peaks bigint[], p_cpus bigint[])
RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_check uuid[];         -- workflows that may have ended: nothing behind these attempts goes on
    v_again timestamptz;    -- when the first of the next attempts is due
    v_claimed uuid[];
    v_claimed_definitions bigint[];
    v_claimed_positions integer[];
    v_left bigint;
    v_claims uuid[];        -- of the attempts that end
    v_hooks boolean;        -- any of the definitions has one
BEGIN
    WITH RECURSIVE hit AS MATERIALIZED (
        SELECT t.row, t.workflow_id, t.position, t.attempt, t.is_hook, t.node_id, t.claim, t.started, i.definition_id, d.next,
               i.success, i.result, i.reason, i.exit_status, i.signal, i.peak_memory, i.cpu_us,
               NOT i.success AND i.retryable AND t.attempt - t.spared <= d.retry_limit AS again,
               make_interval(secs => least(d.retry_interval * power(d.retry_backoff, least(t.attempt - t.spared - 1, 64)),
                                           d.retry_max_interval)) AS delay
          FROM unnest(p_workflows, p_definitions, p_positions, p_attempts, p_nodes, p_successes, p_retryable,
                      p_results, p_reasons, p_exits, p_signals, p_peaks, p_cpus)
               AS i (workflow_id, definition_id, "position", attempt, node_id, success, retryable,
                     result, reason, exit_status, signal, peak_memory, cpu_us)
         CROSS JOIN LATERAL (SELECT t.ctid AS row, t.* FROM tasks t
                              WHERE t.workflow_id = i.workflow_id AND t.position = i.position LIMIT 1) t
         CROSS JOIN LATERAL (SELECT * FROM definition_tasks d
                              WHERE d.definition_id = i.definition_id AND d.position = i.position LIMIT 1) d
         WHERE t.status = 'progress' AND t.node_id = i.node_id AND t.attempt = i.attempt
    ), ended AS (   -- once each, however often the batch names them
        UPDATE tasks t
           SET status = CASE WHEN h.again THEN 'pending' WHEN h.success THEN 'success' ELSE 'error' END::status,
               held = false,
               due = CASE WHEN h.again THEN v_now + h.delay END,
               finished = CASE WHEN NOT h.again THEN v_now END,
               updated = v_now, result = h.result, reason = h.reason, exit_status = h.exit_status, signal = h.signal,
               peak_memory = h.peak_memory, cpu_us = h.cpu_us
          FROM hit h
         WHERE t.ctid = h.row
        RETURNING t.workflow_id, h.definition_id, t.position, h.next, t.attempt, h.is_hook, t.node_id, h.claim, h.started,
                  h.success, h.again, h.delay, t.result, t.reason, t.exit_status, t.signal, t.peak_memory, t.cpu_us
    ), kept AS (
        INSERT INTO attempts (workflow_id, position, attempt, node_id, started, finished, exit_status, signal, peak_memory,
                              cpu_us, reason, result)
        SELECT e.workflow_id, e.position, e.attempt, e.node_id, e.started, v_now, e.exit_status, e.signal, e.peak_memory,
               e.cpu_us, e.reason, e.result
          FROM ended e WHERE e.again
    ), down (workflow_id, definition_id, "position") AS (
        SELECT e.workflow_id, e.definition_id, n
          FROM ended e, unnest(e.next) AS n WHERE NOT e.success AND NOT e.again AND NOT e.is_hook
        UNION
        SELECT o.workflow_id, o.definition_id, n
          FROM down o
         CROSS JOIN LATERAL (SELECT * FROM definition_tasks d
                              WHERE d.definition_id = o.definition_id AND d.position = o.position LIMIT 1) d,
               unnest(d.next) AS n
    ), step AS (
        SELECT e.workflow_id, e.definition_id, n AS "position", count(*)::integer AS met
          FROM ended e, unnest(e.next) AS n WHERE e.success GROUP BY e.workflow_id, e.definition_id, n
    ), change AS (
        SELECT t.row, t.workflow_id, s.definition_id, t.position, false AS cancel, t.waiting - s.met AS waiting,
               t.waiting = s.met AND (p_queues = '{*}' OR t.queue = ANY (p_queues)) AS mine
          FROM step s
         CROSS JOIN LATERAL (SELECT t.ctid AS row, t.* FROM tasks t
                              WHERE t.workflow_id = s.workflow_id AND t.position = s.position LIMIT 1) t
         WHERE t.status = 'pending'
           AND (s.workflow_id, s.position) NOT IN (SELECT o.workflow_id, o.position FROM down o)
        UNION ALL
        SELECT t.row, t.workflow_id, o.definition_id, t.position, true, t.waiting, false
          FROM down o
         CROSS JOIN LATERAL (SELECT t.ctid AS row, t.* FROM tasks t
                              WHERE t.workflow_id = o.workflow_id AND t.position = o.position LIMIT 1) t
         WHERE t.status = 'pending'
    ), placed AS (
        SELECT c.*,
               c.mine AND row_number() OVER (PARTITION BY c.mine ORDER BY c.workflow_id, c.position) <= p_slots AS take
          FROM change c
    ), moved AS (
        UPDATE tasks t
           SET status = CASE WHEN p.cancel THEN 'canceled' WHEN p.take THEN 'progress' ELSE 'pending' END::status,
               waiting = p.waiting,
               due = CASE WHEN p.waiting = 0 AND NOT p.cancel AND NOT p.take THEN v_now END,
               held = p.take,
               node_id = CASE WHEN p.take THEN p_node END,
               claim = CASE WHEN p.take THEN p_batch END,
               attempt = CASE WHEN p.take THEN 1 ELSE 0 END,
               started = CASE WHEN p.take THEN v_now END,
               finished = CASE WHEN p.cancel THEN v_now END,
               reason = CASE WHEN p.cancel THEN 'upstream_failed' END,
               updated = v_now
          FROM placed p
         WHERE t.ctid = p.row
        RETURNING t.workflow_id, p.definition_id, t.position, p.take, t.due
    )
    SELECT (SELECT array_agg(o.workflow_id)
              FROM (SELECT e.workflow_id FROM ended e WHERE NOT e.is_hook AND NOT e.again
                    EXCEPT
                    SELECT c.workflow_id FROM change c WHERE NOT c.cancel) o),
           (SELECT v_now + min(e.delay) FROM ended e WHERE e.again),
           (SELECT array_agg(e.claim) FROM ended e),
           array_agg(m.workflow_id) FILTER (WHERE m.take), array_agg(m.definition_id) FILTER (WHERE m.take),
           array_agg(m.position) FILTER (WHERE m.take), count(m.due)
      INTO v_check, v_again, v_claims, v_claimed, v_claimed_definitions, v_claimed_positions, v_left
      FROM moved m;

    IF v_check IS NOT NULL THEN
        SELECT bool_or(d.role <> 'task') INTO v_hooks
          FROM (SELECT DISTINCT u.id FROM unnest(p_definitions) AS u (id)) i
         CROSS JOIN LATERAL (SELECT d.role FROM definition_tasks d WHERE d.definition_id = i.id
                              ORDER BY d.position DESC LIMIT 1) d; -- hooks come last
        RETURN QUERY
        WITH over AS (
            UPDATE workflows w
               SET status = CASE WHEN f.failed THEN 'error' ELSE 'success' END::status,
                   reason = CASE WHEN f.failed
                                 THEN (SELECT t.reason FROM tasks t     -- of the failure that came first
                                        WHERE t.workflow_id = c.id AND NOT t.is_hook AND t.status = 'error'
                                        ORDER BY t.finished, t.position LIMIT 1) END,
                   finished = v_now, updated = v_now, deadline = NULL, limited = NULL
              FROM unnest(v_check) AS c (id)
             CROSS JOIN LATERAL (SELECT w.ctid AS row, w.limited IS NOT NULL AS makes_room FROM workflows w
                                  WHERE w.id = c.id AND w.status = 'progress' LIMIT 1) o
             CROSS JOIN LATERAL (SELECT bool_or(t.status IN ('pending', 'progress')) AS goes_on,
                                        bool_or(t.status = 'error') AS failed
                                   FROM tasks t WHERE t.workflow_id = c.id AND NOT t.is_hook) f
             WHERE w.ctid = o.row AND NOT f.goes_on
            RETURNING w.id, w.status, w.reason, w.definition_id, w.project, w.name, o.makes_room
        ), hooked AS (
            INSERT INTO tasks (workflow_id, position, status, is_hook, waiting, queue, due, created, updated)
            SELECT o.id, d.position, 'pending', true, 0, d.queue, v_now, v_now, v_now
              FROM over o
              JOIN definition_tasks d ON d.definition_id = o.definition_id AND d.role = o.status::text
             WHERE v_hooks
            RETURNING 1
        )
        SELECT (e.a).* FROM (SELECT say('ended', o.id, status => o.status::text, reason => o.reason,
                                        project => o.project, name => o.name) AS a FROM over o) e
        UNION ALL
        SELECT a.* FROM (SELECT DISTINCT o.project, o.name FROM over o WHERE o.makes_room) r
         CROSS JOIN LATERAL say('room', project => r.project, name => r.name) AS a
        UNION ALL
        SELECT a.* FROM (SELECT count(*) AS count FROM hooked) h
         CROSS JOIN LATERAL say('left', count => h.count) AS a WHERE h.count > 0;
    END IF;

    IF v_claimed IS NOT NULL THEN
        PERFORM note_claim(p_batch, p_node, v_claimed, v_claimed_positions);
        RETURN QUERY SELECT * FROM claimed_tasks(p_batch, p_node, v_claimed, v_claimed_positions,
                                                 array_fill(1, ARRAY [cardinality(v_claimed)]), v_claimed_definitions,
                                                 p_max_input);
    END IF;
    IF v_left > 0 THEN
        RETURN NEXT say('left', count => v_left);
    END IF;
    IF v_again IS NOT NULL THEN
        RETURN NEXT say('later', at => v_again);
    END IF;
    IF coalesce(cardinality(v_claims), 0) < cardinality(p_workflows) THEN
        RETURN QUERY SELECT * FROM release(p_workflows, p_positions, p_attempts, p_nodes, v_claims);
    ELSE
        PERFORM let_go(v_claims);
    END IF;
END $$;

-- Ends attempts of this node, one item each.
-- Locks: the workflows, by id, then the claims by batch.
CREATE FUNCTION finish(p_batch uuid, p_node uuid, p_slots integer, p_repeat boolean,
                       p_workflows uuid[], p_positions integer[], p_attempts integer[], p_successes boolean[],
                       p_retryable boolean[], p_results json[], p_reasons text[], p_exits integer[],
                       p_signals integer[], p_peaks bigint[], p_cpus bigint[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_queues text[];
    v_max_input bigint;
    v_definitions bigint[];
BEGIN
    IF p_repeat THEN -- what it claimed, too, in one order
        PERFORM lock_workflows(p_workflows || coalesce((SELECT c.workflow_ids FROM claims c WHERE c.batch = p_batch), '{}'));
    END IF;
    v_definitions := lock_workflows(p_workflows);

    SELECT CASE WHEN n.state = 'active' THEN n.queues END, n.max_input INTO v_queues, v_max_input
      FROM nodes n WHERE n.id = p_node;
    IF p_repeat THEN
        RETURN QUERY SELECT * FROM claimed_before(p_batch, p_node, v_max_input);
    END IF;
    RETURN QUERY
    SELECT * FROM settle(p_batch, p_node, CASE WHEN v_queues IS NULL THEN 0 ELSE p_slots END, v_queues, v_max_input,
                         p_workflows, v_definitions, p_positions, p_attempts,
                         array_fill(p_node, ARRAY [cardinality(p_workflows)]), p_successes, p_retryable, p_results,
                         p_reasons, p_exits, p_signals, p_peaks, p_cpus);
END $$;

-- Gives back the hold of canceled and timed out attempts whose processes are gone, and lets go what the caller has ended
-- (`p_claims`, an item for each). A workflow of which nothing is held any more takes up its `concurrency` no longer:
-- `room`. The caller holds the workflows' locks.
-- Locks: the claims, by batch.
CREATE FUNCTION release(p_workflows uuid[], p_positions integer[], p_attempts integer[], p_nodes uuid[],
                        p_claims uuid[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_workflows uuid[];
    v_claims uuid[];
BEGIN
    WITH freed AS (
        UPDATE tasks t SET held = false
          FROM unnest(p_workflows, p_positions, p_attempts, p_nodes) AS i (workflow_id, "position", attempt, node_id)
         CROSS JOIN LATERAL (SELECT t.ctid AS row FROM tasks t
                              WHERE t.workflow_id = i.workflow_id AND t.position = i.position
                                AND t.attempt = i.attempt AND t.node_id = i.node_id AND coalesce(t.held, false)
                                AND t.status IN ('canceled', 'error') LIMIT 1) o
         WHERE t.ctid = o.row
        RETURNING t.workflow_id, t.claim
    )
    SELECT array_agg(f.workflow_id), array_agg(f.claim) INTO v_workflows, v_claims FROM freed f;
    PERFORM let_go(p_claims || v_claims);
    RETURN QUERY
    WITH over AS (
        UPDATE workflows w SET limited = NULL
          FROM (SELECT DISTINCT u.id FROM unnest(v_workflows) AS u (id)) f
         CROSS JOIN LATERAL (SELECT w.ctid AS row FROM workflows w
                              WHERE w.id = f.id AND w.finished IS NOT NULL
                                AND coalesce(w.limited, '') <> '' AND NOT is_held(w.id) LIMIT 1) o
         WHERE w.ctid = o.row
        RETURNING w.project, w.name
    )
    SELECT a.* FROM (SELECT DISTINCT o.project, o.name FROM over o) r
     CROSS JOIN LATERAL say('room', project => r.project, name => r.name) AS a;
END $$;

-- Inserts workflows and their tasks; the common part of launch and fire. Of the tasks without a predecessor up to
-- `p_slots` are claimed at once, in the order of the items, unless their workflow is queued. The workflow of an empty
-- definition is `success` from the start. What is there already (the batch is sent again) is left as it is, the rest is
-- added: it was refused the first time, and nobody heard of that. A batch whose first sending is just being committed
-- fails with serialization_failure, to be sent again.
CREATE FUNCTION add_workflows(p_batch uuid, p_node uuid, p_slots integer, p_queues text[], p_max_input bigint,
                              p_ids uuid[], p_definitions bigint[], p_created timestamptz[], p_payloads json[],
                              p_comments text[], p_relaunched uuid[], p_scheduled timestamptz[],
                              p_queued boolean[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_missing bigint;
    v_claimed uuid[];
    v_claimed_definitions bigint[];
    v_claimed_positions integer[];
    v_left bigint;
BEGIN
    IF EXISTS (SELECT 1 FROM unnest(p_definitions) AS i (id)
                WHERE NOT EXISTS (SELECT 1 FROM definitions d WHERE d.id = i.id)) THEN
        RAISE foreign_key_violation USING MESSAGE = 'this version of the definition is not registered';
    END IF;
    WITH item AS MATERIALIZED (
        -- `first` are its tasks that this node may claim at once, `before` those of the items before it
        SELECT i.*, f.empty, f.first, sum(f.first) OVER (ORDER BY i.place) - f.first AS before
          FROM unnest(p_ids, p_definitions, p_created, p_payloads, p_comments, p_relaunched, p_scheduled, p_queued)
               WITH ORDINALITY
               AS i (id, definition_id, created, payload, comment, relaunched, scheduled, queued, place)
          LEFT JOIN LATERAL (SELECT true AS is_there FROM workflows w WHERE w.id = i.id LIMIT 1) w ON true
         CROSS JOIN LATERAL (
              SELECT count(*) = 0 AS empty,
                     count(*) FILTER (WHERE t.waiting = 0 AND NOT i.queued
                                        AND (p_queues = '{*}' OR t.queue = ANY (p_queues))) AS first
                FROM definition_tasks t
               WHERE t.definition_id = i.definition_id AND t.role = 'task') f
         WHERE w.is_there IS NULL
    ), added AS (
        INSERT INTO workflows (id, definition_id, project, name, status, periodic, limited, queued, created, updated, started,
                               finished, deadline, scheduled, relaunched_from, comment, payload)
        SELECT i.id, i.definition_id, d.project, d.name,
               CASE WHEN i.empty THEN 'success' WHEN b.begun THEN 'progress' ELSE 'pending' END::status,
               i.scheduled IS NOT NULL, CASE WHEN d.concurrency IS NOT NULL AND NOT i.empty THEN d.fullname END,
               i.queued AND NOT i.empty, i.created, greatest(i.created, v_now),
               CASE WHEN i.empty OR b.begun THEN v_now END, CASE WHEN i.empty THEN v_now END,
               CASE WHEN NOT i.empty AND NOT i.queued THEN v_now + make_interval(secs => d.timeout) END,
               i.scheduled, i.relaunched, i.comment, i.payload
          FROM item i
          JOIN definitions d ON d.id = i.definition_id
         CROSS JOIN LATERAL (SELECT i.first > 0 AND i.before < p_slots) AS b (begun)
            ON CONFLICT (id) DO NOTHING
        RETURNING 1
    ), planned AS (
        SELECT i.id, i.definition_id, i.created, i.queued, d.position, d.role, d.waiting, d.queue,
               d.waiting = 0 AND NOT i.queued AND d.role = 'task'
               AND (p_queues = '{*}' OR d.queue = ANY (p_queues)) AS mine, i.before
          FROM item i
         CROSS JOIN LATERAL (SELECT * FROM definition_tasks d
                              WHERE d.definition_id = i.definition_id
                                AND (d.role = 'task' OR d.role = 'success' AND i.empty) OFFSET 0) d
    ), placed AS MATERIALIZED (
        SELECT p.*, NOT p.queued AND (p.waiting = 0 OR p.role <> 'task') AS ready,
               coalesce(p.mine AND p.before + row_number() OVER (PARTITION BY p.id, p.mine ORDER BY p.position)
                             <= p_slots, false) AS take
          FROM planned p
    ), filled AS (
        INSERT INTO tasks AS t (workflow_id, position, status, is_hook, held, waiting, attempt, queue, due, node_id,
                                claim, created, updated, started)
        SELECT p.id, p.position, CASE WHEN p.take THEN 'progress' ELSE 'pending' END::status, p.role <> 'task', p.take,
               CASE WHEN p.role = 'task' THEN p.waiting ELSE 0 END, p.take::integer, p.queue,
               CASE WHEN p.ready AND NOT p.take THEN v_now END,
               CASE WHEN p.take THEN p_node END, CASE WHEN p.take THEN p_batch END, p.created, v_now,
               CASE WHEN p.take THEN v_now END
          FROM placed p
            ON CONFLICT DO NOTHING
    )
    SELECT array_agg(p.id) FILTER (WHERE p.take), array_agg(p.definition_id) FILTER (WHERE p.take),
           array_agg(p.position) FILTER (WHERE p.take), count(*) FILTER (WHERE p.ready AND NOT p.take),
           (SELECT count(*) FROM item) - (SELECT count(*) FROM added)
      INTO v_claimed, v_claimed_definitions, v_claimed_positions, v_left, v_missing
      FROM placed p;
    IF v_missing > 0 THEN
        RAISE serialization_failure USING MESSAGE = 'the same batch is being committed by its first sending';
    END IF;
    IF v_claimed IS NOT NULL THEN
        PERFORM note_claim(p_batch, p_node, v_claimed, v_claimed_positions);
        RETURN QUERY SELECT * FROM claimed_tasks(p_batch, p_node, v_claimed, v_claimed_positions,
                                                 array_fill(1, ARRAY [cardinality(v_claimed)]), v_claimed_definitions,
                                                 p_max_input);
    END IF;
    IF v_left > 0 THEN
        RETURN NEXT say('left', count => v_left);
    END IF;
END $$;

-- Locks the admissions of those of the definitions that have a limit, by fullname, and tells their names in that order;
-- NULL when none has.
CREATE FUNCTION lock_admissions(p_definitions bigint[]) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    v_names text[];
BEGIN
    SELECT array_agg(DISTINCT d.fullname ORDER BY d.fullname) INTO v_names
      FROM unnest(p_definitions) AS i (id)
     CROSS JOIN LATERAL (SELECT d.fullname FROM definitions d
                          WHERE d.id = i.id AND d.concurrency IS NOT NULL LIMIT 1) d;
    PERFORM 1 FROM unnest(v_names) AS n (fullname)
      CROSS JOIN LATERAL (SELECT 1 FROM admissions a WHERE a.fullname = n.fullname FOR UPDATE) l;
    RETURN v_names;
END $$;

-- How many instances of each definition take up its `concurrency`: those that are unfinished and not queued, and those
-- that were canceled or timed out and whose processes are not gone yet.
CREATE FUNCTION occupied(p_names text[]) RETURNS bigint[]
LANGUAGE sql AS $$
    SELECT array_agg((SELECT count(*) FROM workflows w WHERE w.limited = n.fullname AND NOT w.queued) ORDER BY n.place)
      FROM unnest(p_names) WITH ORDINALITY AS n (fullname, place)
$$;

-- Does the workflow that ends now still take up its `concurrency`, until its processes are gone?
CREATE FUNCTION is_held(p_workflow uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM tasks t WHERE t.workflow_id = p_workflow AND coalesce(t.held, false) AND NOT t.is_hook)
$$;

-- Cancels unfinished workflows whose locks the caller holds.
CREATE FUNCTION cancel_locked(p_ids uuid[], p_reason text) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH over AS (
        UPDATE workflows w SET status = 'canceled', reason = p_reason, queued = false, finished = v_now, updated = v_now,
                               deadline = NULL,
                               limited = CASE WHEN w.limited IS NOT NULL AND is_held(w.id) THEN w.limited END
         WHERE w.id = ANY (p_ids) AND w.status IN ('pending', 'progress')
        RETURNING w.id, w.definition_id, w.project, w.name, w.limited
    ), gone AS (
        UPDATE tasks t SET status = 'canceled', reason = p_reason, due = NULL, finished = v_now, updated = v_now
          FROM over o
         WHERE t.workflow_id = o.id AND t.status IN ('pending', 'progress') AND NOT t.is_hook
        RETURNING t.workflow_id, t.position, t.attempt, t.held, t.node_id
    )
    SELECT a.* FROM gone g
     CROSS JOIN LATERAL say('stop', g.workflow_id, g.position, g.attempt, node_id => g.node_id) AS a
     WHERE g.held
    UNION ALL
    SELECT a.* FROM over o
     CROSS JOIN LATERAL say('canceled', o.id, project => o.project, name => o.name) AS a
    UNION ALL
    SELECT a.*
      FROM (SELECT DISTINCT o.project, o.name
              FROM over o JOIN definitions d ON d.id = o.definition_id AND d.concurrency IS NOT NULL
             WHERE o.limited IS NULL) r
     CROSS JOIN LATERAL say('room', project => r.project, name => r.name) AS a;
END $$;

-- Cancels workflows: their unfinished tasks, hooks excepted, become canceled, attempts that run are to be stopped.
-- Locks: the workflows, by id.
CREATE FUNCTION cancel(p_ids uuid[], p_reason text) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_workflows(p_ids);
    RETURN QUERY
    SELECT a.* FROM unnest(p_ids) AS i (id)
      LEFT JOIN workflows w ON w.id = i.id
     CROSS JOIN LATERAL say(CASE WHEN w.id IS NULL THEN 'missing' WHEN w.status = 'canceled' THEN 'canceled'
                                 ELSE 'final' END, i.id, status => w.status::text) AS a
     WHERE w.id IS NULL OR w.finished IS NOT NULL;
    RETURN QUERY SELECT * FROM cancel_locked(p_ids, p_reason);
END $$;

-- Lets queued instances of the definitions begin while their `concurrency` has room, the oldest first. The limit is that
-- of a definition's newest version. The caller holds the admissions.
-- Locks: the workflows, by id.
CREATE FUNCTION admit_queued(p_names text[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz;
    v_occupied bigint[] := occupied(p_names);
    v_ids uuid[];
    v_left bigint;
BEGIN
    -- A name is asked for as a range: for an equal one the planner could take the order from the primary key, and walk
    -- along all of it.
    SELECT array_agg(q.id) INTO v_ids
      FROM unnest(p_names) WITH ORDINALITY AS n (fullname, place)
     CROSS JOIN LATERAL (SELECT coalesce(d.concurrency, 2147483647) AS concurrency FROM definitions d
                          WHERE d.fullname BETWEEN n.fullname AND n.fullname
                          ORDER BY d.fullname DESC, d.id DESC LIMIT 1) d
     CROSS JOIN LATERAL (SELECT w.id FROM workflows w
                          WHERE w.limited BETWEEN n.fullname AND n.fullname AND w.queued
                          ORDER BY w.limited, w.id LIMIT greatest(d.concurrency - v_occupied[n.place], 0)) q;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    PERFORM lock_workflows(v_ids);
    v_now := clock_timestamp();
    WITH begun AS (
        UPDATE workflows w SET queued = false, updated = v_now,
                               deadline = v_now + make_interval(secs => (SELECT d.timeout FROM definitions d
                                                                          WHERE d.id = w.definition_id))
          FROM unnest(v_ids) AS i (id)
         CROSS JOIN LATERAL (SELECT w.ctid AS row FROM workflows w
                              WHERE w.id = i.id AND w.status = 'pending' AND w.queued LIMIT 1) o
         WHERE w.ctid = o.row
        RETURNING w.id
    ), ready AS (
        UPDATE tasks t SET due = v_now, updated = v_now
          FROM begun b
         CROSS JOIN LATERAL (SELECT t.ctid AS row FROM tasks t
                              WHERE t.workflow_id = b.id AND t.status = 'pending' AND t.waiting = 0 OFFSET 0) o
         WHERE t.ctid = o.row
        RETURNING 1
    )
    SELECT count(*) INTO v_left FROM ready;
    IF v_left > 0 THEN
        RETURN NEXT say('left', count => v_left);
    END IF;
END $$;

-- The same for one definition.
-- Locks: the admission's row, then the workflows by id.
CREATE FUNCTION admit(p_project text, p_name text) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM admissions a WHERE a.fullname = p_project || '.' || p_name FOR UPDATE;
    RETURN QUERY SELECT * FROM admit_queued(ARRAY [p_project || '.' || p_name]);
END $$;

-- Decides for new instances of definitions with a concurrency limit, before they are inserted: the places (from 1) of
-- those that `overlap: skip` refuses. The caller inserts the others as queued and then calls admit_new.
-- Locks: the admissions of all definitions that have a limit, by fullname.
CREATE FUNCTION refuse_overlap(p_definitions bigint[]) RETURNS integer[]
LANGUAGE plpgsql AS $$
DECLARE
    v_occupied bigint[] := occupied(lock_admissions(p_definitions));
BEGIN
    RETURN (
        WITH item AS (
            SELECT i.place::integer AS place, d.overlap,
                   dense_rank() OVER (ORDER BY d.fullname) AS name,
                   row_number() OVER (PARTITION BY d.fullname ORDER BY i.place) AS nth,
                   max(d.concurrency) OVER (PARTITION BY d.fullname) AS concurrency
              FROM unnest(p_definitions) WITH ORDINALITY AS i (id, place)
             CROSS JOIN LATERAL (SELECT * FROM definitions d
                                  WHERE d.id = i.id AND d.concurrency IS NOT NULL LIMIT 1) d
        )
        SELECT coalesce(array_agg(i.place), '{}') FROM item i
         WHERE i.overlap = 'skip' AND i.nth > i.concurrency - v_occupied[i.name]);
END $$;

-- After new instances of limited definitions were inserted as queued: `overlap: replace` cancels the oldest ones until
-- only as many as the limit are left, then whoever has room begins. The caller holds the admissions.
CREATE FUNCTION admit_new(p_definitions bigint[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_names text[];
    v_old uuid[];
BEGIN
    WITH limited AS MATERIALIZED (
        SELECT d.fullname, max(d.concurrency) AS concurrency, bool_or(d.overlap = 'replace') AS replace
          FROM unnest(p_definitions) AS i (id)
         CROSS JOIN LATERAL (SELECT * FROM definitions d
                              WHERE d.id = i.id AND d.concurrency IS NOT NULL LIMIT 1) d
         GROUP BY d.fullname
    )
    SELECT array_agg(DISTINCT l.fullname), array_agg(o.id) FILTER (WHERE o.id IS NOT NULL) INTO v_names, v_old
      FROM limited l
      LEFT JOIN LATERAL (SELECT u.id FROM (SELECT w.id FROM workflows w
                                             WHERE w.limited = l.fullname AND w.finished IS NULL OFFSET 0) u
                          WHERE l.replace ORDER BY u.id DESC OFFSET l.concurrency) o ON true;
    IF v_old IS NOT NULL THEN
        PERFORM lock_workflows(v_old);
        RETURN QUERY SELECT * FROM cancel_locked(v_old, 'replaced') c WHERE c.kind <> 'room';
    END IF;
    RETURN QUERY SELECT * FROM admit_queued(v_names);
END $$;

-- Launches workflows on demand, one item each. An item may carry an idempotency key of its user, and with it the request
-- (`p_bodies`) that a repeat must equal.
-- Locks: admissions by fullname where a definition has a limit, then workflows by id where one is replaced.
CREATE FUNCTION launch(p_batch uuid, p_node uuid, p_slots integer, p_repeat boolean,
                       p_ids uuid[], p_definitions bigint[], p_created timestamptz[], p_payloads json[],
                       p_comments text[], p_relaunched uuid[],
                       p_principals text[], p_keys text[], p_bodies text[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_queues text[];
    v_max_input bigint;
    v_limited boolean;
    v_refused integer[] := '{}';
    v_ids uuid[] := p_ids;
BEGIN
    SELECT CASE WHEN n.state = 'active' THEN n.queues END, n.max_input INTO v_queues, v_max_input
      FROM nodes n WHERE n.id = p_node;
    v_limited := EXISTS (SELECT 1 FROM definitions d WHERE d.id = ANY (p_definitions) AND d.concurrency IS NOT NULL);
    IF v_limited THEN
        v_refused := refuse_overlap(p_definitions);
    END IF;
    -- A key that was used before: by this very item (sent again), by an equal request, or by a different one.
    IF EXISTS (SELECT 1 FROM unnest(p_keys) AS k (key) WHERE k.key IS NOT NULL) THEN
        INSERT INTO idempotency_keys AS k (principal, key, body, workflow_id)
        SELECT i.principal, i.key, sha256(convert_to(i.body, 'UTF8')), i.id
          FROM unnest(p_principals, p_keys, p_bodies, p_ids) WITH ORDINALITY AS i (principal, key, body, id, place)
         WHERE i.key IS NOT NULL AND NOT i.place = ANY (v_refused)
         ORDER BY i.principal, i.key, i.place
            ON CONFLICT DO NOTHING;
        RETURN QUERY
        SELECT a.* FROM unnest(p_principals, p_keys, p_bodies, p_ids) WITH ORDINALITY AS i (principal, key, body, id, place)
          JOIN idempotency_keys k ON k.principal = i.principal AND k.key = i.key AND k.workflow_id <> i.id
         CROSS JOIN LATERAL (SELECT k.body = sha256(convert_to(i.body, 'UTF8'))) AS e (same)
         CROSS JOIN LATERAL say(CASE WHEN e.same THEN 'duplicate' ELSE 'refused' END, k.workflow_id,
                                reason => CASE WHEN NOT e.same THEN 'key_reused' END, item => i.place::integer) AS a;
        SELECT v_refused || coalesce(array_agg(i.place::integer), '{}') INTO v_refused
          FROM unnest(p_principals, p_keys, p_ids) WITH ORDINALITY AS i (principal, key, id, place)
          JOIN idempotency_keys k ON k.principal = i.principal AND k.key = i.key AND k.workflow_id <> i.id;
    END IF;
    -- An item that is there already was accepted when the batch was first sent, and is no overlap of itself.
    IF v_refused <> '{}' THEN
        RETURN QUERY
        SELECT a.* FROM unnest(p_ids) WITH ORDINALITY AS i (id, place)
         CROSS JOIN LATERAL say('refused', reason => 'overlap', item => i.place::integer) AS a
         WHERE i.place = ANY (v_refused) AND NOT EXISTS (SELECT 1 FROM workflows w WHERE w.id = i.id)
           AND NOT EXISTS (SELECT 1 FROM idempotency_keys k
                            WHERE k.principal = p_principals[i.place] AND k.key = p_keys[i.place]
                              AND k.workflow_id <> i.id);
    END IF;
    IF p_repeat THEN
        RETURN QUERY SELECT b.* FROM claimed_before(p_batch, p_node, v_max_input) b;
    END IF;
    RETURN QUERY
    SELECT r.* FROM (
        SELECT array_agg(i.id) AS ids, array_agg(i.definition) AS definitions, array_agg(i.created) AS created,
               array_agg(i.payload) AS payloads, array_agg(i.comment) AS comments, array_agg(i.relaunched) AS relaunched,
               array_agg(NULL::timestamptz) AS scheduled, array_agg(d.concurrency IS NOT NULL) AS queued
          FROM unnest(p_ids, p_definitions, p_created, p_payloads, p_comments, p_relaunched) WITH ORDINALITY
               AS i (id, definition, created, payload, comment, relaunched, place)
          LEFT JOIN definitions d ON d.id = i.definition
         WHERE NOT i.place = ANY (v_refused)
    ) n CROSS JOIN LATERAL add_workflows(p_batch, p_node, CASE WHEN v_queues IS NULL THEN 0 ELSE p_slots END, v_queues,
                                         v_max_input, n.ids, n.definitions, n.created, n.payloads, n.comments,
                                         n.relaunched, n.scheduled, n.queued) r;
    IF v_limited THEN
        RETURN QUERY SELECT * FROM admit_new(p_definitions);
    END IF;
END $$;

-- Decides fires. Each schedule comes with the cursor that the sender saw and the one to move it to, with what its
-- workflows are made of, and with the fires in between: items that name their schedule by its place in the batch, meant
-- to run (`ran`, with a workflow) or not (`late`, `collapsed`). A schedule whose cursor stands elsewhere by now, or whose
-- new cursor lies in the database's future, is left alone; the answer `cursor` tells where each stands. A paused
-- schedule's fires do not run and say so. A schedule sent without a seen cursor is fired by hand: at once, also while it
-- is paused, and its cursor stays.
-- Locks: admissions by fullname, the schedules by id, then workflows by id where one is replaced.
CREATE FUNCTION fire(p_batch uuid, p_node uuid, p_slots integer, p_repeat boolean,
                     p_schedules bigint[], p_seen timestamptz[], p_cursors timestamptz[], p_definitions bigint[],
                     p_payloads json[],
                     p_places integer[], p_scheduled timestamptz[], p_outcomes text[], p_counts bigint[],
                     p_untils timestamptz[], p_ids uuid[], p_created timestamptz[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_queues text[];
    v_max_input bigint;
    v_now timestamptz;
    v_limited boolean;
    v_decides boolean[];            -- by schedule: this batch decides its items
    v_paused timestamptz[];         -- by schedule: what is due up to here was due while it was paused
    v_outcomes text[];              -- by item; NULL: no row is written now
    v_running integer[];            -- places of the items that run
    v_running_definitions bigint[]; -- and what they run
    v_nth integer;
    v_written bigint;
BEGIN
    SELECT CASE WHEN n.state = 'active' THEN n.queues END, n.max_input INTO v_queues, v_max_input
      FROM nodes n WHERE n.id = p_node;
    v_limited := lock_admissions(p_definitions) IS NOT NULL;
    PERFORM 1 FROM schedules s WHERE s.id = ANY (p_schedules) ORDER BY s.id FOR UPDATE;
    v_now := clock_timestamp();

    SELECT array_agg(s.id IS NOT NULL AND (u.seen IS NULL OR s.cursor = u.seen AND u.cursor <= v_now) ORDER BY u.place),
           array_agg(CASE WHEN u.seen IS NULL THEN '-infinity' WHEN s.paused THEN 'infinity'
                          ELSE coalesce(s.resumed, '-infinity') END ORDER BY u.place)
      INTO v_decides, v_paused
      FROM unnest(p_schedules, p_seen, p_cursors) WITH ORDINALITY AS u (id, seen, cursor, place)
      LEFT JOIN schedules s ON s.id = u.id;
    SELECT array_agg(CASE WHEN NOT v_decides[i.schedule] THEN NULL
                          WHEN i.outcome = 'ran' AND i.scheduled <= v_paused[i.schedule] THEN 'paused'
                          ELSE i.outcome END ORDER BY i.place)
      INTO v_outcomes
      FROM unnest(p_places, p_scheduled, p_outcomes) WITH ORDINALITY AS i (schedule, scheduled, outcome, place);
    IF v_limited THEN
        SELECT array_agg(i.place::integer ORDER BY i.place), array_agg(p_definitions[i.schedule] ORDER BY i.place)
          INTO v_running, v_running_definitions
          FROM unnest(p_places, v_outcomes) WITH ORDINALITY AS i (schedule, outcome, place)
         WHERE i.outcome = 'ran';
        FOREACH v_nth IN ARRAY refuse_overlap(v_running_definitions) LOOP
            v_outcomes[v_running[v_nth]] := 'overlap';
        END LOOP;
    END IF;

    INSERT INTO fires (schedule_id, scheduled, outcome, workflow_id, count, until, decided)
    SELECT p_schedules[i.schedule], i.scheduled, i.outcome, CASE WHEN i.outcome = 'ran' THEN i.id END, i.count,
           i.until, v_now
      FROM unnest(p_places, p_scheduled, v_outcomes, p_ids, p_counts, p_untils)
           AS i (schedule, scheduled, outcome, id, count, until)
     WHERE i.outcome IS NOT NULL
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_written = ROW_COUNT;
    IF v_written < cardinality(array_remove(v_outcomes, NULL)) THEN
        -- An instant that was fired by hand to the microsecond has its row, or this very fire by hand is sent again.
        SELECT array_agg(CASE WHEN i.outcome <> 'ran' OR f.workflow_id = i.id THEN i.outcome END ORDER BY i.place)
          INTO v_outcomes
          FROM unnest(p_places, p_scheduled, v_outcomes, p_ids) WITH ORDINALITY
               AS i (schedule, scheduled, outcome, id, place)
          LEFT JOIN fires f ON f.schedule_id = p_schedules[i.schedule] AND f.scheduled = i.scheduled;
    END IF;
    -- A daemon that fires a schedule has it, whatever the files of another one say; unless it was removed just now, while
    -- this batch was on its way.
    UPDATE schedules s SET cursor = u.cursor,
                           removed = CASE WHEN s.removed > v_now - interval '5 seconds' THEN s.removed END
      FROM unnest(p_schedules, p_seen, p_cursors) AS u (id, seen, cursor)
     WHERE s.id = u.id AND s.cursor = u.seen AND u.cursor <= v_now;

    IF p_repeat THEN
        RETURN QUERY SELECT b.* FROM claimed_before(p_batch, p_node, v_max_input) b;
    END IF;
    RETURN QUERY
    SELECT r.* FROM (
        SELECT array_agg(i.id) AS ids, array_agg(d.id) AS definitions, array_agg(i.created) AS created,
               array_agg(p_payloads[i.schedule]) AS payloads, array_agg(NULL::text) AS comments,
               array_agg(NULL::uuid) AS relaunched, array_agg(i.scheduled) AS scheduled,
               array_agg(d.concurrency IS NOT NULL) AS queued
          FROM unnest(p_places, p_scheduled, v_outcomes, p_ids, p_created)
               AS i (schedule, scheduled, outcome, id, created)
          LEFT JOIN definitions d ON d.id = p_definitions[i.schedule]
         WHERE i.outcome = 'ran'
        HAVING count(*) > 0
    ) n CROSS JOIN LATERAL add_workflows(p_batch, p_node, CASE WHEN v_queues IS NULL THEN 0 ELSE p_slots END, v_queues,
                                         v_max_input, n.ids, n.definitions, n.created, n.payloads, n.comments,
                                         n.relaunched, n.scheduled, n.queued) r;
    IF v_limited THEN
        RETURN QUERY SELECT * FROM admit_new(v_running_definitions);
    END IF;
    RETURN QUERY
    SELECT (r.a).*
      FROM (SELECT say('fired', f.workflow_id, reason => f.outcome, item => i.place::integer,
                       count => f.schedule_id, at => f.scheduled) AS a
              FROM unnest(p_places, p_scheduled) WITH ORDINALITY AS i (schedule, scheduled, place)
              JOIN fires f ON f.schedule_id = p_schedules[i.schedule] AND f.scheduled = i.scheduled
             WHERE v_decides[i.schedule] OR p_repeat) r;
    RETURN QUERY
    SELECT (r.a).*
      FROM (SELECT say('cursor', item => u.place::integer, count => s.id, at => s.cursor) AS a
              FROM unnest(p_schedules) WITH ORDINALITY AS u (id, place)
              JOIN schedules s ON s.id = u.id) r;
END $$;

-- A daemon begins its life. Nodes that had the same state directory are dead: this daemon holds its lock. But one that
-- ran under another boot and was alive after this machine had booted (`p_up` ago) is not: the machine, and the directory
-- with it, was cloned.
CREATE FUNCTION register_node(p_id uuid, p_host text, p_boot_id text, p_state_directory text, p_version text,
                              p_queues text[], p_slots integer, p_max_input bigint,
                              p_directory_id uuid DEFAULT NULL, p_up interval DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE nodes n SET state = 'dead'
     WHERE n.directory_id = p_directory_id AND n.state IN ('active', 'draining') AND n.id <> p_id
       AND (n.boot_id = p_boot_id OR n.heartbeat < clock_timestamp() - p_up);
    INSERT INTO nodes (id, host, boot_id, state_directory, directory_id, version, queues, slots, max_input)
    VALUES (p_id, p_host, p_boot_id, p_state_directory, p_directory_id, p_version, p_queues, p_slots, p_max_input)
        ON CONFLICT (id) DO UPDATE SET heartbeat = clock_timestamp();
END $$;

-- A node says that it lives and which attempts it holds (also those whose end is on its way here): it knew that at
-- `p_at`, and waited for the answers of the batches `p_under_way` then. The answer lists those that are no longer its own,
-- to be stopped. What the tables say it holds, but it does not, goes back: `progress` to `pending` without using up an
-- attempt (its claim's answer was lost), `canceled` is released. Only what was claimed ten seconds before `p_at` and by
-- none of those batches: this call may have been long on its way. `p_state` is the state the node wants to be in. Answer
-- `dead`: another daemon has declared this node dead; it must stop everything and begin a new life. Answer `differs`:
-- other daemons fire and launch from other files.
-- Locks: the workflows of what goes back, by id, then its claims by batch, then the node.
CREATE FUNCTION heartbeat(p_node uuid, p_state text, p_digest text, p_at timestamptz, p_under_way uuid[],
                          p_workflows uuid[], p_positions integer[], p_attempts integer[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_workflows uuid[];
    v_positions integer[];
    v_attempts integer[];
    v_claims uuid[];
    v_count bigint;
BEGIN
    SELECT array_agg(h.workflow_id), array_agg(h.position), array_agg(h.attempt) INTO v_workflows, v_positions, v_attempts
      FROM held_tasks h
     WHERE h.node_id = p_node AND h.started < least(p_at, v_now) - interval '10 seconds' AND NOT h.batch = ANY (p_under_way)
       AND (h.workflow_id, h.position, h.attempt) NOT IN (SELECT * FROM unnest(p_workflows, p_positions, p_attempts));
    IF v_workflows IS NOT NULL THEN
        PERFORM lock_workflows(v_workflows);
        v_now := clock_timestamp();
        WITH back AS (
            UPDATE tasks t SET status = 'pending', held = false, due = v_now, spared = t.spared + 1, updated = v_now
              FROM unnest(v_workflows, v_positions, v_attempts) AS b (workflow_id, "position", attempt)
             WHERE t.workflow_id = b.workflow_id AND t.position = b.position AND t.attempt = b.attempt
               AND t.node_id = p_node AND t.status = 'progress'
            RETURNING t.claim
        )
        SELECT array_agg(b.claim), count(*) INTO v_claims, v_count FROM back b;
        IF v_count > 0 THEN
            RETURN NEXT say('left', count => v_count);
        END IF;
        RETURN QUERY SELECT * FROM release(v_workflows, v_positions, v_attempts,
                                           array_fill(p_node, ARRAY [cardinality(v_workflows)]), v_claims);
    END IF;

    UPDATE nodes n SET heartbeat = clock_timestamp(), digest = p_digest,
                       state = CASE WHEN p_state = 'stopped' OR n.state = 'active' THEN p_state ELSE n.state END
     WHERE n.id = p_node AND n.state IN ('active', 'draining');
    IF NOT FOUND THEN
        RETURN NEXT say('dead', node_id => p_node);
    ELSIF EXISTS (SELECT 1 FROM nodes n WHERE n.id = p_node AND n.state = 'draining') THEN
        RETURN NEXT say('draining', node_id => p_node);
    END IF;
    SELECT count(*) INTO v_count FROM nodes n
     WHERE n.id <> p_node AND n.state = 'active' AND n.digest NOT IN ('', p_digest) AND p_digest <> '';
    IF v_count > 0 THEN
        RETURN NEXT say('differs', count => v_count);
    END IF;
    RETURN QUERY
    SELECT a.* FROM unnest(p_workflows, p_positions, p_attempts) AS h (workflow_id, "position", attempt)
     CROSS JOIN LATERAL say('lost', h.workflow_id, h.position, h.attempt) AS a
      LEFT JOIN LATERAL (SELECT true AS is_own FROM tasks t
                          WHERE t.workflow_id = h.workflow_id AND t.position = h.position AND t.attempt = h.attempt
                            AND t.node_id = p_node AND t.status = 'progress' LIMIT 1) t ON true
     WHERE t.is_own IS NULL;
END $$;

-- Declares the other nodes dead whose heartbeat is older than the lease, and ends what dead and stopped nodes still hold
-- as failed attempts (`node_lost`), tried again if attempts remain: about a thousand in a call; the answer `more` says that
-- there are others.
-- Locks: the workflows of those attempts, by id, then their claims by batch, then the nodes.
CREATE FUNCTION reap(p_node uuid, p_lease interval) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_nodes uuid[];
    v_claims uuid[];
    v_more boolean;
    v_definitions bigint[];
    v_workflows uuid[];
    v_positions integer[];
    v_attempts integer[];
    v_owners uuid[];
BEGIN
    SELECT array_agg(n.id) INTO v_nodes FROM nodes n
     WHERE n.id <> p_node
       AND (n.state IN ('active', 'draining') AND n.heartbeat < clock_timestamp() - p_lease
            OR n.state IN ('stopped', 'dead') AND n.id IN (SELECT c.node_id FROM claims c));
    IF v_nodes IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(c.batch) FILTER (WHERE c.before < 1000), bool_or(c.before >= 1000) INTO v_claims, v_more
      FROM (SELECT c.batch, sum(c.held) OVER (ORDER BY c.batch) - c.held AS before
              FROM claims c WHERE c.node_id = ANY (v_nodes)) c;
    PERFORM lock_workflows(array_agg(h.workflow_id)) FROM held_tasks h WHERE h.batch = ANY (v_claims);
    PERFORM 1 FROM claims c WHERE c.batch = ANY (v_claims) ORDER BY c.batch FOR UPDATE;
    -- A node that renewed its row while this waited lives on.
    PERFORM 1 FROM nodes n WHERE n.id = ANY (v_nodes) ORDER BY n.id FOR UPDATE;
    RETURN QUERY
    WITH dead AS (
        UPDATE nodes n SET state = 'dead'
         WHERE n.id = ANY (v_nodes) AND n.state IN ('active', 'draining') AND n.heartbeat < clock_timestamp() - p_lease
        RETURNING n.id
    )
    SELECT a.* FROM dead CROSS JOIN LATERAL say('dead', node_id => dead.id) AS a;

    -- A batch that was sent again meanwhile may hold more: those are locked below.
    SELECT array_agg(h.workflow_id), array_agg(h.position), array_agg(h.attempt), array_agg(h.node_id)
      INTO v_workflows, v_positions, v_attempts, v_owners
      FROM held_tasks h
      JOIN nodes n ON n.id = h.node_id AND n.state IN ('stopped', 'dead')
     WHERE h.batch = ANY (v_claims);
    IF v_more THEN
        RETURN NEXT say('more');
    END IF;
    IF v_workflows IS NULL THEN
        RETURN;
    END IF;
    v_definitions := lock_workflows(v_workflows);
    RETURN QUERY
    SELECT s.* FROM settle(NULL, NULL, 0, NULL, 0, v_workflows, v_definitions, v_positions, v_attempts, v_owners,
                           array_fill(false, ARRAY [cardinality(v_workflows)]),
                           array_fill(true, ARRAY [cardinality(v_workflows)]),
                           array_fill('{"exception":"the node that ran it was lost","traceback":""}'::json,
                                      ARRAY [cardinality(v_workflows)]),
                           array_fill('node_lost'::text, ARRAY [cardinality(v_workflows)]),
                           array_fill(NULL::integer, ARRAY [cardinality(v_workflows)]),
                           array_fill(NULL::integer, ARRAY [cardinality(v_workflows)]),
                           array_fill(NULL::bigint, ARRAY [cardinality(v_workflows)]),
                           array_fill(NULL::bigint, ARRAY [cardinality(v_workflows)])) s;
END $$;
