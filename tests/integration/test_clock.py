"""Somebody sets the clock: of the whole machine, or of the daemon's alone, whose database is elsewhere."""

import datetime
import os
import pathlib
import shutil
import subprocess
import time

import pytest

import fires
import harness
from fires import Schedule
from harness import eventually

pytestmark = pytest.mark.skipif(harness.has_sanitizer(), reason="a sanitizer must be loaded first")

DEFINITIONS = """
tasks: {N: {noop: true}}
test.LATEST: {tasks: [N], periodic: {interval: 0.5}}
test.ALL: {tasks: [N], periodic: {interval: 0.5, catchup: all, catchup_window: 3m}}
test.NONE: {tasks: [N], periodic: {interval: 0.5, catchup: none}}
test.DAILY: {tasks: [N], periodic: {crontab: "30 2 * * *"}}
"""
NAMES = ("LATEST", "ALL", "NONE")


class Clock:
    """How wrong the clock of what is started with `environment` is."""

    def __init__(self):
        self.directory = harness.make_directory()
        shim = harness.compile_shim("clock_shim", self.directory)
        self.file = self.directory / "offset"
        self.file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET": str(self.file)}

    def set(self, **by):
        """From now on it is wrong by so much."""
        us = datetime.timedelta(**by) // datetime.timedelta(microseconds=1)
        with open(self.file, "r+b") as file:  # in place: it is mapped
            file.write(us.to_bytes(8, "little", signed=True))


@pytest.fixture
def clock():
    made = Clock()
    yield made
    shutil.rmtree(made.directory)


@pytest.fixture
def wrong_database(clock, monkeypatch):
    """A database on a machine with that clock."""
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    server = harness.Postgres()
    monkeypatch.undo()
    yield server.create_database()
    server.close()


def await_runs(database, more=3):
    def count():
        return {name: len(Schedule(database, name).ran()) for name in NAMES}
    before = count()
    eventually(lambda: all(ran >= before[name] + more for name, ran in count().items()), "all run on")


def check(database):
    for name in NAMES:
        found = Schedule(database, name)
        assert fires.uncovered(found, fires.interval(found.anchor, 0.5, found.anchor, found.cursor)) == [], name
    assert database.problems() == []


def test_clock_of_the_machine(clock, wrong_database, make):
    daemon = make(DEFINITIONS, database=wrong_database)
    daemon.expect_errors("heartbeat", "lease")
    daemon.variables.update(clock.environment)
    daemon.start()
    await_runs(wrong_database)
    before = {name: Schedule(wrong_database, name).cursor for name in NAMES}

    day = datetime.timedelta(days=1)
    clock.set(days=1)
    eventually(lambda: all(Schedule(wrong_database, name).cursor > before[name] + day for name in NAMES), "a day later")
    await_runs(wrong_database, 5)
    check(wrong_database)
    for name in NAMES:
        found = Schedule(wrong_database, name)
        jumped = found.outcomes(before[name], before[name] + day - datetime.timedelta(minutes=4))
        assert set(jumped.values()) - {"ran"} == {"collapsed"}
        assert len(found.ran(before[name])) <= (420 if name == "ALL" else 60)  # no flood
    assert [row[1] for row in Schedule(wrong_database, "DAILY").rows] == ["ran"]

    await_runs(wrong_database)
    time.sleep(0.25)  # nothing is under way: a start before the change and an end after it would be out of order
    clock.set(days=1, hours=-1)
    rows = {name: len(Schedule(wrong_database, name).rows) for name in NAMES}
    time.sleep(2)
    for name in NAMES:  # what may have been under way is all
        assert len(Schedule(wrong_database, name).rows) <= rows[name] + 1
    clock.set(days=1, seconds=5)
    await_runs(wrong_database)
    check(wrong_database)
    assert [row[1] for row in Schedule(wrong_database, "DAILY").rows] == ["ran"]


def test_clock_of_the_database_that_is_set_back_while_nothing_works(clock, wrong_database, make):
    """What was due by the old clock is due by the new one, once that can be written."""
    daemon = make("tasks: {N: {script: 'exit 1', retry: {limit: 1, interval: 30s}}}\ntest.N: {tasks: [N]}",
                  database=wrong_database, heartbeat="200ms")
    daemon.expect_errors("a database call fails")
    clock.set(hours=1)
    daemon.start()
    workflow = daemon.launch("N")
    due = "SELECT due - clock_timestamp() < interval '1 minute' FROM tasks"
    eventually(lambda: wrong_database.value(due), "it is to be tried again")
    wrong_database.sql("ALTER FUNCTION set_clock_back RENAME TO gone")
    clock.set(hours=0)
    daemon.await_log("a database call fails.* statement=set_clock_back")
    assert not wrong_database.value(due)
    wrong_database.sql("ALTER FUNCTION gone RENAME TO set_clock_back")
    eventually(lambda: wrong_database.value(due), "it is due by the new clock")
    clock.set(hours=2)  # so that it ends after its beginning
    daemon.wait(workflow, "error")


def test_clock_of_the_daemon(clock, make, database):
    """Only the database's clock counts."""
    daemon = make(DEFINITIONS)
    daemon.variables.update(clock.environment)
    clock.set(hours=7)  # wrong from the start
    daemon.start()
    await_runs(database)
    for hours in (0, -1, 25, 24):
        clock.set(hours=hours)
        await_runs(database, 3)
    check(database)
    late = database.sql("SELECT extract(epoch FROM decided - scheduled)::float FROM fires ORDER BY 1")
    assert 0 <= late[0][0] and late[-1][0] < 15  # a heartbeat later the clocks are compared
    assert database.sql("SELECT DISTINCT outcome FROM fires WHERE scheduled > now()") == []
    assert database.sql("SELECT id FROM workflows WHERE created > now() + interval '1 minute'") == []


def test_clock_is_compared_at_once(clock, make, database):
    """Also when it is set just before the timer is."""
    daemon = make(DEFINITIONS, heartbeat="1m", lease="3m")
    daemon.variables.update(clock.environment)
    daemon.start()
    await_runs(database)
    clock.set(hours=-1)
    daemon.await_log("the clock was set")
    await_runs(database)


def test_clock_set_back_while_no_daemon_runs(clock, wrong_database, make):
    """What was left ready by the clock of a month to come runs now."""
    clock.set(days=30)
    daemon = make(DEFINITIONS, database=wrong_database, queues="elsewhere")
    daemon.variables.update(clock.environment)
    daemon.start()
    workflow = daemon.launch("DAILY")
    daemon.stop()
    clock.set(days=0)
    daemon = make(DEFINITIONS, database=wrong_database)
    daemon.variables.update(clock.environment)
    daemon.start()
    daemon.wait(workflow)
    for table in ("workflows", "tasks"):  # a month before it was made
        wrong_database.sql(f"UPDATE {table} SET updated = created")


def test_clock_set_forward_kills_no_node(clock, wrong_database, make):
    """By more than a lease: who beats first does not take the others for dead."""
    daemons = [make(DEFINITIONS, database=wrong_database, heartbeat="1s", lease="8s", query_timeout="4s") for _ in range(2)]
    for daemon in daemons:
        daemon.variables.update(clock.environment)
        daemon.start()
    time.sleep(9)  # now they may declare others dead
    clock.set(minutes=2)
    harness.never(lambda: wrong_database.sql("SELECT 1 FROM nodes WHERE state = 'dead'"), "a node that lives", 4)
