"""`concurrency`: what a launch or a fire does that comes while others run, and who begins when there is room."""

import datetime

import pytest

from fires import await_fires, covered
from harness import eventually

NOOP = "tasks: {N: {noop: true}}\n"
GATE = """
tasks:
  GATE: {env: {FILE: "{{ payload.gate }}"}, script: 'until [ -e "$FILE" ]; do sleep 0.02; done'}
  # Says when it begins, and, when it is stopped, takes its time to end.
  SLOW_END:
    env: {FILE: "{{ payload.file }}"}
    script: |
      trap 'sleep 0.4; echo end >> "$FILE"; exit 1' TERM
      echo begin >> "$FILE"
      while :; do sleep 0.02; done
"""


def unfinished(database, name="A"):
    return database.sql("SELECT id::text, status::text FROM workflows WHERE name = %s AND finished IS NULL ORDER BY id", name)


def gated(name, concurrency, gate, interval="1h"):
    """With `catchup: all` every instant has a row of its own, however slow the machine."""
    return (f"test.{name}: {{tasks: [GATE], concurrency: {concurrency},"
            f" periodic: {{interval: {interval}, catchup: all, payload: {{gate: {gate}}}}}}}\n")


def test_periodic_skip(start, database, tmp_path):
    gate = tmp_path / "gate"
    daemon = start(GATE + gated("A", "{overlap: skip}", gate, 0.2))
    await_fires(database, "A", 3, "overlap")
    assert len(unfinished(database)) == 1
    gate.touch()
    await_fires(database, "A", 2)
    gate.unlink()
    await_fires(database, "A", 2, "overlap")
    gate.touch()
    found = covered(database, "A", 0.2)
    assert set(found.outcomes().values()) == {"ran", "overlap"}
    reply = daemon.get("/api/schedules/test.A/fires").json()
    assert all(("workflow" in fire) == (fire["outcome"] == "ran") for fire in reply)


def test_periodic_queue(start, database, tmp_path):
    gate = tmp_path / "gate"
    daemon = start(GATE + gated("A", "{limit: 2}", gate, 0.2))
    await_fires(database, "A", 5)
    found = unfinished(database)
    eventually(lambda: [status for _, status in unfinished(database)][:2] == ["progress"] * 2, "two run")
    assert {status for _, status in unfinished(database)[2:]} == {"pending"}
    daemon.post("/api/schedules/test.A/pause")
    gate.touch()
    for workflow, _ in found:
        daemon.wait(workflow)
    started = [datetime.datetime.fromisoformat(daemon.workflow(workflow)["started"]) for workflow, _ in found]
    assert started[2:] == sorted(started[2:]) and max(started[:2]) < started[2]  # the oldest first
    assert at_once(database) == 2


def test_periodic_replace(start, database, tmp_path):
    gate = tmp_path / "gate"
    daemon = start(GATE + gated("A", "{limit: 2, overlap: replace}", gate, 0.3))
    await_fires(database, "A", 5)
    daemon.post("/api/schedules/test.A/pause")
    found = unfinished(database)
    assert len(found) == 2
    rows = database.sql("SELECT id::text, status::text, reason FROM workflows ORDER BY id")
    assert {row[1:] for row in rows[:-2]} == {("canceled", "replaced")}
    assert [row[0] for row in rows[-2:]] == [workflow for workflow, _ in found]  # the newest are left
    assert set(covered(database, "A", 0.3).outcomes().values()) <= {"ran", "paused"}
    gate.touch()
    for workflow, _ in found:
        daemon.wait(workflow)


def test_replaced_processes_are_gone_before_the_next_begin(start, database, tmp_path):
    file = tmp_path / "file"
    daemon = start(GATE + "test.A: {tasks: [SLOW_END], concurrency: {overlap: replace}}")
    for count in (1, 2, 3):
        launched = daemon.launch("A", {"file": str(file)})
        eventually(lambda: file.exists() and file.read_text().count("begin") == count, "it has begun")
    daemon.cancel(launched)
    eventually(lambda: file.read_text().count("end") == 3, "all have ended")
    assert file.read_text().split() == ["begin", "end"] * 3


def test_rest_skip(start, database, tmp_path):
    gate = tmp_path / "gate"
    daemon = start(GATE + gated("A", "{limit: 2, overlap: skip}", gate))
    payload = {"gate": str(gate)}
    first = [daemon.launch("A", payload), daemon.post("/api/schedules/test.A/trigger").json()["id"]]
    for path, body in (("/api/workflows", {"project": "test", "name": "A", "payload": payload}),
                       ("/api/schedules/test.A/trigger", None), (f"/api/workflows/{first[0]}/relaunch", None)):
        reply = daemon.post(path, body)
        assert reply.status == 409, reply
        assert "test.A" in reply.json()["error"]
    assert [fire["outcome"] for fire in daemon.get("/api/schedules/test.A/fires").json()] == ["overlap", "ran"]
    gate.touch()
    for workflow in first:
        daemon.wait(workflow)
    daemon.run("A", payload)


