"""What runs, in which order, with which input, and what becomes of it."""

import json
import os
import pathlib
import re

import pytest

from harness import alive, eventually, has_sanitizer, processes

DEFINITIONS = r"""
tasks:
  # Its result is the document that it got.
  ECHO: {script: cat > "$DIRECTOR_RESULT"}
  # Writes its name to the payload's file.
  NOTE: {env: {FILE: "{{ payload.file }}"}, script: echo $DIRECTOR_TASK_KEY >> "$FILE"}
  # Waits until all of `payload.names` have come to the payload's directory: only then can any of them end.
  MEET:
    env: {DIR: "{{ payload.dir }}", NAMES: "{{ payload.names }}"}
    script: |
      touch "$DIR/$DIRECTOR_TASK_KEY"
      for name in $NAMES; do
          until [ -e "$DIR/$name" ]; do sleep 0.02; done
      done
  # Waits for the payload's file.
  GATE: {env: {FILE: "{{ payload.gate }}"}, script: 'until [ -e "$FILE" ]; do sleep 0.02; done'}
  ONE: {command: [echo, "1"], result: stdout}
  TWO: {command: [echo, "2"], result: stdout}
  THREE: {command: [echo, "3"], result: stdout}
  NOOP: {noop: true}
  FAIL: {script: "echo first >&2; echo why >&2; exit 2"}
  ENVIRONMENT:
    env: {MINE: "a b\n$HOME", EMPTY: "", FROM: "{{ payload.from }}", TZ: Europe/Paris}
    command: [/usr/bin/python3, -c, "import json, os; json.dump(dict(os.environ), open('/dev/fd/3', 'w'))"]
  PROCESS:
    command:
      - /usr/bin/python3
      - -c
      - |
        import json, os, signal
        fds = {}
        for fd in os.listdir("/proc/self/fd"):
            try:
                fds[fd] = os.readlink(f"/proc/self/fd/{fd}").split(":")[0]
            except OSError:
                pass  # of the listing itself
        status = dict(line.split(":\t") for line in open("/proc/self/status").read().splitlines())
        # Python itself ignores two, and glibc's posix_spawn two of its own (32 and 33).
        own = [signal.SIGPIPE, signal.SIGXFSZ, 32, 33]
        ignored = int(status["SigIgn"], 16) & ~sum(1 << number - 1 for number in own)
        json.dump({"fds": fds, "blocked": int(status["SigBlk"], 16), "ignored": ignored, "cwd": os.getcwd(),
                   "leads": os.getpgrp() == os.getpid()}, os.fdopen(3, "w"))

test.CHAIN: {tasks: [{A: {task: NOTE}}, {B: {task: NOTE}}, {C: {task: NOTE}}]}
test.GROUP: {tasks: [{G: {type: group, tasks: [ONE, TWO, THREE]}}, ECHO]}
test.PARALLEL: {tasks: [{G: {type: group, tasks: [{A: {task: MEET}}, {B: {task: MEET}}, {C: {task: MEET}}]}}]}
test.TWO_GROUPS:
  tasks: [{G: {type: group, tasks: [ONE, TWO]}}, {H: {type: group, tasks: [{X: {task: ECHO}}, {Y: {task: ECHO}}]}}]
test.NESTED:
  tasks:
    - G:
        type: group
        tasks:
          - L: {type: chain, tasks: [ONE, {I: {type: group, tasks: [TWO, THREE]}}]}
          - NOOP
    - ECHO
test.GRAPH:
  tasks:
    - A: {task: ONE}
    - B: {task: TWO, depends_on: [A]}
    - C: {task: THREE, depends_on: [A]}
    - D: {task: ECHO, depends_on: [C, B]}
    - FREE: {task: ECHO, depends_on: []}
    - LAST: {task: ECHO, depends_on: [D, FREE]}
test.GROUP_NAME:
  tasks:
    - G: {type: group, tasks: [{L: {type: chain, tasks: [ONE, TWO]}}, THREE]}
    - NOOP
    - E: {task: ECHO, depends_on: [G]}
test.TWICE: {tasks: [ONE, {X: {task: ECHO}}, {ONE: {task: TWO}}, {Y: {task: ECHO}}]}
test.EMPTY: {tasks: [], hooks: {success: ECHO}}
test.ECHO: {tasks: [ECHO]}
test.DOCUMENT: {tasks: [ONE, ECHO]}
test.ENVIRONMENT: {tasks: [ENVIRONMENT]}
test.PROCESS: {tasks: [PROCESS]}
test.CWD: {tasks: [{A: {task: PROCESS, cwd: /usr}}, {B: {task: PROCESS, cwd: "{{ payload.dir }}"}}]}
test.NOOP: {tasks: [NOOP, ECHO]}
test.WIDE: {tasks: [{G: {type: group, tasks: [%WIDE%]}}, ECHO]}
test.DEEP: {tasks: [%WIDE%, ECHO]}

test.GOOD_HOOKS: {tasks: [ONE, {G: {type: group, tasks: [TWO, THREE]}}], hooks: {success: ECHO, failure: NOTE}}
test.BAD_HOOKS: {tasks: [ONE, {X: {task: FAIL}}, TWO], hooks: {success: NOTE, failure: ECHO}}
test.HOOK_FAILS: {tasks: [ONE], hooks: {success: FAIL}}
test.CANCELED: {tasks: [GATE], hooks: {success: NOTE, failure: NOTE}}

test.FAIL: {tasks: [FAIL, ONE, {G: {type: group, tasks: [TWO, THREE]}}]}
test.SIBLINGS:
  tasks:
    - G:
        type: group
        tasks:
          - {L: {type: chain, tasks: [FAIL, ONE, TWO]}}
          - {M: {type: chain, tasks: [GATE, {SIBLING: {task: NOTE}}]}}
    - THREE
""".replace("%WIDE%", ", ".join(["NOOP"] * 200))
SETTINGS = {"concurrency": 8, "task_env_shared": "from the daemon", "task_env_MINE": "loses"}


