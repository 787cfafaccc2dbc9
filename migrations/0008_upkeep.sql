-- What daemons do beside running tasks: time limits of whole runs, relaunching from a failure, and clearing away.

-- Ends up to `p_limit` runs whose deadline has passed: what runs is to be stopped, what has not begun is canceled, and the
-- workflow is `error`, reason `timed_out`. The failure hook runs. Says `room`, too, of every definition whose `concurrency`
-- has room for an instance that waits: whoever made it may have died before it let the instance in.
-- Locks: those workflows; ones that another transaction holds are left to the next call.
CREATE FUNCTION expire(p_limit integer) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_names text[];
    v_ids uuid[];
    v_now timestamptz;
BEGIN
    WITH RECURSIVE limited (fullname) AS (      -- a walk from name to name over the index
        (SELECT w.limited FROM workflows w WHERE w.limited IS NOT NULL ORDER BY w.limited LIMIT 1)
        UNION ALL
        SELECT (SELECT w.limited FROM workflows w WHERE w.limited > l.fullname ORDER BY w.limited LIMIT 1)
          FROM limited l WHERE l.fullname IS NOT NULL
    )
    SELECT array_agg(l.fullname) INTO v_names FROM limited l WHERE l.fullname IS NOT NULL;
    RETURN QUERY SELECT * FROM find_room(v_names);

    SELECT array_agg(l.id) INTO v_ids
      FROM (SELECT w.id FROM workflows w WHERE w.deadline <= clock_timestamp()
             ORDER BY w.deadline LIMIT p_limit) o
     CROSS JOIN LATERAL (SELECT w.id FROM workflows w WHERE w.id = o.id FOR UPDATE SKIP LOCKED) l;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    v_now := clock_timestamp();
    RETURN QUERY
    WITH over AS (
        UPDATE workflows w SET status = 'error', reason = 'timed_out', deadline = NULL, finished = v_now, updated = v_now,
                               limited = CASE WHEN w.limited IS NOT NULL AND is_held(w.id) THEN w.limited END
         WHERE w.id = ANY (v_ids) AND w.status IN ('pending', 'progress') AND coalesce(w.deadline <= v_now, false)
        RETURNING w.id, w.definition_id, w.project, w.name, w.limited
    ), stopped AS (
        UPDATE tasks t
           SET status = CASE WHEN t.status = 'progress' THEN 'error' ELSE 'canceled' END::status,
               result = CASE WHEN t.status = 'progress'
                             THEN '{"exception":"the workflow timed out","traceback":""}'::json END,
               reason = 'timed_out', due = NULL, finished = v_now, updated = v_now
          FROM over o
         WHERE t.workflow_id = o.id AND t.status IN ('pending', 'progress') AND NOT t.is_hook
        RETURNING t.workflow_id, t.position, t.attempt, t.held, t.node_id
    ), hooked AS (
        INSERT INTO tasks (workflow_id, position, status, is_hook, waiting, queue, due, created, updated)
        SELECT o.id, d.position, 'pending', true, 0, d.queue, v_now, v_now, v_now
          FROM over o
          JOIN definition_tasks d ON d.definition_id = o.definition_id AND d.role = 'error'
        RETURNING 1
    )
    SELECT a.* FROM stopped s
     CROSS JOIN LATERAL say('stop', s.workflow_id, s.position, s.attempt, node_id => s.node_id) AS a WHERE s.held
    UNION ALL
    SELECT a.* FROM (SELECT o.project, o.name, array_agg(o.id) AS ids FROM over o GROUP BY o.project, o.name) o
     CROSS JOIN LATERAL say('ended', status => 'error', reason => 'timed_out', project => o.project, name => o.name,
                            workflow_ids => o.ids) AS a
    UNION ALL
    SELECT a.* FROM (SELECT DISTINCT o.project, o.name
                       FROM over o JOIN definitions d ON d.id = o.definition_id AND d.concurrency IS NOT NULL
                      WHERE o.limited IS NULL) r
     CROSS JOIN LATERAL say('room', project => r.project, name => r.name) AS a
    UNION ALL
    SELECT a.* FROM (SELECT count(*) AS count FROM hooked) h
     CROSS JOIN LATERAL say('left', count => h.count) AS a WHERE h.count > 0;
