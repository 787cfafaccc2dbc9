"""Daemons as nodes: the list of them, and one that is drained."""

import signal

import pytest

from harness import eventually

DEFINITIONS = r"""
tasks:
  GATE: {env: {FILE: "{{ payload.gate }}"}, script: 'until [ -e "$FILE" ]; do sleep 0.05; done'}
  RUN: {script: ':'}
test.GATE: {tasks: [GATE]}
test.RUN: {tasks: [RUN, {B: {task: RUN}}]}
"""
UNKNOWN = "01234567-89ab-4def-8123-456789abcdef"


@pytest.fixture
def rig(make):
    return lambda **settings: make(DEFINITIONS, **{"heartbeat": "200ms", "concurrency": 4, **settings})


@pytest.fixture
def gate(tmp_path):
    path = tmp_path / "gate"
    yield path
    path.touch()


def nodes(daemon):
    """By id."""
    return {row["id"]: row for row in daemon.get("/api/nodes").json()}


def await_state(daemon, node, state):
    eventually(lambda: nodes(daemon)[node]["state"] == state, lambda: f"{node} {state}: {nodes(daemon)}")


def hold_at_gate(daemon, gate):
    """A workflow whose task runs on this daemon until the gate opens."""
    workflow = daemon.launch("GATE", {"gate": str(gate)})
    assert daemon.wait_task(workflow, "GATE", "progress")["node"] == daemon.node
    return workflow


# --- the list ----------------------------------------------------------------------------------


def test_list(rig, gate):
    """The newest first, with what each one is and does."""
    first = rig(concurrency=3).start()
    second = rig(queues="other,more").start()
    hold_at_gate(first, gate)
    rows = second.get("/api/nodes").json()
    assert [(row["id"], row["state"], row["queues"], row["slots"], row["running"]) for row in rows] == [
        (second.node, "active", ["other", "more"], 4, 0), (first.node, "active", ["*"], 3, 1)]
    assert rows == sorted(rows, key=lambda row: row["started"], reverse=True)
    assert len({row["host"] for row in rows}) == len({row["version"] for row in rows}) == 1
    before = rows[1]["heartbeat"]
    eventually(lambda: nodes(second)[first.node]["heartbeat"] > before, "the heart beats")
    eventually(lambda: {row["definitions"] for row in nodes(second).values()} == {rows[1]["definitions"]},
               "both have said which files they have")


def test_states(rig):
    """active → draining → stopped, and dead where the heartbeat is overdue."""
    observer, leaver, victim = (rig(lease="2s", query_timeout="1s").start() for _ in range(3))
    left, lost = leaver.node, victim.node
    leaver.send_signal(signal.SIGUSR1)
    await_state(observer, left, "draining")
    assert leaver.stop() == 0
    assert nodes(observer)[left]["state"] == "stopped"
    victim.kill()
    await_state(observer, lost, "dead")
    assert nodes(observer)[observer.node]["state"] == "active"


# --- drain -------------------------------------------------------------------------------------


def drain(how, daemon, other):
    """Asks for it, and waits until the daemon knows."""
    if how == "signal":
        daemon.send_signal(signal.SIGUSR1)
    else:
        asked = daemon if how == "itself" else other
        reply = asked.post(f"/api/nodes/{daemon.node}/drain")
        assert reply.status == 200 and reply.json()["id"] == daemon.node and reply.json()["state"] == "draining", reply
    eventually(lambda: daemon.get("/api/health").json()["scheduler"]["draining"], "it drains")
    await_state(other, daemon.node, "draining")


@pytest.mark.parametrize("how", ["signal", "itself", "other"])
def test_drain(rig, gate, how):
    """What runs is finished, what is new runs elsewhere, also when it is launched here."""
    daemon = rig().start()
    running = hold_at_gate(daemon, gate)
    other = rig().start()
    drain(how, daemon, other)
    for asked in (daemon, other, daemon, other):
        assert {task["node"] for task in asked.run("RUN")["tasks"]} == {other.node}
    assert daemon.workflow(running)["status"] == "progress"
    gate.touch()
    assert daemon.wait(running)["tasks"][0]["node"] == daemon.node
    assert {task["node"] for task in daemon.run("RUN")["tasks"]} == {other.node}
    assert "draining" in daemon.log()


def test_drain_again(rig):
    """It is so already; also one that has stopped keeps its state."""
    daemon, other = rig().start(), rig().start()
    node = daemon.node
    for _ in range(2):
        reply = other.post(f"/api/nodes/{node}/drain")
        assert (reply.status, reply.json()["state"]) == (200, "draining")
    assert daemon.stop() == 0
    reply = other.post(f"/api/nodes/{node}/drain")
    assert (reply.status, reply.json()["state"]) == (200, "stopped")


def test_drain_of_the_only_one(rig, gate):
    """What is new stays pending until somebody comes who takes it, or a new life begins."""
    daemon = rig(poll_interval="100ms").start()
    running = hold_at_gate(daemon, gate)
    daemon.send_signal(signal.SIGUSR1)
    eventually(lambda: daemon.get("/api/health").json()["scheduler"]["draining"], "it drains")
    waiting = [daemon.launch("RUN") for _ in range(2)]
    gate.touch()
    daemon.wait(running)
    node = daemon.node
    before = nodes(daemon)[node]["heartbeat"]
    eventually(lambda: nodes(daemon)[node]["heartbeat"] > before, "another heartbeat")
    for workflow in waiting:
        found = daemon.workflow(workflow)
        assert found["status"] == "pending" and all("node" not in task for task in found["tasks"]), found
    daemon.stop()
    daemon.start()  # anew, and active
    for workflow in waiting:
        assert {task["node"] for task in daemon.wait(workflow)["tasks"]} == {daemon.node}


@pytest.mark.parametrize("node", [UNKNOWN, "xyz"])
def test_unknown_node(rig, node):
    reply = rig().start().post(f"/api/nodes/{node}/drain")
    assert (reply.status, reply.json()) == (404, {"error": f"Node {node} not found"})
