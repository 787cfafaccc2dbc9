"""Relaunch from the failure: what succeeded is taken over with its results, and only the rest runs."""

import threading

import pytest

from harness import eventually

# Each execution leaves a line. SECOND needs the file that its payload names.
DEFINITIONS = r"""
tasks:
  FIRST: &noted
    env: {LINES: "{{ payload.lines }}"}
    script: |
      echo "$DIRECTOR_WORKFLOW_ID $DIRECTOR_TASK_KEY" >> "$LINES"
      echo '{"big": 12345678901234567890}' >&3
  SECOND: {<<: *noted, env: {LINES: "{{ payload.lines }}", NEEDED: "{{ payload.needed }}"}, script:
      'echo "$DIRECTOR_WORKFLOW_ID $DIRECTOR_TASK_KEY" >> "$LINES"; test -e "$NEEDED"'}
  WAIT: {<<: *noted, env: {LINES: "{{ payload.lines }}", NEEDED: "{{ payload.needed }}"}, script:
      'echo "$DIRECTOR_WORKFLOW_ID $DIRECTOR_TASK_KEY" >> "$LINES"; until [ -e "$NEEDED" ]; do sleep 0.05; done'}
  ECHO: {script: cat >&3}
test.CHAIN: {tasks: [FIRST, SECOND, ECHO]}
test.WAIT: {tasks: [FIRST, WAIT, ECHO]}
test.QUEUED: {tasks: [FIRST, WAIT, ECHO], concurrency: {limit: 1}}
test.SKIPPED: {tasks: [FIRST, WAIT, ECHO], concurrency: {limit: 1, overlap: skip}}
test.REPLACED: {tasks: [FIRST, WAIT, ECHO], concurrency: {limit: 1, overlap: replace}}
test.GRAPH:
  tasks:
    - FIRST
    - {G: {type: group, tasks: [SECOND, {THIRD: {task: FIRST}}]}}
    - ECHO
"""


@pytest.fixture
def payload(tmp_path):
    return {"lines": str(tmp_path / "lines"), "needed": str(tmp_path / "needed")}


@pytest.fixture
def needed(tmp_path):
    return tmp_path / "needed"


@pytest.fixture
def executions(tmp_path):
    """The keys of what has run of a workflow, in order."""
    def read(workflow):
        lines = [line.split() for line in (tmp_path / "lines").read_text().splitlines()]
        return [key for of, key in lines if of == workflow]
    return read


def relaunch(daemon, workflow):
    return daemon.post(f"/api/workflows/{workflow}/relaunch", {"from": "failed"})


def relaunched(daemon, workflow):
    reply = relaunch(daemon, workflow)
    assert reply.status == 201 and reply.json()["status"] == "pending", reply
    return reply.json()["id"]


def check_echo(found, key="ECHO"):
    """It has got the results of those that did not run again."""
    (echo,) = [task for task in found["tasks"] if task["key"] == key]
    assert echo["result"]["results"]["FIRST"] == {"big": 12345678901234567890}
    assert echo["result"]["workflow"]["id"] == found["id"]


def test_only_the_rest_runs(daemon, payload, needed, executions):
    original = daemon.run("CHAIN", payload, status="error")
    needed.touch()
    found = daemon.wait(relaunched(daemon, original["id"]))
    assert found["relaunched_from"] == original["id"] and found["payload"] == payload
    assert [(task["key"], task["status"]) for task in found["tasks"]] == [
        ("FIRST", "success"), ("SECOND", "success"), ("ECHO", "success")]
    assert found["tasks"][0]["result"] == original["tasks"][0]["result"] == {"big": 12345678901234567890}
    check_echo(found)
    assert (executions(original["id"]), executions(found["id"])) == (["FIRST", "SECOND"], ["SECOND"])
    assert daemon.workflow(original["id"]) == original