def result_text(daemon, workflow, key):
    """The task's result as it stands in the answer."""
    body = daemon.get(f"/api/workflows/{workflow}").text
    return re.search(f'"key":"{key}".*?"result":(.*?),"started"', body, re.S)[1]


def previous_keys(found):
    keys = {task["id"]: task["key"] for task in found["tasks"]}
    return [(task["key"], [keys[id] for id in task["previous"]]) for task in found["tasks"]]


# --- order -------------------------------------------------------------------------------------


def test_chain_runs_in_order(daemon, tmp_path):
    found = daemon.run("CHAIN", {"file": str(tmp_path / "notes")})
    assert (tmp_path / "notes").read_text() == "A\nB\nC\n"
    assert previous_keys(found) == [("A", []), ("B", ["A"]), ("C", ["B"])]


def test_group_runs_in_parallel(daemon, tmp_path):
    daemon.run("PARALLEL", {"dir": str(tmp_path), "names": "A B C"})


def test_what_follows_a_group_gets_all_its_results(daemon):
    found = daemon.run("GROUP")
    assert previous_keys(found)[3] == ("ECHO", ["ONE", "TWO", "THREE"])
    document = found["tasks"][3]["result"]
    assert document["args"] == [[1, 2, 3]]
    assert document["results"] == {"ONE": 1, "TWO": 2, "THREE": 3}


def test_each_task_of_a_second_group_waits_for_all_of_the_first(daemon):
    found = daemon.run("TWO_GROUPS")
    assert previous_keys(found) == [("ONE", []), ("TWO", []), ("X", ["ONE", "TWO"]), ("Y", ["ONE", "TWO"])]
    assert [task["result"]["args"] for task in found["tasks"][2:]] == [[[1, 2]], [[1, 2]]]


def test_chains_and_groups_nest(daemon):
    found = daemon.run("NESTED")
    assert dict(previous_keys(found)) == {
        "ONE": [], "TWO": ["ONE"], "THREE": ["ONE"], "NOOP": [], "ECHO": ["TWO", "THREE", "NOOP"]}
    echo = [task for task in found["tasks"] if task["key"] == "ECHO"][0]
    assert echo["result"]["args"] == [[2, 3, None]]
    assert echo["result"]["results"] == {"ONE": 1, "TWO": 2, "THREE": 3, "NOOP": None}


