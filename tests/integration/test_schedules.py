"""Schedules as their users see them: the API, what becomes of missed fires, identity, and hot reload."""

import datetime
import subprocess
import time
import zoneinfo
from textwrap import dedent

import pytest

import fires
import harness
from fires import Schedule, await_fires, covered
from harness import eventually

NOOP = "tasks: {N: {noop: true}}\n"


def second(number=1):
    return datetime.timedelta(seconds=number)


def parse(text):
    return datetime.datetime.fromisoformat(text)


def now():
    return datetime.datetime.now(fires.UTC)


def the_schedule(daemon, name="A"):
    (found,) = [schedule for schedule in daemon.get("/api/schedules").json() if schedule["fullname"] == f"test.{name}"]
    return found


def names(daemon):
    return [definition["fullname"] for definition in daemon.get("/api/definitions").json()]


# --- the API -----------------------------------------------------------------------------------


def test_list(start):
    begun = now()
    daemon = start(NOOP + dedent("""
        test.C: {tasks: [N], periodic: {interval: 90s, catchup: all}}
        test.A: {tasks: [N], periodic: [{crontab: "0 3 * * *", timezone: Europe/Paris}, {name: nightly, crontab: "@daily"}]}
        test.B: {tasks: [N]}
        """))
    found = daemon.get("/api/schedules").json()
    assert [(schedule["fullname"], schedule["trigger"], schedule["timezone"], schedule["catchup"])
            for schedule in found] == [
        ("test.A", "crontab:0 3 * * * Europe/Paris", "Europe/Paris", "latest"),
        ("test.A", "crontab:0 0 * * * UTC", "UTC", "latest"),
        ("test.C", "interval:90s", "UTC", "all")]
    assert all(list(schedule) == ["catchup", "comment", "fullname", "id", "last", "next", "state", "timezone", "trigger"]
               for schedule in found)
    assert all(schedule["state"] == "active" and schedule["last"] is None for schedule in found)
    paris = parse(found[0]["next"]).astimezone(zoneinfo.ZoneInfo("Europe/Paris"))
    assert (paris.hour, paris.minute, paris.second) == (3, 0, 0) and now() < paris <= now() + second(25 * 3600)
    assert begun < parse(found[2]["next"]) - second(90) < now()
    assert [daemon.get(f"/api/schedules?per_page=2&page={page}").json() for page in (1, 2)] == [found[:2], found[2:]]
    assert daemon.get("/api/schedules?per_page=2&page=3").status == 404
    assert daemon.get("/api/schedules?page=0").status == 400
    assert daemon.get("/api/definitions/test.A").json()["next"][0] == min(found[0]["next"], found[1]["next"])


def test_fires(start, database):
    daemon = start(NOOP + dedent("""
        test.A: {tasks: [N], periodic: [{interval: 0.2, catchup: all}, {name: other, interval: 0.3, catchup: all}]}
        test.B: {tasks: [N], periodic: {interval: 1h}}
        """))
    await_fires(database, "A", 10)
    assert daemon.post("/api/schedules/test.A/pause").status == 200  # so that nothing moves
    await_fires(database, "A", 2, "paused")
    daemon.define(NOOP + "test.B: {tasks: [N], periodic: {interval: 1h}}")
    assert daemon.reload()["errors"] == []
    found = daemon.get("/api/schedules/test.A/fires").json()
    assert [fire["scheduled"] for fire in found] == sorted((fire["scheduled"] for fire in found), reverse=True)
    ran = [fire for fire in found if fire["outcome"] == "ran"]
    assert all(list(fire) == ["decided", "outcome", "schedule", "scheduled", "workflow"] for fire in ran)
    assert daemon.workflow(ran[0]["workflow"])["scheduled"] == ran[0]["scheduled"]
    assert all(list(fire) == ["decided", "outcome", "schedule", "scheduled"] for fire in found if fire not in ran)
    pages = [daemon.get(f"/api/schedules/test.A/fires?per_page=5&page={page}") for page in (1, 2)]
    assert [fire for page in pages for fire in page.json()] == found[:10]
    (one,) = {fire["schedule"] for fire in found} - {ran[0]["schedule"]}
    assert daemon.get(f"/api/schedules/{one}/fires").json() == [fire for fire in found if fire["schedule"] == one]
    assert daemon.get("/api/schedules/test.B/fires").text == "[]\n"
    assert daemon.get("/api/schedules/test.B/fires?page=2").status == 404
    for unknown in ("test.NOPE", "999999", "99999999999999999999", "A", "0"):
        reply = daemon.get(f"/api/schedules/{unknown}/fires")
        assert (reply.status, reply.json()) == (404, {"error": f"Schedule {unknown} not found"})
    assert {schedule["state"] for schedule in daemon.get("/api/schedules").json()
            if schedule["fullname"] == "test.A"} == {"removed"}