END $$;

-- A new instance of a workflow that ended without success, on the version that it ran on: what succeeded is taken over
-- with its results, the rest is to run. Answers `missing`, `final` (as `success`: there is nothing to run again),
-- `unfinished`, or `left`. Safe to repeat: `p_id` is made once.
-- Locks: its admission where the definition has a limit, then workflows by id where one is replaced. The original is final,
-- and not locked: what retention takes away meanwhile is `missing`.
CREATE FUNCTION relaunch_failed(p_id uuid, p_original uuid, p_created timestamptz) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_original workflows;
    v_limited boolean;
    v_now timestamptz;
    v_left bigint;
BEGIN
    SELECT * INTO v_original FROM workflows w WHERE w.id = p_original;
    IF NOT FOUND THEN
        RETURN NEXT say('missing', p_original);
        RETURN;
    END IF;
    SELECT d.concurrency IS NOT NULL INTO v_limited FROM definitions d WHERE d.id = v_original.definition_id;
    IF v_limited AND refuse_overlap(ARRAY [v_original.definition_id]) <> '{}'
       AND NOT EXISTS (SELECT 1 FROM workflows w WHERE w.id = p_id) THEN
        RETURN NEXT say('refused', p_original, reason => 'overlap', item => 1);
        RETURN;
    END IF;
    IF v_original.status NOT IN ('error', 'canceled') THEN
        RETURN NEXT say('final', p_original, status => v_original.status::text);
        RETURN;
    END IF;
    v_now := clock_timestamp();
    INSERT INTO workflows (id, definition_id, project, name, status, periodic, limited, queued, created, updated, deadline,
                           relaunched_from, comment, payload)
    SELECT p_id, v_original.definition_id, v_original.project, v_original.name, 'pending', false,
           CASE WHEN v_limited THEN d.fullname END, v_limited, p_created,
           greatest(p_created, v_now),
           CASE WHEN NOT v_limited THEN v_now + make_interval(secs => d.timeout) END,
           v_original.id, v_original.comment, v_original.payload
      FROM definitions d WHERE d.id = v_original.definition_id
        ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE definitions d SET relaunched = v_now
     WHERE d.id = v_original.definition_id AND coalesce(d.relaunched < v_now - interval '1 hour', true);
    WITH old AS MATERIALIZED (
        SELECT t.*, d.next FROM tasks t
          JOIN definition_tasks d ON d.definition_id = v_original.definition_id AND d.position = t.position
         WHERE t.workflow_id = p_original AND NOT t.is_hook
    ), met AS (
        SELECT n AS "position", count(*)::integer AS count FROM old, unnest(old.next) AS n
         WHERE old.status = 'success' GROUP BY n
    ), filled AS (
        INSERT INTO tasks AS t (workflow_id, position, status, waiting, attempt, queue, due, node_id, created, updated,
                                started, finished, exit_status, result)
        SELECT p_id, d.position, CASE WHEN k.done THEN 'success' ELSE 'pending' END::status,
               d.waiting - coalesce(m.count, 0), CASE WHEN k.done THEN o.attempt ELSE 0 END, d.queue,
               CASE WHEN NOT k.done AND NOT v_limited AND d.waiting = coalesce(m.count, 0) THEN v_now END,
               CASE WHEN k.done THEN o.node_id END, p_created, v_now, CASE WHEN k.done THEN o.started END,
               CASE WHEN k.done THEN o.finished END, CASE WHEN k.done THEN o.exit_status END,
               CASE WHEN k.done THEN o.result END
          FROM definition_tasks d
          LEFT JOIN old o ON o.position = d.position
          LEFT JOIN met m ON m.position = d.position
         CROSS JOIN LATERAL (SELECT coalesce(o.status = 'success', false)) AS k (done)
         WHERE d.definition_id = v_original.definition_id AND d.role = 'task'
        RETURNING t.due
    )
    SELECT count(f.due) INTO v_left FROM filled f;
    IF NOT EXISTS (SELECT 1 FROM workflows w WHERE w.id = p_original) THEN
        DELETE FROM tasks t WHERE t.workflow_id = p_id;
        DELETE FROM workflows w WHERE w.id = p_id;
        RETURN NEXT say('missing', p_original);
    ELSIF v_limited THEN
        RETURN QUERY SELECT * FROM admit_new(ARRAY [v_original.definition_id]);
    ELSIF v_left > 0 THEN
        RETURN NEXT say('left', count => v_left);
    END IF;
