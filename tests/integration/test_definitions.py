"""workflows.d: what is wrong is said at once and all of it, and unloads nothing that was good."""

import os
import resource
import shutil
import signal
import subprocess
import textwrap
import threading
import time

import pytest

import harness
from harness import eventually, never, starved

GOOD = """
tasks: {N: {noop: true}}
test.A: {tasks: [N]}
"""
BROKEN = """\
test.Z:
  tasks: [NOPE, N]
  colour: red
test.B: {tasks: [{X: {noop: true, depends_on: [Y]}}, {Y: {noop: true, depends_on: [X]}}]}
test.C: {tasks: [{G: {type: group, tasks: []}}]}
test.D: {tasks: [N], periodic: {crontab: "0 0 30 2 *"}}
test.E: {tasks: [N], when: never}
test.F: {tasks: N}
"""


def check(directory):
    """Runs `directord --check`: status, definitions, errors."""
    done = subprocess.run([harness.DIRECTORD, "--check", directory], capture_output=True, text=True,
                          timeout=harness.DEADLINE, env={"PATH": "/usr/bin:/bin", "HOME": "/"})
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def keys(daemon, name="A"):
    return [task["key"] for task in daemon.run(name)["tasks"]]


def names(daemon):
    return [definition["fullname"] for definition in daemon.get("/api/definitions").json()]


# --- errors ------------------------------------------------------------------------------------