def test_page_of_fires_reads_no_others(start, database):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 1d}}\n")
    database.sql("INSERT INTO fires (schedule_id, scheduled, outcome, decided)"
                 " SELECT s.id, s.anchor - n * interval '1 d', 'late', now() FROM schedules s, generate_series(1, 9000) AS n")

    def read():
        database.sql("SELECT pg_stat_clear_snapshot()")
        return database.value("SELECT coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'fires'")

    before = read()
    for page in (1, 2, 3):
        assert len(daemon.get(f"/api/schedules/test.A/fires?per_page=10&page={page}").json()) == 10
    eventually(lambda: read() > before, "the server tells what it has read")
    assert read() < before + 1000


def test_pause_and_resume(start, database):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 0.2, catchup: all}}")
    await_fires(database, "A")
    reply = daemon.post("/api/schedules/test.A/pause", {"comment": "broken disk"})
    assert reply.status == 200
    assert (reply.json()["state"], reply.json()["comment"], reply.json()["next"]) == ("paused", "broken disk", None)
    paused = now()
    assert daemon.post("/api/schedules/test.A/pause").json()["comment"] == "broken disk"
    await_fires(database, "A", 2, "paused")
    daemon.stop()
    daemon.start()
    assert the_schedule(daemon)["state"] == "paused"
    await_fires(database, "A", 2, "paused")
    resumed = now()
    reply = daemon.post("/api/schedules/test.A/resume")
    assert (reply.status, reply.json()["state"], reply.json()["comment"]) == (200, "active", None)
    assert daemon.post("/api/schedules/test.A/resume").status == 200
    await_fires(database, "A", 3)
    found = covered(database, "A", 0.2)
    assert found.ran(paused, resumed) == []
    assert all(row[4] is None for row in found.rows if row[1] != "ran")


def test_resuming_does_not_fire_what_was_due_before(start, database):
    """Not even what nobody has decided yet: no daemon ran."""
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 1m, catchup: all}}")
    daemon.post("/api/schedules/test.A/pause")
    daemon.stop()
    database.sql("UPDATE schedules SET anchor = now() - interval '10 m 30 s', cursor = now() - interval '10 m 30 s'")
    database.sql("UPDATE schedules SET paused = false, resumed = now() - interval '5 m'")
    daemon.start()
    await_fires(database, "A", 5, have=0)
    found = covered(database, "A", 60)
    assert [row[1] for row in found.rows] == ["paused"] * 5 + ["ran"] * 5


def test_resuming_fires_what_is_due_later(start, database):
    """By its jitter: the nominal time of some of these lay in the pause."""
    start(NOOP + "\n".join(f"test.N{n}: {{tasks: [N], periodic: {{interval: 4s, jitter: 4s}}}}" for n in range(9)))
    database.sql("UPDATE schedules SET paused = true")
    eventually(lambda: database.value("SELECT max(extract(epoch FROM clock_timestamp() - anchor)::numeric % 4) < 1"
                                      " FROM schedules WHERE clock_timestamp() > anchor + interval '4 s'"), "a nominal time")
    database.sql("UPDATE schedules SET paused = false, resumed = clock_timestamp()")
    eventually(lambda: database.sql("SELECT 1 FROM fires f JOIN schedules s ON s.id = f.schedule_id"
                                    " WHERE f.scheduled <= s.resumed AND f.outcome = 'ran'"), "a fire")


def test_pause_of_several(start):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: [{interval: 1h}, {name: x, interval: 2h}]}")
    both = daemon.post("/api/schedules/test.A/pause").json()
    assert [schedule["state"] for schedule in both] == ["paused", "paused"]
    one = daemon.post(f"/api/schedules/{both[0]['id']}/resume").json()
    assert (one["id"], one["state"]) == (both[0]["id"], "active")
    assert [schedule["state"] for schedule in daemon.get("/api/schedules").json()] == ["active", "paused"]


