"""Finished instances beyond what their definition keeps go away, with all that belongs to them; unfinished ones never."""

import pytest

from harness import eventually

# Fails once, waits for its gate, and has a hook that waits for another one.
DEFINITIONS = r"""
tasks:
  WORK:
    env: {GATE: "{{ payload.gate }}"}
    retry: {limit: 1, interval: 10ms}
    script: |
      echo "$DIRECTOR_ATTEMPT"
      test $DIRECTOR_ATTEMPT = 2
      until [ -e "$GATE" ]; do sleep 0.05; done
  HOOK: {env: {GATE: "{{ payload.hook_gate }}"}, script: 'until [ -e "$GATE" ]; do sleep 0.05; done'}
test.KEPT: {tasks: [WORK], hooks: {success: HOOK}%s}
"""


@pytest.mark.parametrize("key, setting", [(", retention: {offset: 2}", -1), ("", 2)], ids=["offset", "default"])
def test_newest_finished_and_all_unfinished_stay(make, database, tmp_path, key, setting):
    """Those without an end take up no place of those that have one, be they the oldest or the newest."""
    settings = {"default_retention_offset": setting, "concurrency": 12}
    daemon = make(DEFINITIONS % key, **settings).start()
    gate = tmp_path / "gate"
    (opened := tmp_path / "open").touch()

    def launch(gate, hook_gate):
        workflow = daemon.launch("KEPT", {"gate": str(gate), "hook_gate": str(hook_gate)})
        eventually(lambda: daemon.task(workflow, "WORK").get("attempt") == 2, "the second attempt")
        return workflow
    oldest = launch(gate, opened)
    hooked = launch(opened, gate)
    daemon.wait_task(hooked, "HOOK", "progress")
    finished = [launch(opened, opened) for _ in range(5)]
    for workflow in finished:
        daemon.wait_task(workflow, "HOOK", "success")
    newest = launch(gate, opened)

    # Another one begins by clearing away.
    make(DEFINITIONS % key, queues="none", **settings).start()
    kept = {oldest, hooked, newest, *finished[-2:]}

    def left(table, column="workflow_id"):
        return {workflow for (workflow,) in database.sql(f"SELECT DISTINCT {column}::text FROM {table}")}
    eventually(lambda: left("workflows", "id") <= kept, "the others go")
    assert left("workflows", "id") == left("tasks") == left("attempts") == left("task_logs") == kept
    assert {row["id"] for row in daemon.get("/api/workflows").json()} == kept
    gate.touch()
    for workflow in (oldest, hooked, newest):
        daemon.wait_task(workflow, "HOOK", "success")
    eventually(lambda: database.value("SELECT clear_workflows(%s, 500)", setting) == 0, "nothing is left to go")
    assert left("workflows", "id") == left("tasks") == left("task_logs") == {newest, finished[-1]}
