-- What a daemon loaded from its files becomes rows here. Both functions take one JSON array and are safe to repeat.

-- [{"project", "name", "file", "document", "concurrency", "overlap", "retention", "timeout",
--   "tasks": [{"role", "key", "queue", "previous", "next", "action", "retry_limit", "retry_interval", "retry_backoff",
--              "retry_max_interval"}, …]}, …], tasks in execution order. A version that is known already keeps its row.
-- Answers the id of each, in the order given. It joins two whole lists, and needs the hash join that our sessions go
-- without elsewhere.
CREATE FUNCTION register_definitions(p_definitions json) RETURNS TABLE (place integer, id bigint)
LANGUAGE plpgsql SET enable_hashjoin = on AS $$
#variable_conflict use_column
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS loaded (place integer, digest bytea, body json) ON COMMIT DELETE ROWS;
    DELETE FROM loaded;
    INSERT INTO loaded
    SELECT e.place, sha256(convert_to(e.body::text, 'UTF8')), e.body
      FROM json_array_elements(p_definitions) WITH ORDINALITY AS e (body, place);

    INSERT INTO admissions (fullname)
    SELECT DISTINCT (l.body ->> 'project') || '.' || (l.body ->> 'name')
      FROM loaded l WHERE l.body ->> 'concurrency' IS NOT NULL ORDER BY 1
        ON CONFLICT DO NOTHING;

    UPDATE definitions d SET used = clock_timestamp() WHERE d.digest IN (SELECT l.digest FROM loaded l);
    WITH added AS (
        INSERT INTO definitions AS d (digest, fullname, project, name, file, document, concurrency, overlap, retention, timeout)
        SELECT DISTINCT ON (l.digest) l.digest, (l.body ->> 'project') || '.' || (l.body ->> 'name'),
               l.body ->> 'project', l.body ->> 'name', l.body ->> 'file', l.body -> 'document',
               (l.body ->> 'concurrency')::integer, l.body ->> 'overlap', (l.body ->> 'retention')::integer,
               (l.body ->> 'timeout')::double precision
          FROM loaded l ORDER BY l.digest
            ON CONFLICT (digest) DO NOTHING
        RETURNING d.id, d.digest
    )
    INSERT INTO definition_tasks (definition_id, position, role, key, queue, previous, next, waiting, closes, action,
                                  retry_limit, retry_interval, retry_backoff, retry_max_interval)
    SELECT a.id, (t.place - 1)::integer, t.role, t.key, t.queue, t.previous, t.next, cardinality(t.previous),
           e.is_end AND count(*) FILTER (WHERE e.is_end) OVER (PARTITION BY a.id) = 1,
           t.action, t.retry_limit, t.retry_interval, t.retry_backoff, t.retry_max_interval
      FROM added a
      JOIN loaded l ON l.digest = a.digest
     CROSS JOIN LATERAL ROWS FROM (json_to_recordset(l.body -> 'tasks')
                                   AS (role text, key text, queue text, previous integer[], next integer[], action json,
                                       retry_limit integer, retry_interval double precision,
                                       retry_backoff double precision, retry_max_interval double precision))
                WITH ORDINALITY AS t (role, key, queue, previous, next, action, retry_limit, retry_interval,
                                      retry_backoff, retry_max_interval, place)
     CROSS JOIN LATERAL (SELECT t.role = 'task' AND t.next = '{}') AS e (is_end);

    RETURN QUERY
    SELECT l.place, d.id FROM loaded l JOIN definitions d ON d.digest = l.digest ORDER BY l.place;
END $$;

-- [{"project", "name", "identity", "trigger", "timezone", "catchup"}, …]: all schedules of the daemon. One seen for the
-- first time begins now; one that was removed goes on from now; one that keeps its trigger keeps its phase. Schedules
-- that are in no list any more are marked as removed, and stay for their history. Answers each, in the order given.
-- Locks: the schedules that change, by id.
CREATE FUNCTION register_schedules(p_schedules json)
RETURNS TABLE (place integer, id bigint, anchor timestamptz, cursor timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_changed bigint[];
    v_removed bigint[];
    v_now timestamptz;
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS planned (place integer, project text, name text, identity text, trigger text,
                                                  timezone text, catchup text, id bigint) ON COMMIT DELETE ROWS;
    DELETE FROM planned;
    INSERT INTO planned
    SELECT e.place, k.project, k.name, k.identity, e.body ->> 'trigger', e.body ->> 'timezone', e.body ->> 'catchup',
           (SELECT s.id FROM schedules s
             WHERE s.project = k.project AND s.name = k.name AND s.identity = k.identity)
      FROM json_array_elements(p_schedules) WITH ORDINALITY AS e (body, place)
     CROSS JOIN LATERAL (SELECT e.body ->> 'project', e.body ->> 'name', e.body ->> 'identity')
                        AS k (project, name, identity);

    SELECT coalesce(array_agg(s.id), '{}') INTO v_changed
      FROM planned p JOIN schedules s ON s.id = p.id
     WHERE s.removed IS NOT NULL OR (s.trigger, s.timezone, s.catchup) <> (p.trigger, p.timezone, p.catchup);
    SELECT coalesce(array_agg(s.id), '{}') INTO v_removed
      FROM schedules s
     WHERE s.removed IS NULL AND s.id NOT IN (SELECT p.id FROM planned p WHERE p.id IS NOT NULL);
    PERFORM 1 FROM schedules s WHERE s.id = ANY (v_changed || v_removed) ORDER BY s.id FOR UPDATE;
    v_now := clock_timestamp();
    UPDATE schedules s
       SET anchor = CASE WHEN s.trigger = p.trigger THEN s.anchor ELSE v_now END,
           cursor = CASE WHEN s.trigger = p.trigger AND s.timezone = p.timezone AND s.removed IS NULL
                         THEN s.cursor ELSE greatest(s.cursor, v_now) END,
           trigger = p.trigger, timezone = p.timezone, catchup = p.catchup, removed = NULL
      FROM planned p
     WHERE s.id = p.id AND p.id = ANY (v_changed);
    UPDATE schedules s SET removed = v_now WHERE s.id = ANY (v_removed) AND s.removed IS NULL;
    INSERT INTO schedules (project, name, identity, trigger, timezone, catchup, anchor, cursor)
    SELECT p.project, p.name, p.identity, p.trigger, p.timezone, p.catchup, v_now, v_now
      FROM planned p WHERE NOT EXISTS (SELECT 1 FROM schedules s WHERE s.id = p.id) -- or it was cleared away meanwhile
     ORDER BY p.project, p.name, p.identity
        ON CONFLICT DO NOTHING;

    RETURN QUERY
    SELECT p.place, s.id, s.anchor, s.cursor
      FROM planned p
      JOIN schedules s ON s.project = p.project AND s.name = p.name AND s.identity = p.identity
     ORDER BY p.place;
END $$;

-- Notes the good versions of a directory's files; `p_present` names every file that is there, good or not: what is
-- known of others is forgotten.
CREATE FUNCTION remember_files(p_host text, p_directory text, p_present text[], p_names text[], p_contents text[])
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM definition_files f
     WHERE f.host = p_host AND f.directory = p_directory AND NOT f.name = ANY (p_present);
    INSERT INTO definition_files AS f (host, directory, name, content)
    SELECT p_host, p_directory, n.name, n.content FROM unnest(p_names, p_contents) AS n (name, content)
     ORDER BY n.name
        ON CONFLICT (host, directory, name) DO UPDATE SET content = excluded.content, loaded = clock_timestamp()
     WHERE f.content <> excluded.content;
END $$;