def test_siblings_of_the_failure(daemon, payload, needed, executions):
    original = daemon.run("GRAPH", payload, status="error")
    needed.touch()
    found = daemon.wait(relaunched(daemon, original["id"]))
    check_echo(found)
    assert sorted(executions(original["id"])) == ["FIRST", "SECOND", "THIRD"]
    assert executions(found["id"]) == ["SECOND"]


def test_relaunch_of_a_relaunch(daemon, payload, needed, executions):
    original = daemon.run("CHAIN", payload, status="error")["id"]
    second = daemon.wait(relaunched(daemon, original), "error")["id"]
    needed.touch()
    third = daemon.wait(relaunched(daemon, second))
    assert third["relaunched_from"] == second
    check_echo(third)
    assert executions(second) == executions(third["id"]) == ["SECOND"]
    assert relaunch(daemon, third["id"]).status == 409  # nothing has failed


def test_twice_in_parallel(daemon, payload, needed, executions):
    """Each is an instance of its own."""
    original = daemon.run("CHAIN", payload, status="error")["id"]
    needed.touch()
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(relaunch(daemon, original))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [201, 201], replies
    ids = {reply.json()["id"] for reply in replies}
    assert len(ids) == 2
    for workflow in ids:
        check_echo(daemon.wait(workflow))
        assert executions(workflow) == ["SECOND"]


# --- of canceled ones, and with a limit --------------------------------------------------------


def launch_waiting(daemon, name, payload):
    workflow = daemon.launch(name, payload)
    daemon.wait_task(workflow, "WAIT", "progress")
    return workflow


def canceled_while_it_waits(daemon, name, payload):
    workflow = launch_waiting(daemon, name, payload)
    assert daemon.cancel(workflow).status == 201
    return workflow


def test_of_a_canceled_one(daemon, payload, needed, executions):
    original = launch_waiting(daemon, "WAIT", payload)
    assert relaunch(daemon, original).status == 409  # it goes on
    assert daemon.cancel(original).status == 201
    needed.touch()
    found = daemon.wait(relaunched(daemon, original))
    check_echo(found)
    assert executions(found["id"]) == ["WAIT"]
    assert daemon.workflow(original)["status"] == "canceled"


def test_of_one_that_never_began(daemon, payload, needed, executions):
    """All of it runs."""
    blocker = launch_waiting(daemon, "QUEUED", payload)
    original = daemon.launch("QUEUED", payload)
    assert daemon.cancel(original).status == 201
    needed.touch()
    found = daemon.wait(relaunched(daemon, original))
    check_echo(found)
    assert executions(found["id"]) == ["FIRST", "WAIT"]
    daemon.wait(blocker)


def test_waits_for_its_turn(daemon, payload, needed, executions):
    original = canceled_while_it_waits(daemon, "QUEUED", payload)
    blocker = launch_waiting(daemon, "QUEUED", payload)
    again = relaunched(daemon, original)
    assert daemon.workflow(again)["status"] == "pending"
    needed.touch()
    ended, found = daemon.wait(blocker), daemon.wait(again)
    assert found["started"] >= ended["finished"]
    check_echo(found)
    assert executions(again) == ["WAIT"]


def test_is_refused_while_another_runs(daemon, payload, needed, executions):
    original = canceled_while_it_waits(daemon, "SKIPPED", payload)
    blocker = eventually(lambda: (reply := daemon.post("/api/workflows", {
        "project": "test", "name": "SKIPPED", "payload": payload})).status == 201 and reply.json()["id"],
        "the canceled one's processes are gone")
    assert relaunch(daemon, original).status == 409
    needed.touch()
    daemon.wait(blocker)
    found = daemon.wait(relaunched(daemon, original))
    assert executions(found["id"]) == ["WAIT"]


def test_replaces_another(daemon, payload, needed, executions):
    original = canceled_while_it_waits(daemon, "REPLACED", payload)
    victim = launch_waiting(daemon, "REPLACED", payload)
    again = relaunched(daemon, original)
    assert daemon.wait(victim, "canceled")["reason"] == "replaced"
    needed.touch()
    check_echo(daemon.wait(again))
    assert executions(again) == ["WAIT"]