def test_refused_requests(start):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 1h}}\ntest.B: {tasks: [N]}")
    for verb in ("pause", "resume", "trigger"):
        for unknown in ("test.NOPE", "test.B", "123456", "0"):
            reply = daemon.post(f"/api/schedules/{unknown}/{verb}")
            assert (reply.status, reply.json()) == (404, {"error": f"Schedule {unknown} not found"})
    for body in ({"comment": 1}, {"comment": "x" * 256}, {"because": "x"}, {"comment": "x", "x": 1}, [],
                 "nonsense"):
        assert daemon.post("/api/schedules/test.A/pause", body).status == 400, body
    assert daemon.post("/api/schedules/test.A/trigger", {"payload": {"x": 1}}).status == 400
    assert the_schedule(daemon)["state"] == "active" and the_schedule(daemon)["last"] is None
    assert daemon.post("/api/schedules/test.A/pause", {"comment": "ä" * 255}).json()["comment"] == "ä" * 255
    assert daemon.get("/api/schedules/test.A/pause").status == 405


def test_pause_has_no_pages(start):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 1h}}")
    assert daemon.get("/api/schedules?page=x").status == 400
    assert daemon.post("/api/schedules/test.A/pause?page=x&per_page=0").json()["state"] == "paused"


def test_trigger(start, database):
    daemon = start("tasks: {ECHO: {script: cat > $DIRECTOR_RESULT}}\n"
                   "test.A: {tasks: [ECHO], periodic: {interval: 1h, payload: {z: 1.0}}}")
    before = Schedule(database, "A")
    daemon.post("/api/schedules/test.A/pause")
    reply = daemon.post("/api/schedules/test.A/trigger")
    assert reply.status == 201
    made = reply.json()
    assert sorted(made) == ["created", "fullname", "id", "name", "payload", "periodic", "project", "status", "updated"]
    assert (made["status"], made["periodic"], made["payload"]) == ("pending", True, {"z": 1.0})
    found = daemon.wait(made["id"])
    assert found["scheduled"] == found["created"] == made["created"]
    assert found["tasks"][0]["result"]["payload"] == {"z": 1.0}
    (fire,) = daemon.get("/api/schedules/test.A/fires").json()
    assert (fire["outcome"], fire["workflow"], fire["scheduled"]) == ("ran", made["id"], found["scheduled"])
    after = Schedule(database, "A")
    assert (after.cursor, after.anchor, after.paused) == (before.cursor, before.anchor, True)
    ids = {daemon.post(f"/api/schedules/{after.id}/trigger").json()["id"] for _ in range(20)}
    for workflow in ids:
        daemon.wait(workflow)
    assert len(ids) == 20 and len(daemon.get("/api/schedules/test.A/fires").json()) == 21


def test_trigger_while_it_fires(start, database):
    """By hand and by the clock in one batch: each keeps to its own rules."""
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 10ms}}")
    daemon.post("/api/schedules/test.A/pause")
    ids = set()
    for _ in range(100):
        reply = daemon.post("/api/schedules/test.A/trigger")
        assert reply.status == 201
        ids.add(reply.json()["id"])
    daemon.post("/api/schedules/test.A/resume")
    await_fires(database, "A", 20)
    found = Schedule(database, "A")
    assert len(ids) == 100
    by_hand = [row for row in found.rows if row[4] in ids]
    assert len(by_hand) == 100 and all(row[1] == "ran" for row in by_hand)
    found.rows = [row for row in found.rows if row[4] not in ids]
    assert fires.uncovered(found, fires.interval(found.anchor, 0.01, found.anchor, found.cursor)) == []


# --- missed fires ------------------------------------------------------------------------------


@pytest.mark.parametrize("catchup", ["latest", "all", "none"])
def test_downtime(start, database, catchup):
    """A few seconds without a daemon."""
    daemon = start(NOOP + f"test.A: {{tasks: [N], periodic: {{interval: 0.5, catchup: {catchup}}}}}")
    await_fires(database, "A")
    daemon.stop()
    stopped = Schedule(database, "A").cursor
    time.sleep(2.2)
    began = now()
    daemon.start()
    started = now()
    eventually(lambda: Schedule(database, "A").ran(started), "it fires in time")
    found = covered(database, "A", 0.5)
    missed = fires.interval(found.anchor, 0.5, stopped, began)
    ran = found.ran(stopped, began)
    assert len(missed) >= 4
    if catchup == "all":
        assert ran == missed and set(found.outcomes(stopped).values()) == {"ran"}
    elif catchup == "none":
        assert ran == []
    else:  # what fell due while it started may be newer still
        assert ran in ([missed[-1]], [])
        assert found.outcomes(stopped)[missed[0]] == "collapsed"