def test_rest_queue(start, database, tmp_path):
    gates = [tmp_path / str(number) for number in range(4)]
    daemon = start(GATE + gated("A", "{limit: 1}", gates[0]))
    found = [daemon.launch("A", {"gate": str(gate)}) for gate in gates]
    daemon.wait(found[0], "progress")
    daemon.cancel(found[1])  # one that waits
    assert daemon.workflow(found[2])["status"] == "pending"
    gates[0].touch()
    daemon.wait(found[0])
    daemon.wait(found[2], "progress")
    assert daemon.workflow(found[3])["status"] == "pending"
    daemon.cancel(found[2])  # one that runs
    daemon.wait(found[3], "progress")
    gates[3].touch()
    daemon.wait(found[3])
    assert daemon.workflow(found[1])["tasks"][0]["status"] == "canceled"


def test_rest_replace(start, database, tmp_path):
    gate = tmp_path / "gate"
    daemon = start(GATE + gated("A", "{overlap: replace}", gate))
    found = [daemon.launch("A", {"gate": str(gate)}) for _ in range(4)]
    for workflow in found[:3]:
        assert daemon.wait(workflow, "canceled")["reason"] == "replaced"
    daemon.wait(found[3], "progress")
    gate.touch()
    daemon.wait(found[3])


def at_once(database, name="A"):
    """How many instances ran at once at the most."""
    moves = [(at, change) for started, finished in database.sql(
        "SELECT t.started, t.finished FROM tasks t JOIN workflows w ON w.id = t.workflow_id"
        " WHERE w.name = %s AND t.started IS NOT NULL", name) for at, change in ((started, 1), (finished, -1)) if at]
    running = most = 0
    for _, change in sorted(moves):
        running += change
        most = max(most, running)
    return most


def test_limit_across_a_restart(start, database, tmp_path):
    gate = tmp_path / "gate"
    daemon = start(GATE + gated("A", "{limit: 1, overlap: queue}", gate))
    found = [daemon.launch("A", {"gate": str(gate)}) for _ in range(3)]
    daemon.wait(found[0], "progress")
    daemon.stop()
    daemon.start()
    assert daemon.wait(found[0], "error")["reason"] == "node_stopped"
    daemon.wait(found[1], "progress")
    daemon.kill()
    daemon.start()
    assert daemon.wait(found[1], "error")["reason"] == "node_lost"
    daemon.wait(found[2], "progress")
    gate.touch()
    daemon.wait(found[2])


def test_skip_across_a_restart(start, database, tmp_path):
    """An instance that nobody runs just now takes up its place."""
    gate = tmp_path / "gate"
    daemon = start(GATE + "test.A: {tasks: [GATE], queue: elsewhere, concurrency: {overlap: skip}}", queues="here")
    found = daemon.launch("A", {"gate": str(gate)})
    daemon.stop()
    daemon.start()
    body = {"project": "test", "name": "A", "payload": {}}
    assert daemon.post("/api/workflows", body).status == 409
    daemon.cancel(found)
    assert daemon.post("/api/workflows", body).status == 201


@pytest.mark.parametrize("overlap", ["queue", "skip", "replace"])
def test_limit_across_two_daemons(make, database, overlap):
    definition = ("tasks: {S: {command: [sleep, 0.05]}}\n"
                  f"test.A: {{tasks: [S], concurrency: {{limit: 2, overlap: {overlap}}}, periodic: {{interval: 20ms, catchup: all}}}}")
    daemons = [make(definition).start(), make(definition).start()]
    body = {"project": "test", "name": "A", "payload": {}}
    for number in range(40):
        reply = daemons[number % 2].post("/api/workflows", body)
        assert reply.status in ((201, 409) if overlap == "skip" else (201,)), reply
    for daemon in daemons:
        daemon.post("/api/schedules/test.A/pause")
    if overlap == "queue":
        database.sql("SELECT cancel(array_agg(id), 'canceled_by_user') FROM workflows WHERE queued")
    eventually(lambda: not unfinished(database), "all have ended")
    assert at_once(database) <= 2
    found = covered(database, "A", 0.02)
    assert set(found.outcomes().values()) <= {"ran", "overlap", "paused"}


def test_room_that_was_never_used(start, database):
    """The daemon whose call made room died before it could let the next one in."""
    daemon = start(NOOP + "test.A: {tasks: [N], queue: elsewhere, concurrency: {limit: 1}}", queues="here")
    found = [daemon.launch("A") for _ in range(2)]
    daemon.stop()
    database.sql("SELECT cancel(ARRAY [%s]::uuid[], 'canceled_by_user')", found[0])
    daemon.settings["queues"] = "*"
    daemon.start().wait(found[1])
