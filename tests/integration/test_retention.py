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


@pytest.mark.parametrize("trouble, shrinks", [("RAISE 'not now'", False), ("PERFORM pg_sleep(60)", True)],
                         ids=["failed", "slow"])
def test_only_what_takes_too_long_goes_in_parts(make, database, trouble, shrinks):
    """One of the two calls has the trouble; the other one always finds more, and tells how much was asked for."""
    daemon = make("", query_timeout="1s").start()
    daemon.stop()
    database.sql("CREATE TABLE asked (at serial, rows bigint)")
    database.sql(f"""CREATE OR REPLACE FUNCTION clear_workflows(p_default int, p_limit int) RETURNS bigint
                     LANGUAGE plpgsql AS $$ BEGIN {trouble}; END $$""")
    database.sql("""CREATE OR REPLACE FUNCTION clear_history(p_loaded bigint[], p_fires_age interval, p_limit int)
                    RETURNS bigint LANGUAGE sql AS $$ INSERT INTO asked (rows) VALUES (p_limit) RETURNING rows $$""")
    daemon.expect_errors("a database call fails")
    daemon.start()
    eventually(lambda: database.value("SELECT count(*) FROM asked") >= 4, "four rounds", 90)  # the first may come too soon
    asked = [rows for (rows,) in database.sql("SELECT rows FROM asked ORDER BY at")]
    assert (asked[3] < asked[0]) == shrinks, asked