def test_catchup_window(start, database):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 0.5, catchup: all, catchup_window: 1s}}")
    await_fires(database, "A")
    daemon.stop()
    stopped = Schedule(database, "A").cursor
    time.sleep(3)
    began = now()
    daemon.start()
    started = now()
    eventually(lambda: Schedule(database, "A").ran(started), "it fires in time")
    found = covered(database, "A", 0.5)
    assert found.ran(stopped, began - second(1)) == []
    assert set(found.outcomes(stopped, began - second(1.5)).values()) == {"collapsed"}


def test_long_downtime_catches_up_five_hundred(start, database):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 1m, catchup: all}}", concurrency=64)
    daemon.stop()
    database.sql("UPDATE schedules SET anchor = now() - interval '1 d 30 s', cursor = now() - interval '1 d 30 s'")
    daemon.start()
    await_fires(database, "A", 500, have=0)
    found = covered(database, "A", 60)
    assert [(row[1], row[2]) for row in found.rows] == [("collapsed", 940)] + [("ran", None)] * 500
    (fire,) = daemon.get("/api/schedules/test.A/fires?per_page=1&page=501").json()
    assert list(fire) == ["count", "decided", "outcome", "schedule", "scheduled", "until"]
    assert (fire["count"], fire["outcome"]) == (940, "collapsed")
    eventually(lambda: database.value("SELECT count(*) FROM workflows WHERE finished IS NULL") == 0, "all have run")


def test_month_of_seconds(start, database):
    """But for a day: what is older than 30 days is cleared away."""
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 1s}}")
    daemon.stop()
    database.sql("UPDATE schedules SET anchor = now() - interval '29 d', cursor = now() - interval '29 d'")
    daemon.start()
    assert daemon.get("/api/ping").status == 200
    started = now()
    eventually(lambda: Schedule(database, "A").cursor > started, "all of it is decided")
    assert database.value("SELECT sum(count) FROM fires") >= 29 * 86400 - 100
    assert database.value("SELECT count(*) FROM fires WHERE outcome = 'collapsed'") < 300 + 20


def test_jitter(start, database):
    daemon = start(NOOP + "\n".join(
        f"test.N{n}: {{tasks: [N], periodic: {{crontab: '* * * * * *', jitter: 900ms}}}}" for n in range(20)))

    def lateness():
        """The least of each schedule, once this life has decided some fires of each."""
        begun = now()

        def look():
            rows = database.sql("SELECT s.name, min(f.decided - f.scheduled), count(*) FROM fires f JOIN schedules s"
                                " ON s.id = f.schedule_id WHERE f.scheduled > %s AND f.outcome = 'ran' GROUP BY 1", begun)
            return len(rows) == 20 and min(count for _, _, count in rows) >= 3 and {
                name: least.total_seconds() for name, least, _ in rows}
        return eventually(look, "each fires")
    before = lateness()
    assert all(value >= 0 for value in before.values())
    assert len({round(value, 1) for value in before.values()}) >= 4  # they are spread
    assert database.value("SELECT count(*) FROM fires WHERE scheduled <> date_trunc('second', scheduled)") == 0
    daemon.stop()
    daemon.start()
    after = lateness()
    # The same offset as before, where the machine was not too busy to fire in time.
    assert sum(abs(after[name] - before[name]) < 0.1 for name in before) >= 12, (before, after)


def test_bounds(start, database):
    begin = now().replace(microsecond=0) + second(2)
    daemon = start(NOOP + dedent(f"""
        test.A:
          tasks: [N]
          periodic: {{crontab: "* * * * * *", start_at: "{begin.isoformat()}", end_at: "{(begin + second(2)).isoformat()}"}}
        """))
    eventually(lambda: len(Schedule(database, "A").rows) == 3, "three fires")
    eventually(lambda: the_schedule(daemon)["next"] is None, "none follows")
    assert Schedule(database, "A").ran() == [begin, begin + second(), begin + second(2)]
    assert parse(the_schedule(daemon)["last"]) == begin + second(2)