def test_depends_on(daemon):
    found = daemon.run("GRAPH")
    assert dict(previous_keys(found)) == {
        "A": [], "B": ["A"], "C": ["A"], "D": ["C", "B"], "FREE": [], "LAST": ["D", "FREE"]}
    results = {task["key"]: task["result"] for task in found["tasks"]}
    assert results["D"]["args"] == [[3, 2]]
    assert results["FREE"]["args"] == [] and results["FREE"]["results"] == {}
    assert set(results["LAST"]["results"]) == {"A", "B", "C", "D", "FREE"}


def test_a_groups_name_means_its_last_tasks(daemon):
    found = daemon.run("GROUP_NAME")
    assert dict(previous_keys(found))["E"] == ["TWO", "THREE"]


def test_a_name_may_stand_twice(daemon):
    found = daemon.run("TWICE")
    assert [task["key"] for task in found["tasks"]] == ["ONE", "X", "ONE", "Y"]
    assert found["tasks"][1]["result"]["results"]["ONE"] == 1
    assert found["tasks"][3]["result"]["results"]["ONE"] == 2


def test_no_tasks_are_success_at_once(daemon):
    workflow = daemon.launch("EMPTY")
    found = daemon.workflow(workflow)
    assert found["status"] == "success" and found["finished"] == found["started"]
    hook = daemon.wait_task(workflow, "ECHO", "success")
    assert hook["result"]["args"] == [] and hook["result"]["outcome"]["status"] == "success"


def test_noop_has_no_result(daemon):
    found = daemon.run("NOOP")
    assert found["tasks"][0]["result"] is None
    assert found["tasks"][1]["result"]["args"] == [None]


def test_wide_group(daemon):
    found = daemon.run("WIDE")
    assert len(found["tasks"]) == 201
    assert found["tasks"][200]["result"]["args"] == [[None] * 200]


def test_deep_chain(daemon):
    found = daemon.run("DEEP")
    assert [len(task["previous"]) for task in found["tasks"]] == [0] + [1] * 200


# --- input -------------------------------------------------------------------------------------


def test_document_on_standard_input(daemon):
    found = daemon.run("DOCUMENT", {"a": 1})
    task = found["tasks"][1]
    assert task["result"] == {
        "args": [1],
        "payload": {"a": 1},
        "results": {"ONE": 1},
        "task": {"attempt": 1, "id": task["id"], "key": "ECHO"},
        "workflow": {"created": found["created"], "fullname": "test.DOCUMENT", "id": found["id"], "name": "DOCUMENT",
                     "periodic": False, "project": "test", "scheduled": None},
    }


@pytest.mark.parametrize("payload", ['{"n":9007199254740993,"f":1.0,"z":1,"a":[ 2 ]}', '{"ü":"\\u00e9\U0001f600"}'])
def test_payload_reaches_the_task_byte_for_byte(daemon, payload):
    reply = daemon.post("/api/workflows", f'{{"project":"test","name":"ECHO","payload":{payload}}}')
    workflow = reply.json()["id"]
    daemon.wait(workflow)
    assert f'"payload":{payload},"results":{{}}' in result_text(daemon, workflow, "ECHO")


def test_environment(daemon):
    found = daemon.run("ENVIRONMENT", {"from": "the payload"})
    environment = found["tasks"][0]["result"]
    assert {name: environment.pop(name) for name in list(environment) if name.startswith("DIRECTOR_")} == {
        "DIRECTOR_WORKFLOW_ID": found["id"], "DIRECTOR_PROJECT": "test", "DIRECTOR_WORKFLOW": "ENVIRONMENT",
        "DIRECTOR_TASK_ID": found["tasks"][0]["id"], "DIRECTOR_TASK_KEY": "ENVIRONMENT", "DIRECTOR_ATTEMPT": "1",
        "DIRECTOR_RESULT": "/dev/fd/3", "DIRECTOR_NODE": found["tasks"][0]["node"]}
    assert environment.pop("PATH") and environment.pop("HOME") and environment.pop("LANG")
    environment.pop("LC_CTYPE", None)  # python's own
    assert environment == {"MINE": "a b\n$HOME", "EMPTY": "", "FROM": "the payload", "TZ": "Europe/Paris",
                           "SHARED": "from the daemon"}


