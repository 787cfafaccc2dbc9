-- The moves of tasks: from due to claimed, from running to ended. The rules are those of 0002_engine.sql.

-- Claims the tasks at `p_rows` that are still what they were when they were found, and begins those of their workflows that
-- had not begun. The caller holds the workflows' locks.
CREATE FUNCTION take_tasks(p_batch uuid, p_node uuid, p_rows tid[], p_workflows uuid[], p_workflow_rows tid[],
                           p_definitions bigint[], OUT workflows uuid[], OUT positions integer[], OUT attempts integer[],
                           OUT definitions bigint[])
LANGUAGE plpgsql SET enable_nestloop = off SET enable_hashjoin = on AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    WITH taken AS (
        UPDATE tasks t
           SET status = 'progress', held = true, due = NULL, node_id = p_node, claim = p_batch,
               attempt = t.attempt + 1, started = v_now, updated = v_now, finished = NULL,
               exit_status = NULL, signal = NULL, peak_memory = NULL, cpu_us = NULL, reason = NULL, result = NULL
          FROM unnest(p_rows, p_workflows, p_workflow_rows, p_definitions)
               AS c (row, workflow_id, workflow_row, definition_id)
         WHERE t.ctid = ANY (p_rows) AND t.ctid = c.row AND t.workflow_id = c.workflow_id AND t.status = 'pending'
           AND coalesce(t.due <= v_now, false)
        RETURNING t.workflow_id, t.position, t.attempt, c.workflow_row, c.definition_id
    ), begun AS (
        UPDATE workflows w SET status = 'progress', started = v_now, updated = v_now
         WHERE w.ctid = ANY (ARRAY (SELECT k.workflow_row FROM taken k)) AND w.status = 'pending'
    )
    SELECT array_agg(k.workflow_id), array_agg(k.position), array_agg(k.attempt), array_agg(k.definition_id)
      INTO workflows, positions, attempts, definitions
      FROM taken k;
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
    v_workflow_rows tid[];
    v_definitions bigint[];
    v_positions integer[];
    v_attempts integer[];
    v_candidates integer;   -- that fit into the slots
    v_found uuid[];         -- their workflows
    v_locked uuid[] := '{}'; -- those of earlier ones, which somebody else holds
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

    -- A few more than there are slots for, and others where all of these are locked: so a workflow that is locked for long
    -- does not keep the rest back.
    FOR v_try IN 1 .. 4 LOOP
        SELECT array_agg(c.row), array_agg(c.workflow_id), least(count(*), p_slots) INTO v_rows, v_workflows, v_candidates
          FROM (SELECT o.*
                  FROM unnest(v_queues) AS q (queue)
                 CROSS JOIN LATERAL (SELECT t.ctid AS row, t.workflow_id, t.position, t.due
                                       FROM tasks t
                                      WHERE t.queue = q.queue AND t.due <= v_now AND NOT t.workflow_id = ANY (v_locked)
                                      ORDER BY t.due, t.workflow_id, t.position LIMIT p_slots + 8) o
                 ORDER BY o.due, o.workflow_id, o.position LIMIT p_slots + 8) c;
        EXIT WHEN v_candidates = 0;
        v_found := v_workflows;
        SELECT array_agg(o.row), array_agg(o.id), array_agg(o.workflow_row), array_agg(o.definition_id)
          INTO v_rows, v_workflows, v_workflow_rows, v_definitions
          FROM (SELECT c.row, c.id, l.*
                  FROM (SELECT * FROM unnest(v_rows, v_workflows) WITH ORDINALITY AS u (row, id, place) ORDER BY u.id) c
                 CROSS JOIN LATERAL (SELECT w.ctid AS workflow_row, w.definition_id FROM workflows w
                                      WHERE w.id = c.id FOR UPDATE SKIP LOCKED) l
                 ORDER BY c.place LIMIT p_slots) o;
        EXIT WHEN v_rows IS NOT NULL;
        SELECT array_agg(DISTINCT u.id) INTO v_locked FROM unnest(v_locked || v_found) AS u (id);
    END LOOP;
    IF v_candidates = 0 AND v_locked = '{}' THEN
        RETURN;
    END IF;
    SELECT t.* INTO v_workflows, v_positions, v_attempts, v_definitions
      FROM take_tasks(p_batch, p_node, v_rows, v_workflows, v_workflow_rows, v_definitions) t;

    IF v_workflows IS NOT NULL THEN
        PERFORM note_claim(p_batch, p_node, v_workflows, v_positions);
        RETURN QUERY SELECT * FROM claimed_tasks(p_batch, p_node, v_workflows, v_positions, v_attempts, v_definitions,
                                                 v_max_input);
    END IF;
    IF v_locked <> '{}' OR coalesce(cardinality(v_workflows), 0) < v_candidates THEN
        RETURN NEXT say('skipped');
    END IF;
