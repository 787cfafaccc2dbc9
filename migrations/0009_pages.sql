-- What the API reads page by page, newest first. A page is read in slices of about so many bytes, so that no reply is ever
-- much larger than that: only when a single row is, which then is a slice of its own.

-- The least id that an instance of this millisecond can have: the order of ids is that of `created`.
CREATE FUNCTION first_id(p_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(greatest(floor(extract(epoch FROM p_at) * 1000), 0)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Instances by filters, each NULL for any: those with ids from `p_least` up to and without `p_before`, newest first. Where a
-- project or a name is wanted, each workflow's newest are found by the index on names, and the others walk back over the ids.
CREATE FUNCTION choose_workflows(p_project text, p_name text, p_statuses text[], p_periodic boolean,
                                 p_created_after timestamptz, p_created_before timestamptz, p_comment text,
                                 p_before uuid, p_least uuid, p_limit bigint, p_offset bigint) RETURNS SETOF workflows
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_least uuid := greatest(coalesce(p_least, '00000000-0000-0000-0000-000000000000'),
                             coalesce(first_id(p_created_after), '00000000-0000-0000-0000-000000000000'));
    v_before uuid := least(coalesce(p_before, 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
                           coalesce(first_id(p_created_before + interval '1 ms'), 'ffffffff-ffff-ffff-ffff-ffffffffffff'));
BEGIN
    IF p_project IS NULL AND p_name IS NULL THEN
        RETURN QUERY
        SELECT w.* FROM workflows w
         WHERE w.id >= v_least AND w.id < v_before
           AND (p_statuses IS NULL OR w.status::text = ANY (p_statuses))
           AND (p_periodic IS NULL OR w.periodic = p_periodic)
           AND (p_created_after IS NULL OR w.created > p_created_after)
           AND (p_created_before IS NULL OR w.created < p_created_before)
           AND (p_comment IS NULL OR strpos(w.comment, p_comment) > 0)
         ORDER BY w.id DESC LIMIT p_limit OFFSET p_offset;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT c.*
      FROM (SELECT DISTINCT d.project, d.name FROM definitions d
             WHERE (p_project IS NULL OR d.project = p_project) AND (p_name IS NULL OR d.name = p_name)) n
     CROSS JOIN LATERAL (
           SELECT w.* FROM workflows w
            WHERE w.project = n.project AND w.name BETWEEN n.name AND n.name AND w.id >= v_least AND w.id < v_before
              AND (p_statuses IS NULL OR w.status::text = ANY (p_statuses))
              AND (p_periodic IS NULL OR w.periodic = p_periodic)
              AND (p_created_after IS NULL OR w.created > p_created_after)
              AND (p_created_before IS NULL OR w.created < p_created_before)
              AND (p_comment IS NULL OR strpos(w.comment, p_comment) > 0)
            ORDER BY w.name DESC, w.id DESC LIMIT p_limit + p_offset) c
     ORDER BY c.id DESC LIMIT p_limit OFFSET p_offset;
END $$;

-- Of so many rows of a page, `p_slice` bytes at most, but the first one at least. `is_whole`: it is in the slice; else it is
-- the first row behind it, or the one that ends the page (the row at place `p_limit`), without its payload.
CREATE FUNCTION slice_workflows(p_with_payload boolean, p_project text, p_name text, p_statuses text[], p_periodic boolean,
                                p_created_after timestamptz, p_created_before timestamptz, p_comment text, p_before uuid,
                                p_least uuid, p_limit bigint, p_offset bigint, p_slice integer)
RETURNS TABLE (id uuid, project text, name text, status text, periodic boolean, created timestamptz, updated timestamptz,
               started timestamptz, finished timestamptz, scheduled timestamptz, relaunched_from uuid, reason text,
               comment text, payload json, is_whole boolean, ends_page boolean)
LANGUAGE sql STABLE AS $$
    SELECT w.id, w.project, w.name, w.status::text, w.periodic, w.created, w.updated, w.started, w.finished, w.scheduled,
           w.relaunched_from, w.reason, w.comment, CASE WHEN p_with_payload AND w.running <= p_slice THEN w.payload END,
           w.running <= p_slice, w.place = p_limit
      FROM (SELECT c.*, sum(c.weight) OVER so_far AS running, row_number() OVER so_far AS place
              FROM (SELECT c.*, least(p_slice, 400 + coalesce(octet_length(c.comment), 0)
                                               + CASE WHEN p_with_payload THEN c.payload_bytes ELSE 0 END) AS weight
                      FROM choose_workflows(p_project, p_name, p_statuses, p_periodic, p_created_after, p_created_before,
                                            p_comment, p_before, p_least, p_limit, p_offset) c) c
            WINDOW so_far AS (ORDER BY c.id DESC ROWS UNBOUNDED PRECEDING)) w
     WHERE w.running - w.weight <= p_slice OR w.place = p_limit
     ORDER BY w.id DESC
$$;

-- An instance's tasks, and with `p_with_attempts` behind each its attempts: what comes behind attempt `p_number` of the task
-- at `p_position` (0 is the task itself), cut like that.
CREATE FUNCTION slice_tasks(p_workflow uuid, p_position integer, p_number integer, p_with_attempts boolean, p_limit bigint,
                            p_slice integer)
RETURNS TABLE ("position" integer, key text, status text, is_hook boolean, attempt integer, queue text, node_id uuid,
               created timestamptz, updated timestamptz, started timestamptz, finished timestamptz, reason text,
               previous integer[], result json, is_whole boolean, number integer, exit_status integer, signal integer,
               peak_memory bigint, cpu_us bigint)
LANGUAGE sql STABLE AS $$
    WITH row AS (
        (SELECT t.position, d.key, t.status::text AS status, t.is_hook, t.attempt, t.queue, t.node_id, t.created, t.updated,
                t.started, t.finished, t.reason, CASE WHEN NOT t.is_hook THEN d.previous END AS previous, t.result,
                t.result_bytes, 0 AS number, NULL::integer AS exit_status, NULL::integer AS signal,
                NULL::bigint AS peak_memory, NULL::bigint AS cpu_us
           FROM tasks t
           JOIN workflows w ON w.id = t.workflow_id
           JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position
          WHERE t.workflow_id = p_workflow AND t.position > p_position
          ORDER BY t.position LIMIT p_limit)
        UNION ALL
        (SELECT a.position, NULL, NULL, NULL, a.attempt, NULL, a.node_id, NULL, NULL, a.started, a.finished, a.reason, NULL,
                a.result, a.result_bytes, a.attempt, a.exit_status, a.signal, a.peak_memory, a.cpu_us
           FROM attempts a
          WHERE p_with_attempts AND a.workflow_id = p_workflow AND a.position >= p_position
            AND (a.position, a.attempt) > (p_position, p_number)
          ORDER BY a.position, a.attempt LIMIT p_limit)
        UNION ALL
        (SELECT t.position, NULL, NULL, NULL, t.attempt, NULL, t.node_id, NULL, NULL, t.started, t.finished, t.reason, NULL,
                t.result, t.result_bytes, t.attempt, t.exit_status, t.signal, t.peak_memory, t.cpu_us
           FROM tasks t
          WHERE p_with_attempts AND t.workflow_id = p_workflow AND t.position >= p_position
            AND (t.position, t.attempt) > (p_position, p_number) AND t.attempt > 0 AND t.status <> 'pending'
          ORDER BY t.position LIMIT p_limit)
    )
    SELECT s.position, s.key, s.status, s.is_hook, s.attempt, s.queue, s.node_id, s.created, s.updated, s.started, s.finished,
           s.reason, s.previous, CASE WHEN s.running <= p_slice THEN s.result END, s.running <= p_slice, s.number,
           s.exit_status, s.signal, s.peak_memory, s.cpu_us
      FROM (SELECT r.*, sum(r.weight) OVER (ORDER BY r.position, r.number ROWS UNBOUNDED PRECEDING) AS running
              FROM (SELECT r.*, least(p_slice, 400 + 40 * coalesce(cardinality(r.previous), 0)
                                               + coalesce(r.result_bytes, 4)) AS weight
                      FROM row r ORDER BY r.position, r.number LIMIT p_limit) r) s
     WHERE s.running - s.weight <= p_slice
     ORDER BY s.position, s.number
$$;