def test_daemon_waits_for_its_database(start, database, postgres):
    """What fell due while the database was away is for `catchup`."""
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 0.5, catchup: latest}}")
    daemon.expect_errors("could not be", "heartbeat", "lease")
    await_fires(database, "A")
    postgres.stop()
    time.sleep(1)
    postgres.start()
    await_fires(database, "A", 3)
    covered(database, "A", 0.5)


# --- what a schedule is known by ---------------------------------------------------------------


def test_phase_stays(start, database):
    """Whatever else changes, and through any number of reloads and restarts."""
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 1h}}")
    first, before = the_schedule(daemon), Schedule(database, "A")
    for text in ("test.A: {tasks: [N], periodic: {interval: 60m, catchup: all, payload: {x: 1}, jitter: 0}}",
                 "test.A: {tasks: [N, N], periodic: [{crontab: '@daily'}, {interval: 3600}]}",
                 "test.Z: {tasks: [N]}\ntest.A: {tasks: [N], periodic: {interval: 1h}}"):
        daemon.define(NOOP + text)
        assert daemon.reload()["errors"] == []
        found = [schedule for schedule in daemon.get("/api/schedules").json() if schedule["id"] == first["id"]]
        assert (found[0]["next"], found[0]["state"]) == (first["next"], "active")
    for _ in range(10):
        daemon.reload()
    daemon.stop()
    daemon.start()
    after = Schedule(database, "A", "interval:3600s")
    assert (after.anchor, after.cursor) == (before.anchor, before.cursor)
    assert [schedule["next"] for schedule in daemon.get("/api/schedules").json()
            if schedule["id"] == first["id"]] == [first["next"]]


def test_changed_interval_begins_anew(start, database):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {name: poll, interval: 1h}}")
    before = Schedule(database, "A")
    daemon.define(NOOP + "test.A: {tasks: [N], periodic: {name: poll, interval: 0.3}}")
    changed = now()
    daemon.reload()
    after = Schedule(database, "A")
    assert after.id == before.id and changed < after.anchor < now()
    await_fires(database, "A", 3)
    covered(database, "A", 0.3)
    assert len(daemon.get("/api/schedules").json()) == 1


def test_unnamed_with_another_trigger_is_another(start, database):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {crontab: '0 3 * * *'}}")
    daemon.define(NOOP + "test.A: {tasks: [N], periodic: {crontab: '0 3 * * *', timezone: Asia/Tokyo}}")
    daemon.reload()
    assert {schedule["trigger"]: schedule["state"] for schedule in daemon.get("/api/schedules").json()} == {
        "crontab:0 3 * * * UTC": "removed", "crontab:0 3 * * * Asia/Tokyo": "active"}


def test_removed_and_back(start, database):
    """What was due between is nobody's: the schedule did not exist. It keeps its phase, and its pause."""
    text = NOOP + "test.A: {tasks: [N], periodic: {interval: 0.2}}\ntest.B: {tasks: [N], periodic: {interval: 1h}}"
    daemon = start(text)
    daemon.post("/api/schedules/test.B/pause", {"comment": "why"})
    await_fires(database, "A")
    before = Schedule(database, "A")
    daemon.define(NOOP + "test.C: {tasks: [N]}")
    daemon.reload()
    removed = now()
    assert the_schedule(daemon)["state"] == "removed" and the_schedule(daemon)["next"] is None
    assert daemon.post("/api/schedules/test.A/trigger").status == 404
    assert daemon.post("/api/schedules/test.A/pause").status == 404
    time.sleep(1)
    daemon.define(text)
    back = now()
    daemon.reload()
    await_fires(database, "A", 3)
    after = Schedule(database, "A")
    assert (after.id, after.anchor) == (before.id, before.anchor)
    assert after.outcomes(removed + second(0.2), back) == {}
    assert fires.uncovered(after, fires.interval(after.anchor, 0.2, after.anchor, removed) + [
        at for at in fires.interval(after.anchor, 0.2, removed, after.cursor) if at in after.outcomes()]) == []
    assert (the_schedule(daemon, "B")["state"], the_schedule(daemon, "B")["comment"]) == ("paused", "why")


# --- a database that lost rows -------------------------------------------------------------------