END $$;

-- --- clearing away ---------------------------------------------------------------------------------------------------

-- Removes finished instances beyond what their definitions keep, the oldest first, with their tasks, attempts and logs: at
-- most `p_limit` rows in a call, but for the first instance. One whose hook has not ended stays. Several daemons may call
-- it at once. Answers how many rows it has found to be removed, at least. Names are asked for as ranges: see admit_queued.
CREATE FUNCTION clear_workflows(p_default integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_ids uuid[];
    v_rows bigint;
BEGIN
    WITH kept AS (
        SELECT DISTINCT ON (d.fullname) d.project, d.name, coalesce(d.retention, p_default) AS offset
          FROM definitions d ORDER BY d.fullname, d.used DESC, d.id DESC
    ), oldest AS (
        SELECT k.project, k.name,
               (SELECT w.id FROM workflows w
                 WHERE w.project = k.project AND w.name BETWEEN k.name AND k.name AND w.finished IS NOT NULL
                 ORDER BY w.name DESC, w.id DESC OFFSET k.offset LIMIT 1) AS id
          FROM kept k WHERE k.offset >= 0
    ), found AS (
        SELECT w.id
          FROM oldest o
         CROSS JOIN LATERAL (
               SELECT c.id FROM workflows c
                WHERE c.project = o.project AND c.name BETWEEN o.name AND o.name AND c.id <= o.id
                  AND c.finished IS NOT NULL
                  AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.workflow_id = c.id
                                     AND (t.status IN ('pending', 'progress') OR coalesce(t.held, false)))
                ORDER BY c.name, c.id LIMIT p_limit) w
         LIMIT p_limit
    ), weighed AS (
        SELECT f.id, sum(r.rows) OVER (ORDER BY f.id) AS rows, row_number() OVER (ORDER BY f.id) AS place
          FROM found f
         CROSS JOIN LATERAL (SELECT 1 + (SELECT count(*) FROM tasks t WHERE t.workflow_id = f.id)
                                    + (SELECT count(*) FROM task_logs l WHERE l.workflow_id = f.id) AS rows) r
    )
    SELECT array_agg(w.id) FILTER (WHERE w.place = 1 OR w.rows <= p_limit), max(w.rows) INTO v_ids, v_rows
      FROM weighed w;
    IF v_ids IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(l.id) INTO v_ids
      FROM (SELECT w.id FROM workflows w WHERE w.id = ANY (v_ids) ORDER BY w.id FOR UPDATE SKIP LOCKED) l;
    DELETE FROM attempts a WHERE a.workflow_id = ANY (v_ids);
    DELETE FROM tasks t WHERE t.workflow_id = ANY (v_ids); -- before the logs: after this none is added
    DELETE FROM task_logs l WHERE l.workflow_id = ANY (v_ids);
    DELETE FROM workflows w WHERE w.id = ANY (v_ids);
    RETURN v_rows;
END $$;

