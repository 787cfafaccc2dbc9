"""A daemon that the machine has no descriptors for: what it cannot start waits, and no attempt is used up."""

import pytest

from harness import eventually, starved

DEFINITIONS = r"""
tasks:
  RUN: {script: 'cat >&3'}
test.RUN: {tasks: [RUN], queue: poor}
"""
NO_ROOM = "no room for another process now"


@pytest.fixture
def pair(make):
    """One that runs the tasks, one at a time, and another one that serves the API for it."""
    poor = make(DEFINITIONS, queues="poor", concurrency=1).start()
    poor.expect_errors("descriptor", "Too many open files")
    return poor, make(DEFINITIONS, queues="none").start()


def task_row(database, workflow):
    return database.sql("SELECT status::text, attempt, held FROM tasks WHERE workflow_id = %s", workflow)[0]


def test_attempt_waits_for_room(pair, database):
    poor, rich = pair
    with starved(poor):
        workflow = rich.launch("RUN", {"a": 1})
        poor.await_log(NO_ROOM)  # once; it tries again
        assert task_row(database, workflow) == ("progress", 1, True)
    (task,) = rich.wait(workflow)["tasks"]
    assert task["attempt"] == 1 and task["result"]["payload"] == {"a": 1}
    assert database.value("SELECT count(*) FROM attempts") == 0


def test_cancel_while_it_waits(pair, database):
    """There is nothing to stop, and the slot is free."""
    poor, rich = pair
    with starved(poor):
        workflow = rich.launch("RUN")
        poor.await_log(NO_ROOM)
        assert rich.cancel(workflow).status == 201
        eventually(lambda: task_row(database, workflow) == ("canceled", 1, False), "the slot is given back")
    rich.run("RUN")
    assert rich.workflow(workflow)["tasks"][0]["reason"] == "canceled_by_user"
