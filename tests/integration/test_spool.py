"""The database is away when tasks end: their results wait on the disk, whatever becomes of the daemon meanwhile."""

import re
import signal
import struct
import time
import uuid

import pytest

import checker
import harness
from harness import FINAL, eventually, frozen

# A says what it does in a file, and ends when the gate opens; a line for each start.
DEFINITIONS = r"""
tasks:
  A: {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$FILE"; until [ -e "$GATE" ]; do sleep 0.05; done; cat >&3'}
  B: {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$FILE"'}
test.TWO: {tasks: [A, B]}
"""
COUNT = 6


@pytest.fixture
def file(tmp_path):
    return tmp_path / "executions"


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


@pytest.fixture
def rig(make, database, file, gate):
    """Makes daemons; in the end nothing has run twice, and the tables are in order."""

    def make_daemon(**settings):
        return make(DEFINITIONS, task_env_FILE=file, task_env_GATE=gate, concurrency=COUNT, **settings)

    yield make_daemon
    connection = database.server.connect(database.name)
    lines = file.read_text().splitlines()
    problems = checker.check(connection, quiet=True) + checker.check_executions(connection, lines)
    connection.close()
    assert problems == []
    assert len(lines) == len(set(lines)) and all(line.endswith(" 1") for line in lines), lines


@pytest.fixture
def away(database):
    """A PostgreSQL that is stopped in the test, and runs again after it."""
    yield database.server
    if database.server.process.poll() is not None:
        database.server.start()


def spool(daemon):
    return daemon.directory / "state" / "spool"


def records(path):
    """Where each whole record of a spool begins."""
    content = path.read_bytes() if path.exists() else b""
    starts, at = [], 0
    while at + 16 <= len(content):
        size = 16 + struct.unpack_from("<II", content, at)[1]
        if at + size > len(content):
            break
        starts.append(at)
        at += size
    return starts


def workflow_at(path, start):
    """Behind the header and the node."""
    return str(uuid.UUID(bytes=path.read_bytes()[start + 32:start + 48]))


def launch_all(daemon, **payload):
    workflows = [daemon.launch("TWO", {"n": n, **payload}) for n in range(COUNT)]
    for workflow in workflows:
        daemon.wait_task(workflow, "A", "progress")
    return workflows


def end_without_database(daemon, server, gate):
    """Its tasks end while the database is away, and their results are on the disk."""
    workflows = launch_all(daemon)
    server.stop(signal.SIGQUIT)
    daemon.await_log("database away")
    gate.touch()
    eventually(lambda: len(records(spool(daemon))) == COUNT, "all results are in the spool")
    return workflows


def check_results(daemon, workflows, **payload):
    eventually(lambda: daemon.get("/api/health").status == 200, "the database is back")
    for n, workflow in enumerate(workflows):
        a, b = daemon.wait(workflow)["tasks"]
        assert a["result"]["payload"] == {"n": n, **payload} and a["attempt"] == b["attempt"] == 1, a


# --- the daemon goes, too ----------------------------------------------------------------------


@pytest.mark.parametrize("first", ["postgresql", "daemon"])
def test_daemon_killed(rig, away, gate, first):
    daemon = rig().start()
    workflows = end_without_database(daemon, away, gate)
    daemon.kill()
    if first == "daemon":
        daemon.spawn()
        daemon.await_log("cannot be reached yet")
        away.start()
        daemon.await_ready()
    else:
        away.start()
        daemon.start()
    check_results(daemon, workflows)
    assert f"results={COUNT}" in daemon.log(daemon.start_of_life)
    eventually(lambda: spool(daemon).stat().st_size == 0, "the spool is empty")


def test_daemon_stopped(rig, away, gate):
    """In bounded time, since no task runs any more, and the log says where the results are."""
    daemon = rig(shutdown_grace="10m").start()
    workflows = end_without_database(daemon, away, gate)
    begin = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begin < 20
    daemon.await_log(f'"results wait in the spool for the next start" results={COUNT}')
    away.start()
    daemon.start()
    check_results(daemon, workflows)