def test_process(daemon):
    assert daemon.results("PROCESS")["PROCESS"] == {
        "fds": {"0": "pipe", "1": "pipe", "2": "pipe", "3": "pipe"}, "blocked": 0, "ignored": 0, "cwd": "/",
        "leads": True}


def test_cwd(daemon, tmp_path):
    results = daemon.results("CWD", {"dir": str(tmp_path)})
    assert (results["A"]["cwd"], results["B"]["cwd"]) == ("/usr", str(tmp_path))


def test_input_that_is_not_read(start):
    daemon = start("test.A: {tasks: [{CLOSES: {script: 'exec <&-; sleep 0.1'}}, {IGNORES: {command: ['true']}}]}")
    daemon.run("A", {"large": "x" * 900_000})


def test_large_input(start):
    daemon = start("test.A: {tasks: [{COUNT: {command: [wc, -c], result: stdout}}]}")
    assert daemon.results("A", {"large": "x" * 900_000})["COUNT"] > 900_000


# --- templates ---------------------------------------------------------------------------------


def test_templates(start):
    daemon = start(r"""
        tasks:
          JSON: {script: 'echo "{\"text\": \"a b\", \"list\": [1, {\"n\": 1.0}]}" > $DIRECTOR_RESULT'}
          SHOW: {command: [printf, '%s|', "{{ payload.text }}", "{{payload.number}}", "{{ payload.deep.0.x }}",
                           "{{ payload.object }}", "{{ payload.none }}", "{{ results.JSON.text }}",
                           "<{{ results.JSON.list.1 }}{{ results.JSON.list.0 }}>", "{{ other }}", "{{",
                           "{{ payload }}"],
                 result: stdout}
          SCRIPT: {script: 'printf "%s" "{{ payload.text }}"', result: stdout}
        test.A: {tasks: [JSON, SHOW, SCRIPT]}
        """)
    payload = ('{"text":"$(id); \\u00fc \\"q\\"","number":9007199254740993,"deep":[{"x":true}],'
               '"object":{"b": 1,"a":[]},"none":null}')
    reply = daemon.post("/api/workflows", f'{{"project":"test","name":"A","payload":{payload}}}')
    found = daemon.wait(reply.json()["id"])
    assert found["tasks"][1]["result"] == (
        '$(id); ü "q"|9007199254740993|true|{"b": 1,"a":[]}|null|a b|<{"n": 1.0}1>|{{ other }}|{{|{{ payload }}|')
    assert found["tasks"][2]["result"] == "{{ payload.text }}"


@pytest.mark.parametrize("where", ["command: [echo, '{{ payload.no.such }}']",
                                   "script: 'true', env: {X: '{{ payload.no.such }}'}",
                                   "script: 'true', cwd: '{{ payload.no.such }}'",
                                   "command: [echo, '{{ results.NOPE }}']"])
def test_missing_value_fails_the_task_and_names_it(start, where):
    daemon = start(f"test.A: {{tasks: [{{X: {{{where}}}}}]}}")
    task = daemon.run("A", status="error")["tasks"][0]
    assert task["reason"] == "spawn_failed"
    assert ("payload.no.such" if "payload" in where else "results.NOPE") in task["result"]["exception"]


def failure_lines(daemon):
    return [line for line in daemon.log().splitlines() if "task did not succeed" in line]


def test_log_says_why_a_task_failed(start):
    daemon = start("""
        test.A: {tasks: [{X: {command: [/nonexistent/program]}}]}
        test.B: {tasks: [{Y: {script: exit 3}}]}
        test.C: {tasks: [{Z: {command: [echo, "{{ payload.no }}"]}}]}""")
    for name in "ABC":
        workflow = daemon.run(name, status="error")["id"]
        line = failure_lines(daemon)[-1]
        assert f"workflow={workflow} project=test name={name} " in line and " attempt=1 " in line
    unknown, exited, missing = failure_lines(daemon)
    assert " key=X " in unknown and " reason=spawn_failed error=" in unknown and "/nonexistent/program" in unknown
    assert "exit_status" not in unknown and "signal" not in unknown
    assert " key=Y " in exited and ' exit_status=3 error="exit status 3"' in exited and "signal" not in exited
    assert " key=Z " in missing and "payload.no" in missing


# --- results -----------------------------------------------------------------------------------

BIG = 1024 * 1024

