"""The checker sees every kind of broken promise: each is planted in good tables, in a transaction that is undone."""

import pytest

import checker
import harness

DEFINITIONS = """
tasks:
  GOOD: {noop: true}
  BAD: {script: exit 3}
  LONG: {script: sleep 60}
test.CHAIN: {tasks: [GOOD, {B: {task: GOOD}}], hooks: {success: GOOD}}
test.BROKEN: {tasks: [BAD, {B: {task: GOOD}}]}
test.LONG: {tasks: [LONG]}
test.HALF: {tasks: [GOOD, BAD]}
test.PULSE: {tasks: [GOOD], periodic: {interval: 1s}}
test.ONE: {tasks: [LONG], concurrency: {limit: 1}}
"""

# What is done to the rows (%W is a workflow's id), to the run of which workflow, and a part of what is found.
PLANTED = [
    ("CHAIN", "DELETE FROM workflows WHERE id = %W", "task without its workflow"),
    ("CHAIN", "INSERT INTO attempts (workflow_id, position, attempt, finished) VALUES (%W, 9, 1, now())",
     "attempt without its task"),
    ("CHAIN", "UPDATE workflows SET name = 'OTHER' WHERE id = %W", "without its definition"),
    ("CHAIN", "DELETE FROM tasks WHERE workflow_id = %W AND position = 1", "not those of its definition"),
    ("CHAIN", "DELETE FROM tasks WHERE workflow_id = %W AND is_hook", "hook is not the one"),
    ("BROKEN", "UPDATE tasks SET is_hook = true WHERE workflow_id = %W AND position = 1", "hook is not the one"),
    ("CHAIN", "UPDATE workflows SET created = created - interval '1 s' WHERE id = %W", "when it was created"),
    ("CHAIN", "INSERT INTO idempotency_keys VALUES ('', 'k', '', gen_random_uuid())", "key without its workflow"),
    ("CHAIN", "UPDATE workflows SET finished = NULL WHERE id = %W", "final without finished"),
    ("CHAIN", "UPDATE tasks SET finished = NULL WHERE workflow_id = %W", "final without finished"),
    ("CHAIN", "UPDATE tasks SET status = 'pending', finished = NULL WHERE workflow_id = %W AND position = 1",
     "final workflow with an unfinished task"),
    ("CHAIN", "UPDATE workflows SET status = 'progress', finished = NULL WHERE id = %W",
     "unfinished workflow whose tasks are all final"),
    ("CHAIN", "UPDATE tasks SET status = 'error', exit_status = 1 WHERE workflow_id = %W AND position = 1",
     "success with a task that is none"),
    ("CHAIN", "UPDATE workflows SET status = 'error' WHERE id = %W", "error without a failed task"),
    ("BROKEN", "UPDATE workflows SET reason = 'node_lost' WHERE id = %W", "not that of its first failed task"),
    ("CHAIN", "UPDATE workflows SET reason = 'node_lost' WHERE id = %W", "needs none"),
    ("BROKEN", "UPDATE tasks SET reason = NULL WHERE workflow_id = %W AND position = 1", "canceled without a reason"),
    ("LONG", "UPDATE workflows SET status = 'pending' WHERE id = %W", "pending workflow with a task"),
    ("CHAIN", "UPDATE workflows SET started = NULL WHERE id = %W", "never started"),
    ("CHAIN", "UPDATE tasks SET finished = started - interval '1 s' WHERE workflow_id = %W AND position = 0",
     "times out of order"),
    ("LONG", "UPDATE workflows SET queued = true WHERE id = %W", "queued and not pending"),
    ("CHAIN", "UPDATE tasks SET waiting = 1 WHERE workflow_id = %W AND position = 1", "waiting is not the number"),
    ("CHAIN", "UPDATE tasks SET started = started - interval '1 h' WHERE workflow_id = %W AND position = 1",
     "started before its predecessors"),
    ("BROKEN", "UPDATE tasks SET status = 'pending', finished = NULL WHERE workflow_id = %W AND position = 1",
     "not canceled behind a task that failed"),
    ("BROKEN", "UPDATE tasks SET status = 'success' WHERE workflow_id = %W AND position = 0", "never was"),
    ("LONG", "UPDATE tasks SET status = 'pending', held = false WHERE workflow_id = %W", "nobody will ever claim"),
    ("LONG", "UPDATE tasks SET due = now() WHERE workflow_id = %W", "due and not ready"),
    ("LONG", "UPDATE tasks SET node_id = gen_random_uuid() WHERE workflow_id = %W", "owned by nobody"),
    ("LONG", "UPDATE nodes SET state = 'stopped'", "owned by nobody"),
    ("LONG", "UPDATE tasks SET held = false WHERE workflow_id = %W", "running and not held"),
    ("CHAIN", "UPDATE tasks SET held = true WHERE workflow_id = %W", "held and neither running"),
    ("LONG", "DELETE FROM claims", "no claim of its node"),
    ("LONG", "UPDATE claims SET node_id = gen_random_uuid()", "no claim of its node"),
    ("LONG", "UPDATE claims SET held = held + 1", "number of held tasks"),
    ("LONG", "UPDATE claims SET workflow_ids = workflow_ids || workflow_ids, positions = positions || positions",
     "names a task twice"),
    ("LONG", "UPDATE tasks SET claim = NULL WHERE workflow_id = %W", "claimed without"),
    ("HALF", "UPDATE tasks SET result = '1' WHERE workflow_id = %W AND position = 0", "not what the original had"),
    ("HALF", "UPDATE tasks SET node_id = gen_random_uuid() WHERE workflow_id = %W AND position = 0",
     "not what the original had"),
    ("HALF", "UPDATE tasks SET claim = NULL WHERE workflow_id = %W AND position = 1", "claimed without"),
    ("CHAIN", "UPDATE tasks SET exit_status = 1 WHERE workflow_id = %W", "looks like a failure"),
    ("BROKEN", "UPDATE tasks SET exit_status = 0 WHERE workflow_id = %W", "looks like none"),
    ("CHAIN", "INSERT INTO attempts (workflow_id, position, attempt, finished) VALUES (%W, 0, 1, now())",
     "do not count from 1"),
    ("PULSE", "DELETE FROM workflows WHERE id = %W", "fire that ran without its workflow"),
    ("PULSE", "UPDATE fires SET outcome = 'late' WHERE workflow_id = %W", "did not run and has one"),
    ("PULSE", "DELETE FROM fires WHERE workflow_id = %W", "without exactly one fire"),
    ("PULSE", "UPDATE workflows SET scheduled = NULL WHERE id = %W", "periodic without a nominal time"),
    ("PULSE", "UPDATE fires SET outcome = 'collapsed', workflow_id = NULL WHERE workflow_id = %W", "stands for nothing"),
    ("PULSE", "ALTER TABLE fires DROP CONSTRAINT fires_pkey; INSERT INTO fires SELECT * FROM fires",
     "instant with two rows"),
    ("PULSE", "INSERT INTO fires (schedule_id, scheduled, outcome, count, until, decided)"
     " SELECT schedule_id, scheduled - interval '1 ms', 'collapsed', 2, scheduled, now() FROM fires"
     " WHERE workflow_id = %W", "covered by two fires"),
    ("CHAIN", "INSERT INTO nodes (id, host, boot_id, state_directory, version, queues, slots, max_input)"
     " SELECT gen_random_uuid(), host, boot_id, state_directory, version, queues, slots, max_input FROM nodes",
     "two living nodes"),
    ("ONE", "UPDATE workflows SET limited = NULL, status = 'canceled', finished = now(), reason = 'replaced' WHERE id = %W;"
     " UPDATE tasks SET held = false WHERE workflow_id = %W", "queued although there is room"),
    ("ONE", "INSERT INTO definitions (digest, fullname, project, name, file, document, concurrency)"
     " SELECT '', fullname, project, name, file, document, 2 FROM definitions WHERE name = 'ONE'",
     "queued although there is room"),
    ("LONG", "SELECT", "unfinished workflow"),
    ("LONG", "SELECT", "unfinished task"),
    ("CHAIN", "UPDATE workflows SET status = 'canceled' WHERE id = %W", "went from success to canceled"),
    ("CHAIN", "UPDATE tasks SET status = 'pending' WHERE workflow_id = %W", "went from success to pending"),
]