END $$;

-- Ends attempts, one item each, of workflows whose rows the caller has locked. An attempt counts only if status, node (NULL:
-- `p_node`) and attempt still match. Failures go before successes: what is downstream of one becomes canceled, and a
-- success no longer counts down a canceled task. Up to `p_slots` of the tasks that became ready are claimed for `p_node`.
CREATE FUNCTION end_attempts(p_batch uuid, p_node uuid, p_slots integer, p_queues text[],
                             p_workflows uuid[], p_rows tid[], p_definitions bigint[], p_positions integer[],
                             p_attempts integer[], p_nodes uuid[], p_successes boolean[], p_retryable boolean[],
                             p_results json[], p_reasons text[], p_exits integer[], p_signals integer[], p_peaks bigint[],
                             p_cpus bigint[],
                             OUT succeeded tid[],       -- workflows that end, because the task does that closes them
                             OUT failed tid[],
                             OUT checked uuid[],        -- others that may have ended: nothing behind these attempts goes on
                             OUT checked_rows tid[],
                             OUT again timestamptz,     -- when the first of the next attempts is due
                             OUT claims uuid[],         -- of the attempts that ended
                             OUT claimed uuid[], OUT claimed_definitions bigint[], OUT claimed_positions integer[],
                             OUT "left" bigint)         -- became ready, and were not claimed
