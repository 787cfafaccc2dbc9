"""One request of the daemon to PostgreSQL is cut off, or its reply lost; for every one of a daemon's life.

    TORTURE_SEED     which ones, when not all
    TORTURE_ALL=1    every one, until a life has no more: `make torture-replies`
"""

import http.client
import itertools
import os
import random
import time

import pytest

import harness
import proxy
import witness

SEED = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))
ALL = bool(os.environ.get("TORTURE_ALL"))
# A life here has more than FIRST requests and about TYPICAL. The reply to one of those in front, before the daemon is
# ready, is waited for half a minute, since a migration may take so long.
FIRST = 8
TYPICAL = 120
SAMPLE = 4
DEADLINE = 60


def insist(call, *arguments):
    """A client that tries again until it is served."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return call(*arguments)
        except (OSError, http.client.HTTPException, AssertionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def live(daemon, seen):
    """A short life with a bit of everything in it."""
    daemon.start()
    for name in ("CHAIN", "DIAMOND", "GROUP", "FAILS", "LIMITED", "LIMITED", "LIMITED"):
        insist(seen.launch, daemon, name)
    insist(seen.cancel, daemon, insist(seen.launch, daemon, "LONG"))
    time.sleep(1)
    daemon.define(seen.QUIET_DEFINITIONS)
    insist(daemon.reload)
    seen.await_quiet()
    assert daemon.stop() == 0


def life_with(fault, number, postgres):
    """False when the life had no such request."""
    database = postgres.create_database()
    between = proxy.Proxy(postgres)
    seen = witness.Witness(database)
    daemon = harness.Daemon(seen.DEFINITIONS, database=database, database_uri=between.uri(database.name), concurrency=6,
                            query_timeout="1s", heartbeat="500ms", **seen.settings)
    try:
        between.arm(fault, number)
        live(daemon, seen)
        problems = seen.problems()
        assert not problems, f"{fault} at {number}, TORTURE_SEED={SEED}: {problems}\n{daemon.log()}"
        return between.reached
    finally:
        daemon.dispose()
        between.close()
        seen.close()
        database.drop()


@pytest.mark.parametrize("fault", proxy.FAULTS)
def test_one_request_fails(postgres, fault):
    if ALL:
        last = next(number for number in itertools.count(1) if not life_with(fault, number, postgres))
        assert last > FIRST
        return
    for number in random.Random(SEED).sample(range(FIRST, TYPICAL), SAMPLE):
        life_with(fault, number, postgres)
