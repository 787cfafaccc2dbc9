-- The moves of tasks: from due to claimed, from running to ended. The rules are those of 0002_engine.sql.

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

-- Does the workflow that ends now still take up its `concurrency`, until its processes are gone?
CREATE FUNCTION is_held(p_workflow uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM tasks t WHERE t.workflow_id = p_workflow AND coalesce(t.held, false) AND NOT t.is_hook)
$$;
