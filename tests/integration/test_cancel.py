"""Cancel wins: nothing of the workflow starts, counts or lives any more after the answer."""

import os
import signal
import threading

import trees
from harness import alive, eventually

DEFINITIONS = r"""
tasks:
  LONG: {script: 'echo $$ >> "$FILE"; sleep 60', env: {FILE: "{{ payload.file }}"}, grace: 1s}
  NOOP: {noop: true}
  TREE:
    grace: 300ms""" + trees.SCRIPT + r"""
  POLITE:
    env: {FILE: "{{ payload.file }}"}
    script: |
      trap 'echo cleaned >> "$FILE"; exit 0' TERM
      echo ready >> "$FILE"
      while :; do sleep 0.05; done
test.LONG: {tasks: [LONG, NOOP]}
test.WIDE: {tasks: [{G: {type: group, tasks: [LONG, LONG, LONG]}}, NOOP]}
test.TREE: {tasks: [TREE]}
test.POLITE: {tasks: [POLITE]}
test.QUICK: {tasks: [NOOP, {A: {script: ':'}}, {B: {script: ':'}}, {C: {script: ':'}}]}
"""
SETTINGS = {"concurrency": 4}


def test_running_workflow(daemon, tmp_path):
    workflow = daemon.launch("LONG", {"file": str(tmp_path / "pids")})
    pids = eventually(lambda: trees.noted(tmp_path / "pids"), "the task runs")
    reply = daemon.cancel(workflow)
    assert reply.status == 201 and reply.json()["status"] == "canceled"
    found = daemon.workflow(workflow)
    assert [(task["status"], task["reason"]) for task in found["tasks"]] == [("canceled", "canceled_by_user")] * 2
    trees.await_gone(daemon, pids)
    assert daemon.workflow(workflow)["tasks"] == found["tasks"]  # its end counts for nothing


def test_all_tasks_that_run(daemon, tmp_path):
    workflow = daemon.launch("WIDE", {"file": str(tmp_path / "pids")})
    eventually(lambda: len(trees.words(tmp_path / "pids")) == 3, "three tasks run")
    assert daemon.cancel(workflow).status == 201
    trees.await_gone(daemon, trees.noted(tmp_path / "pids"))


def test_whole_tree_of_processes(daemon, tmp_path):
    """With children in other sessions, orphans, and some that do not listen to SIGTERM."""
    workflow = daemon.launch("TREE", {"file": str(tmp_path / "pids")})
    pids = trees.await_grown(tmp_path / "pids")
    assert daemon.cancel(workflow).status == 201
    trees.await_gone(daemon, pids)


def test_sigterm_comes_first(daemon, tmp_path):
    workflow = daemon.launch("POLITE", {"file": str(tmp_path / "log")})
    eventually(lambda: trees.words(tmp_path / "log") == ["ready"], "the task runs")
    assert daemon.cancel(workflow).status == 201
    eventually(lambda: trees.words(tmp_path / "log") == ["ready", "cleaned"], "the task cleans up")
    assert daemon.workflow(workflow)["tasks"][0]["status"] == "canceled"


def test_stopped_process_is_ended_too(daemon, tmp_path):
    workflow = daemon.launch("LONG", {"file": str(tmp_path / "pids")})
    pids = eventually(lambda: trees.noted(tmp_path / "pids"), "the task runs")
    os.kill(pids[0], signal.SIGSTOP)
    assert daemon.cancel(workflow).status == 201
    trees.await_gone(daemon, pids)


def test_pending_workflow(start, tmp_path):
    daemon = start(DEFINITIONS, concurrency=1)
    running = daemon.launch("LONG", {"file": str(tmp_path / "pids")})
    pending = daemon.launch("LONG", {"file": str(tmp_path / "never")})
    eventually(lambda: trees.words(tmp_path / "pids"), "the first runs")
    assert daemon.cancel(pending).status == 201
    found = daemon.workflow(pending)
    assert found["status"] == "canceled" and "started" not in found
    assert daemon.cancel(running).status == 201
    daemon.run("QUICK")  # the slot is free again
    assert not (tmp_path / "never").exists()


def test_slot_stays_taken_until_all_is_gone(start, tmp_path):
    daemon = start(DEFINITIONS, concurrency=1)
    workflow = daemon.launch("TREE", {"file": str(tmp_path / "pids")})
    pids = trees.await_grown(tmp_path / "pids")
    assert daemon.cancel(workflow).status == 201
    daemon.run("QUICK")
    assert not any(map(alive, pids))


def test_cancel_again(daemon, tmp_path):
    workflow = daemon.launch("LONG", {"file": str(tmp_path / "pids")})
    first, second = daemon.cancel(workflow), daemon.cancel(workflow)
    assert (first.status, second.status) == (201, 201) and first.body == second.body


def test_cancel_of_what_is_over(daemon):
    workflow = daemon.run("QUICK")["id"]
    reply = daemon.cancel(workflow)
    assert reply.status == 409
    assert reply.json() == {"error": f"Workflow {workflow} is already success"}


def test_cancel_at_every_moment(daemon):
    """Races with launches, claims and finishes: one of them wins, and the tables are in order."""
    answers = []

    def work(delay):
        workflow = daemon.launch("QUICK")
        threading.Event().wait(delay)
        reply = daemon.cancel(workflow)
        answers.append((workflow, reply.status))

    threads = [threading.Thread(target=work, args=(n * 0.001,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 60
    for workflow, status in answers:
        found = daemon.workflow(workflow)
        assert (found["status"], status) in [("canceled", 201), ("success", 409)], found


def test_cancel_on_another_daemon(make, tmp_path):
    """The owner hears of it within its heartbeat, or at once by NOTIFY."""
    owner = make(DEFINITIONS, heartbeat="1s").start()
    other = make("", heartbeat="1s", queues="none").start()
    workflow = owner.launch("LONG", {"file": str(tmp_path / "pids")})
    pids = eventually(lambda: trees.noted(tmp_path / "pids"), "the task runs")
    assert other.cancel(workflow).status == 201
    trees.await_gone(owner, pids)
