"""Proves from the tables alone that the engine kept its promises.

    problems = check(connection)               # at any moment, also while daemons run
    problems = check(connection, quiet=True)   # when nothing is left to do
    install_audit(connection)                  # before: from now on, check sees every change of a status
    problems = check_executions(connection, lines)   # against what the tasks themselves wrote down

Each problem is a line of text that names the rows. Everything is read in one snapshot, so a daemon at work is no
disturbance. `connection` is one of psycopg2; nothing is committed or left open but what install_audit makes.
"""

import collections

# A rule is a name and a query for the rows that break it; the first column says which row.
RULES = [
    # --- the rows belong together
    ("task without its workflow",
     "SELECT format('%s/%s', workflow_id, position) FROM tasks t"
     " WHERE NOT EXISTS (SELECT FROM workflows w WHERE w.id = t.workflow_id)"),
    ("attempt without its task",
     "SELECT format('%s/%s', workflow_id, position) FROM attempts a WHERE NOT EXISTS"
     " (SELECT FROM tasks t WHERE t.workflow_id = a.workflow_id AND t.position = a.position)"),
    ("workflow without its definition",
     "SELECT w.id FROM workflows w WHERE NOT EXISTS (SELECT FROM definitions d"
     " WHERE d.id = w.definition_id AND d.project = w.project AND d.name = w.name)"),
    ("workflow whose tasks are not those of its definition",
     "SELECT w.id FROM workflows w WHERE"
     " ARRAY (SELECT position FROM tasks t WHERE t.workflow_id = w.id AND NOT is_hook ORDER BY 1) <>"
     " ARRAY (SELECT position FROM definition_tasks d"
     "         WHERE d.definition_id = w.definition_id AND role = 'task' ORDER BY 1)"),
    ("workflow whose hook is not the one of its end",
     "SELECT w.id FROM workflows w WHERE"
     " ARRAY (SELECT position FROM tasks t WHERE t.workflow_id = w.id AND is_hook ORDER BY 1) <>"
     " ARRAY (SELECT position FROM definition_tasks d"
     "         WHERE d.definition_id = w.definition_id AND role = w.status::text ORDER BY 1)"),
    ("workflow whose id does not tell when it was created",
     "SELECT id FROM workflows WHERE right(id::text, 4) <> '0000' OR"
     " ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint <>"
     " floor(extract(epoch FROM created) * 1000)"),
    ("idempotency key without its workflow",
     "SELECT key FROM idempotency_keys k"
     " WHERE NOT EXISTS (SELECT FROM workflows w WHERE w.id = k.workflow_id)"),

    # --- a workflow and its tasks agree
    ("final without finished, or the other way round",
     "SELECT id::text FROM workflows"
     " WHERE (status IN ('success', 'error', 'canceled')) <> (finished IS NOT NULL)"
     " UNION ALL SELECT format('%s/%s', workflow_id, position) FROM tasks"
     " WHERE (status IN ('success', 'error', 'canceled')) <> (finished IS NOT NULL)"),
    ("final workflow with an unfinished task",
     "SELECT w.id FROM workflows w WHERE w.finished IS NOT NULL AND EXISTS (SELECT FROM tasks t"
     " WHERE t.workflow_id = w.id AND NOT t.is_hook AND t.finished IS NULL)"),
    ("unfinished workflow whose tasks are all final",
     "SELECT w.id FROM workflows w WHERE w.finished IS NULL AND NOT EXISTS (SELECT FROM tasks t"
     " WHERE t.workflow_id = w.id AND NOT t.is_hook AND t.finished IS NULL)"),
    ("success with a task that is none",
     "SELECT w.id FROM workflows w WHERE w.status = 'success' AND EXISTS (SELECT FROM tasks t"
     " WHERE t.workflow_id = w.id AND NOT t.is_hook AND t.status <> 'success')"),
    ("error without a failed task",
     "SELECT w.id FROM workflows w WHERE w.status = 'error' AND NOT EXISTS (SELECT FROM tasks t"
     " WHERE t.workflow_id = w.id AND NOT t.is_hook AND t.status = 'error')"),
    ("workflow whose reason is not that of its first failed task",
     "SELECT w.id FROM workflows w CROSS JOIN LATERAL (SELECT t.reason FROM tasks t"
     " WHERE t.workflow_id = w.id AND NOT t.is_hook AND t.status = 'error'"
     " ORDER BY t.finished, t.position LIMIT 1) f"
     " WHERE w.status = 'error' AND w.reason IS DISTINCT FROM f.reason"),
    ("reason of a workflow that needs none",
     "SELECT id FROM workflows WHERE status IN ('pending', 'progress', 'success')"
     " AND reason IS NOT NULL"),
    ("canceled without a reason",
     "SELECT id::text FROM workflows WHERE status = 'canceled' AND reason IS NULL"
     " UNION ALL SELECT format('%s/%s', workflow_id, position) FROM tasks"
     " WHERE status = 'canceled' AND reason IS NULL"),
    ("pending workflow with a task that was claimed",
     "SELECT w.id FROM workflows w WHERE w.status = 'pending' AND EXISTS (SELECT FROM tasks t"
     " WHERE t.workflow_id = w.id AND t.status <> 'pending')"),
    ("workflow that ran and never started",
     "SELECT id FROM workflows WHERE (status IN ('progress', 'success', 'error') AND started IS NULL)"
     " OR (status = 'pending' AND started IS NOT NULL)"),
    # (`created` is a daemon's idea of the database's time, which is a little off.)
    ("times out of order",
     "SELECT id::text FROM workflows"
     " WHERE NOT (created <= updated + interval '1 s' AND coalesce(started, finished) <= finished)"
     " UNION ALL SELECT format('%s/%s', workflow_id, position) FROM tasks"
     " WHERE NOT (created <= updated + interval '1 s' AND coalesce(started, finished) <= finished)"),
    ("queued and not pending",
     "SELECT id FROM workflows WHERE queued AND status <> 'pending'"),

    # --- a task and its predecessors agree (what is canceled is not counted down any more)
    ("waiting is not the number of predecessors without success",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t"
     " JOIN workflows w ON w.id = t.workflow_id"
     " JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position"
     " WHERE NOT t.is_hook AND t.status <> 'canceled' AND t.waiting <>"
     " (SELECT count(*) FROM tasks p WHERE p.workflow_id = t.workflow_id"
     "   AND p.position = ANY (d.previous) AND p.status <> 'success')"),
    ("started before its predecessors had succeeded",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t"
     " JOIN workflows w ON w.id = t.workflow_id"
     " JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position"
     " WHERE NOT t.is_hook AND t.attempt > 0 AND EXISTS (SELECT FROM tasks p"
     "   WHERE p.workflow_id = t.workflow_id AND p.position = ANY (d.previous)"
     "     AND (p.status <> 'success' OR p.finished > t.started))"),
    ("not canceled behind a task that failed",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t"
     " JOIN workflows w ON w.id = t.workflow_id"
     " JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position"
     " WHERE NOT t.is_hook AND t.status <> 'canceled' AND EXISTS (SELECT FROM tasks p"
     "   WHERE p.workflow_id = t.workflow_id AND p.position = ANY (d.previous)"
     "     AND p.status IN ('error', 'canceled'))"),
    ("canceled by a failure that never was",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t"
     " JOIN workflows w ON w.id = t.workflow_id"
     " JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position"
     " WHERE t.reason = 'upstream_failed' AND NOT EXISTS (SELECT FROM tasks p"
     "   WHERE p.workflow_id = t.workflow_id AND p.position = ANY (d.previous)"
     "     AND (p.status = 'error' OR p.reason = 'upstream_failed'))"),

    # --- somebody will move every unfinished task
    ("ready and not due: nobody will ever claim it",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t"
     " JOIN workflows w ON w.id = t.workflow_id"
     " WHERE t.status = 'pending' AND t.waiting = 0 AND t.due IS NULL AND NOT w.queued"),
    ("due and not ready",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t"
     " JOIN workflows w ON w.id = t.workflow_id"
     " WHERE t.due IS NOT NULL AND (t.status <> 'pending' OR t.waiting <> 0 OR w.queued)"),
    ("running and owned by nobody that lives",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t"
     " WHERE (t.status = 'progress' OR t.held) AND NOT EXISTS (SELECT FROM nodes n"
     "   WHERE n.id = t.node_id AND n.state IN ('active', 'draining', 'dead'))"),
    ("held and neither running nor being stopped, or running and not held",
     "SELECT format('%s/%s', workflow_id, position) FROM tasks"
     " WHERE (held AND status <> 'progress' AND reason IS NULL)"
     " OR (status = 'progress' AND held IS NOT true)"),
    ("held, and no claim of its node says so",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t WHERE t.held AND NOT EXISTS (SELECT"
     "  FROM claims c, unnest(c.workflow_ids, c.positions) AS u (workflow_id, position)"
     " WHERE c.batch = t.claim AND c.node_id = t.node_id"
     "   AND u.workflow_id = t.workflow_id AND u.position = t.position)"),
    ("a claim whose number of held tasks is wrong",
     "SELECT c.batch::text FROM claims c WHERE c.held NOT BETWEEN 1 AND cardinality(c.positions)"
     " OR c.held <> (SELECT count(*) FROM held_tasks h WHERE h.batch = c.batch)"),
    ("a claim that names a task twice",
     "SELECT c.batch::text FROM claims c WHERE (SELECT count(*) <> count(DISTINCT (u.id, u.position))"
     " FROM unnest(c.workflow_ids, c.positions) AS u (id, position))"),
    ("claimed without attempt, batch or start",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t JOIN workflows w ON w.id = t.workflow_id"
     " WHERE t.status IN ('progress', 'success', 'error')"
     " AND (t.attempt = 0 OR t.node_id IS NULL OR t.started IS NULL"
     "      OR t.claim IS NULL AND NOT (t.status = 'success' AND w.relaunched_from IS NOT NULL))"),
    # (A relaunch from the failure takes over what succeeded; nobody claims that again.)
    ("taken over, and not what the original had",
     "SELECT format('%s/%s', t.workflow_id, t.position) FROM tasks t JOIN workflows w ON w.id = t.workflow_id"
     " JOIN workflows o ON o.id = w.relaunched_from AND o.definition_id = w.definition_id"
     " WHERE t.status = 'success' AND t.claim IS NULL AND NOT EXISTS (SELECT FROM tasks s"
     "   WHERE s.workflow_id = o.id AND s.position = t.position AND s.status = 'success'"
     "     AND (s.attempt, s.node_id, s.started, s.finished) = (t.attempt, t.node_id, t.started, t.finished)"
     "     AND s.result::text IS NOT DISTINCT FROM t.result::text)"),
    ("success that looks like a failure, or a failure that looks like none",
     "SELECT format('%s/%s', workflow_id, position) FROM tasks WHERE"
     " (status = 'success' AND (reason IS NOT NULL OR coalesce(exit_status, 0) <> 0 OR signal > 0))"
     " OR (status = 'error' AND reason IS NULL AND coalesce(exit_status, 0) = 0"
     "     AND coalesce(signal, 0) = 0)"),
    ("attempts that do not count from 1 to the task's own",
     "SELECT format('%s/%s/%s', a.workflow_id, a.position, a.attempt) FROM attempts a"
     " JOIN tasks t ON t.workflow_id = a.workflow_id AND t.position = a.position"
     " WHERE a.attempt < 1 OR a.attempt > t.attempt"
     "    OR (a.attempt = t.attempt AND t.status IN ('progress', 'success', 'error'))"),

    # --- fires and their workflows
    ("fire that ran without its workflow, or did not run and has one",
     "SELECT format('%s at %s', f.schedule_id, f.scheduled) FROM fires f"
     " LEFT JOIN schedules s ON s.id = f.schedule_id"
     " LEFT JOIN workflows w ON w.id = f.workflow_id"
     " WHERE (f.outcome = 'ran') IS DISTINCT FROM (w.id IS NOT NULL AND w.periodic"
     "   AND w.scheduled = f.scheduled AND w.project = s.project AND w.name = s.name)"
     " OR (f.outcome <> 'ran' AND f.workflow_id IS NOT NULL)"),
    ("periodic workflow without exactly one fire",
     "SELECT w.id FROM workflows w WHERE w.periodic"
     " AND (SELECT count(*) FROM fires f WHERE f.workflow_id = w.id AND f.outcome = 'ran') <> 1"),
    ("periodic without a nominal time, or the other way round",
     "SELECT id FROM workflows WHERE periodic <> (scheduled IS NOT NULL)"),
    ("collapsed fire that stands for nothing",
     "SELECT format('%s at %s', schedule_id, scheduled) FROM fires WHERE (outcome = 'collapsed')"
     " IS DISTINCT FROM (count IS NOT NULL AND until >= scheduled AND count >= 1)"),
    ("instant with two rows",
     "SELECT format('%s at %s', schedule_id, scheduled) FROM fires"
     " GROUP BY schedule_id, scheduled HAVING count(*) > 1"),
    ("instant covered by two fires",
     "SELECT format('%s at %s', f.schedule_id, f.scheduled) FROM fires f JOIN fires c"
     " ON c.schedule_id = f.schedule_id AND c.scheduled < f.scheduled AND f.scheduled <= c.until"),

    # --- nodes
    ("two living nodes in one state directory",
     "SELECT format('%s:%s', host, state_directory) FROM nodes"
     " WHERE state IN ('active', 'draining') GROUP BY host, state_directory HAVING count(*) > 1"),
]

# A queued instance is let in by a call of its own, so room is no problem but when nothing moves.
ROOM = """
    SELECT l.limited FROM (SELECT DISTINCT limited FROM workflows WHERE queued) l
     CROSS JOIN LATERAL (SELECT d.concurrency FROM definitions d WHERE d.fullname = l.limited
                          ORDER BY d.id DESC LIMIT 1) d
     WHERE coalesce(d.concurrency, 2147483647)
         > (SELECT count(*) FROM workflows w WHERE w.limited = l.limited AND NOT w.queued)
         + (SELECT count(DISTINCT w.id) FROM held_tasks h JOIN workflows w ON w.id = h.workflow_id
             WHERE w.project || '.' || w.name = l.limited AND h.status <> 'progress' AND NOT h.is_hook)
"""

QUIET_RULES = [
    ("queued although there is room", ROOM),
    ("unfinished workflow", "SELECT id FROM workflows WHERE finished IS NULL"),
    ("unfinished task",
     "SELECT format('%s/%s', workflow_id, position) FROM tasks WHERE finished IS NULL OR held"),
]

# Nothing leaves a final status; a failed attempt goes back to pending.
MOVES = {
    "tasks": {
        ("pending", "progress"), ("pending", "canceled"), ("progress", "pending"),
        ("progress", "success"), ("progress", "error"), ("progress", "canceled"),
    },
    "workflows": {
        ("pending", "progress"), ("pending", "canceled"), ("progress", "success"),
        ("progress", "error"), ("progress", "canceled"),
    },
}

AUDIT = """
CREATE TABLE audit (
    relation text, workflow_id uuid, place integer, old text, new text,
    at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION audit_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (relation, workflow_id, place, old, new)
    SELECT TG_TABLE_NAME, coalesce(j ->> 'workflow_id', j ->> 'id')::uuid, (j ->> 'position')::integer,
           OLD.status, NEW.status
      FROM to_jsonb(NEW) AS j;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON workflows FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION audit_status();
CREATE TRIGGER audit AFTER UPDATE ON tasks FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION audit_status();
"""


def exists(cursor, table):
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
    return cursor.fetchone()[0]


def is_migrated(cursor):
    return exists(cursor, "public.workflows") and exists(cursor, "public.fires")


def install_audit(connection):
    """From now on every change of a status is kept in a table of its own."""
    with connection, connection.cursor() as cursor:
        if not exists(cursor, "public.audit"):
            cursor.execute(AUDIT)


def run_rules(cursor, rules):
    problems = []
    for name, query in rules:
        cursor.execute(query)
        rows = [str(row[0]) for row in cursor.fetchall()]
        if rows:
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            problems.append(f"{name}: {', '.join(rows[:5])}{more}")
    return problems


def check_audit(cursor):
    cursor.execute("SELECT relation, old, new, count(*), min(workflow_id::text) FROM audit GROUP BY 1, 2, 3")
    return [f"{relation} went from {old} to {new}: {count} times, {workflow}"
            for relation, old, new, count, workflow in cursor.fetchall()
            if (old, new) not in MOVES[relation]]


def check_within(cursor, quiet=False):
    """The same as check, in the transaction that `cursor` is in."""
    problems = run_rules(cursor, RULES + (QUIET_RULES if quiet else []))
    if exists(cursor, "public.audit"):
        problems += check_audit(cursor)
    return problems


def check(connection, quiet=False):
    """Lists the broken promises; an empty list is good."""
    connection.rollback()
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        problems = check_within(cursor, quiet)
    connection.rollback()
    return problems


def check_acknowledged(connection, ids):
    """What a client was told to be launched is there."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM workflows WHERE id::text = ANY (%s)", (list(ids),))
        missing = set(ids) - {row[0] for row in cursor.fetchall()}
    return [f"acknowledged and lost: {workflow}" for workflow in sorted(missing)]


def check_executions(connection, lines, silent=frozenset()):
    """`lines`: what tasks wrote when they started, each `TASK-ID ATTEMPT`. An attempt runs once, and only one that
    the tables know; a task that is done has run, unless it is a `silent` one; no second attempt without an earlier one
    that failed."""
    runs = collections.Counter(tuple(line.split()) for line in lines)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT left(workflow_id::text, 32) || lpad(to_hex(position + 1), 4, '0'), attempt, status::text,"
            " (SELECT count(*) FROM attempts a WHERE a.workflow_id = t.workflow_id AND a.position = t.position)"
            " + spared, status = 'success' AND claim IS NULL FROM tasks t")
        rows = cursor.fetchall()
    tasks = {row[0]: row[1:-1] for row in rows if not row[-1]}  # those that were taken over run no more
    problems = [f"ran {count} times: task {task}, attempt {attempt}"
                for (task, attempt), count in runs.items() if count > 1]
    problems += [f"ran unknown to the tables: task {task}, attempt {attempt}" for task, attempt in runs
                 if task not in tasks or not 1 <= int(attempt) <= tasks[task][0]]
    problems += [f"done without having run: task {task}" for task, (attempt, status, _) in tasks.items()
                 if status == "success" and (task, str(attempt)) not in runs and task not in silent]
    problems += [f"tried again without a failure: task {task}" for task, (attempt, _, failed) in tasks.items()
                 if attempt > 1 + failed]
    return problems


def missing_fires(cursor, schedule, interval_s):
    """The instants of an interval between its first fire and its cursor that no row covers."""
    cursor.execute(
        "SELECT i FROM schedules s,"
        " generate_series((SELECT min(scheduled) FROM fires f WHERE f.schedule_id = s.id), s.cursor,"
        "                 make_interval(secs => %s)) AS i"
        " WHERE s.id = %s AND NOT EXISTS (SELECT FROM fires f WHERE f.schedule_id = s.id"
        "   AND (f.scheduled = i OR i BETWEEN f.scheduled AND f.until))", (interval_s, schedule))
    return [str(row[0]) for row in cursor.fetchall()]