# Action, status, result or what the exception says, and the task's reason.
RESULTS = {
    "nothing": ("script: ':'", "success", None),
    "JSON": ("script: 'echo \" [1, {\\\"z\\\": 1.0}] \" > $DIRECTOR_RESULT'", "success", [1, {"z": 1.0}]),
    "descriptor 3": ("script: 'echo 1 >&3'", "success", 1),
    "in pieces": ("script: 'printf [1, >&3; sleep 0.1; printf 2] >&3'", "success", [1, 2]),
    "stdout is not the result": ("script: echo 1", "success", None),
    "stdout JSON": ("result: stdout, command: [echo, '{\"a\": 1}']", "success", {"a": 1}),
    "stdout text": ("result: stdout, command: [printf, 'two\\nlines\\n']", "success", "two\nlines"),
    "stdout not UTF-8": ("result: stdout, script: printf '\"a\\377b'", "success", '"a\ufffdb'),
    "stdout nothing": ("result: stdout, script: ':'", "success", None),
    "none": ("result: none, script: 'echo 1; echo 2 > $DIRECTOR_RESULT || true'", "success", None),
    "no JSON": ("script: echo nonsense >&3", "error", "no JSON", "bad_result"),
    "two values": ("script: echo 1 2 >&3", "error", "no JSON", "bad_result"),
    "duplicate keys": ("script: 'echo {\\\"a\\\":1,\\\"a\\\":2} >&3'", "error", "no JSON", "bad_result"),
    "as large as may be": (f"script: 'printf \"\\\"%0{BIG - 2}d\\\"\" 0 >&3'", "success", "0" * (BIG - 2)),
    "too large": (f"script: 'printf \"\\\"%0{BIG - 1}d\\\"\" 0 >&3'", "error", f"larger than {BIG} bytes", "bad_result"),
    "endless": ("script: 'head -c 20000000 /dev/zero >&3'", "error", f"larger than {BIG} bytes", "bad_result"),
    "stdout too large": ("result: stdout, script: head -c 2000000 /dev/zero", "error", "larger", "bad_result"),
    "ignored after a failure": ("script: 'echo 1 >&3; exit 4'", "error", "exit status 4", None),
    "exit status": ("script: exit 255", "error", "exit status 255", None),
    "signal": ("script: kill -KILL $$", "error", "killed by signal 9 (SIGKILL)", None),
    "sh -e": ("script: 'false; echo 1 >&3'", "error", "exit status 1", None),
    "pipefail": ("shell: [bash, -euo, pipefail], script: 'false | true'", "error", "exit status 1", None),
    "bash": ("shell: [bash, -euo, pipefail], script: 'a=(1 2); echo ${a[1]} >&3'", "success", 2),
    "no such program": ("command: [/nonexistent/program]", "error", "/nonexistent/program", "spawn_failed"),
    "not in PATH": ("command: [no-such-program-anywhere]", "error", "no-such-program-anywhere", "spawn_failed"),
    "not executable": ("command: [/etc/passwd]", "error", "/etc/passwd", "spawn_failed"),
    "no such directory": ("command: ['true'], cwd: /nonexistent", "error", "/nonexistent", "spawn_failed"),
}


@pytest.fixture(scope="module")
def results(postgres):
    """All of them at once, on one daemon: the end of each."""
    import conftest
    import harness

    names = {name: f"R{number}" for number, name in enumerate(RESULTS)}
    definitions = "".join(f"test.{names[name]}: {{tasks: [{{X: {{{action}}}}}]}}\n"
                          for name, (action, *_) in RESULTS.items())
    daemon = harness.Daemon(definitions, database=postgres.create_database()).start()
    assert daemon.get("/api/health").json()["definitions"]["errors"] == []
    launched = {name: daemon.launch(names[name]) for name in RESULTS}
    ends = {name: daemon.wait(workflow, RESULTS[name][1]) for name, workflow in launched.items()}
    yield ends
    conftest.finish_all([daemon])


@pytest.mark.parametrize("name", RESULTS)
def test_result(results, name):
    _, status, expected, *reason = RESULTS[name]
    (task,) = results[name]["tasks"]
    assert task["status"] == status
    if status == "success":
        assert task["result"] == expected
    else:
        assert expected in task["result"]["exception"] and set(task["result"]) == {"exception", "traceback"}
        assert task.get("reason") == reason[0] == results[name].get("reason")


