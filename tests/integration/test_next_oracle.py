"""Compares the scheduler's instants with an oracle that shares nothing with it.

The oracle follows docs/schedules.md literally: it lists every local time of an expression and asks Python's zoneinfo
when a clock in the zone shows it. Random expressions, zones and years, half of them next to a change of the clock.

    DIRECTORD_SEED     repeats a run; each run prints its seed
    DIRECTORD_NIGHTLY  1 compares a million instants instead of ten thousand
"""

import os
import pathlib
import random
import subprocess
import time
import zoneinfo
from datetime import date, datetime, timedelta, timezone

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
DRIVER = BUILD / "tests/unit/scheduler/next_driver"

NIGHTLY = os.environ.get("DIRECTORD_NIGHTLY") == "1"
COMPARISONS = 1_000_000 if NIGHTLY else 10_000
INSTANTS_PER_CASE = 40
CASES_PER_BATCH = 50

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WEEKDAYS = "sun mon tue wed thu fri sat".split()
# Name, first and last value, names of the values.
FIELDS = [
    ("second", 0, 59, []),
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day", 1, 31, []),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 7, WEEKDAYS),
]
FORMS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
ZONES = sorted(z for z in zoneinfo.available_timezones() if not z.startswith(("posix", "right")))
UTC = timezone.utc


# --- the oracle --------------------------------------------------------------------------------


class Refused(Exception):
    pass


def value(text, field):
    _, low, high, names = field
    if text.lower() in names:
        return low + names.index(text.lower())
    if not text.isdigit() or not low <= int(text) <= high:
        raise Refused(text)
    return int(text)


def values(text, field):
    name, low, high, _ = field
    found = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if span == "*":
            first, last = low, 6 if name == "weekday" else high
        elif "-" in span:
            first, last = (value(end, field) for end in span.split("-", 1))
        else:
            first = last = value(span, field)
            if slash:
                raise Refused("a lone number with a step")
        if slash and (not step.isdigit() or int(step) == 0):
            raise Refused("step")
        if first > last:
            raise Refused("backwards")
        found.update(range(first, last + 1, int(step) if slash else 1))
    return {n % 7 for n in found} if name == "weekday" else found


class Expression:
    def __init__(self, text, day_match):
        words = FORMS.get(text.lower(), text).split()
        if len(words) == 5:
            words.insert(0, "0")
        if len(words) != 6:
            raise Refused("fields")
        self.seconds, self.minutes, self.hours, self.days, self.months, self.weekdays = (
            values(word, field) for word, field in zip(words, FIELDS)
        )
        self.by_clock = words[1].startswith("*") or words[2].startswith("*")
        self.both_days = day_match == "all" or words[3].startswith("*") or words[5].startswith("*")
        # A leap year that begins on each weekday shows every date there is.
        self.possible = any(
            self.has_date(date(year, 1, 1) + timedelta(n))
            for year in (2000, 2004, 2008, 2012, 2016, 2020, 2024)
            for n in range(366)
        )
        if not self.possible:
            raise Refused("never")

    def has_date(self, day):
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        matches = in_month and in_week if self.both_days else in_month or in_week
        return day.month in self.months and matches

    def times_a_day(self):
        return len(self.hours) * len(self.minutes) * len(self.seconds)

    def local_times(self, day):
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                for second in sorted(self.seconds):
                    yield datetime(day.year, day.month, day.day, hour, minute, second)


def end_of_gap(local, zone):
    """The first second after the gap that swallows the local time, by bisection between both readings of it."""
    before = int(local.replace(tzinfo=zone, fold=1).timestamp())
    after = int(local.replace(tzinfo=zone, fold=0).timestamp())
    assert before < after
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) < local:
            before = middle
        else:
            after = middle
    return after


def instants_of(local, zone, by_clock):
    passes = []
    for fold in (0, 1):
        instant = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) == local:
            passes.append(int(instant.timestamp()))
    if by_clock:
        return passes
    return [min(passes) if passes else end_of_gap(local, zone)]


def oracle(expression, zone, after, until):
    """Every instant in (after, until], in order."""
    found = set()
    day = datetime.fromtimestamp(after, UTC).date() - timedelta(2)
    last = datetime.fromtimestamp(until, UTC).date() + timedelta(2)
    while day <= last:
        if expression.has_date(day):
            for local in expression.local_times(day):
                found.update(instants_of(local, zone, expression.by_clock))
        day += timedelta(1)
    return sorted(t for t in found if after < t <= until)


# --- random questions --------------------------------------------------------------------------


def random_value(rng, field):
    _, low, high, names = field
    number = rng.randint(low, high)
    if names and rng.random() < 0.4:
        name = names[(number - low) % len(names)]
        return rng.choice([name, name.upper(), name.title()]), (number - low) % len(names) + low
    return rng.choice(["%d", "%02d"]) % number, number


