"""A daemon is alive while it renews its row in time; what an outage or a slow database does to that harms nobody."""

import re
import signal

import pytest

from harness import eventually, never

DEFINITIONS = r"""
tasks:
  GATE: {env: {FILE: "{{ payload.gate }}"}, script: 'until [ -e "$FILE" ]; do sleep 0.05; done; cat >&3'}
  RUN: {script: ':'}
test.GATE: {tasks: [GATE, RUN]}
test.RUN: {tasks: [RUN]}
"""


@pytest.fixture
def rig(make):
    return lambda **settings: make(DEFINITIONS, heartbeat="300ms", **settings)


def heartbeat(database, node):
    return database.value("SELECT heartbeat FROM nodes WHERE id = %s", node)


def await_heartbeats(database, node, count):
    for _ in range(count):
        before = heartbeat(database, node)
        eventually(lambda: heartbeat(database, node) > before, "the heart beats")


def test_nobody_dies_of_an_outage(rig, database, tmp_path):
    """Longer than the lease: the first daemon that is back finds all others overdue, and gives them a whole lease."""
    gate = tmp_path / "gate"
    first = rig(queues="first,default").start()
    workflows = [first.launch("GATE", {"gate": str(gate), "n": n}) for n in range(2)]
    second = rig().start()
    nodes = {first.node, second.node}
    workflows += [second.launch("GATE", {"gate": str(gate), "n": n}) for n in range(2)]
    for workflow in workflows:
        second.wait_task(workflow, "GATE", "progress")
    with database.server.unreachable(database):
        for daemon in (first, second):
            daemon.await_log("database away")
        gate.touch()
        second.send_signal(signal.SIGSTOP)  # it will be late
        database.sql("UPDATE nodes SET heartbeat = heartbeat - interval '1 hour'")
    try:
        await_heartbeats(database, first.node, 4)
        assert {state for (state,) in database.sql("SELECT state FROM nodes")} == {"active"}
    finally:
        second.send_signal(signal.SIGCONT)
    for workflow in workflows:
        assert [task["attempt"] for task in first.wait(workflow)["tasks"]] == [1, 1]
    await_heartbeats(database, second.node, 1)
    assert dict(database.sql("SELECT id::text, state FROM nodes")) == dict.fromkeys(nodes, "active")
    assert database.value("SELECT count(*) FROM attempts") == 0
    for daemon in (first, second):
        daemon.run("RUN")


def test_overdue_node_is_declared_dead_after_a_whole_lease(rig, database):
    """The other side of it: one that does not come back is, by whoever was connected as long."""
    victim = rig(lease="3s", query_timeout="2s").start()
    lost = victim.node
    witness = rig(lease="3s", query_timeout="2s").start()
    victim.kill()
    (overdue_s,) = eventually(lambda: database.sql("SELECT extract(epoch FROM now() - heartbeat)::float FROM nodes"
                                                   " WHERE id = %s AND state = 'dead'", lost), "it is declared dead")[0]
    assert overdue_s >= 3
    assert database.value("SELECT state FROM nodes WHERE id = %s", witness.node) == "active"


def test_who_cannot_renew_claims_nothing(rig, database):
    """Before another one may declare it dead it stops; once it has renewed it goes on."""
    daemon = rig(lease="3s", query_timeout="2s", poll_interval="50ms").start()
    node = daemon.node
    daemon.run("RUN")
    with database.server.connect(database.name) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM nodes WHERE id = %s FOR UPDATE", (node,))
        eventually(lambda: database.value("SELECT now() - heartbeat > interval '3 s' FROM nodes WHERE id = %s", node),
                   "the lease is over")
        workflows = [daemon.launch("RUN") for _ in range(3)]
        never(lambda: any(daemon.workflow(workflow)["status"] != "pending" for workflow in workflows), "a task was claimed")
        daemon.await_log("the lease has lapsed")
        health = daemon.get("/api/health")
        assert (health.status, health.json()["status"]) == (503, "unavailable")
        assert health.json()["scheduler"]["lease"] is False
    other.close()
    for workflow in workflows:
        assert daemon.wait(workflow)["tasks"][0]["attempt"] == 1
    daemon.await_log("lease renewed; claiming again")
    daemon.await_log('works again" statement=heartbeat')
    health = daemon.get("/api/health")
    assert (health.status, health.json()["scheduler"]["lease"]) == (200, True)
    assert daemon.log().count("a database call fails") == daemon.log().count("the lease has lapsed") == 1
    assert database.sql("SELECT state FROM nodes") == [("active",)]


def test_calls_that_fail_are_told_once(rig, database):
    """Also those that nobody waits for: the engine just makes them again."""
    functions = ("claim", "expire", "heartbeat", "reap", "clear_history")
    daemon = rig(lease="3s", query_timeout="2s", poll_interval="50ms").start()
    daemon.expect_errors("a database call fails")
    for function in functions:
        database.sql(f"ALTER FUNCTION {function} RENAME TO {function}_gone")
    for function in ("claim", "expire", "heartbeat"):
        daemon.await_log(f"a database call fails.* statement={function} .*does not exist")
    workflow = daemon.launch("RUN")
    daemon.await_log("the lease has lapsed")
    for function in functions:
        database.sql(f"ALTER FUNCTION {function}_gone RENAME TO {function}")
    daemon.wait(workflow)
    for function in ("claim", "expire", "heartbeat"):
        daemon.await_log(f"the database call works again.* statement={function}")
        assert len(re.findall(f"a database call fails.* statement={function} ", daemon.log())) == 1
