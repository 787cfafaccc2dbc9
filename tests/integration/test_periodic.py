"""Schedules fire, once for each instant, and leave a row that says so."""

import datetime
import threading

import checker
from harness import eventually

UTC = datetime.timezone.utc


def fires(database):
    return database.sql("SELECT schedule_id, scheduled, outcome, workflow_id::text, decided FROM fires ORDER BY 2")


def test_interval(start, database):
    daemon = start("""
        tasks:
          ECHO: {script: cat > $DIRECTOR_RESULT}
          SCHEDULED: {command: [printenv, DIRECTOR_SCHEDULED_AT], result: stdout}
        test.A: {tasks: [ECHO, SCHEDULED], periodic: {interval: 0.5, catchup: all, payload: {z: 1, a: [2]}}}
        """)
    eventually(lambda: len(fires(database)) >= 4, "four fires")
    anchor = database.value("SELECT anchor FROM schedules")
    rows = fires(database)
    for number, (_, scheduled, outcome, workflow, decided) in enumerate(rows, 1):
        assert scheduled == anchor + datetime.timedelta(seconds=0.5 * number)
        assert outcome == "ran"
        assert scheduled <= decided
    found = daemon.wait(rows[0][3])
    assert found["periodic"] is True
    assert found["payload"] == {"z": 1, "a": [2]}
    assert datetime.datetime.fromisoformat(found["scheduled"]) == rows[0][1]
    echo, scheduled = [task["result"] for task in found["tasks"]]
    assert echo["workflow"]["periodic"] is True and echo["workflow"]["scheduled"] == found["scheduled"]
    assert scheduled == found["scheduled"]
    assert daemon.get("/api/workflows?periodic=true&per_page=1").json()[0]["scheduled"]


def test_interval_has_no_gaps(start, database, postgres):
    """Also under load and while definitions are reloaded."""
    daemon = start("""
        tasks: {NOOP: {noop: true}}
        test.A: {tasks: [NOOP], periodic: {interval: 100ms}}
        test.B: {tasks: [NOOP]}
        """)
    for _ in range(10):
        threads = [threading.Thread(target=daemon.launch, args=("B",)) for _ in range(10)]
        for thread in threads:
            thread.start()
        daemon.reload()
        for thread in threads:
            thread.join()
    eventually(lambda: len(fires(database)) >= 20, "twenty fires")
    with database.cursor() as cursor:
        assert checker.missing_fires(cursor, fires(database)[0][0], 0.1) == []


def test_crontab(start, database):
    """Every minute is too long for a test; six fields begin with seconds."""
    daemon = start("""
        tasks: {NOOP: {noop: true}}
        test.A: {tasks: [NOOP], periodic: {crontab: "*/2 * * * * *"}}
        """)
    eventually(lambda: len(fires(database)) >= 2, "two fires")
    first, second = [row[1] for row in fires(database)][:2]
    assert first.microsecond == 0 and first.second % 2 == 0
    assert second - first == datetime.timedelta(seconds=2)
    assert daemon.workflow(fires(database)[0][3])["periodic"] is True


def test_crontab_of_five_fields_is_utc(make):
    daemon = make('test.A: {tasks: [], periodic: {crontab: "30 4 * * *"}}')
    daemon.variables["TZ"] = "America/New_York"
    daemon.start()
    found = daemon.get("/api/definitions/test.A").json()
    days = [datetime.datetime.fromisoformat(at) for at in found["next"]]
    assert all((day.hour, day.minute, day.second) == (4, 30, 0) for day in days)
    assert days == sorted(days) and days[4] - days[0] == datetime.timedelta(days=4)
    now = datetime.datetime.now(UTC)
    assert now < days[0] <= now + datetime.timedelta(days=1, seconds=60)


def test_old_spelling_warns(start):
    daemon = start('test.A: {tasks: [], periodic: {schedule: "0 3 * * *"}}')
    assert "crontab" in daemon.log() and "warning" in daemon.log()


def test_removed_schedule_stops(start, database):
    daemon = start("tasks: {N: {noop: true}}\ntest.A: {tasks: [N], periodic: {interval: 0.2}}")
    eventually(lambda: fires(database), "a fire")
    daemon.define("tasks: {N: {noop: true}}\ntest.B: {tasks: [N], periodic: {interval: 0.2}}")
    daemon.reload()
    stopped = database.value("SELECT count(*) FROM fires f JOIN schedules s ON s.id = f.schedule_id WHERE s.name = 'A'")
    eventually(lambda: database.value("SELECT count(*) FROM fires f JOIN schedules s ON s.id = f.schedule_id"
                                      " WHERE s.name = 'B'") >= 3, "the other fires")
    after = database.value("SELECT count(*) FROM fires f JOIN schedules s ON s.id = f.schedule_id WHERE s.name = 'A'")
    assert after <= stopped + 1  # one may have been under way


def test_restart_keeps_the_phase(start, database):
    daemon = start("tasks: {N: {noop: true}}\ntest.A: {tasks: [N], periodic: {interval: 0.5}}")
    eventually(lambda: fires(database), "a fire")
    daemon.stop()
    before, anchor = len(fires(database)), database.value("SELECT anchor FROM schedules")
    daemon.start()
    eventually(lambda: len(fires(database)) >= before + 3, "it fires again")
    assert database.value("SELECT anchor FROM schedules") == anchor
    with database.cursor() as cursor:
        assert checker.missing_fires(cursor, fires(database)[0][0], 0.5) == []


def test_newest_of_the_missed_fires_runs(start, database):
    """Ten were missed while no daemon ran, the last of them half a minute ago."""
    daemon = start("tasks: {N: {noop: true}}\ntest.A: {tasks: [N], periodic: {interval: 60}}")
    daemon.stop()
    database.sql("UPDATE schedules SET anchor = now() - interval '630 s', cursor = now() - interval '630 s'")
    daemon.start()
    eventually(lambda: len(fires(database)) == 2, "two rows")
    anchor = database.value("SELECT anchor FROM schedules")
    minute = datetime.timedelta(minutes=1)
    assert database.sql("SELECT scheduled, outcome, count, until FROM fires ORDER BY 1") == [
        (anchor + minute, "collapsed", 9, anchor + 9 * minute), (anchor + 10 * minute, "ran", None, None)]


def test_two_daemons_fire_once(make, database):
    definitions = "tasks: {N: {noop: true}}\ntest.A: {tasks: [N], periodic: {interval: 0.1}}"
    for daemon in [make(definitions), make(definitions)]:
        daemon.start()
    eventually(lambda: len(fires(database)) >= 20, "twenty fires")
    with database.cursor() as cursor:
        assert checker.missing_fires(cursor, fires(database)[0][0], 0.1) == []
    assert all(row[2] == "ran" for row in fires(database))