def test_traceback_is_the_end_of_stderr(daemon):
    found = daemon.run("FAIL", status="error")
    assert found["tasks"][0]["result"] == {"exception": "exit status 2", "traceback": "first\nwhy\n"}


def test_result_passes_byte_for_byte(start):
    daemon = start(r"""test.A: {tasks: [{X: {script: 'printf "%s" "$R" >&3', env: {R: "{{ payload.r }}"}}}]}""")
    result = '{"n":9007199254740993, "f":1.0,"z":1,\n"a":"\\u00e9\\/"}'
    workflow = daemon.run("A", {"r": result})["id"]
    assert result_text(daemon, workflow, "X") == result


def test_much_output_is_read_and_bounded(start):
    script = "head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2; exit 1"
    daemon = start(f"test.A: {{tasks: [{{X: {{script: '{script}'}}}}]}}")
    before = daemon.resident_bytes()
    task = daemon.run("A", status="error")["tasks"][0]
    assert task["result"]["exception"] == "exit status 1"
    if not has_sanitizer():
        assert daemon.resident_bytes() - before < 16 * BIG


# --- failures and hooks ------------------------------------------------------------------------


def test_failure_cancels_what_is_downstream(daemon):
    found = daemon.run("FAIL", status="error")
    assert [(task["status"], task.get("reason")) for task in found["tasks"]] == [
        ("error", None), *[("canceled", "upstream_failed")] * 3]


def test_siblings_of_a_failure_run_on(daemon, tmp_path):
    workflow = daemon.launch("SIBLINGS", {"gate": str(tmp_path / "gate"), "file": str(tmp_path / "notes")})
    for key in ("ONE", "TWO", "THREE"):
        daemon.wait_task(workflow, key, "canceled")
    assert daemon.workflow(workflow)["status"] == "progress"
    (tmp_path / "gate").touch()
    daemon.wait(workflow, "error")
    assert (tmp_path / "notes").read_text() == "SIBLING\n"
    assert daemon.task(workflow, "SIBLING")["status"] == "success"


def hook_of(daemon, workflow):
    """The row of the hook, when it has ended."""
    def look():
        hooks = [task for task in daemon.workflow(workflow)["tasks"] if task["is_hook"]]
        return len(hooks) == 1 and "finished" in hooks[0] and hooks
    return eventually(look, "one hook, finished")[0]


def test_success_hook(daemon):
    workflow = daemon.run("GOOD_HOOKS")["id"]
    hook = hook_of(daemon, workflow)
    assert (hook["status"], hook["previous"]) == ("success", [])
    assert daemon.workflow(workflow)["tasks"][-1] == hook
    document = hook["result"]
    assert document["args"] == [[2, 3]]
    assert document["outcome"] == {"status": "success", "reason": None, "task": None, "result": None}
    assert document["results"] == {"ONE": 1, "TWO": 2, "THREE": 3}


def test_failure_hook(daemon):
    workflow = daemon.run("BAD_HOOKS", status="error")["id"]
    document = hook_of(daemon, workflow)["result"]
    failure = {"exception": "exit status 2", "traceback": "first\nwhy\n"}
    assert document["outcome"] == {"status": "error", "reason": None, "task": "X", "result": failure}
    assert document["args"] == [failure]


def test_ordinary_tasks_have_no_outcome(daemon):
    assert "outcome" not in daemon.results("ECHO")["ECHO"]


def test_a_hook_that_fails_changes_nothing(daemon):
    found = daemon.run("HOOK_FAILS")
    assert hook_of(daemon, found["id"])["status"] == "error"
    after = daemon.workflow(found["id"])
    assert (after["status"], after["finished"]) == ("success", found["finished"])


def test_no_hook_when_canceled(daemon, tmp_path):
    workflow = daemon.launch("CANCELED", {"gate": str(tmp_path / "gate"), "file": str(tmp_path / "notes")})
    daemon.wait_task(workflow, "GATE", "progress")
    assert daemon.cancel(workflow).status == 201
    assert [task["is_hook"] for task in daemon.workflow(workflow)["tasks"]] == [False]
    assert not (tmp_path / "notes").exists()