def test_second_signal_waits_for_no_database(rig, away, gate):
    daemon = rig(shutdown_grace="10m").start()
    workflows = end_without_database(daemon, away, gate)
    begin = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    daemon.await_log('"waiting for running tasks"')
    assert daemon.stop() == 0
    assert time.monotonic() - begin < 8
    away.start()
    daemon.start()
    check_results(daemon, workflows)


def test_replay_that_is_killed(rig, away, gate, database):
    """The next one begins anew: what was committed before counts once."""
    daemon = rig(max_batch=1).start()
    workflows = end_without_database(daemon, away, gate)
    daemon.kill()
    middle = workflow_at(spool(daemon), records(spool(daemon))[COUNT // 2])
    away.start()
    with database.server.connect(database.name) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM workflows WHERE id = %s FOR UPDATE", (middle,))
        daemon.spawn()
        eventually(lambda: database.value("SELECT count(*) FROM tasks WHERE status = 'success'") == COUNT // 2,
                   "half of them are replayed")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait_exit()
    other.close()
    daemon.start()
    check_results(daemon, workflows)


def test_damaged_spool(rig, away, gate, make):
    """What is before the damage counts, what follows is kept aside; the start goes on."""
    daemon = rig().start()
    workflows = end_without_database(daemon, away, gate)
    daemon.kill()
    content = bytearray(spool(daemon).read_bytes())
    content[records(spool(daemon))[2] + 40] ^= 1
    spool(daemon).write_bytes(content)
    away.start()
    daemon.expect_errors("cannot be read any further", "is kept aside")
    daemon.start()
    eventually(lambda: all(daemon.workflow(workflow)["status"] in FINAL for workflow in workflows), "all end")
    reasons = [daemon.task(workflow, "A").get("reason") for workflow in workflows]
    assert sorted(reasons, key=str) == [None] * 2 + ["node_lost"] * (COUNT - 2)
    (bad,) = spool(daemon).parent.glob("spool.bad-*")
    assert bad.read_bytes() == content


# --- the daemon stays --------------------------------------------------------------------------


def test_results_arrive_by_themselves(rig, away, gate):
    """Within five seconds, also where the lease has run out meanwhile; launches are refused as long."""
    daemon = rig(heartbeat="2s", lease="6s", query_timeout="5s").start()
    workflows = end_without_database(daemon, away, gate)
    begin = time.monotonic()
    while time.monotonic() < begin + 6:
        reply = daemon.post("/api/workflows", {"project": "test", "name": "TWO", "payload": {}})
        assert reply.status == 503 and int(reply.headers["Retry-After"]) > 0, reply
        time.sleep(0.2)
    away.start()
    begin = time.monotonic()
    check_results(daemon, workflows)
    daemon.run("TWO")
    assert time.monotonic() - begin < 5
    eventually(lambda: spool(daemon).stat().st_size == 0, "the spool is empty")


def test_nothing_is_written_while_the_database_answers(rig, gate):
    gate.touch()
    daemon = rig().start()
    for _ in range(3):
        daemon.run("TWO")
    assert not spool(daemon).exists()


def test_slow_commit(rig, gate, database):
    """The connection stands, but somebody's lock holds the result up."""
    daemon = rig().start()
    workflow = daemon.launch("TWO")
    daemon.wait_task(workflow, "A", "progress")
    with database.server.connect(database.name) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM workflows FOR UPDATE")
        gate.touch()
        eventually(lambda: len(records(spool(daemon))) == 1, "the result is in the spool", 5)
    other.close()
    daemon.wait(workflow)
    eventually(lambda: spool(daemon).stat().st_size == 0, "the spool is empty")


def test_full_spool(rig, away, gate):
    """Past its bound results stay in memory, and the log says so."""
    daemon = rig(max_spool="1KiB").start()
    daemon.expect_errors("the spool is full")
    workflows = launch_all(daemon)
    away.stop(signal.SIGQUIT)
    daemon.await_log("database away")
    gate.touch()
    daemon.await_log("the spool is full")
    assert 0 < len(records(spool(daemon))) < COUNT
    assert spool(daemon).stat().st_size <= 1024
    away.start()
    check_results(daemon, workflows)


# --- the disk ------------------------------------------------------------------------------------


@pytest.fixture
def disk():
    """64 KiB: less than the results of `rig`'s tasks."""
    disk = harness.Disk("64k")
    if not disk.mounted:
        pytest.skip("only who may mount")
    yield disk
    disk.close()


def test_full_disk(rig, away, gate, disk):
    """The results that do not fit stay in memory, and the daemon lives on."""
    daemon = rig(state_dir=disk.directory / "state").start()
    daemon.expect_errors("the spool cannot be written")
    payload = {"text": "x" * 40000}
    workflows = launch_all(daemon, **payload)
    away.stop(signal.SIGQUIT)
    daemon.await_log("database away")
    gate.touch()
    daemon.await_log("the spool cannot be written.*No space left on device")
    assert daemon.get("/api/ping").status == 200
    away.start()
    check_results(daemon, workflows, **payload)
    daemon.run("TWO")


needs_preload = pytest.mark.skipif(harness.has_sanitizer(), reason="a sanitizer must be loaded first")


@pytest.fixture
def synced(rig, tmp_path):
    """Makes a daemon whose dealings with its spool are seen, and a file while which the disk fails."""
    trace, failing = tmp_path / "trace", tmp_path / "failing"

    def make_daemon():
        daemon = rig()
        daemon.variables = {"LD_PRELOAD": harness.compile_shim("sync_shim", tmp_path), "SYNC_TRACE": trace,
                            "SYNC_FAILS": failing}
        return daemon.start()
    return make_daemon, trace, failing


@needs_preload
def test_what_is_in_the_spool_is_on_the_disk(synced, away, gate):
    """The folder knows the new file (and that of its own id) before anything is in it; each write is followed by a sync."""
    make_daemon, trace, _ = synced
    daemon = make_daemon()
    workflows = end_without_database(daemon, away, gate)
    pattern = re.compile("(folder )+(write sync )+")
    eventually(lambda: pattern.fullmatch(trace.read_text().replace("\n", " ")), lambda: trace.read_text())
    away.start()
    check_results(daemon, workflows)


@needs_preload
def test_disk_that_does_not_take_what_was_written(synced, away, gate):
    """It does not count as saved: it is written again until the disk takes it."""
    make_daemon, trace, failing = synced
    daemon = make_daemon()
    daemon.expect_errors("the spool cannot be written")
    failing.touch()
    workflows = launch_all(daemon)
    away.stop(signal.SIGQUIT)
    daemon.await_log("database away")
    gate.touch()
    daemon.await_log("the spool cannot be written.*Input/output error")
    eventually(lambda: trace.read_text().count("fail") >= 2, "it is tried again")
    assert "results wait in the spool" not in daemon.log() and "sync" not in trace.read_text()
    failing.unlink()
    daemon.await_log("the spool can be written again")
    eventually(lambda: len(records(spool(daemon))) == COUNT, "all results are in the spool")
    daemon.kill()
    away.start()
    daemon.start()
    check_results(daemon, workflows)


# --- the database is frozen --------------------------------------------------------------------


def test_frozen_database(rig, gate, database):
    """Deadlines act, the loop never stalls, and all goes on after it."""
    daemon = rig(query_timeout="1s").start()
    workflows = launch_all(daemon)
    slowest = 0
    with frozen(database.server):
        gate.touch()
        end = time.monotonic() + 15
        while time.monotonic() < end:
            begin = time.monotonic()
            assert daemon.get("/api/ping").status == 200
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.02)
        assert daemon.get("/api/health").status == 503
        assert len(records(spool(daemon))) == COUNT
    begin = time.monotonic()
    check_results(daemon, workflows)
    assert time.monotonic() - begin < 10
    assert slowest < 0.5
