"""An oracle for schedules: which instants are due, and whether the rows of `fires` cover each of them once."""

import datetime

from harness import eventually

UTC = datetime.timezone.utc


def interval(anchor, seconds, after, until):
    """The instants anchor + k * seconds in (after, until]; k counts from 1."""
    step = datetime.timedelta(seconds=seconds)
    k = max((after - anchor) // step, 0) + 1
    found = []
    while anchor + k * step <= until:
        found.append(anchor + k * step)
        k += 1
    return found


def seconds(matches, after, until):
    """The whole seconds in (after, until] that `matches` takes: a crontab, tried out second by second."""
    at = after.replace(microsecond=0) + datetime.timedelta(seconds=1)
    found = []
    while at <= until:
        if matches(at.astimezone(UTC)):
            found.append(at)
        at += datetime.timedelta(seconds=1)
    return found


class Schedule:
    """A schedule and its fires, as the tables have them at this moment."""

    def __init__(self, database, name, identity=None):
        self.id, self.anchor, self.cursor, self.paused = database.sql(
            "SELECT id, anchor, cursor, paused FROM schedules WHERE name = %s AND coalesce(identity = %s, true)",
            name, identity)[0]
        # By its cursor: what was decided since then is left out.
        self.rows = database.sql(
            "SELECT scheduled, outcome, count, until, workflow_id::text FROM fires"
            " WHERE schedule_id = %s AND scheduled <= %s ORDER BY scheduled", self.id, self.cursor)

    def outcomes(self, after=None, until=None):
        """By instant, those within (after, until]."""
        return {row[0]: row[1] for row in self.rows
                if (after is None or row[0] > after) and (until is None or row[0] <= until)}

    def ran(self, after=None, until=None):
        return [at for at, outcome in self.outcomes(after, until).items() if outcome == "ran"]


def uncovered(schedule, instants):
    """What is wrong with the rows, when exactly `instants` were due up to the schedule's cursor."""
    problems = []
    left = [at for at in instants if at <= schedule.cursor]
    covered = 0
    place = 0
    for at, outcome, count, until, _ in schedule.rows:
        first = place
        while place < len(left) and left[place] < at:
            place += 1
        problems += [f"no row for {missed}" for missed in left[first:place]]
        end = place
        while end < len(left) and left[end] <= (until or at):
            end += 1
        if end == place or left[place] != at or (until and left[end - 1] != until):
            problems.append(f"a row for what was never due: {outcome} {at} {until or ''}")
        elif end - place != (count or 1):
            problems.append(f"{outcome} {at} counts {count}, not {end - place}")
        covered += end - place
        place = end
    problems += [f"no row for {missed}" for missed in left[place:]]
    return problems


def count_fires(database, name, outcome="ran"):
    return database.value("SELECT count(*) FROM fires f JOIN schedules s ON s.id = f.schedule_id"
                          " WHERE s.name = %s AND f.outcome = %s", name, outcome)


def await_fires(database, name, more=1, outcome="ran", have=None):
    """Waits for so many more than there are now."""
    wanted = more + (count_fires(database, name, outcome) if have is None else have)
    eventually(lambda: count_fires(database, name, outcome) >= wanted,
               lambda: f"{wanted} fires of {name} that are {outcome}, not {count_fires(database, name, outcome)}")


def covered(database, name, seconds, identity=None):
    """Checks the rows of an interval against the oracle."""
    found = Schedule(database, name, identity)
    assert uncovered(found, interval(found.anchor, seconds, found.anchor, found.cursor)) == []
    return found