def test_schedules_that_the_database_lost_are_registered_anew(start, database):
    """As after a restore under a running daemon: no looking at all instants since 1970."""
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 0.2}}")
    await_fires(database, "A")
    former = database.value("SELECT max(id) FROM schedules")
    database.sql("DELETE FROM schedules")
    await_fires(database, "A", 3, have=0)
    assert database.value("SELECT min(scheduled) > now() - interval '1 hour' FROM fires")
    assert daemon.log().count("registering them anew") == 1
    anew = database.value("SELECT id FROM schedules")
    assert anew > former
    database.sql("UPDATE fires SET schedule_id = %s WHERE schedule_id = %s", anew, former)  # for the checker


def test_definitions_that_the_database_lost_are_registered_anew(start, database):
    """As when other daemons cleared away what this one, cut off for a day, had loaded."""
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 0.2}}\ntest.B: {tasks: [N]}")
    await_fires(database, "A")
    database.sql("DELETE FROM definitions WHERE name = 'B'")
    reply = daemon.post("/api/workflows", {"project": "test", "name": "B", "payload": {}})
    assert reply.status == 503 and int(reply.headers["Retry-After"]) > 0, reply
    eventually(lambda: daemon.post("/api/workflows", {"project": "test", "name": "B", "payload": {}}).status == 201,
               "launches again")
    assert daemon.log().count("registering them anew") == 1


def test_time_zone_that_is_unknown(start):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {crontab: '0 3 * * *', timezone: America/Caracas}}")
    daemon.expect_errors("definition refused")
    daemon.define(NOOP + "test.A: {tasks: [N], periodic: {crontab: '0 3 * * *', timezone: America/Karakas}}")
    (problem,) = daemon.reload()["errors"]
    assert "America/Karakas" in problem["error"] and "America/Caracas" in problem["error"]
    assert the_schedule(daemon)["timezone"] == "America/Caracas"
    assert parse(the_schedule(daemon)["next"]).hour == 7  # four hours behind UTC all the year


# --- hot reload --------------------------------------------------------------------------------


def seconds_until(look):
    begin = time.monotonic()
    eventually(look, "seen by itself")
    return time.monotonic() - begin


def test_rename_counts_at_once(start):
    daemon = start(NOOP + "test.A: {tasks: [N]}")
    for number in range(5):
        daemon.define(f"test.N{number}: {{tasks: [N]}}", "more.yml")
        assert seconds_until(lambda: f"test.N{number}" in names(daemon)) < 1
    (daemon.workflows / "more.yml").unlink()
    eventually(lambda: names(daemon) == ["test.A"], "the removed file is noticed")


def test_file_in_the_making(start):
    """What is there of it would be right in itself, and must not count, whoever asks for a reload."""
    daemon = start(NOOP + "test.A: {tasks: [N]}\ntest.B: {tasks: [N]}")
    with open(daemon.workflows / "test.yml", "w", encoding="utf-8") as file:  # empty from here on
        for part in (NOOP, "test.A: {tasks: [N]}\n"):
            file.write(part)
            file.flush()
            time.sleep(0.4)
            assert daemon.reload()["waiting"] == ["workflows.d/test.yml"]
        assert names(daemon) == ["test.A", "test.B"]
        file.write("test.C: {tasks: [N]}\n")
    assert seconds_until(lambda: names(daemon) == ["test.A", "test.C"]) < 2


def test_file_that_is_rewritten_all_the_time(start):
    """A reload never sees a part of it."""
    text = NOOP + "".join(f"test.N{number}: {{tasks: [N]}}\n" for number in range(200))
    daemon = start(text)
    writer = subprocess.Popen(
        ["/usr/bin/python3", "-c", """
import sys, time
name, text = sys.argv[1:]
while True:
    with open(name, "w") as file:
        for line in text.splitlines(True):
            file.write(line)
            if line.startswith("test.N1"):
                file.flush()
    time.sleep(0.001)
""", str(daemon.workflows / "test.yml"), text])
    try:
        for _ in range(20):
            found = daemon.reload()
            assert found.pop("waiting", ["workflows.d/test.yml"]) == ["workflows.d/test.yml"]
            assert found == {"errors": [], "loaded": 200}
    finally:
        writer.kill()
        writer.wait()
    (daemon.workflows / "test.yml").write_text(text)