LANGUAGE plpgsql SET enable_nestloop = off SET enable_hashjoin = on AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    WITH RECURSIVE kind AS MATERIALIZED (   -- looked up once, however many there are of it
        SELECT k.*, d.next, d.closes, d.retry_limit, d.retry_interval, d.retry_backoff, d.retry_max_interval
          FROM (SELECT DISTINCT u.* FROM unnest(p_definitions, p_positions) AS u (definition_id, "position")) k
         CROSS JOIN LATERAL (SELECT * FROM definition_tasks d
                              WHERE d.definition_id = k.definition_id AND d.position = k.position LIMIT 1) d
    ), hit AS MATERIALIZED (
        SELECT t.row, t.workflow_id, t.position, t.attempt, t.is_hook, t.node_id, t.claim, t.started, i.workflow_row,
               i.definition_id, d.next, d.closes,
               i.success, i.result, i.reason, i.exit_status, i.signal, i.peak_memory, i.cpu_us,
               NOT i.success AND i.retryable AND t.attempt - t.spared <= d.retry_limit AS again,
               CASE WHEN NOT i.success THEN
                   make_interval(secs => least(d.retry_interval * power(d.retry_backoff, least(t.attempt - t.spared - 1, 64)),
                                               d.retry_max_interval)) END AS delay
          FROM unnest(p_workflows, p_rows, p_definitions, p_positions, p_attempts, p_nodes, p_successes, p_retryable,
                      p_results, p_reasons, p_exits, p_signals, p_peaks, p_cpus)
               AS i (workflow_id, workflow_row, definition_id, "position", attempt, node_id, success, retryable,
                     result, reason, exit_status, signal, peak_memory, cpu_us)
         CROSS JOIN LATERAL (SELECT t.ctid AS row, t.* FROM tasks t
                              WHERE t.workflow_id = i.workflow_id AND t.position = i.position LIMIT 1) t
          JOIN kind d ON d.definition_id = i.definition_id AND d.position = i.position
         WHERE t.status = 'progress' AND t.node_id = coalesce(i.node_id, p_node) AND t.attempt = i.attempt
    ), ended AS (   -- once each, however often the batch names them
        UPDATE tasks t
           SET status = CASE WHEN h.again THEN 'pending' WHEN h.success THEN 'success' ELSE 'error' END::status,
               held = false,
               due = CASE WHEN h.again THEN v_now + h.delay END,
               finished = CASE WHEN NOT h.again THEN v_now END,
               updated = v_now, result = h.result, reason = h.reason, exit_status = h.exit_status, signal = h.signal,
               peak_memory = h.peak_memory, cpu_us = h.cpu_us
          FROM hit h
         WHERE t.ctid = ANY (ARRAY (SELECT h.row FROM hit h)) AND t.ctid = h.row
        RETURNING h.row, t.workflow_id, h.workflow_row, h.definition_id, h.next, h.closes, h.is_hook, h.claim, h.success,
                  h.again, t.due
    ), kept AS (
        INSERT INTO attempts (workflow_id, position, attempt, node_id, started, finished, exit_status, signal, peak_memory,
                              cpu_us, reason, result)
        SELECT DISTINCT ON (h.row) h.workflow_id, h.position, h.attempt, h.node_id, h.started, v_now, h.exit_status,
               h.signal, h.peak_memory, h.cpu_us, h.reason, h.result
          FROM hit h WHERE h.again AND h.row IN (SELECT e.row FROM ended e WHERE e.again)
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
        SELECT e.workflow_id, e.workflow_row, e.definition_id, n AS "position", count(*)::integer AS met
          FROM ended e, unnest(e.next) AS n WHERE e.success AND e.next <> '{}' -- not even asked where there is none
         GROUP BY e.workflow_id, e.workflow_row, e.definition_id, n
    ), change AS (
        SELECT t.row, t.workflow_id, s.workflow_row, s.definition_id, t.position, false AS cancel, t.waiting - s.met AS waiting,
               t.waiting = s.met AND (p_queues = '{*}' OR t.queue = ANY (p_queues)) AS mine
          FROM step s
         CROSS JOIN LATERAL (SELECT t.ctid AS row, t.* FROM tasks t
                              WHERE t.workflow_id = s.workflow_id AND t.position = s.position LIMIT 1) t
         WHERE t.status = 'pending'
           AND (s.workflow_id, s.position) NOT IN (SELECT o.workflow_id, o.position FROM down o)
        UNION ALL
        SELECT t.row, t.workflow_id, NULL, o.definition_id, t.position, true, t.waiting, false
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
         WHERE t.ctid = ANY (ARRAY (SELECT p.row FROM placed p)) AND t.ctid = p.row
        RETURNING t.workflow_id, p.definition_id, t.position, p.take, t.due
    )
    SELECT e.*, c.*, m.*
      INTO again, claims, succeeded, failed, checked, checked_rows, claimed, claimed_definitions, claimed_positions, "left"
      FROM (SELECT min(e.due), array_agg(e.claim),
                   array_agg(e.workflow_row) FILTER (WHERE e.closes AND e.success),
                   array_agg(e.workflow_row) FILTER (WHERE e.closes AND NOT e.success AND NOT e.again)
              FROM ended e) e,
           (SELECT array_agg(o.workflow_id), array_agg(o.workflow_row)
              FROM (SELECT e.workflow_id, e.workflow_row FROM ended e WHERE NOT e.closes AND NOT e.is_hook AND NOT e.again
                    EXCEPT
                    SELECT c.workflow_id, c.workflow_row FROM change c WHERE NOT c.cancel) o) c,
           (SELECT array_agg(m.workflow_id) FILTER (WHERE m.take), array_agg(m.definition_id) FILTER (WHERE m.take),
                   array_agg(m.position) FILTER (WHERE m.take), count(m.due)
              FROM moved m) m;