-- Removes what else has had its time: fires older than `p_fires_age`, idempotency keys after a day, nodes that ended a
-- day ago and hold nothing, versions of definitions that no daemon has loaded for a day and no instance has; schedules that
-- were removed a month ago and have no fires any more, and the files of a host that was without a daemon for so long. At
-- most `p_limit` of each in a call, where there may be many. The daemon says with `p_loaded` which versions it uses. Answers
-- how many.
CREATE FUNCTION clear_history(p_loaded bigint[], p_fires_age interval, p_limit integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_count bigint;
    v_sum bigint := 0;
BEGIN
    UPDATE definitions d SET used = v_now WHERE d.id = ANY (p_loaded) AND d.used < v_now - interval '1 hour';

    DELETE FROM fires f USING (
        SELECT s.id, o.scheduled FROM schedules s
         CROSS JOIN LATERAL (SELECT c.scheduled FROM fires c
                              WHERE c.schedule_id = s.id AND c.scheduled < v_now - p_fires_age
                                AND coalesce(c.until, c.scheduled) < v_now - p_fires_age
                              ORDER BY c.scheduled LIMIT p_limit) o
         LIMIT p_limit) old
     WHERE f.schedule_id = old.id AND f.scheduled = old.scheduled;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_sum := v_sum + v_count;

    DELETE FROM idempotency_keys k USING (
        SELECT o.principal, o.key FROM idempotency_keys o WHERE o.created < v_now - interval '1 day'
         ORDER BY o.created LIMIT p_limit) old
     WHERE k.principal = old.principal AND k.key = old.key;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_sum := v_sum + v_count;

    DELETE FROM schedules s USING (
        SELECT o.id FROM schedules o
         WHERE o.removed < v_now - interval '30 days' AND NOT EXISTS (SELECT 1 FROM fires f WHERE f.schedule_id = o.id)
         ORDER BY o.id FOR UPDATE SKIP LOCKED) old
     WHERE s.id = old.id;

    UPDATE definition_files f SET loaded = v_now
     WHERE f.loaded < v_now - interval '1 day'
       AND EXISTS (SELECT 1 FROM nodes n WHERE n.host = f.host AND n.state IN ('active', 'draining'));
    DELETE FROM definition_files f WHERE f.loaded < v_now - interval '30 days';

    DELETE FROM nodes n
     WHERE n.state IN ('stopped', 'dead') AND n.heartbeat < v_now - interval '1 day'
       AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.node_id = n.id);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_sum := v_sum + v_count;

    -- An instance of a version is older than a day after its last use. Those of other versions that are as old keep it,
    -- too: to tell them apart all of them would have to be read.
    DELETE FROM definitions d USING (
        SELECT o.id FROM definitions o
         WHERE greatest(o.used, o.relaunched) < v_now - interval '1 day'
           AND NOT EXISTS (SELECT 1 FROM workflows w
                            WHERE w.project = o.project AND w.name = o.name
                              AND w.id < first_id(greatest(o.used, o.relaunched) + interval '1 day'))
         LIMIT p_limit) old
     WHERE d.id = old.id AND greatest(d.used, d.relaunched) < v_now - interval '1 day'; -- still, after it has waited
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_sum + v_count;
END $$;

-- --- the clock -------------------------------------------------------------------------------------------------------

-- The database's clock was set back. What was due by the old one is due by the new one: ready tasks at once, further
-- attempts after their delay, daemons that are gone after a lease, runs at the latest after their whole time limit. Fires
-- wait: a cursor never moves back. Safe to repeat, by several daemons. About `p_limit` tasks and runs in a call; answers
-- whether there may be others.
-- Locks: the workflows of those tasks and runs, by id, then the nodes.
CREATE FUNCTION set_clock_back(p_limit integer) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids uuid[];
    v_more boolean;
