"""Identity and limits of tasks, and control groups where this machine has them."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

import harness
from harness import alive, eventually, make_directory, never, processes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change identities")

DEFINITIONS = """
    tasks:
      WHO: {script: "id -un > /dev/fd/1; echo $HOME; id -gn", user: daemon, group: nogroup, result: stdout}
      NOBODY: {command: ["true"], user: nobody2}
      NOWHERE: {command: [no-such-program], user: nobody}
      MEMORY: {command: ["true"], memory_max: 64MiB}
      CPU: {command: ["true"], cpu_quota: 50%}
      TASKS: {command: ["true"], tasks_max: 20}
    test.WHO: {tasks: [WHO]}
    test.NOBODY: {tasks: [NOBODY]}
    test.NOWHERE: {tasks: [NOWHERE]}
    test.MEMORY: {tasks: [MEMORY]}
    test.CPU: {tasks: [CPU]}
    test.TASKS: {tasks: [TASKS]}
"""


def failure(daemon, name):
    (task,) = daemon.run(name, status="error")["tasks"]
    assert task["reason"] == "spawn_failed"
    return task["result"]["exception"]


@needs_root
def test_identity(daemon):
    assert daemon.results("WHO") == {"WHO": "daemon\n/usr/sbin\nnogroup"}


@needs_root
@pytest.mark.parametrize("name, text", [
    ("NOBODY", "user 'nobody2' does not exist"),
    ("NOWHERE", "no executable program 'no-such-program' in the PATH "),
])
def test_no_identity(daemon, name, text):
    assert failure(daemon, name).startswith(text)


@pytest.mark.parametrize("name, key", [("MEMORY", "memory_max"), ("CPU", "cpu_quota"), ("TASKS", "tasks_max")])
def test_limits_are_never_ignored(daemon, name, key):
    assert failure(daemon, name).startswith(f"'{key}' cannot be kept: the daemon has no delegated control group")


# --- processes -----------------------------------------------------------------------------------

NO_ROOM = "no room for another process now"
# Limits of processes do not concern root; nor need that one be allowed to set those of others.
AS_USER = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


@pytest.fixture
def ordinary(make):
    """The daemon of an ordinary user."""
    daemon = make("""
        tasks:
          RUN: {script: 'cat >&3'}
          AWAY: {command: ["true"], cwd: /tmp}
          SLEEP: {command: [sleep, 600]}
          N: {noop: true}
        test.RUN: {tasks: [RUN]}
        test.AWAY: {tasks: [AWAY]}
        test.SLEEP: {tasks: [SLEEP]}
        test.N: {tasks: [N]}
    """, shutdown_grace="0s")
    programs = make_directory()  # not everybody may enter that of the build
    for name in ("directord", "directord-exec"):
        shutil.copy(pathlib.Path(harness.DIRECTORD).with_name(name), programs)
    if AS_USER:
        shutil.chown(daemon.directory, "nobody")
    daemon.command = [*AS_USER, programs / "directord"]
    yield daemon.start()
    shutil.rmtree(programs)


@contextlib.contextmanager
def no_processes(daemon):
    """It cannot make any."""
    prlimit = [*AS_USER, "prlimit", f"--pid={daemon.process.pid}"]
    usual = subprocess.run([*prlimit, "--nproc", "--output=SOFT", "--noheadings"], check=True,
                           capture_output=True, text=True).stdout.strip()
    subprocess.run([*prlimit, "--nproc=1:"], check=True)
    try:
        yield
    finally:
        subprocess.run([*prlimit, f"--nproc={usual}:"], check=True)


def test_attempts_wait_for_processes(ordinary, database):
    """It tries again, says so once, whatever else ends meanwhile, and no attempt is used up."""
    early = ordinary.launch("SLEEP")
    eventually(lambda: processes(f"DIRECTOR_WORKFLOW_ID={early}"), "its process")
    with no_processes(ordinary):
        workflows = [ordinary.launch("RUN", {"a": n}) for n in range(2)]
        ordinary.await_log(NO_ROOM)
        ordinary.run("N")
        ordinary.cancel(early)
        ordinary.wait(early, "canceled")
        never(lambda: ordinary.log().count(NO_ROOM) > 1, "said once")  # longer than until the next try
        assert database.sql("SELECT DISTINCT status::text, attempt, held FROM tasks"
                            " WHERE workflow_id = ANY(%s::uuid[])", workflows) == [("progress", 1, True)]
    for n, workflow in enumerate(workflows):
        (task,) = ordinary.wait(workflow)["tasks"]
        assert task["attempt"] == 1 and task["result"]["payload"] == {"a": n}
    assert ordinary.log().count(NO_ROOM) == 1
    assert database.value("SELECT count(*) FROM attempts") == 0
    with no_processes(ordinary):
        ordinary.launch("RUN")
        eventually(lambda: ordinary.log().count(NO_ROOM) == 2, "said again, since there was room")


# Says, when it is told, that there is no room.
FULL = """#!/bin/sh
until test -e {flag}; do sleep 0.01; done
printf '11 no room' >&4
"""


def test_attempt_that_finds_no_room_while_it_is_stopped(ordinary, database):
    """Its end and the stop are seen together, the end first: it does not wait for room then."""
    flag = ordinary.directory / "flag"
    ordinary.command[-1].with_name("directord-exec").write_text(FULL.format(flag=flag))
    workflow = ordinary.launch("AWAY")
    launcher = eventually(lambda: processes(f"DIRECTOR_WORKFLOW_ID={workflow}"), "the launcher")
    ordinary.send_signal(signal.SIGSTOP)
    flag.touch()
    eventually(lambda: not any(map(alive, launcher)), "its end")
    ordinary.send_signal(signal.SIGTERM)
    ordinary.send_signal(signal.SIGCONT)
    assert ordinary.wait_exit() == 0
    assert "in time" not in ordinary.log()
    assert database.sql("SELECT status::text, reason FROM workflows") == [("error", "node_stopped")]


# --- control groups ------------------------------------------------------------------------------


def topmost_group():
    """Where groups may be made: as root on a hierarchy that no systemd divides up."""
    if os.geteuid() != 0 or "0::/" not in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        return None
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return pathlib.Path(line.split()[4])
    return None


# As after systemd has cleared the group of a service: one that hands controllers down takes no processes.
ENTER = """#!/bin/sh
for below in {group}/tasks {group}; do
    for controller in $(cat $below/cgroup.subtree_control 2>/dev/null); do
        echo -$controller > $below/cgroup.subtree_control
    done
