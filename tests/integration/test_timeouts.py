"""Time limits: of one attempt, and of a whole run. What runs is stopped with all that it has started."""

import datetime

import trees
from harness import eventually

DEFINITIONS = r"""
tasks:
  TREE:
    grace: 300ms
    timeout: 2s""" + trees.SCRIPT + r"""
  ONLY_ONCE:
    grace: 300ms
    timeout: 2s
    retry: {limit: 1, interval: 10ms}
    env: {FILE: "{{ payload.file }}"}
    script: |
      test $DIRECTOR_ATTEMPT = 1 || exit 0
      setsid sh -c 'trap "" TERM; echo $$ >> "$FILE"; while :; do sleep 1; done' &
      sleep 60
  LONG: {script: sleep 60}
  NOOP: {noop: true}
  ECHO: {script: cat >&3}
  # Grows, unless the file that is named says which processes must be gone by now.
  EXCLUSIVE:
    grace: 1s
    env: {FILE: "{{ payload.file }}", GONE: "{{ payload.gone }}"}
    script: |
      if [ -n "$GONE" ]; then
          for pid in $(cat "$GONE"); do ! kill -0 $pid || exit 1; done
          exit 0
      fi
      setsid sh -c 'trap "" TERM; echo $$ >> "$FILE"; while :; do sleep 1; done' &
      trap '' TERM
      echo $$ >> "$FILE"
      while :; do sleep 1; done
test.TREE: {tasks: [TREE, NOOP]}
test.ONLY_ONCE: {tasks: [ONLY_ONCE, NOOP]}
test.RUN: {timeout: 500ms, tasks: [{G: {type: group, tasks: [{A: {task: LONG}}, {B: {task: NOOP}}]}}, {C: {task: NOOP}}]}
test.HOOKED: {timeout: 1h, tasks: [LONG, NOOP], hooks: {failure: ECHO, success: NOOP}}
test.EXCLUSIVE: {timeout: 1h, tasks: [EXCLUSIVE], concurrency: {limit: 1}}
"""


def instant(text):
    return datetime.datetime.fromisoformat(text)


def told(found):
    return [(task["status"], task.get("reason")) for task in found["tasks"]]


def expire(daemon, workflow):
    """Its time is over now."""
    daemon.database.sql("UPDATE workflows SET deadline = now() WHERE id = %s AND deadline IS NOT NULL", workflow)


# --- of an attempt -----------------------------------------------------------------------------


def test_attempt_with_all_its_processes(daemon, tmp_path):
    found = daemon.run("TREE", {"file": str(tmp_path / "pids")}, status="error")
    assert found["reason"] == "timed_out"
    assert told(found) == [("error", "timed_out"), ("canceled", "upstream_failed")]
    task = found["tasks"][0]
    assert instant(task["finished"]) - instant(task["started"]) >= datetime.timedelta(seconds=2)
    pids = trees.noted(tmp_path / "pids")
    assert pids
    trees.await_gone(daemon, pids)


def test_attempt_is_tried_again(daemon, tmp_path):
    workflow = daemon.run("ONLY_ONCE", {"file": str(tmp_path / "pids")})["id"]
    first, second = daemon.attempts(workflow, "ONLY_ONCE")
    assert first["reason"] == "timed_out" and "reason" not in second
    assert instant(second["started"]) >= instant(first["finished"])
    trees.await_gone(daemon, trees.noted(tmp_path / "pids"))


# --- of a run ----------------------------------------------------------------------------------


def test_run(daemon):
    """What succeeded stays so, what runs is an error, what has not begun is canceled."""
    found = daemon.run("RUN", status="error")
    assert found["reason"] == "timed_out"
    assert told(found) == [("error", "timed_out"), ("success", None), ("canceled", "timed_out")]
    assert instant(found["finished"]) - instant(found["started"]) >= datetime.timedelta(milliseconds=500)
    trees.await_gone(daemon, [])


def test_failure_hook_of_a_run(daemon):
    workflow = daemon.launch("HOOKED")
    daemon.wait_task(workflow, "LONG", "progress")
    expire(daemon, workflow)
    daemon.wait(workflow, "error")
    hook = daemon.wait_task(workflow, "ECHO", "success")
    assert hook["is_hook"]
    outcome = hook["result"]["outcome"]
    assert (outcome["status"], outcome["reason"], outcome["task"]) == ("error", "timed_out", "LONG")
    assert told(daemon.workflow(workflow)) == [("error", "timed_out"), ("canceled", "timed_out"), ("success", None)]
    trees.await_gone(daemon, [])


def test_place_is_free_when_all_processes_are_gone(daemon, tmp_path):
    """Only then does the next instance begin, and its time counts from there."""
    pids = tmp_path / "pids"
    first = daemon.launch("EXCLUSIVE", {"file": str(pids), "gone": ""})
    eventually(lambda: len(trees.noted(pids)) == 2, "both processes run")
    second = daemon.launch("EXCLUSIVE", {"file": "", "gone": str(pids)})

    def deadline(workflow):
        return daemon.database.value("SELECT deadline FROM workflows WHERE id = %s", workflow)
    assert deadline(first) is not None and deadline(second) is None
    expire(daemon, first)
    assert daemon.wait(first, "error")["reason"] == "timed_out"
    found = daemon.wait(second)
    assert instant(found["started"]) - instant(daemon.workflow(first)["finished"]) >= datetime.timedelta(seconds=1)
    trees.await_gone(daemon, trees.noted(pids))


def test_waiting_for_ones_turn_does_not_count(daemon, tmp_path):
    """With a limit of an hour it has an hour from its beginning, not from its launch."""
    first = daemon.launch("EXCLUSIVE", {"file": str(tmp_path / "pids"), "gone": ""})
    second = daemon.launch("EXCLUSIVE", {"file": str(tmp_path / "more"), "gone": ""})
    daemon.wait(first, "progress")
    assert daemon.workflow(second)["status"] == "pending"
    assert daemon.cancel(first).status == 201
    canceled = instant(daemon.workflow(first)["finished"])
    daemon.wait(second, "progress")
    deadline = daemon.database.value("SELECT deadline FROM workflows WHERE id = %s", second)
    assert deadline >= canceled + datetime.timedelta(hours=1)
    assert daemon.cancel(second).status == 201
