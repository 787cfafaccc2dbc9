"""What tasks leave running when their daemon is killed is ended by the next one on its state directory."""

import contextlib
import os
import signal
import subprocess
import uuid

import pytest

from harness import eventually, processes

DEFINITIONS = """
    tasks:
      PLAIN: {command: [sleep, 600]}
      DETACHED: {script: "setsid sleep 600"}
      DAEMONIZED: {script: "(setsid sh -c 'sleep 600 & trap \\"\\" TERM HUP; sleep 600' &) ; sleep 600"}
      STOPPED: {script: "kill -STOP $$"}
    test.LONG:
      tasks: [ALL: {type: group, tasks: [PLAIN, DETACHED, DAEMONIZED, STOPPED]}]
"""
# The shells and their sleeps, in the order of the tasks.
PROCESSES = 1 + 2 + 5 + 1


@pytest.fixture
def stranger():
    """A process of some other daemon's task."""
    variable = f"DIRECTOR_NODE={uuid.uuid4()}"
    process = subprocess.Popen(["sleep", "600"], env={**os.environ, "DIRECTOR_NODE": variable.partition("=")[2]})
    yield process
    process.kill()
    process.wait()


def kill_amid_tasks(daemon):
    """Launches LONG, kills the daemon, and returns the workflow and what finds its processes."""
    workflow = daemon.launch("LONG")
    variable = f"DIRECTOR_NODE={daemon.node}"
    eventually(lambda: len(processes(variable)) == PROCESSES,
               lambda: f"{PROCESSES} processes, not {len(processes(variable))}")
    daemon.kill()
    assert len(processes(variable)) == PROCESSES
    return workflow, variable


def test_next_daemon_ends_them(start, stranger):
    daemon = start(DEFINITIONS)
    workflow, variable = kill_amid_tasks(daemon)
    daemon.start()
    assert processes(variable) == []  # before it is ready
    found = daemon.wait(workflow, "error")
    assert {task["reason"] for task in found["tasks"]} == {"node_lost"}
    assert stranger.poll() is None


def test_also_without_a_database(make):
    daemon = make(DEFINITIONS).start()
    workflow, variable = kill_amid_tasks(daemon)
    daemon.settings["database_uri"] = "postgresql:///nowhere?host=/nonexistent"
    daemon.spawn()
    daemon.await_log("waiting for it")
    assert processes(variable) == []
    daemon.stop()
    del daemon.settings["database_uri"]
    daemon.start()
    daemon.wait(workflow, "error")


def test_killed_again_and_again(start):
    """Also what an incarnation left that was killed before it could look."""
    daemon = start(DEFINITIONS)
    variables = []
    for _ in range(3):
        workflow, variable = kill_amid_tasks(daemon)
        variables.append(variable)
        daemon.spawn()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait_exit(0.02)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait_exit()
        daemon.start()
        assert [variable for variable in variables if processes(variable)] == []
        daemon.wait(workflow, "error")
