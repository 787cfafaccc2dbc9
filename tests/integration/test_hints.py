"""What one daemon does for another reaches it at once, by NOTIFY; and without that, by polling."""

import pytest

import trees
from harness import DEADLINE, eventually
from sql_node import Node

DEFINITIONS = r"""
tasks:
  LONG: {script: 'echo $$ >> "$FILE"; sleep 600', env: {FILE: "{{ payload.file }}"}, grace: 1s}
  RUN: {script: ':'}
  HERE: {script: ':', queue: here}
  THERE: {script: ':', queue: there}
test.RUN: {tasks: [RUN]}
test.LONG: {tasks: [LONG], queue: there}
test.ALTERNATING: {tasks: [THERE, {B: {task: HERE}}, {C: {task: THERE}}, {D: {task: HERE}}]}
"""
# So long that only a hint explains what happens within the harness's deadline.
NEVER = f"{20 * DEADLINE}s"


@pytest.fixture
def pair(make):
    """Two daemons with a queue each, that neither poll nor beat while the test runs."""
    settings = {"poll_interval": NEVER, "heartbeat": NEVER, "lease": f"{100 * DEADLINE}s"}
    return [make(DEFINITIONS, queues=queue, **settings).start() for queue in ("here", "there")]


def test_work_for_the_other(pair):
    """Each task makes one ready that the other daemon runs."""
    here, there = pair
    found = here.run("ALTERNATING")
    assert [task["node"] for task in found["tasks"]] == [there.node, here.node, there.node, here.node]
    for _ in range(5):
        there.run("ALTERNATING")


def test_cancel_by_way_of_the_other(pair, tmp_path):
    here, there = pair
    workflow = there.launch("LONG", {"file": str(tmp_path / "pids")})
    pids = eventually(lambda: trees.noted(tmp_path / "pids"), "the task runs")
    assert here.cancel(workflow).status == 201
    trees.await_gone(there, pids)


def test_polling_is_the_truth(make, database):
    """Whoever makes work without a word: it is found."""
    daemon = make(DEFINITIONS, poll_interval="100ms").start()
    silent = Node(database)
    for _ in range(3):
        workflow, claimed = silent.launch("RUN", slots=0)
        assert claimed == []
        assert daemon.wait(workflow)["tasks"][0]["node"] == daemon.node
    silent.set_state("stopped")
