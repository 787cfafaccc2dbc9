"""Further attempts after failed ones: how many, when, of which failures, and what the API tells of each."""

import datetime
import itertools

import pytest

from harness import eventually

DEFINITIONS = r"""
tasks:
  FAIL: {script: 'echo "attempt $DIRECTOR_ATTEMPT" >&2; exit 3', retry: {limit: 2, interval: 10ms}}
  ONCE: {script: exit 3}
  THIRD: {script: 'test $DIRECTOR_ATTEMPT = 3 && echo 3 >&3', retry: {limit: 5, interval: 10ms}}
  SLOWER: {script: exit 3, retry: {limit: 3, interval: 200ms, backoff: 2, max_interval: 500ms}}
  BUSY: {script: 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done'}
  NOOP: {noop: true}
  EXIT: {script: 'exit "$STATUS"', env: {STATUS: "{{ payload.status }}"}, retry: {limit: 2, interval: 10ms}}
  KILLED: {script: kill -KILL $$, retry: {limit: 2, interval: 10ms}}
  OVERDUE: {script: sleep 60, timeout: 100ms, retry: {limit: 2, interval: 10ms}}
test.FAIL: {tasks: [FAIL, NOOP]}
test.ONCE: {tasks: [ONCE]}
test.THIRD: {tasks: [THIRD, NOOP]}
test.SLOWER: {tasks: [SLOWER]}
test.BUSY: {tasks: [BUSY]}
test.EXIT: {tasks: [EXIT]}
test.KILLED: {tasks: [KILLED]}
test.OVERDUE: {tasks: [OVERDUE]}
test.EXIT_75: {tasks: [{EXIT: {retry: {limit: 2, interval: 10ms, exit_codes: [7, 75]}}}]}
test.KILLED_75: {tasks: [{KILLED: {retry: {limit: 2, interval: 10ms, exit_codes: [75]}}}]}
test.OVERDUE_75: {tasks: [{OVERDUE: {retry: {limit: 2, interval: 10ms, exit_codes: [75]}}}]}
"""


def failures(found):
    return [(row["attempt"], row.get("exit_status"), row.get("signal"), row.get("reason")) for row in found]


def instant(text):
    return datetime.datetime.fromisoformat(text)


# --- how many, and when ------------------------------------------------------------------------


def test_limit(daemon):
    """`limit` attempts after the first one; then the workflow fails like any other."""
    found = daemon.run("FAIL", status="error")
    assert [(task["status"], task.get("attempt"), task.get("reason")) for task in found["tasks"]] == [
        ("error", 3, None), ("canceled", None, "upstream_failed")]
    assert failures(daemon.attempts(found["id"], "FAIL")) == [(n, 3, None, None) for n in (1, 2, 3)]


def test_success_at_last(daemon):
    found = daemon.run("THIRD")
    assert [(task["attempt"], task["result"]) for task in found["tasks"]] == [(3, 3), (1, None)]
    assert failures(daemon.attempts(found["id"], "THIRD")) == [(1, 1, None, None), (2, 1, None, None), (3, 0, None, None)]


def test_interval(daemon):
    """At least as long as configured, and longer each time."""
    rows = daemon.attempts(daemon.run("SLOWER", status="error")["id"], "SLOWER")
    gaps = [instant(after["started"]) - instant(before["finished"]) for before, after in itertools.pairwise(rows)]
    assert len(gaps) == 3
    for gap, least_ms in zip(gaps, (200, 400, 500)):
        assert gap >= datetime.timedelta(milliseconds=least_ms), gaps


# --- of which failures -------------------------------------------------------------------------


@pytest.mark.parametrize("name, status, expected", [
    ("EXIT", 75, [(75, None, None)] * 3),
    ("EXIT", 1, [(1, None, None)] * 3),
    ("KILLED", 0, [(None, 9, None)] * 3),
    ("OVERDUE", 0, [(None, 15, "timed_out")] * 3),
    ("EXIT_75", 75, [(75, None, None)] * 3),
    ("EXIT_75", 7, [(7, None, None)] * 3),
    ("EXIT_75", 1, [(1, None, None)]),
    ("KILLED_75", 0, [(None, 9, None)]),
    ("OVERDUE_75", 0, [(None, 15, "timed_out")]),
])
def test_exit_codes(daemon, name, status, expected):
    """With `exit_codes` only those are tried again, and neither signals nor time limits; without, everything is."""
    found = daemon.run(name, {"status": status}, status="error")
    rows = failures(daemon.attempts(found["id"], name.split("_")[0]))
    assert [row[1:] for row in rows] == expected


# --- what is told ------------------------------------------------------------------------------


def test_attempts_on_request(daemon):
    found = daemon.run("FAIL", status="error")
    rows = daemon.attempts(found["id"], "FAIL")
    for n, row in enumerate(rows, 1):
        assert row["attempt"] == n and row["exit_status"] == 3 and row["node"] == daemon.node, row
        assert row["result"] == {"exception": "exit status 3", "traceback": f"attempt {n}\n"}, row
        assert instant(row["started"]) <= instant(row["finished"]), row
    assert daemon.attempts(found["id"], "NOOP") == []
    last, canceled = daemon.workflow(found["id"])["tasks"]
    assert "attempts" not in last and "attempts" not in canceled
    for key in ("attempt", "node", "result", "started", "finished"):
        assert last[key] == rows[-1][key], key


def test_only_attempt(daemon):
    found = daemon.run("ONCE", status="error")
    assert failures(daemon.attempts(found["id"], "ONCE")) == [(1, 3, None, None)]


def test_cpu_time(daemon):
    (row,) = daemon.attempts(daemon.run("BUSY")["id"], "BUSY")
    assert row["cpu_us"] > 10_000, row


def test_attempt_lost_with_its_node(start, tmp_path):
    """It stands there with its node, and the next one has another."""
    script = 'test $DIRECTOR_ATTEMPT = 2 || { touch "$FILE"; sleep 60; }'
    daemon = start(f"""
        tasks: {{LONG: {{script: '{script}', retry: {{limit: 1, interval: 10ms}}}}}}
        test.LONG: {{tasks: [LONG]}}
    """, task_env_FILE=tmp_path / "begun")
    workflow, first = daemon.launch("LONG"), daemon.node
    eventually((tmp_path / "begun").exists, "the task runs")
    daemon.kill()
    daemon.start()
    daemon.wait(workflow)
    rows = daemon.attempts(workflow, "LONG")
    assert [(row["attempt"], row["node"], row.get("reason"), row.get("exit_status")) for row in rows] == [
        (1, first, "node_lost", None), (2, daemon.node, None, 0)]
