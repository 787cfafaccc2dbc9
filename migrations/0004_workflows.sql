-- Where workflows come from, in what number they may run at once, and how they are canceled. The rules are those of
-- 0002_engine.sql.

-- Inserts workflows and their tasks, but for the items at `p_refused`; the common part of launch and fire. Of the tasks
-- without a predecessor up to `p_slots` are claimed at once, in the order of the items. The workflow of a definition with
-- a `concurrency` is queued, and nothing of it claimed: admit_new lets it begin. The workflow of an empty
-- definition is `success` from the start. What is there already (the batch is sent again) is left as it is, the rest is
-- added: it was refused the first time, and nobody heard of that. A batch whose first sending is just being committed
-- fails with serialization_failure, to be sent again.
CREATE FUNCTION add_workflows(p_batch uuid, p_node uuid, p_slots integer, p_queues text[], p_max_input bigint,
                              p_ids uuid[], p_definitions bigint[], p_created timestamptz[], p_payloads json[],
                              p_comments text[], p_relaunched uuid[], p_scheduled timestamptz[],
                              p_refused integer[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_missing bigint;
    v_claimed uuid[];
    v_claimed_definitions bigint[];
    v_claimed_positions integer[];
    v_left bigint;
BEGIN
    IF EXISTS (SELECT 1 FROM (SELECT DISTINCT u.id FROM unnest(p_definitions) AS u (id)) i
                WHERE NOT EXISTS (SELECT 1 FROM definitions d WHERE d.id = i.id)) THEN
        RAISE foreign_key_violation USING MESSAGE = 'this version of the definition is not registered';
    END IF;
    WITH item AS MATERIALIZED (
        -- `first` are its tasks that this node may claim at once, `before` those of the items before it
        SELECT i.*, d.*, d.limited AND NOT f.empty AS queued, f.empty, f.first, sum(f.first) OVER (ORDER BY i.place) - f.first AS before
          FROM unnest(p_ids, p_definitions, p_created, p_payloads, p_comments, p_relaunched, p_scheduled)
               WITH ORDINALITY AS i (id, definition_id, created, payload, comment, relaunched, scheduled, place)
          LEFT JOIN LATERAL (SELECT true AS is_there FROM workflows w WHERE w.id = i.id LIMIT 1) w ON true
         CROSS JOIN LATERAL (SELECT d.project, d.name, d.fullname, d.timeout, d.concurrency IS NOT NULL AS limited
                               FROM definitions d WHERE d.id = i.definition_id LIMIT 1) d
         CROSS JOIN LATERAL (
              SELECT count(*) = 0 AS empty,
                     count(*) FILTER (WHERE t.waiting = 0 AND NOT d.limited
                                        AND (p_queues = '{*}' OR t.queue = ANY (p_queues))) AS first
                FROM definition_tasks t
               WHERE t.definition_id = i.definition_id AND t.role = 'task') f
         WHERE w.is_there IS NULL AND NOT i.place = ANY (p_refused)
    ), added AS (
        INSERT INTO workflows (id, definition_id, project, name, status, periodic, limited, queued, created, updated, started,
                               finished, deadline, scheduled, relaunched_from, comment, payload)
        SELECT i.id, i.definition_id, i.project, i.name,
               CASE WHEN i.empty THEN 'success' WHEN b.begun THEN 'progress' ELSE 'pending' END::status,
               i.scheduled IS NOT NULL, CASE WHEN i.queued THEN i.fullname END,
               i.queued, i.created, greatest(i.created, v_now),
               CASE WHEN i.empty OR b.begun THEN v_now END, CASE WHEN i.empty THEN v_now END,
               CASE WHEN NOT i.empty AND NOT i.queued THEN v_now + make_interval(secs => i.timeout) END,
               i.scheduled, i.relaunched, i.comment, i.payload
          FROM item i
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

-- Says `room` of those of the definitions whose `concurrency` has room for an instance that waits.
CREATE FUNCTION find_room(p_names text[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_names text[];
BEGIN
    SELECT array_agg(n.fullname) INTO v_names FROM unnest(p_names) AS n (fullname)
     WHERE EXISTS (SELECT 1 FROM workflows w WHERE w.limited = n.fullname AND w.queued);
    RETURN QUERY
    SELECT a.* FROM unnest(v_names, occupied(v_names)) AS n (fullname, occupied)
     CROSS JOIN LATERAL (SELECT * FROM definitions d WHERE d.fullname = n.fullname
                          ORDER BY d.used DESC, d.id DESC LIMIT 1) d
     CROSS JOIN LATERAL say('room', project => d.project, name => d.name) AS a
     WHERE n.occupied < coalesce(d.concurrency, 2147483647);
END $$;

-- Lets queued instances of the definitions begin while their `concurrency` has room, the oldest first: a thousand in a call,
-- which says `room` when there are others. The limit is that of a definition's newest version. The caller holds the
-- admissions.
-- Locks: the workflows, by id.
CREATE FUNCTION admit_queued(p_names text[]) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    c_most CONSTANT integer := 1000;
    v_now timestamptz;
    v_occupied bigint[] := occupied(p_names);
    v_ids uuid[];
    v_left bigint;
BEGIN
    -- Of the instances a name is asked for as a range: for an equal one the planner could take the order from the primary
    -- key, and walk along all of it. The version that counts is the one that was loaded last.
    v_ids := ARRAY (
        SELECT q.id
          FROM unnest(p_names) WITH ORDINALITY AS n (fullname, place)
         CROSS JOIN LATERAL (SELECT coalesce(d.concurrency, 2147483647) AS concurrency FROM definitions d
                              WHERE d.fullname = n.fullname ORDER BY d.used DESC, d.id DESC LIMIT 1) d
         CROSS JOIN LATERAL (SELECT w.id FROM workflows w
                              WHERE w.limited BETWEEN n.fullname AND n.fullname AND w.queued
                              ORDER BY w.limited, w.id LIMIT greatest(d.concurrency - v_occupied[n.place], 0)) q
         LIMIT c_most);
    IF v_ids = '{}' THEN
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
    IF cardinality(v_ids) = c_most THEN
        RETURN QUERY SELECT * FROM find_room(p_names);
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
BEGIN
    SELECT CASE WHEN n.state = 'active' THEN n.queues END, n.max_input INTO v_queues, v_max_input
      FROM nodes n WHERE n.id = p_node;
    v_limited := EXISTS (SELECT 1 FROM definitions d WHERE d.id = ANY (p_definitions) AND d.concurrency IS NOT NULL);
    IF v_limited THEN
        -- An item whose key was used before is not a new instance, but its definition may have room all the same.
        PERFORM lock_admissions(p_definitions);
        v_refused := refuse_overlap((
            SELECT array_agg(CASE WHEN k.is_used IS NULL THEN i.definition END ORDER BY i.place)
              FROM unnest(p_definitions, p_principals, p_keys, p_ids) WITH ORDINALITY
                   AS i (definition, principal, key, id, place)
              LEFT JOIN LATERAL (SELECT true AS is_used FROM idempotency_keys k
                                  WHERE k.principal = i.principal AND k.key = i.key AND k.workflow_id <> i.id
                                  LIMIT 1) k ON true));
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
    SELECT * FROM add_workflows(p_batch, p_node, CASE WHEN v_queues IS NULL THEN 0 ELSE p_slots END, v_queues,
                                v_max_input, p_ids, p_definitions, p_created, p_payloads, p_comments, p_relaunched, NULL,
                                v_refused);
    IF v_limited THEN
        RETURN QUERY SELECT * FROM admit_new(p_definitions);
    END IF;
END $$;

-- Decides fires. Each schedule comes with the cursor that the sender saw and the one to move it to, with what its
-- workflows are made of, and with the fires in between: items that name their schedule by its place in the batch, due at
-- `p_dues`, meant to run (`ran`, with a workflow) or not (`late`, `collapsed`). A schedule whose cursor stands elsewhere by
-- now, or whose new cursor lies in the database's future, is left alone; the answer `cursor` tells where each stands. A
-- paused schedule's fires do not run and say so. A schedule sent without a seen cursor is fired by hand: at once, also
-- while it is paused, and its cursor stays.
-- Locks: admissions by fullname, the schedules by id, then workflows by id where one is replaced.
CREATE FUNCTION fire(p_batch uuid, p_node uuid, p_slots integer, p_repeat boolean,
                     p_schedules bigint[], p_seen timestamptz[], p_cursors timestamptz[], p_definitions bigint[],
                     p_payloads json[],
                     p_places integer[], p_scheduled timestamptz[], p_dues timestamptz[], p_outcomes text[],
                     p_counts bigint[], p_untils timestamptz[], p_ids uuid[],
                     p_created timestamptz[]) RETURNS SETOF answer
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
                          WHEN i.outcome = 'ran' AND i.due <= v_paused[i.schedule] THEN 'paused'
                          ELSE i.outcome END ORDER BY i.place)
      INTO v_outcomes
      FROM unnest(p_places, p_dues, p_outcomes) WITH ORDINALITY AS i (schedule, due, outcome, place);
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
        SELECT array_agg(i.id) AS ids, array_agg(p_definitions[i.schedule]) AS definitions, array_agg(i.created) AS created,
               array_agg(p_payloads[i.schedule]) AS payloads, array_agg(i.scheduled) AS scheduled
          FROM unnest(p_places, p_scheduled, v_outcomes, p_ids, p_created)
               AS i (schedule, scheduled, outcome, id, created)
         WHERE i.outcome = 'ran'
        HAVING count(*) > 0
    ) n CROSS JOIN LATERAL add_workflows(p_batch, p_node, CASE WHEN v_queues IS NULL THEN 0 ELSE p_slots END, v_queues,
                                         v_max_input, n.ids, n.definitions, n.created, n.payloads, NULL, NULL,
                                         n.scheduled, '{}') r;
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

-- Pauses schedules, or lets them go on: the one with this id, or all of a workflow.
-- Locks: the schedules, by id.
CREATE FUNCTION pause_schedules(p_id bigint, p_fullname text, p_paused boolean, p_comment text) RETURNS SETOF schedules
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
BEGIN
    v_ids := ARRAY (SELECT s.id FROM schedules s
                     WHERE (p_id IS NULL OR s.id = p_id) AND (p_fullname IS NULL OR s.project || '.' || s.name = p_fullname));
    PERFORM 1 FROM schedules s WHERE s.id = ANY (v_ids) ORDER BY s.id FOR UPDATE;
    RETURN QUERY
    UPDATE schedules s SET paused = p_paused,
                           comment = CASE WHEN s.paused = p_paused THEN coalesce(p_comment, s.comment) ELSE p_comment END,
                           resumed = CASE WHEN s.paused AND NOT p_paused THEN clock_timestamp() ELSE s.resumed END
     WHERE s.id = ANY (v_ids) AND s.removed IS NULL
    RETURNING s.*;
END $$;
