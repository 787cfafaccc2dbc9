"""The daemon dies at each place that the sources name with CRASH_POINT, and the next one puts everything right.

They are in a build of its own: `make integration` says with DIRECTORD_CRASHING where it is. With TORTURE_ALL=1
(`make torture-crashes`) it dies not only when it comes there first.
"""

import http.client
import os
import re
import resource
import signal
import time

import pytest

import harness
import witness

PROGRAM = os.environ.get("DIRECTORD_CRASHING")
POINTS = sorted({name for source in harness.ROOT.glob("*/*.c")
                 for name in re.findall(r'CRASH_POINT\("([^"]+)"\)', source.read_text())})
# Those that are passed only when the database has been away.
OF_SPOOL = ("spooled", "replayed")
# Passed once in a life.
ONCE = ("definitions-registered", "before-note", "before-registration", "registration-sent", "registered", "reap-sent",
        "past-reaped")
CRASHES = [f"{point}:{number}" for point in POINTS if point not in OF_SPOOL
           for number in ((1, 2, 4, 9) if os.environ.get("TORTURE_ALL") and point not in ONCE else (1,))]

pytestmark = pytest.mark.skipif(not PROGRAM, reason="needs the build with crash points")


@pytest.fixture(scope="module")
def template(postgres):
    return harness.create_template(postgres, audit=True)


@pytest.fixture
def database(postgres, template):
    database = postgres.create_database(f"TEMPLATE {template.name}")
    yield database
    database.drop()


@pytest.fixture
def seen(database):
    seen = witness.Witness(database)
    yield seen
    seen.close()


def crash_at(daemon, point):
    """Lets the daemon begin a life that ends at `point`."""
    daemon.variables["DIRECTORD_CRASH_POINT"] = point
    daemon.spawn()
    del daemon.variables["DIRECTORD_CRASH_POINT"]


def work(daemon, seen):
    """Launches a bit of everything until the daemon is dead."""
    for name in witness.NAMES * 100:
        try:
            workflow = seen.launch(daemon, name)
            if name == "SLOW":
                seen.cancel(daemon, workflow)
        except (OSError, http.client.HTTPException, AssertionError, ValueError):
            if not daemon.running():
                return
        time.sleep(0.02)


def await_death(daemon, seen, point):
    seen.note_harm(daemon)
    assert daemon.wait_exit() == -signal.SIGABRT, f"{point} was not passed: {daemon.log()}"


def put_right(daemon, seen):
    daemon.define(seen.QUIET_DEFINITIONS)
    daemon.start()
    assert seen.problems([daemon]) == []


@pytest.fixture
def daemon(make, seen, monkeypatch):
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    monkeypatch.setattr(harness, "DIRECTORD", PROGRAM)
    return make(seen.DEFINITIONS, listen=f"127.0.0.1:{harness.free_port()}", concurrency=6, poll_interval="200ms",
                heartbeat="500ms", query_timeout="2s", **seen.settings)


@pytest.mark.parametrize("point", CRASHES)
def test_dies_at(daemon, seen, point):
    daemon.address = daemon.settings["listen"]
    crash_at(daemon, point)
    work(daemon, seen)
    await_death(daemon, seen, point)
    put_right(daemon, seen)


@pytest.mark.parametrize("point", OF_SPOOL)
def test_dies_with_a_spool(daemon, seen, database, point):
    daemon.start()
    if point == "spooled":
        daemon.stop()
        crash_at(daemon, point)
        daemon.await_ready()
    workflows = [seen.launch(daemon, name) for name in ("SLOW", "GROUP", "SLOW")]
    for workflow in (workflows[0], workflows[2]):
        daemon.wait_task(workflow, "SLOW", "progress")
    database.server.stop(signal.SIGQUIT)
    try:
        if point == "spooled":
            await_death(daemon, seen, point)
        else:
            harness.eventually(lambda: (daemon.directory / "state/spool").exists(), "a spool")
            time.sleep(2.5)  # the slow ones end
            seen.note_harm(daemon)
            daemon.send_signal(signal.SIGKILL)
            daemon.wait_exit()
    finally:
        database.server.start()
    if point == "replayed":
        crash_at(daemon, point)
        await_death(daemon, seen, point)
    put_right(daemon, seen)
