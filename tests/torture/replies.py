#!/usr/bin/python3
"""One request of a daemon to PostgreSQL is cut off, or its reply lost; for every one of a daemon's life.

    make torture-replies                                  # every fault (proxy.FAULTS) at every request, and then some
    TORTURE_REPLIES=3 TORTURE_SEED=42 make torture-replies    # each at so many requests, chosen from the seed

In a life a bit of everything is launched, run, canceled and fired; it begins with an empty database. Then the witness and
the checker look. A few lives more lose every k-th reply to an append of logs. Exit status 1 and a list when a promise was
broken.
"""

import http.client
import itertools
import os
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))

import harness  # noqa: E402
import proxy  # noqa: E402
import witness  # noqa: E402

SEED = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))
SAMPLE = int(os.environ.get("TORTURE_REPLIES") or 0)
TYPICAL = 110  # about so many requests are in a life, of which FEWEST for sure
FEWEST = 60
APPEND = b"\0append_logs\0"  # as a statement that is executed, not prepared
APPENDS = (2, 3, 5)  # the reply to every so many of them is lost
LAUNCHED = ("CHATTY", "CHAIN", "DIAMOND", "GROUP", "FAILS", "HOOKED", "LIMITED", "LIMITED", "LIMITED")


def insist(call, *arguments):
    """A client that tries again until it is served."""
    end = time.monotonic() + harness.DEADLINE
    while True:
        try:
            return call(*arguments)
        except (OSError, http.client.HTTPException, AssertionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def pause(daemon, name):
    reply = daemon.post(f"/api/schedules/test.{name}/pause")
    assert reply.status == 200, reply


def live(daemon, seen):
    daemon.start()
    seen.database.install_audit()
    for name in LAUNCHED:
        insist(seen.launch, daemon, name)
    insist(seen.cancel, daemon, insist(seen.launch, daemon, "LONG"))
    time.sleep(0.7)  # the schedules have fired
    for name in witness.INTERVALS:
        insist(pause, daemon, name)
    seen.await_quiet()
    status = daemon.stop()
    return [f"the daemon ended with status {status}"] if status else []


class Replies:
    def __init__(self):
        self.postgres = harness.Postgres()
        self.migrated = harness.create_template(self.postgres)
        self.lives = 0

    def database(self, fault):
        """A migration whose reply never comes, or late, is waited for, since it may take long."""
        return self.postgres.create_database(f"TEMPLATE {self.migrated.name}" if fault in ("stall", "late") else "")

    def life(self, fault, number, **which):
        """Whether the life had such a request, and the problems."""
        database = self.database(fault)
        between = proxy.Proxy(self.postgres)
        seen = witness.Witness(database)
        daemon = harness.Daemon(seen.DEFINITIONS, database=database, database_uri=between.uri(database.name),
                                concurrency=6, query_timeout="1s", heartbeat="500ms", **seen.settings)
        between.arm(fault, number, **which)
        try:
            problems = live(daemon, seen) + seen.problems()
        except Exception as failure:  # of whatever kind: the others come after it
            problems = [f"{type(failure).__name__}: {failure}"]
        if problems:
            problems.append(daemon.log())
        daemon.dispose()
        between.close()
        seen.close()
        database.drop()
        self.lives += 1
        where = f"{fault} at {number}{which or ''}"
        return between.reached, [f"{where}: {problem}" for problem in problems]

    def run(self, fault):
        """The problems with the fault at the chosen requests, or at one after the other while there are any."""
        if SAMPLE:
            return self.run_sample(fault)
        found = []
        for number in itertools.count(1):
            reached, problems = self.life(fault, number)
            found += problems
            if not reached:
                print(f"{number - 1:8} requests: {fault}", flush=True)
                return found + ([f"{fault}: a life has only {number - 1} requests"] if number < FEWEST else [])

    def run_logs(self):
        return [problem for number in APPENDS
                for problem in self.life("lose", number, of=APPEND, again=True)[1]]

    def run_sample(self, fault):
        """At so many requests that a life comes to."""
        numbers = list(range(1, TYPICAL))
        random.Random(f"{SEED} {fault}").shuffle(numbers)
        found, left = [], SAMPLE
        while left > 0 and numbers:
            reached, problems = self.life(fault, numbers.pop())
            found += problems
            left -= reached
        return found + ([f"{fault}: no life has so many requests"] if left > 0 else [])


def main():
    print(f"seed {SEED}", flush=True)
    replies = Replies()
    try:
        problems = [problem for fault in proxy.FAULTS for problem in replies.run(fault)]
        problems += replies.run_logs()
    finally:
        replies.postgres.close()
    print(f"{replies.lives:8} lives")
    for problem in problems:
        print(f"BROKEN: {problem}")
    print(f"{0 if problems else 1} passed, {1 if problems else 0} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