def test_directory_that_vanishes_unloads_nothing(start):
    daemon = start(NOOP + "test.A: {tasks: [N]}")
    daemon.expect_errors("definitions not loaded")
    away = daemon.workflows.rename(daemon.workflows.with_name("away"))
    time.sleep(1.2)
    assert names(daemon) == ["test.A"]
    (away / "more.yml").write_text("test.B: {tasks: [N]}\n")
    away.rename(daemon.workflows)
    assert seconds_until(lambda: names(daemon) == ["test.A", "test.B"]) < 3
    daemon.define("test.C: {tasks: [N]}", "more.yml")
    assert seconds_until(lambda: names(daemon) == ["test.A", "test.C"]) < 1


def test_directory_that_is_a_link(make):
    daemon = make()
    versions = [daemon.directory / name for name in ("one", "two")]
    for number, version in enumerate(versions):
        version.mkdir()
        (version / "test.yml").write_text(NOOP + f"test.N{number}: {{tasks: [N]}}\n")
    link = daemon.directory / "current"
    link.symlink_to(versions[0])
    daemon.settings["workflows_dir"] = link
    daemon.start()
    assert names(daemon) == ["test.N0"]
    for number in (1, 0, 1):
        new = daemon.directory / "new"
        new.symlink_to(versions[number])
        new.rename(link)
        assert seconds_until(lambda: names(daemon) == [f"test.N{number}"]) < 2


def test_bad_file_shows_and_unloads_nothing(start, database):
    daemon = start(NOOP + "test.A: {tasks: [N], periodic: {interval: 0.3}}")
    daemon.expect_errors("definition refused")
    await_fires(database, "A")
    daemon.define(NOOP + "test.A: {tasks: [N], periodic: {interval: soon}}")
    errors = eventually(lambda: daemon.get("/api/health").json()["definitions"]["errors"], "the error shows")
    assert [(error["file"], error["line"]) for error in errors] == [("workflows.d/test.yml", 2)]
    assert "soon" in errors[0]["error"]
    await_fires(database, "A", 3)
    covered(database, "A", 0.3)


def test_reloads_while_it_fires(start, database):
    """A decision that waits for its turn was made with a definition that is gone by then."""
    def text(number):
        return NOOP + "".join(f"test.N{name}: {{tasks: [N], periodic: {{interval: 20ms, payload: {{n: {number}}}}}}}\n"
                              for name in range(20))
    daemon = start(text(0))
    for number in range(30):
        daemon.define(text(number))
        assert daemon.reload()["errors"] == []
    daemon.define(text(30).replace("20ms", "1h"))
    daemon.reload()
    for name in range(20):
        covered(database, f"N{name}", 0.02, "interval:20ms")
    numbers = [row[0] for row in database.sql("SELECT DISTINCT (payload ->> 'n')::integer FROM workflows ORDER BY 1")]
    assert set(numbers) <= set(range(30)) and len(numbers) > 5


# --- directord --next --------------------------------------------------------------------------


def ask_next(*arguments):
    done = subprocess.run([harness.DIRECTORD, "--next", *arguments], capture_output=True, text=True,
                          timeout=harness.DEADLINE, env={"PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo"})
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_next():
    start = ["--from", "2026-03-28T00:00:00Z"]
    assert ask_next("30 2 * * *", "--timezone", "Europe/Paris", *start, "--count", "3") == (
        0, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"], [])
    assert ask_next("90s", *start, "--count", "2") == (0, ["2026-03-28T00:01:30Z", "2026-03-28T00:03:00Z"], [])
    assert ask_next("0 0 13 * 5", "--day-match", "all", *start, "--count=1") == (0, ["2026-11-13T00:00:00Z"], [])
    status, lines, errors = ask_next("@hourly")
    assert (status, len(lines), errors) == (0, 5, [])
    assert now() < parse(lines[0].replace("Z", "+00:00")) <= now() + second(3600)


@pytest.mark.parametrize("arguments", [
    ["0 0 30 2 *"], ["0 3 * *"], ["5/15 * * * *"], ["22-2 * * * *"], ["@sometimes"], [""],
    ["0 3 * * *", "--timezone", "Mars/Base"], ["0 3 * * *", "--from", "tomorrow"], ["0 3 * * *", "--count", "0"]])
def test_next_refused(arguments):
    status, lines, errors = ask_next(*arguments)
    assert (status, lines, len(errors)) == (1, [], 1)