done
echo 0 > {group}/cgroup.procs
exec {directord} "$@"
"""


@pytest.fixture
def group(monkeypatch):
    """A delegated group, in which daemons start."""
    top = topmost_group()
    path = top and top / f"directord-test-{os.getpid()}"
    try:
        path and path.mkdir()
        path and os.setxattr(path, "user.delegate", b"1")
    except OSError:
        path = None
    if not path:
        pytest.skip("no control group can be made here")
    directory = make_directory()
    wrapper = directory / "directord"
    wrapper.write_text(ENTER.format(group=path, directord=harness.DIRECTORD))
    wrapper.chmod(0o755)
    monkeypatch.setattr(harness, "DIRECTORD", wrapper)
    yield path
    (path / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (path / "cgroup.events").read_text(), "an empty group")
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)
    shutil.rmtree(directory)


def groups_of_tasks(group):
    return sorted(path.name for path in (group / "tasks").iterdir() if path.is_dir())


def members(path):
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    return []


IN_GROUPS = """
    tasks:
      HIDE: {script: "(env -i setsid sleep 600 &) ; grep ^0:: /proc/self/cgroup", result: stdout}
      STAY: {script: "(env -i setsid sh -c 'trap \\"\\" TERM; sleep 600' &) ; sleep 600", grace: 0.2s}
    test.HIDE: {tasks: [HIDE]}
    test.STAY: {tasks: [STAY]}
