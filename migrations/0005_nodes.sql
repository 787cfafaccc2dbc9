-- Daemons come, say that they live, and go; what a dead one held is ended. The rules are those of 0002_engine.sql.

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
       AND (n.boot_id = p_boot_id OR n.heartbeat < clock_timestamp() - p_up
            OR n.heartbeat > clock_timestamp()); -- by a clock that was set back since: it tells nothing
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
-- as failed attempts (`node_lost`), tried again if attempts remain: up to `p_limit` in a call; the answer `more` says that
-- there are others. The lease has run out by our clock and by what the sender takes for it (`p_at`): a clock that was set
-- forward makes nobody's heartbeat old.
-- Locks: the workflows of those attempts, by id, then their claims by batch, then the nodes.
CREATE FUNCTION reap(p_node uuid, p_lease interval, p_at timestamptz, p_limit integer) RETURNS SETOF answer
LANGUAGE plpgsql AS $$
DECLARE
    v_overdue timestamptz := least(clock_timestamp(), p_at) - p_lease;
    v_nodes uuid[];
    v_claims uuid[];
    v_more boolean;
    v_definitions bigint[];
    v_rows tid[];
    v_workflows uuid[];
    v_positions integer[];
    v_attempts integer[];
    v_owners uuid[];
BEGIN
    SELECT array_agg(o.id) INTO v_nodes
      FROM (SELECT n.id FROM nodes n
             WHERE n.id <> p_node
               AND (n.state IN ('active', 'draining') AND n.heartbeat < v_overdue
                    OR n.state IN ('stopped', 'dead') AND n.id IN (SELECT c.node_id FROM claims c))
            UNION   -- a call of a dead one may have ended after its row had been cleared away
            SELECT c.node_id FROM claims c WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = c.node_id)) o;
    IF v_nodes IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(c.batch) FILTER (WHERE c.before < p_limit), sum(c.held) > p_limit INTO v_claims, v_more
      FROM (SELECT c.batch, c.held, sum(c.held) OVER (ORDER BY c.batch) - c.held AS before
              FROM claims c WHERE c.node_id = ANY (v_nodes)) c;
    PERFORM lock_workflows(array_agg(h.workflow_id))
       FROM (SELECT h.workflow_id FROM held_tasks h WHERE h.batch = ANY (v_claims)
              ORDER BY h.workflow_id, h.position LIMIT p_limit) h;
    PERFORM 1 FROM claims c WHERE c.batch = ANY (v_claims) ORDER BY c.batch FOR UPDATE;
    -- A node that renewed its row while this waited lives on.
    PERFORM 1 FROM nodes n WHERE n.id = ANY (v_nodes) ORDER BY n.id FOR UPDATE;
    RETURN QUERY
    WITH dead AS (
        UPDATE nodes n SET state = 'dead'
         WHERE n.id = ANY (v_nodes) AND n.state IN ('active', 'draining') AND n.heartbeat < v_overdue
        RETURNING n.id
    )
    SELECT a.* FROM dead CROSS JOIN LATERAL say('dead', node_id => dead.id) AS a;

    -- A batch that was sent again meanwhile may hold more: those are locked below.
    SELECT array_agg(h.workflow_id), array_agg(h.position), array_agg(h.attempt), array_agg(h.node_id)
      INTO v_workflows, v_positions, v_attempts, v_owners
      FROM (SELECT h.* FROM held_tasks h
              LEFT JOIN nodes n ON n.id = h.node_id
             WHERE h.batch = ANY (v_claims) AND coalesce(n.state IN ('stopped', 'dead'), true)
             ORDER BY h.workflow_id, h.position LIMIT p_limit) h;
    IF v_more THEN
        RETURN NEXT say('more');
    END IF;
    IF v_workflows IS NULL THEN
        RETURN;
    END IF;
    SELECT l.* INTO v_definitions, v_rows FROM lock_workflows(v_workflows) l;
    RETURN QUERY
    SELECT s.* FROM settle(NULL, NULL, 0, NULL, 0, v_workflows, v_rows, v_definitions, v_positions, v_attempts, v_owners,
                           array_fill(false, ARRAY [cardinality(v_workflows)]),
                           array_fill(true, ARRAY [cardinality(v_workflows)]),
                           array_fill('{"exception":"the node that ran it was lost","traceback":""}'::json,
                                      ARRAY [cardinality(v_workflows)]),
                           array_fill('node_lost'::text, ARRAY [cardinality(v_workflows)]), NULL, NULL, NULL, NULL) s;
END $$;