END $$;

-- Ends the workflows at `p_succeeded` and `p_failed`, and those of `p_checked` that have no task left to run; adds their hooks.
-- The caller holds their locks.
CREATE FUNCTION end_workflows(p_succeeded tid[], p_failed tid[], p_checked uuid[], p_checked_rows tid[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_succeeded tid[];
    v_failed tid[];
BEGIN
    IF p_checked IS NOT NULL THEN
        SELECT array_agg(c.row) FILTER (WHERE NOT f.failed), array_agg(c.row) FILTER (WHERE f.failed)
          INTO v_succeeded, v_failed
          FROM unnest(p_checked, p_checked_rows) AS c (id, row)
         CROSS JOIN LATERAL (SELECT bool_or(t.status IN ('pending', 'progress')) AS goes_on,
                                    bool_or(t.status = 'error') AS failed
                               FROM tasks t WHERE t.workflow_id = c.id AND NOT t.is_hook) f
         WHERE NOT f.goes_on;
    END IF;
    RETURN QUERY
    WITH succeeded AS (
        UPDATE workflows w SET status = 'success', finished = v_now, updated = v_now, deadline = NULL, limited = NULL
         WHERE w.ctid = ANY (p_succeeded || v_succeeded) AND w.status = 'progress'
        RETURNING w.id, w.definition_id
    ), failed AS (
        UPDATE workflows w SET status = 'error', finished = v_now, updated = v_now, deadline = NULL, limited = NULL,
                               reason = (SELECT t.reason FROM tasks t     -- of the failure that came first
                                          WHERE t.workflow_id = w.id AND NOT t.is_hook AND t.status = 'error'
                                          ORDER BY t.finished, t.position LIMIT 1)
         WHERE w.ctid = ANY (p_failed || v_failed) AND w.status = 'progress'
        RETURNING w.id, w.definition_id, w.reason
    ), over AS MATERIALIZED (
        SELECT o.*, d.project, d.name, d.concurrency
          FROM (SELECT s.definition_id, 'success' AS status, NULL AS reason, array_agg(s.id) AS ids
                  FROM succeeded s GROUP BY s.definition_id
                UNION ALL
                SELECT f.definition_id, 'error', f.reason, array_agg(f.id)
                  FROM failed f GROUP BY f.definition_id, f.reason) o
         CROSS JOIN LATERAL (SELECT d.project, d.name, d.concurrency FROM definitions d
                              WHERE d.id = o.definition_id LIMIT 1) d
    ), hooked AS (
        INSERT INTO tasks (workflow_id, position, status, is_hook, waiting, queue, due, created, updated)
        SELECT u.id, d.position, 'pending', true, 0, d.queue, v_now, v_now, v_now
          FROM over o
         CROSS JOIN LATERAL (SELECT d.position, d.queue FROM definition_tasks d
                              WHERE d.definition_id = o.definition_id AND d.role = o.status LIMIT 1) d
         CROSS JOIN LATERAL unnest(o.ids) AS u (id)
        RETURNING 1
    )
    SELECT a.* FROM over o
     CROSS JOIN LATERAL say('ended', status => o.status, reason => o.reason, project => o.project, name => o.name,
                            workflow_ids => o.ids) AS a
    UNION ALL
    SELECT a.* FROM (SELECT DISTINCT o.project, o.name FROM over o WHERE o.concurrency IS NOT NULL) r
     CROSS JOIN LATERAL say('room', project => r.project, name => r.name) AS a
    UNION ALL
    SELECT a.* FROM (SELECT count(*) AS count FROM hooked) h
     CROSS JOIN LATERAL say('left', count => h.count) AS a WHERE h.count > 0;
END $$;

-- Ends attempts and what comes to its end with them: the common part of finish and reap. The caller holds the workflows'
-- locks. An attempt that does not count any more only gives back its hold.
CREATE FUNCTION settle(p_batch uuid, p_node uuid, p_slots integer, p_queues text[], p_max_input bigint,
                       p_workflows uuid[], p_rows tid[], p_definitions bigint[], p_positions integer[],
                       p_attempts integer[], p_nodes uuid[], p_successes boolean[], p_retryable boolean[], p_results json[],
                       p_reasons text[], p_exits integer[], p_signals integer[], p_peaks bigint[], p_cpus bigint[])
RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_end record;
BEGIN
    v_end := end_attempts(p_batch, p_node, p_slots, p_queues, p_workflows, p_rows, p_definitions, p_positions, p_attempts,
                          p_nodes, p_successes, p_retryable, p_results, p_reasons, p_exits, p_signals, p_peaks, p_cpus);
    IF v_end.succeeded IS NOT NULL OR v_end.failed IS NOT NULL OR v_end.checked IS NOT NULL THEN
        RETURN QUERY SELECT * FROM end_workflows(v_end.succeeded, v_end.failed, v_end.checked, v_end.checked_rows);
    END IF;
    IF v_end.claimed IS NOT NULL THEN
        PERFORM note_claim(p_batch, p_node, v_end.claimed, v_end.claimed_positions);
        RETURN QUERY SELECT * FROM claimed_tasks(p_batch, p_node, v_end.claimed, v_end.claimed_positions,
                                                 array_fill(1, ARRAY [cardinality(v_end.claimed)]), v_end.claimed_definitions,
                                                 p_max_input);
    END IF;
    IF v_end."left" > 0 THEN
        RETURN NEXT say('left', count => v_end."left");
    END IF;
    IF v_end.again IS NOT NULL THEN
        RETURN NEXT say('later', at => v_end.again);
    END IF;
    IF coalesce(cardinality(v_end.claims), 0) < cardinality(p_workflows) THEN
        RETURN QUERY SELECT * FROM release(p_workflows, p_positions, p_attempts,
                                           coalesce(p_nodes, array_fill(p_node, ARRAY [cardinality(p_workflows)])),
                                           v_end.claims);
    ELSE
        PERFORM let_go(v_end.claims);
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
    v_rows tid[];
BEGIN
    IF p_repeat THEN -- what it claimed, too, in one order
        PERFORM lock_workflows(p_workflows || coalesce((SELECT c.workflow_ids FROM claims c WHERE c.batch = p_batch), '{}'));
    END IF;
    SELECT l.* INTO v_definitions, v_rows FROM lock_workflows(p_workflows) l;

    SELECT CASE WHEN n.state = 'active' THEN n.queues END, n.max_input INTO v_queues, v_max_input
      FROM nodes n WHERE n.id = p_node;
    IF p_repeat THEN
        RETURN QUERY SELECT * FROM claimed_before(p_batch, p_node, v_max_input);
    END IF;
    RETURN QUERY
    SELECT * FROM settle(p_batch, p_node, CASE WHEN v_queues IS NULL THEN 0 ELSE p_slots END, v_queues, v_max_input,
                         p_workflows, v_rows, v_definitions, p_positions, p_attempts, NULL, p_successes, p_retryable,
                         p_results, p_reasons, p_exits, p_signals, p_peaks, p_cpus);
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

-- Does the workflow that ends now still take up its `concurrency`, until its processes are gone?
CREATE FUNCTION is_held(p_workflow uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM tasks t WHERE t.workflow_id = p_workflow AND coalesce(t.held, false) AND NOT t.is_hook)
$$;