"""


def test_nobody_escapes(group, start):
    daemon = start(IN_GROUPS)
    assert members(group) == []
    assert daemon.process.pid in members(group / "daemon")
    done = daemon.run("HIDE")
    (task,) = done["tasks"]
    assert task["result"] == f"0::/{group.name}/tasks/{task['id']}.1"

    workflow = daemon.launch("STAY")
    (name,) = eventually(lambda: groups_of_tasks(group), "a group of the task")
    pids = eventually(lambda: len(found := members(group / "tasks" / name)) == 4 and found, "all of its processes")
    assert daemon.cancel(workflow).status == 201
    daemon.wait(workflow, "canceled")
    eventually(lambda: not groups_of_tasks(group), "no group of a task")
    assert not any(map(alive, pids))


def test_attempts_wait_for_groups(group, start):
    """Said once, though each attempt has a group of its own."""
    daemon = start(IN_GROUPS)
    most = group / "tasks/cgroup.max.descendants"
    usual = most.read_text()
    most.write_text("0")
    workflows = [daemon.launch("HIDE") for _ in range(3)]
    daemon.await_log(NO_ROOM)
    never(lambda: daemon.log().count(NO_ROOM) > 1, "said once")  # longer than until the next try
    most.write_text(usual)
    for workflow in workflows:
        daemon.wait(workflow)
    assert daemon.log().count(NO_ROOM) == 1
    most.write_text("0")
    workflow = daemon.launch("HIDE")
    eventually(lambda: daemon.log().count(NO_ROOM) == 2, "said again, since there was room")
    most.write_text(usual)
    daemon.wait(workflow)


# What `group` has decides; a kernel has all three, but another hierarchy may hold them.
LIMITED = """
    tasks:
      MEMORY: {script: "head -c 200M /dev/zero | tail -c 200M > /dev/null; echo survived", memory_max: 32MiB}
      TASKS: {script: "for i in 1 2 3 4 5 6 7 8; do sleep 600 & done", tasks_max: 5}
      CPU:
        command:
          - /usr/bin/python3
          - -c
          - |
            import json, os, time
            end = time.monotonic() + 2
            while time.monotonic() < end:
                pass
            json.dump(time.process_time(), os.fdopen(3, "w"))
        cpu_quota: 20%
    test.MEMORY: {tasks: [MEMORY]}
    test.TASKS: {tasks: [TASKS]}
    test.CPU: {tasks: [CPU]}
"""


def is_available(group, controller):
    return controller in (group / "cgroup.controllers").read_text().split()


@pytest.mark.parametrize("controller, name, key", [
    ("memory", "MEMORY", "memory_max"), ("pids", "TASKS", "tasks_max"), ("cpu", "CPU", "cpu_quota")])
def test_controllers_that_are_missing(group, start, controller, name, key):
    if is_available(group, controller):
        pytest.skip("it is there")
    assert failure(start(LIMITED), name).startswith(f"'{key}' cannot be kept")


def test_memory_is_limited(group, start):
    if not is_available(group, "memory"):
        pytest.skip("no memory controller")
    (task,) = start(LIMITED).run("MEMORY", status="error")["tasks"]
    assert task["result"]["exception"] == "killed by signal 9 (SIGKILL): out of memory, memory_max is 32MiB"


def test_tasks_are_limited(group, start):
    if not is_available(group, "pids"):
        pytest.skip("no pids controller")
    (task,) = start(LIMITED).run("TASKS", status="error")["tasks"]
    assert "Cannot fork" in task["result"]["traceback"]


def test_cpu_is_limited(group, start):
    if not is_available(group, "cpu"):
        pytest.skip("no cpu controller")
    assert start(LIMITED).results("CPU")["CPU"] < 1  # of two seconds, 0.4 and a little


def test_next_daemon_ends_all(group, start):
    """Also what has wiped its environment."""
    daemon = start(IN_GROUPS)
    workflow = daemon.launch("STAY")
    (name,) = eventually(lambda: groups_of_tasks(group), "a group of the task")
    pids = eventually(lambda: len(found := members(group / "tasks" / name)) == 4 and found, "all of its processes")
    daemon.kill()
    assert all(map(alive, pids))
    daemon.start()
    assert not any(map(alive, pids))
    assert groups_of_tasks(group) == []
    daemon.wait(workflow, "error")