# --- slots, fairness, queues -------------------------------------------------------------------


def test_concurrency_is_kept_and_used(start, tmp_path):
    daemon = start("""
        tasks: {COUNTED: {env: {FILE: "{{ payload.file }}"}, script: 'echo + >> $FILE; sleep 0.1; echo - >> $FILE'}}
        test.A: {tasks: [{G: {type: group, tasks: [COUNTED, COUNTED, COUNTED]}}]}
        """, concurrency=3)
    log = tmp_path / "log"
    for workflow in [daemon.launch("A", {"file": str(log)}) for _ in range(5)]:
        daemon.wait(workflow)
    running = most = 0
    for line in log.read_text().split():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert running == 0 and most == 3


def test_the_oldest_ready_task_goes_first(start, tmp_path):
    daemon = start("""
        tasks:
          GATE: {env: {FILE: "{{ payload.gate }}"}, script: 'until [ -e "$FILE" ]; do sleep 0.02; done'}
          NOTE: {env: {FILE: "{{ payload.file }}", N: "{{ payload.n }}"}, script: echo $DIRECTOR_TASK_KEY$N >> "$FILE"}
        test.GATE: {tasks: [GATE]}
        test.A: {tasks: [{A: {task: NOTE}}, {B: {task: NOTE}}]}
        """, concurrency=1)
    gate = daemon.launch("GATE", {"gate": str(tmp_path / "gate")})
    daemon.wait_task(gate, "GATE", "progress")
    launched = [daemon.launch("A", {"file": str(tmp_path / "notes"), "n": n}) for n in range(4)]
    (tmp_path / "gate").touch()
    for workflow in launched:
        daemon.wait(workflow)
    assert (tmp_path / "notes").read_text().split() == ["A0", "A1", "A2", "A3", "B0", "B1", "B2", "B3"]


def test_queues(make):
    definitions = """
        tasks: {A: {noop: true}, B: {noop: true, queue: special}}
        test.DEFAULT: {tasks: [A]}
        test.OTHER: {tasks: [A, B], queue: other}
        test.CUSTOM: {tasks: [A, {C: {task: A}}], queue: {default: other, customs: {C: special}}}
        """
    daemon = make(definitions, queues="other,special").start()
    daemon.run("OTHER"), daemon.run("CUSTOM")
    waiting = daemon.launch("DEFAULT")
    found = daemon.run("CUSTOM")
    assert [task["queue"] for task in found["tasks"]] == ["other", "special"]
    assert daemon.workflow(waiting)["status"] == "pending"
    make(definitions, queues="default").start()
    daemon.wait(waiting)


# --- what is left ------------------------------------------------------------------------------


def test_nothing_is_left_of_a_task_that_ended(start, tmp_path):
    """A background process in its group, one in a session of its own, one that holds the pipes and ignores SIGTERM."""
    daemon = start(r"""
        tasks:
          LEAVES:
            env: {FILE: "{{ payload.file }}"}
            script: |
              sleep 60 & echo $! >> "$FILE"
              setsid sleep 60 > /dev/null 2>&1 3>&- & echo $! >> "$FILE"
              (trap '' TERM; while :; do sleep 1; done) & echo $! >> "$FILE"
        test.A: {tasks: [LEAVES]}
        """)
    daemon.run("A", {"file": str(tmp_path / "pids")})
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 3 and not any(alive(int(pid)) for pid in pids)
    assert processes(f"DIRECTOR_NODE={daemon.node}") == []


def test_the_daemon_keeps_no_zombies_and_descriptors(daemon):

    def children():
        stats = [json.dumps(path.read_text().rpartition(")")[2].split()[:2])
                 for path in pathlib.Path("/proc").glob("[0-9]*/stat") if readable(path)]
        return [stat for stat in stats if f'"{daemon.process.pid}"' in stat]

    def readable(path):
        try:
            return bool(path.read_text())
        except OSError:
            return False

    daemon.run("GROUP")
    eventually(lambda: not children(), "no children")
    before = daemon.descriptors()
    for workflow in [daemon.launch("GROUP") for _ in range(20)]:
        daemon.wait(workflow)
    eventually(lambda: not children(), "no children")
    eventually(lambda: daemon.descriptors() <= before + 2, "no more descriptors than before")