def random_item(rng, field):
    kind = rng.random()
    step = rng.choice(["", "", "/2", "/3", "/7", "/10", "/15", "/40", "/99"])
    if kind < 0.15:
        return "*" + step
    (text, number), (other, other_number) = random_value(rng, field), random_value(rng, field)
    if kind < 0.65:
        return text
    if number > other_number and rng.random() < 0.97:
        text, other = other, text
    return f"{text}-{other}{step}"


def random_field(rng, field):
    if rng.random() < 0.35:
        return "*" + rng.choice(["", "", "", "/2", "/5", "/13", "/70"])
    count = rng.choice([1, 1, 1, 2, 3])
    return ",".join(random_item(rng, field) for _ in range(count))


def random_text(rng):
    if rng.random() < 0.03:
        return rng.choice(sorted(FORMS))
    words = [random_field(rng, field) for field in FIELDS]
    if rng.random() < 0.7:
        del words[0]
    if rng.random() < 0.5:
        words[-3:] = "*", "*", "*"
    if rng.random() < 0.02:
        words[rng.randrange(len(words))] = rng.choice(["60", "5/2", "x", "", "1,", "-1", "*/0", "7-1"])
    return rng.choice([" ", "\t", "  "]).join(words)


def change_in_year(rng, zone, year):
    """A change of the clock in the year, or None."""

    def offset(instant):
        return datetime.fromtimestamp(instant, zone).utcoffset()

    start = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    samples = [start + n * 86400 for n in range(0, 370, 5)]
    changes = [(a, b) for a, b in zip(samples, samples[1:]) if offset(a) != offset(b)]
    if not changes:
        return None
    before, after = rng.choice(changes)
    old = offset(before)
    while after - before > 1:
        middle = (before + after) // 2
        if offset(middle) == old:
            before = middle
        else:
            after = middle
    return after


def random_start(rng, zone):
    first, last = rng.choice([(1970, 2037)] * 7 + [(2038, 2500)] * 2 + [(2501, 9990)])
    year = rng.randint(first, last)
    change = change_in_year(rng, zone, year) if rng.random() < 0.5 else None
    if change is not None:
        return max(0, change + rng.choice([rng.randint(-2 * 86400, 0), rng.randint(-7200, 7200)]))
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) + rng.randrange(366 * 86400)


class Case:
    def __init__(self, rng):
        self.zone = rng.choice(ZONES)
        self.day_match = rng.choice(["any", "all"])
        self.text = random_text(rng)
        self.after = random_start(rng, zoneinfo.ZoneInfo(self.zone))

    def question(self):
        return f"{self.zone}\t{self.day_match}\t{self.after}\t{INSTANTS_PER_CASE}\t{self.text}\n"

    def check(self, answer):
        """Compares; returns how many instants there were."""
        try:
            expression = Expression(self.text, self.day_match)
        except Refused as refused:
            assert answer.startswith("error: "), f"{self}: taken, but {refused}"
            return 0
        assert not answer.startswith("error: "), f"{self}: {answer}"
        found = [int(word) for word in answer.split()]
        days = min(800, max(3, 1000 // expression.times_a_day()))
        until = self.after + days * 86400
        if len(found) == INSTANTS_PER_CASE:
            until = min(until, found[-1])
        wanted = oracle(expression, zoneinfo.ZoneInfo(self.zone), self.after, until)
        found = [t for t in found if t <= until]
        assert found == wanted, f"{self}: {first_difference(found, wanted)}"
        return len(wanted)

    def __str__(self):
        return f"{self.text!r} {self.zone} {self.day_match} after {utc(self.after)}"


def utc(instant):
    return datetime.fromtimestamp(instant, UTC).isoformat()


def first_difference(found, wanted):
    instant = min(set(found) ^ set(wanted))
    return f"{utc(instant)} is {'wrong' if instant in found else 'missing'}"


def ask(cases):
    questions = "".join(case.question() for case in cases)
    done = subprocess.run([DRIVER], input=questions, capture_output=True, text=True, check=True, timeout=60)
    answers = done.stdout.splitlines()
    assert len(answers) == len(cases)
    return answers


def test_next_agrees_with_oracle():
    seed = int(os.environ.get("DIRECTORD_SEED", time.time_ns() % 2**32))
    print(f"DIRECTORD_SEED={seed}")
    rng = random.Random(seed)
    compared = 0
    while compared < COMPARISONS:
        cases = [Case(rng) for _ in range(CASES_PER_BATCH)]
        compared += sum(case.check(answer) for case, answer in zip(cases, ask(cases)))