def test_all_errors_are_reported_at_once(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    daemon.define(BROKEN, "broken.yml")
    daemon.define("test.G: [", "worse.yml")
    reply = daemon.post("/api/reload")
    assert reply.status == 200
    problems = reply.json()["errors"]
    assert list(problems[0]) == ["column", "error", "file", "line"]
    at = {(problem["file"], problem["line"]): problem["error"] for problem in problems}
    for line, found in enumerate(["NOPE", "colour", "X → Y → X", "empty", "never fires",
                                  "'when' is not supported yet", "expected a list"], 2):
        assert found in at["workflows.d/broken.yml", line]
    assert any(file == "workflows.d/worse.yml" for file, _ in at)
    assert daemon.get("/api/health").json()["definitions"]["errors"] == problems
    for file, line in at:
        assert f"{file}:{line}:" in daemon.log()


def test_near_names_are_shown(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    daemon.define("tasks: {EXTRACT: {noop: true}}\ntest.X: {tasks: [EXTRCT]}", "x.yml")
    assert "did you mean 'EXTRACT'" in daemon.reload()["errors"][0]["error"]


def test_same_name_in_two_files(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    daemon.define("test.A: {tasks: []}", "zzz.yml")
    (problem,) = daemon.reload()["errors"]
    assert problem["file"] == "workflows.d/zzz.yml" and "workflows.d/test.yml" in problem["error"]
    assert keys(daemon) == ["N"]


def test_health_is_good_again_after_a_mended_file(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    daemon.define("test.B: {tasks: [NOPE]}", "b.yml")
    assert len(daemon.reload()["errors"]) == 1
    daemon.define("test.B: {tasks: [N]}", "b.yml")
    assert daemon.reload() == {"errors": [], "loaded": 2}
    assert daemon.get("/api/health").json()["definitions"] == {"differing_nodes": 0, "errors": [], "loaded": 2}


def test_name_that_is_not_utf8(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    with open(os.fsencode(daemon.workflows) + b"/\xfcber.yml", "w") as file:
        file.write("test.B: {tasks: []}")
    assert daemon.reload() == {"loaded": 1, "errors": [
        {"column": 0, "error": "its name is not UTF-8", "file": "workflows.d/?ber.yml", "line": 0}]}


def test_keys_of_later_versions_are_refused(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    for line in ("test.X: {tasks: [N], foreach: [1]}", "test.X: {tasks: [{N: {pool: p}}]}",
                 "test.X: {tasks: [{N: {type: approval}}]}"):
        daemon.define(line, "x.yml")
        (problem,) = daemon.reload()["errors"]
        assert "not supported yet" in problem["error"]


# --- what was good stays -----------------------------------------------------------------------


def test_broken_file_keeps_its_last_good_version(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    daemon.define("tasks: {N: {noop: true}}\ntest.A: {tasks: [N, NOPE]}")
    daemon.define("test.OTHER: {tasks: [{M: {noop: true}}]}", "other.yml")
    assert daemon.reload()["loaded"] == 2
    assert keys(daemon) == ["N"] and keys(daemon, "OTHER") == ["M"]


def test_broken_library_unloads_nothing(start):
    """Also not what leans on it in other files."""
    daemon = start(GOOD)
    daemon.define("test.OTHER: {tasks: [N]}", "other.yml")
    assert daemon.reload() == {"errors": [], "loaded": 2}
    daemon.expect_errors("definition refused")
    daemon.define("tasks: {N: {noop: true}, M: {}}")
    assert daemon.reload()["loaded"] == 2
    assert keys(daemon, "OTHER") == ["N"]
    daemon.stop()
    daemon.start()
    assert names(daemon) == ["test.A", "test.OTHER"]


def test_also_across_a_restart(start):
    daemon = start(GOOD)
    daemon.expect_errors("definition refused")
    daemon.define("test.NEVER: {tasks: [NOPE]}", "never.yml")
    daemon.define("tasks: {N: {noop: true}}\ntest.A: {tasks: [N, NOPE]}")
    daemon.stop()
    daemon.start()
    assert names(daemon) == ["test.A"]  # what never loaded is left out
    assert keys(daemon) == ["N"]
    assert {problem["file"] for problem in daemon.get("/api/health").json()["definitions"]["errors"]} == {
        "workflows.d/test.yml", "workflows.d/never.yml"}


@pytest.mark.skipif(harness.has_sanitizer(), reason="a sanitizer keeps what is freed")
def test_good_versions_of_an_earlier_life_are_not_kept_in_memory(make):
    daemon = make()
    for n in range(16):
        daemon.define(f"test.A{n}: {{tasks: []}}\n" + ("#" * 63 + "\n") * 8192, f"{n}.yml")
    daemon.start()
    first = daemon.resident_bytes()
    daemon.stop()
    daemon.start()
    assert daemon.resident_bytes() - first < 4 << 20  # of 8 MiB


def test_also_when_the_directory_is_written_otherwise(make):
    daemon = make(GOOD)
    for suffix in ("/", "/.", "", "//"):
        daemon.settings["workflows_dir"] = f"{daemon.workflows}{suffix}"
        daemon.start()
        assert names(daemon) == ["test.A"], suffix
        daemon.expect_errors("definition refused")
        daemon.define("test.A: {tasks: [NOPE]}")
        daemon.stop()


def test_good_version_of_a_removed_file_is_forgotten(start):
    daemon = start(GOOD)
    (daemon.workflows / "test.yml").unlink()
    daemon.stop()
    daemon.start()
    assert names(daemon) == []


def test_every_cut_of_a_file(start):
    """A file that somebody is still writing never replaces the good one by less."""
    text = "tasks: {N: {noop: true}}\ntest.A:\n  tasks:\n    - N\n    - {B: {task: N}}\n"
    daemon = start(text)
    daemon.expect_errors("definition refused")
    for size in range(1, len(text), 3):
        daemon.define(text[:size])
        if daemon.reload()["errors"]:  # else what is left is a smaller file that is right
            assert keys(daemon) == ["N", "B"], text[:size]
        daemon.define(text)
        assert daemon.reload() == {"errors": [], "loaded": 1}


def waiting(daemon):
    return daemon.get("/api/health").json()["definitions"].get("waiting")


def test_file_being_written_is_no_fault(start):
    """Neither is one that needs what is being written; both load when it is complete."""
    daemon = start(GOOD)
    with open(daemon.workflows / "library.yml", "w") as file:
        file.write("tasks: {M: {noop: true}}\n")
        file.flush()
        daemon.define("test.B: {tasks: [M]}", "user.yml")
        daemon.define("test.X: {tasks: []}", "other.yml")
        eventually(lambda: names(daemon) == ["test.A", "test.X"], "the other one is loaded")
        assert daemon.get("/api/health").json()["definitions"]["errors"] == []
        assert waiting(daemon) == ["workflows.d/library.yml"]
        file.write("test.C: {tasks: [M]}\n")
    assert '" file=workflows.d/library.yml' in daemon.log()
    eventually(lambda: names(daemon) == ["test.A", "test.B", "test.C", "test.X"], "all are loaded")
    assert waiting(daemon) is None


def test_reload_reads_what_is_not_closed(start):
    """If it was left alone for a while: not all who write close."""
    daemon = start(GOOD)
    with open(daemon.workflows / "b.yml", "w") as file:
        file.write("test.B: {tasks: []}\n")
        file.flush()
        assert daemon.reload() == {"errors": [], "loaded": 1, "waiting": ["workflows.d/b.yml"]}
        eventually(lambda: daemon.reload() == {"errors": [], "loaded": 2}, "somebody insists for long enough")
    daemon.define(GOOD + "test.C: {tasks: [N]}\n")
    eventually(lambda: names(daemon) == ["test.A", "test.B", "test.C"], "all are loaded")
    os.truncate(daemon.workflows / "test.yml", len(GOOD))
    eventually(lambda: daemon.reload() == {"errors": [], "loaded": 2}, "what was cut short is read")
    daemon.define("test.D: {tasks: []}", "d.yml")
    eventually(lambda: names(daemon) == ["test.A", "test.B", "test.D"], "the next load")
    assert waiting(daemon) is None


def test_reload_names_what_is_being_written(start):
    daemon = start(GOOD)
    done = threading.Event()

    def write():
        with open(daemon.workflows / "b.yml", "w", buffering=1) as file:
            file.write("test.B: {tasks: []}\n")
            while not done.wait(0.01):
                file.write("# more is to come\n")
            file.write("test.C: {tasks: []}\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: daemon.reload().get("waiting") == ["workflows.d/b.yml"], "it is named")
    finally:
        done.set()
        writer.join()
    eventually(lambda: names(daemon) == ["test.A", "test.B", "test.C"], "complete, it is loaded")


def test_file_being_written_at_the_start(start):
    """Half of it would be good by itself, but what was there before is better; so is nothing."""
    daemon = start(GOOD)
    daemon.stop()
    with open(daemon.workflows / "test.yml", "w") as old, open(daemon.workflows / "new.yml", "w") as new:
        old.write("tasks: {N: {noop: true}, M: {noop: true}}\n")
        old.flush()
        new.write("test.B: {tasks: []}\n")
        new.flush()
        daemon.start()
        assert names(daemon) == ["test.A"] and keys(daemon) == ["N"]
        assert daemon.get("/api/health").json()["definitions"]["errors"] == []
        old.write("test.A: {tasks: [M]}\n")
        new.write("test.C: {tasks: []}\n")
    eventually(lambda: names(daemon) == ["test.A", "test.B", "test.C"], "complete, they are loaded")
    assert keys(daemon) == ["M"]


def test_link_to_a_file_being_written_at_the_start(make):
    """Nobody sees in the directory when it is complete."""
    daemon = make()
    (daemon.workflows / "test.yml").symlink_to(daemon.directory / "elsewhere")
    with open(daemon.directory / "elsewhere", "w") as file:
        file.write("test.A: {tasks: []}\n")
        file.flush()
        daemon.start()
        assert names(daemon) == []
        file.write("test.B: {tasks: []}\n")
    eventually(lambda: names(daemon) == ["test.A", "test.B"], "complete, it is loaded")


@pytest.mark.skipif(os.geteuid() != 0, reason="files of others are made by root")
def test_young_file_of_somebody_else_at_the_start(make):
    """That it is not open for writing cannot be told: it is read when nothing has happened for half a second."""
    daemon = make(GOOD)
    daemon.command = ["setpriv", "--bounding-set", "-lease", *daemon.command]
    os.chown(daemon.workflows / "test.yml", 65534, 65534)
    daemon.start()
    assert names(daemon) == ["test.A"]
    daemon.stop()
    written = threading.Event()

    def write():
        (daemon.workflows / "test.yml").write_text("tasks: {M: {noop: true}}\ntest.A: {tasks: [M]}\n")
        while not written.wait(0.1):
            with open(daemon.workflows / "test.yml", "a") as file:
                file.write("# more is to come\n")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        daemon.start()
        assert keys(daemon) == ["N"]
    finally:
        written.set()
        writer.join()
    eventually(lambda: keys(daemon) == ["M"], "complete, it is loaded")


def test_directory_that_vanishes(start):
    daemon = start(GOOD)
    daemon.expect_errors("definitions not loaded")
    away = daemon.workflows.rename(daemon.workflows.with_name("away"))
    reply = daemon.post("/api/reload")
    assert reply.status == 500 and "No such file" in reply.json()["error"]
    assert daemon.get("/api/health").json()["definitions"] == {
        "differing_nodes": 0, "loaded": 1,
        "errors": [{"column": 0, "error": reply.json()["error"], "file": str(daemon.workflows), "line": 0}]}
    assert keys(daemon) == ["N"]
    away.rename(daemon.workflows)
    eventually(lambda: not daemon.get("/api/health").json()["definitions"]["errors"], "it is read again")


# --- reload ------------------------------------------------------------------------------------


def test_directory_that_cannot_be_opened(start):
    """No descriptor is left; it is tried again, and told once."""
    daemon = start(GOOD)
    daemon.expect_errors("definitions not loaded", "Too many open files", "descriptor")
    with starved(daemon):
        daemon.define("test.B: {tasks: []}", "other.yml")
        daemon.await_log("definitions not loaded.*Too many open files")
        never(lambda: daemon.log().count("definitions not loaded") > 1, "it is told again", 3)
    eventually(lambda: daemon.get("/api/definitions/test.B").status == 200, "it is loaded")


def test_reload_by_post(start):
    daemon = start(GOOD)
    daemon.define("tasks: {N: {noop: true}}\ntest.B: {tasks: [N]}")
    reply = daemon.post("/api/reload")
    assert (reply.status, reply.text) == (200, '{"errors":[],"loaded":1}\n')
    assert names(daemon) == ["test.B"]
    assert daemon.post("/api/workflows", {"project": "test", "name": "A", "payload": {}}).status == 404


def test_reload_by_sighup(start):
    daemon = start(GOOD)
    daemon.define("tasks: {N: {noop: true}}\ntest.B: {tasks: [N]}")
    daemon.send_signal(signal.SIGHUP)
    eventually(lambda: names(daemon) == ["test.B"], "reloaded")


def test_links_are_seen(start):
    daemon = start(GOOD)
    (daemon.directory / "b").write_text("test.B: {tasks: [N]}")
    (daemon.workflows / "b.yml").symlink_to(daemon.directory / "b")
    eventually(lambda: names(daemon) == ["test.A", "test.B"], "the link is read")
    (daemon.directory / "c").write_text("test.C: {tasks: [N]}")
    os.link(daemon.directory / "c", daemon.workflows / "c.yml")
    eventually(lambda: names(daemon) == ["test.A", "test.B", "test.C"], "the other name is read")


def mount(directory, **files):
    """Another version of a volume, in the order of Kubernetes: files are links into a directory that is swapped."""
    data = directory / "..data"
    former = data.exists() and data.resolve()
    version = directory / f"..version_{time.monotonic_ns()}"
    version.mkdir()
    write(version, **files)
    (directory / "..data_tmp").symlink_to(version.name)
    (directory / "..data_tmp").rename(data)
    for name in (f"{file}.yml" for file in files):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for file in directory.glob("*.yml"):
        if file.stem not in files:
            file.unlink()
    if former:
        shutil.rmtree(former)


def test_mounted_volume(make):
    daemon = make()
    mount(daemon.workflows, a="test.A: {tasks: []}")
    daemon.start()
    assert names(daemon) == ["test.A"]
    mount(daemon.workflows, a="test.A2: {tasks: []}")
    eventually(lambda: names(daemon) == ["test.A2"], "a changed file is read")
    mount(daemon.workflows, a="test.A2: {tasks: []}", b="test.B: {tasks: []}")
    eventually(lambda: names(daemon) == ["test.A2", "test.B"], "a new file is read")
    mount(daemon.workflows, b="test.B: {tasks: []}", c="test.C: {tasks: []}")
    eventually(lambda: names(daemon) == ["test.B", "test.C"], "one was removed, one is new")


def test_storm_of_reloads(start):
    daemon = start(GOOD)
    for _ in range(50):
        daemon.send_signal(signal.SIGHUP)
        assert daemon.post("/api/reload").status == 200
    assert keys(daemon) == ["N"]


def test_running_workflow_keeps_its_version(start, tmp_path):
    daemon = start("""
        tasks:
          GATE: {script: 'until [ -e "$FILE" ]; do sleep 0.02; done', env: {FILE: "{{ payload.gate }}"}}
          SAY: {command: [echo, '"old"'], result: stdout}
        test.A: {tasks: [GATE, SAY], hooks: {success: SAY}}
        """)
    running = daemon.launch("A", {"gate": str(tmp_path / "gate")})
    daemon.wait_task(running, "GATE", "progress")
    daemon.define("""
        tasks: {SAY: {command: [echo, '"new"'], result: stdout}}
        test.A: {tasks: [SAY, {MORE: {task: SAY}}]}
        """)
    assert daemon.reload()["errors"] == []
    assert daemon.results("A", {"gate": str(tmp_path / "gate")}) == {"SAY": "new", "MORE": "new"}
    (tmp_path / "gate").touch()
    daemon.wait(running)
    daemon.wait_task(running, "GATE", "success")
    eventually(lambda: len(daemon.workflow(running)["tasks"]) == 3 and
               daemon.workflow(running)["tasks"][2]["status"] == "success", "the old hook has run")
    assert [task["result"] for task in daemon.workflow(running)["tasks"]] == [None, "old", "old"]


def test_instances_of_a_removed_definition_finish_and_stay(start, tmp_path):
    daemon = start("""
        tasks:
          GATE: {script: 'until [ -e "$FILE" ]; do sleep 0.02; done', env: {FILE: "{{ payload.gate }}"}}
          N: {noop: true}
        test.A: {tasks: [GATE, N]}
        """)
    running = daemon.launch("A", {"gate": str(tmp_path / "gate")})
    (daemon.workflows / "test.yml").unlink()
    assert daemon.reload() == {"errors": [], "loaded": 0}
    (tmp_path / "gate").touch()
    daemon.wait(running)
    assert [workflow["id"] for workflow in daemon.get("/api/workflows").json()] == [running]


def test_library_of_one_file_serves_all(start):
    daemon = start("tasks: {SAY: {command: [echo, '1'], result: stdout}}")
    daemon.define("test.A: {tasks: [SAY]}", "a.yaml")
    daemon.define("not: read", ".hidden.yml")
    daemon.define("not: read", "a.yml.bak")
    assert daemon.reload() == {"errors": [], "loaded": 1}
    assert daemon.results("A") == {"SAY": 1}
    daemon.define("tasks: {SAY: {command: [echo, '2'], result: stdout}}")
    daemon.reload()
    assert daemon.results("A") == {"SAY": 2}


def test_aliases_and_merge_keys(start):
    daemon = start("""
        tasks:
          BASE: &base {command: [printenv, X], result: stdout, env: {X: one}}
          OTHER: {<<: *base, env: {X: two}}
        test.A: &a {tasks: [BASE, OTHER]}
        test.B: *a
        """)
    assert daemon.results("A") == {"BASE": "one", "OTHER": "two"}
    assert daemon.results("B") == {"BASE": "one", "OTHER": "two"}


def test_directors_own_file(start):
    """Director's examples, unchanged, beside a file that says what their names run."""
    daemon = start("""
        example.ETL:
          tasks:
            - EXTRACT
            - TRANSFORM
            - LOAD

        example.RANDOMS:
          tasks:
            - GROUP_RANDOMS:
                type: group
                tasks:
                  - RANDOM
                  - RANDOM
            - ADD
        """)
    daemon.define("""
        tasks:
          EXTRACT: {noop: true}
          TRANSFORM: {noop: true}
          LOAD: {noop: true}
          RANDOM: {command: [echo, 4], result: stdout}
          ADD:
            command: [/usr/bin/python3, -c, "import json, sys; print(sum(json.load(sys.stdin)['args'][0]))"]
            result: stdout
        """, "library.yml")
    daemon.expect_errors("unknown task")  # until the library is there
    assert daemon.reload() == {"errors": [], "loaded": 2}
    reply = daemon.post("/api/workflows", {"project": "example", "name": "RANDOMS", "payload": {}})
    assert daemon.wait(reply.json()["id"])["tasks"][2]["result"] == 8


# --- directord --check -------------------------------------------------------------------------


def write(directory, **files):
    for name, text in files.items():
        (directory / f"{name}.yml").write_text(textwrap.dedent(text))
    return directory


def test_check_of_good_files(tmp_path):
    directory = write(tmp_path, a=GOOD, b="test.B: {tasks: [N, N], periodic: {interval: 90s}}")
    status, lines, errors = check(directory)
    assert status == 0 and errors == []
    assert [line.split()[0] for line in lines] == ["test.A", "test.B"]


def test_check_of_broken_files(tmp_path):
    directory = write(tmp_path, a=GOOD, broken=BROKEN)
    status, lines, errors = check(directory)
    assert status == 1
    assert "test.A" in "\n".join(lines)
    assert len(errors) >= 7
    assert all(error.startswith(f"{tmp_path.name}/broken.yml:") for error in errors)


def test_check_of_no_directory(tmp_path):
    status, _, errors = check(tmp_path / "nothing")
    assert status == 1 and len(errors) == 1 and "nothing" in errors[0]


MANY = range(6000)
HOSTILE = {
    "names that are no items": "t.A: {tasks: [%s, {B: {noop: true, depends_on: [%s]}}]}" % (
        ", ".join(24000 * ["N"]), ", ".join(f"X{n}" for n in range(24000))),
    "queues of no items": "t.A: {tasks: [%s], queue: {customs: {%s}}}" % (
        ", ".join(24000 * ["N"]), ", ".join(f"X{n}: q" for n in range(12000))),
    "wrong time zones": "t.A:\n  tasks: []\n  periodic:\n" + "".join(
        f"  - {{crontab: 0 3 * * *, timezone: Europe/Pariss{n}}}\n" for n in MANY),
    "schedules that are the same": "t.A: {tasks: [], periodic: [%s]}" % ", ".join(16000 * ["{interval: 5}"]),
    "a group after a group": "t.A: {tasks: [%s]}" % ", ".join(
        2 * ["{G: {type: group, tasks: [%s]}}" % ", ".join(20000 * ["N"])]),
    "names that nobody knows": "t.A: {tasks: [%s]}" % ", ".join(f"X{n}" for n in range(45000)),
}


def check_costs_little(directory):
    """Errors are found in little time and memory; sanitizers take more of both."""
    seconds = 300 if harness.has_sanitizer() else 30
    checking = subprocess.Popen([harness.DIRECTORD, "--check", directory], stderr=subprocess.DEVNULL,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)))
    _, status, used = os.wait4(checking.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert used.ru_maxrss < 500 * 1024 or harness.has_sanitizer()


@pytest.mark.parametrize("name", HOSTILE)
def test_check_of_hostile_files(tmp_path, name):
    """Each is below the bounds of a file."""
    write(tmp_path, a="tasks: {N: {noop: true}}\n" + HOSTILE[name])
    check_costs_little(tmp_path)


def test_check_of_many_wrong_files(tmp_path):
    write(tmp_path, **{f"f{n}": "not: right" for n in range(10000)})
    check_costs_little(tmp_path)


def test_examples_are_good():
    assert check(harness.ROOT / "workflows.d")[0] == 0
