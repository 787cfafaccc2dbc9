-- The output of attempts. A log is bounded: its first bytes are kept, and its last; what lies between them is left out.
--
--     start   0           head_end          tail_start                total
--             ├─ the head ───┤ · · left out · · ├─ the tail ─────────────┤
--
-- A row is a run of bytes of one stream. It never changes: the log grows at its end by new rows, and the rows that the
-- tail has left behind go in the same transaction. Nothing marks the gap: it is where a row begins behind the end of the
-- one before it.

CREATE TABLE task_logs (
    workflow_id uuid NOT NULL,
    position integer NOT NULL,
    attempt integer NOT NULL,
    start bigint NOT NULL,              -- of its first byte in all that the attempt wrote, both streams counted together
    stream smallint NOT NULL,           -- as the descriptor: 1 standard output, 2 standard error
    at timestamptz NOT NULL,            -- when its first byte was read, to a tenth of a second
    content bytea NOT NULL,
    PRIMARY KEY (workflow_id, position, attempt, start)
) WITH (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);

-- Adds rows to logs of attempts that are, or were, this node's, and takes away what their tails have left behind. The
-- rows name their log by its place in the first arrays, from 1. Safe to repeat with the same rows: those that are there
-- already stay. It does not see another cut of the same bytes, and nobody sends one: see scheduler/log_writer.c.
-- The commit does not wait for the disk. No commit behind it is on the disk before it, so an end that is sent once its
-- attempt's log is written is never there without it.
-- Locks: the tasks' keys, against their removal; a task that is being removed is passed over.
CREATE FUNCTION append_logs(p_node uuid, p_workflows uuid[], p_positions integer[], p_attempts integer[],
                            p_head_ends bigint[], p_tail_starts bigint[],
                            p_logs integer[], p_starts bigint[], p_streams integer[], p_times timestamptz[],
                            p_contents bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH own AS MATERIALIZED (
        SELECT l.*
          FROM unnest(p_workflows, p_positions, p_attempts, p_head_ends, p_tail_starts)
               WITH ORDINALITY AS l (workflow_id, "position", attempt, head_end, tail_start, place)
          JOIN tasks t ON t.workflow_id = l.workflow_id AND t.position = l.position
         WHERE t.attempt = l.attempt AND t.node_id = p_node
            OR EXISTS (SELECT 1 FROM attempts a
                        WHERE a.workflow_id = l.workflow_id AND a.position = l.position AND a.attempt = l.attempt
                          AND a.node_id = p_node)
           FOR KEY SHARE OF t SKIP LOCKED
    ), gone AS (
        DELETE FROM task_logs d
         USING own o
         WHERE d.workflow_id = o.workflow_id AND d.position = o.position AND d.attempt = o.attempt
           AND d.start >= o.head_end AND d.start < o.tail_start
           AND d.start + octet_length(d.content) <= o.tail_start
    )
    INSERT INTO task_logs (workflow_id, position, attempt, start, stream, at, content)
    SELECT o.workflow_id, o.position, o.attempt, r.start, r.stream, r.at, r.content
      FROM unnest(p_logs, p_starts, p_streams, p_times, p_contents) AS r (log, start, stream, at, content)
      JOIN own o ON o.place = r.log
        ON CONFLICT DO NOTHING;
END $$;