@pytest.fixture(scope="module")
def tables(postgres):
    """A connection to tables that are in order, and a run of each workflow."""
    database = postgres.create_database()
    daemon = harness.Daemon(DEFINITIONS, database=database).start()
    checker.install_audit(postgres.connect(database.name))
    runs = {"CHAIN": daemon.launch("CHAIN"), "BROKEN": daemon.launch("BROKEN"), "LONG": daemon.launch("LONG")}
    daemon.wait(runs["CHAIN"])
    daemon.wait(runs["BROKEN"], "error")
    daemon.wait(runs["LONG"], "progress")
    half = daemon.run("HALF", status="error")["id"]
    runs["HALF"] = daemon.post(f"/api/workflows/{half}/relaunch", {"from": "failed"}).json()["id"]
    daemon.wait(runs["HALF"], "error")
    runs["ONE"] = daemon.launch("ONE")
    daemon.wait(runs["ONE"], "progress")
    daemon.launch("ONE")  # waits for it
    runs["PULSE"] = harness.eventually(
        lambda: database.sql("SELECT id::text FROM workflows WHERE periodic AND finished IS NOT NULL"), "a fire")[0][0]
    daemon.kill()  # as it is: with one that runs
    daemon.dispose()
    connection = postgres.connect(database.name)
    yield connection, runs
    connection.close()


