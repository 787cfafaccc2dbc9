"""Three daemons on one database, one of which is killed every second: no instant is lost, none is decided twice.

DIRECTORD_NIGHTLY=1 makes it last a minute.
"""

import os
import random
import time

import fires
from fires import Schedule
from harness import eventually

SECONDS = 60 if os.environ.get("DIRECTORD_NIGHTLY") else 15

# By name: what it is, and the oracle's idea of it: an interval, or which seconds match.
SCHEDULES = {
    "A": ("interval: 50ms", 0.05),
    "B": ("interval: 0.3, catchup: all", 0.3),
    "C": ("interval: 1, catchup: none", 1),
    "D": ("interval: 2, jitter: 1s, catchup: all, catchup_window: 3s", 2),
    "E": ("crontab: '* * * * * *', catchup: all", lambda at: True),
    "F": ("crontab: '*/2 * * * * *'", lambda at: at.second % 2 == 0),
    "G": ("crontab: '1-59/3,30 * * * * *', timezone: Asia/Kolkata, catchup: none",
          lambda at: at.second % 3 == 1 or at.second == 30),
    "H": ("crontab: '*/5 * * * * *', jitter: 3s", lambda at: at.second % 5 == 0),
}
# What they run, in turn.
BODIES = ("tasks: [NOOP]", "tasks: [NOOP, SHORT]", "tasks: [LONG], concurrency: {overlap: skip}",
          "tasks: [NOOP], concurrency: {limit: 2}", "tasks: [NOOP, SHORT], concurrency: {overlap: replace}")

DEFINITIONS = """
tasks:
  NOOP: {noop: true}
  SHORT: {command: [sleep, '0.05'], retry: {limit: 3, interval: 0}}
  LONG: {command: [sleep, '1.3']}
""" + "".join(
    f"test.{name}: {{{BODIES[number % len(BODIES)]}, periodic: {{{schedule}}}}}\n"
    for number, (name, (schedule, _)) in enumerate(SCHEDULES.items()))


def due(schedule, rule):
    if callable(rule):
        return fires.seconds(rule, schedule.anchor, schedule.cursor)
    return fires.interval(schedule.anchor, rule, schedule.anchor, schedule.cursor)


def test_killed_daemons(make, database):
    first = make(DEFINITIONS)
    daemons = [first] + [make(workflows_dir=first.workflows) for _ in range(2)]
    for daemon in daemons:
        daemon.start()
    begin = time.monotonic()
    chance = random.Random(SECONDS)
    kills = 0
    while time.monotonic() < begin + SECONDS:
        time.sleep(1)
        daemon = chance.choice(daemons)
        daemon.process.kill()
        daemon.wait_exit()
        daemon.spawn()
        kills += 1
    for daemon in daemons:
        daemon.await_ready()
    last = time.monotonic() - begin
    time.sleep(2.5)
    for name in SCHEDULES:
        assert daemons[0].post(f"/api/schedules/test.{name}/pause").status == 200
    eventually(lambda: database.value("SELECT count(*) FROM workflows WHERE finished IS NULL") == 0, "all have ended")

    outcomes = {}
    for name, (_, rule) in SCHEDULES.items():
        schedule = Schedule(database, name)
        instants = due(schedule, rule)
        assert fires.uncovered(schedule, instants) == [], name
        assert (schedule.cursor - schedule.anchor).total_seconds() > last - 5
        for _, outcome, count, _, _ in schedule.rows:
            outcomes[outcome] = outcomes.get(outcome, 0) + (count or 1)
    ran = [row[0] for row in database.sql("SELECT workflow_id::text FROM fires WHERE outcome = 'ran' ORDER BY 1")]
    assert ran == [row[0] for row in database.sql("SELECT id::text FROM workflows ORDER BY 1")]
    assert database.problems() == []
    assert outcomes["ran"] > 5 * SECONDS
    print(f"{kills} kills, instants by what became of them: {outcomes}")