BEGIN
    SELECT array_agg(f.id), count(*) = p_limit INTO v_ids, v_more
      FROM (SELECT t.workflow_id AS id FROM tasks t WHERE t.due > v_now AND t.updated > v_now
            UNION ALL
            SELECT w.id FROM workflows w
             CROSS JOIN LATERAL (SELECT d.timeout FROM definitions d WHERE d.id = w.definition_id LIMIT 1) d
             WHERE w.deadline > v_now + make_interval(secs => d.timeout)
            UNION ALL
            SELECT h.workflow_id FROM held_tasks h WHERE h.started > v_now
             LIMIT p_limit) f;
    PERFORM lock_workflows(v_ids);
    v_now := clock_timestamp();
    UPDATE tasks t SET due = v_now + (t.due - t.updated), updated = v_now
     WHERE t.workflow_id = ANY (v_ids) AND t.due > v_now AND t.updated > v_now;
    UPDATE tasks t SET started = v_now
     WHERE t.workflow_id = ANY (v_ids) AND t.held AND t.started > v_now;
    UPDATE workflows w SET deadline = v_now + make_interval(secs => d.timeout)
      FROM definitions d
     WHERE w.id = ANY (v_ids) AND d.id = w.definition_id AND w.deadline > v_now + make_interval(secs => d.timeout);
    UPDATE nodes n SET heartbeat = v_now WHERE n.heartbeat > v_now;
    RETURN v_more;
END $$;

-- --- what must be empty ----------------------------------------------------------------------------------------------

-- What nobody will ever move: unfinished, and without a task before it, a due time, a daemon that holds it and lives or will
-- be declared dead, or an instance ahead of it under `concurrency`. Reads all unfinished instances: for people and tests.
CREATE VIEW stuck AS
SELECT w.id AS workflow_id, NULL::integer AS "position", 'all of its tasks are final' AS why
  FROM workflows w
 WHERE w.finished IS NULL
   AND NOT EXISTS (SELECT FROM tasks t WHERE t.workflow_id = w.id AND t.finished IS NULL AND NOT t.is_hook)
UNION ALL
SELECT w.id, NULL, 'queued, and its concurrency has room'
  FROM workflows w
 WHERE w.queued AND w.updated < clock_timestamp() - interval '10 seconds'
   AND (SELECT count(*) FROM workflows o WHERE o.limited = w.limited AND NOT o.queued)
       < (SELECT coalesce(d.concurrency, 2147483647) FROM definitions d
           WHERE d.fullname = w.limited ORDER BY d.used DESC, d.id DESC LIMIT 1)
UNION ALL
SELECT t.workflow_id, t.position, 'ready, and not due'
  FROM tasks t
  JOIN workflows w ON w.id = t.workflow_id
 WHERE t.status = 'pending' AND t.waiting = 0 AND t.due IS NULL AND NOT w.queued
UNION ALL
SELECT t.workflow_id, t.position, 'waits for a task that is no more'
  FROM tasks t
  JOIN workflows w ON w.id = t.workflow_id
  JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position
 WHERE t.status = 'pending' AND t.waiting > 0
   AND NOT EXISTS (SELECT FROM tasks p WHERE p.workflow_id = t.workflow_id AND p.position = ANY (d.previous)
                      AND p.finished IS NULL)
UNION ALL
SELECT t.workflow_id, t.position, 'running, and held by nobody'
  FROM tasks t
  LEFT JOIN nodes n ON n.id = t.node_id
 WHERE t.status = 'progress'
   AND (n.id IS NULL OR NOT coalesce(t.held, false) OR NOT EXISTS (SELECT FROM claims c WHERE c.batch = t.claim)
        OR n.state IN ('stopped', 'dead') AND n.heartbeat < clock_timestamp() - interval '2 minutes');

-- Tasks that are ready in queues that no living daemon serves.
CREATE VIEW unserved AS
SELECT t.queue, count(*) AS tasks, min(t.due) AS since
  FROM tasks t
 WHERE t.due <= clock_timestamp()
   AND NOT EXISTS (SELECT FROM nodes n WHERE n.state = 'active' AND (n.queues = '{*}' OR t.queue = ANY (n.queues)))
 GROUP BY t.queue;