def test_good_tables_have_no_problems(tables):
    connection, _ = tables
    assert checker.check(connection) == []


@pytest.mark.parametrize("run, sql, found", PLANTED, ids=[f"{run} {found}" for run, _, found in PLANTED])
def test_planted_violation_is_found(tables, run, sql, found):
    connection, runs = tables
    connection.rollback()
    with connection.cursor() as cursor:
        cursor.execute(sql.replace("%W", f"'{runs[run]}'"))
        problems = checker.check_within(cursor, quiet=True)
    connection.rollback()
    assert any(found in problem for problem in problems), problems


def test_nothing_else_is_found_while_something_waits(tables):
    """An instance that waits for its turn is no problem but for being unfinished."""
    connection, _ = tables
    assert {problem.split(":")[0] for problem in checker.check(connection, quiet=True)} == {
        "unfinished workflow", "unfinished task"}


def test_every_rule_has_a_planted_violation():
    planted = [found for _, _, found in PLANTED]
    for name, _ in checker.RULES + checker.QUIET_RULES:
        assert any(found in name for found in planted), name


def test_lost_acknowledgements_are_found(tables):
    connection, runs = tables
    assert checker.check_acknowledged(connection, runs.values()) == []
    lost = "01234567-89ab-7def-8123-456789abcdef"
    assert checker.check_acknowledged(connection, [*runs.values(), lost]) == [f"acknowledged and lost: {lost}"]


def test_wrong_executions_are_found(tables):
    connection, runs = tables
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT left(workflow_id::text, 32) || lpad(to_hex(position + 1), 4, '0'), attempt"
                       " FROM tasks WHERE claim IS NOT NULL")
        good = [f"{task} {attempt}" for task, attempt in cursor.fetchall()]
        cursor.execute("SELECT left(workflow_id::text, 32) || '0001' FROM tasks WHERE status = 'success'"
                       " AND claim IS NOT NULL LIMIT 1")
        (done,) = cursor.fetchone()
        taken_over = f"{runs['HALF'][:32]}0001"
    assert checker.check_executions(connection, good) == []
    assert "ran 2 times" in checker.check_executions(connection, [*good, good[0]])[0]
    assert "unknown to the tables" in checker.check_executions(connection, [*good, f"{done} 2"])[0]
    assert "unknown to the tables" in checker.check_executions(connection, [*good, f"{taken_over} 1"])[0]
    assert "done without having run" in checker.check_executions(
        connection, [line for line in good if not line.startswith(done)])[0]


def test_missing_fires_are_found(tables):
    connection, _ = tables
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM schedules")
        (schedule,) = cursor.fetchone()
        assert checker.missing_fires(cursor, schedule, 1) == []
        cursor.execute("UPDATE schedules SET cursor = cursor + interval '2 s'")
        assert len(checker.missing_fires(cursor, schedule, 1)) == 2
    connection.rollback()
