#!/usr/bin/python3
"""Three daemons on one database while everything that can fail fails; then the witness and the checker look.

    TORTURE_SECONDS=600 TORTURE_SEED=42 make torture
    TORTURE_SECONDS=60 TORTURE_FAULTS=all make torture   # each fault once, then at random
    TORTURE_WITHOUT=lock make torture     # must fail: without a guard the checker sees what breaks

All randomness comes from the printed seed. What is true is kept outside the daemons, by witness.py. Exit status 1 and a
list when a promise was broken.
"""

import collections
import contextlib
import http.client
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))

import harness  # noqa: E402
import witness  # noqa: E402

SECONDS = float(os.environ.get("TORTURE_SECONDS", 600))
SEED = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))
WITHOUT = os.environ.get("TORTURE_WITHOUT")
ALL = os.environ.get("TORTURE_FAULTS") == "all"
DAEMONS = 3
CLIENTS = 4
CROWD = 300  # workflows unfinished, with which the clients slow down
LEASE_SECONDS = 4
QUIET_SECONDS = float(os.environ.get("TORTURE_QUIET", 60))  # for everything to come to its end by itself
DISK = "400m"  # where the database and one daemon's state lie, when we may mount

# What may be taken out on purpose, so that there is something to see: which function loses which words.
GUARDS = {
    "lock": [("lock_workflows", "FOR UPDATE", "")],
    "fence": [("end_attempts", "AND t.node_id = coalesce(i.node_id, p_node) AND t.attempt = i.attempt", "")],
    "cursor": [("fire", "s.cursor = u.seen AND u.cursor <= v_now", "true")],
    "cancel": [("cancel_locked", "AND w.status IN ('pending', 'progress')", "")],
}

AWAY = (AssertionError, OSError, http.client.HTTPException, ValueError)  # a daemon that a client does not reach


class Torture:
    def __init__(self):
        self.random = random.Random(SEED)
        self.disk = harness.Disk(DISK)
        harness.Postgres.OPTIONS["max_wal_size"] = "64MB"
        with self.on_disk():
            self.postgres = harness.Postgres()
        self.database = self.postgres.create_database()
        self.witness = witness.Witness(self.database)
        with self.on_disk():
            self.daemons = [self.make_daemon()]
        self.daemons += [self.make_daemon() for _ in range(DAEMONS - 1)]
        self.counts = collections.Counter()
        self.recent = collections.deque(maxlen=200)  # launched, and each comes to its end by itself
        self.died = []  # daemons that no fault of ours has ended
        self.crowded = False  # more is waiting than the machine can do
        self.done = False

    @contextlib.contextmanager
    def on_disk(self):
        """New directories lie on the small disk."""
        ordinary, tempfile.tempdir = tempfile.tempdir, str(self.disk.directory)
        try:
            yield
        finally:
            tempfile.tempdir = ordinary

    def make_daemon(self):
        address = f"127.0.0.1:{harness.free_port()}"
        daemon = harness.Daemon(witness.Witness.DEFINITIONS, database=self.database, listen=address, heartbeat="500ms",
                                lease=f"{LEASE_SECONDS}s", concurrency=6, query_timeout="3s", shutdown_grace="1s",
                                **self.witness.settings)
        daemon.address = address  # also while it is not ready
        return daemon

    # --- the clients ------------------------------------------------------------------------------------------

    def client(self, seed):
        rng = random.Random(seed)
        while not self.done:
            with contextlib.suppress(*AWAY):  # another one serves
                self.call(rng)
            time.sleep(rng.random() * (1 if self.crowded else 0.05))

    def call(self, rng):
        daemon = rng.choice(self.daemons)
        chance = rng.random()
        if chance < 0.06:
            self.cancel_long(rng)
        elif chance < 0.12:
            self.launch_twice(rng)
        elif chance < 0.14:
            self.witness.trigger(daemon, "YEARLY")
        elif chance < 0.2 and self.recent:
            self.relaunch(rng, daemon)
        elif chance < 0.25 and self.recent:
            self.witness.cancel(daemon, rng.choice(self.recent))
        else:
            workflow = self.witness.launch(daemon, rng.choice(witness.NAMES))
            self.recent.append(workflow)
            if chance > 0.9:
                self.witness.cancel(rng.choice(self.daemons), workflow)

    def relaunch(self, rng, daemon):
        workflow = self.witness.relaunch(daemon, rng.choice(self.recent), rng.random() < 0.7)
        if workflow is not None:
            self.recent.append(workflow)
            self.counts["relaunches acknowledged"] += 1

    def cancel_long(self, rng):
        """It would run for ever, also when its launch was not acknowledged: so there is a key, until it is."""
        key = f"{rng.random()}"
        while (workflow := self.insist(rng, lambda daemon: self.launch_with(daemon, key, "LONG"))) is None:
            time.sleep(0.1)
        self.insist(rng, lambda daemon: self.witness.cancel(daemon, workflow))

    def insist(self, rng, call):
        while True:
            try:
                return call(rng.choice(self.daemons))
            except AWAY:
                time.sleep(0.1)

    def launch_with(self, daemon, key, name):
        """The id, or None when it was not acknowledged."""
        reply = daemon.post("/api/workflows", {"project": "test", "name": name, "payload": {}}, **{"Idempotency-Key": key})
        if reply.status not in (200, 201):
            return None
        self.witness.note_launch(reply.json()["id"], key)
        return reply.json()["id"]

    def launch_twice(self, rng):
        """With one key, wherever: it is one workflow."""
        key, name = f"{rng.random()}", rng.choice(witness.NAMES)
        for _ in range(2):
            self.launch_with(rng.choice(self.daemons), key, name)

    # --- the faults -------------------------------------------------------------------------------------------

    def kill_daemons(self):
        """One to all, at once; half of them are met by the next fault while they start."""
        victims = self.random.sample(self.daemons, self.random.choice([1, 1, 1, 1, 2, DAEMONS]))
        for daemon in victims:
            self.end(daemon, signal.SIGKILL)
            self.counts["kill -9 of a daemon"] += 1
        time.sleep(self.random.random() * 0.3)
        for daemon in victims:
            daemon.spawn()
        if self.random.random() < 0.5:
            self.await_addresses(victims)

    def restart_daemon(self):
        daemon = self.random.choice(self.daemons)
        self.end(daemon, signal.SIGTERM)
        self.counts["stop and start of a daemon"] += 1
        daemon.spawn()

    def end(self, daemon, number):
        if not daemon.running():
            self.died.append(f"a daemon died by itself: {daemon.process.returncode}\n{daemon.log()[-2000:]}")
            return
        self.witness.note_harm(daemon)
        daemon.send_signal(number)
        try:
            daemon.wait_exit()
        except subprocess.TimeoutExpired:
            self.died.append(f"a daemon did not stop in time\n{daemon.log()[-2000:]}")
            daemon.process.kill()
            daemon.wait_exit()

    @staticmethod
    def await_addresses(daemons):
        for daemon in daemons:
            with contextlib.suppress(AssertionError):  # the database may be away
                daemon.await_ready()

    def freeze_daemon(self):
        daemon = self.random.choice(self.daemons)
        if not daemon.running():
            return
        self.witness.note_harm(daemon)
        daemon.send_signal(signal.SIGSTOP)
        self.counts["daemon frozen past its lease"] += 1
        time.sleep(LEASE_SECONDS + self.random.random() * 2)
        daemon.send_signal(signal.SIGCONT)

    def starve_daemon(self):
        """No descriptor is left for a while; one that starts would give up."""
        daemon = self.random.choice(self.daemons)
        self.await_addresses([daemon])
        if not daemon.running():
            return
        self.witness.note_harm(daemon)  # it cannot connect anew, should it lose its connections
        self.counts["daemon without descriptors"] += 1
        with harness.starved(daemon, self.random.randrange(4)):
            time.sleep(0.5 + self.random.random())

    def drain_daemon(self):
        """What it runs it ends, and takes nothing new; then it starts again."""
        daemon = self.random.choice(self.daemons)
        self.await_addresses([daemon])
        if not daemon.running():
            return
        with contextlib.suppress(*AWAY):
            reply = self.random.choice(self.daemons).post(f"/api/nodes/{daemon.node}/drain")
            self.counts["daemon drained"] += reply.status == 200
        time.sleep(self.random.random() * 2)
        self.end(daemon, signal.SIGTERM)
        daemon.spawn()

    def kill_backends(self):
        for _ in range(self.random.randrange(1, 12)):
            try:
                self.counts["kill of a connection's backend"] += self.database.value(
                    "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2) b")
            except psycopg2.Error:  # the server is away
                self.database.disconnect()
            time.sleep(self.random.uniform(0.02, 0.06))

    def kill_postgres(self):
        how = self.random.choice([signal.SIGKILL, signal.SIGQUIT])
        if self.postgres.process.poll() is None:
            self.postgres.process.send_signal(how)
            self.postgres.process.wait()
        self.counts["kill -9 or immediate stop of PostgreSQL"] += 1
        time.sleep(0.3 + self.random.random() * 2)
        self.start_postgres()

    def start_postgres(self):
        """After kill -9 its children may take a moment to notice."""
        for _ in range(50):
            try:
                self.postgres.start()
                return
            except AssertionError:
                time.sleep(0.2)
        raise SystemExit(f"PostgreSQL does not start any more\n{self.postgres.log.read_text()[-2000:]}")

    def freeze_postgres(self):
        """With all its processes, for longer than a query may take."""
        self.counts["PostgreSQL frozen"] += 1
        with harness.frozen(self.postgres):
            time.sleep(self.random.uniform(1, 5))

    def fill_disk(self):
        """Under the database and under one daemon's spool."""
        if not self.disk.mounted:
            self.counts["disk not filled, since we may not mount one"] += 1
            return
        self.witness.note_harm(*self.daemons)  # who can write again first may find the others overdue
        self.disk.fill()
        self.counts["disk full"] += 1
        time.sleep(self.random.uniform(1, 3))
        if self.random.random() < 0.5:  # and what waits in the full spool must not be needed
            self.kill_daemons()
        self.disk.free()
        time.sleep(1)
        if self.postgres.process.poll() is not None:
            self.start_postgres()

    FAULTS = [(20, kill_daemons), (14, kill_backends), (14, kill_postgres), (3, restart_daemon), (2, freeze_daemon),
              (1, freeze_postgres), (2, starve_daemon), (1, fill_disk), (2, drain_daemon)]

    def faults(self):
        """With TORTURE_FAULTS=all each one first, in this order."""
        weights, faults = zip(*self.FAULTS)
        if ALL:
            yield from faults
        while True:
            yield self.random.choices(faults, weights)[0]

    def fault(self, fault):
        if WITHOUT == "fence":  # what it guards against is a node that comes back
            fault = Torture.freeze_daemon
        fault(self)
        time.sleep(self.random.random() * 0.5)
        with contextlib.suppress(psycopg2.Error):
            self.crowded = self.witness.unfinished() > CROWD

    # --- the run ----------------------------------------------------------------------------------------------

    def remove_guard(self, guard):
        for function, words, instead in GUARDS[guard]:
            definition = self.database.value("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", function)
            if words not in definition:
                raise SystemExit(f"the guard '{guard}' is not in {function}() as this program knows it")
            self.database.sql(definition.replace(words, instead))
        if guard == "cursor":  # the key of the fires is the second guard of the same promise
            self.database.sql("ALTER TABLE fires DROP CONSTRAINT fires_pkey")

    def run(self):
        self.daemons[0].start()
        self.database.install_audit()
        if WITHOUT:
            self.remove_guard(WITHOUT)
        for daemon in self.daemons[1:]:
            daemon.start()
        clients = [threading.Thread(target=self.client, args=(SEED + i,), daemon=True) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        end = time.monotonic() + SECONDS
        left = len(self.FAULTS) if ALL else 0
        for number, fault in enumerate(self.faults()):
            if number >= left and time.monotonic() > end:
                break
            self.fault(fault)
        self.done = True
        return self.settle(clients)

    def settle(self, clients):
        """Nothing is launched or fired any more: everything must come to its end by itself."""
        for daemon in self.daemons:
            if not daemon.running():
                self.died.append(f"a daemon died by itself: {daemon.process.returncode}\n{daemon.log()[-2000:]}")
                daemon.spawn()
            daemon.await_ready()
        for client in clients:
            client.join()
        self.database.disconnect()  # the last fault may have met our own connection
        for name in witness.INTERVALS:
            harness.eventually(lambda name=name: self.daemons[0].post(f"/api/schedules/test.{name}/pause").status == 200,
                               "the database serves again")
        return self.died + self.witness.problems(self.daemons, QUIET_SECONDS)

    def errors(self):
        """What the daemons have logged as errors, without the numbers."""
        found = collections.Counter()
        for daemon in self.daemons:
            for line in daemon.log().splitlines():
                if " error " in line[:32]:
                    found[line.split('"')[1]] += 1
        return found

    def close(self):
        for daemon in self.daemons:
            if daemon.running():
                daemon.stop()
            daemon.dispose()
        self.postgres.close()
        self.witness.close()
        self.disk.close()


def main():
    print(f"seed {SEED}, {SECONDS:g} s", flush=True)
    torture = Torture()
    try:
        problems = torture.run()
        figures = torture.counts + collections.Counter(torture.witness.figures())
        errors = torture.errors()
    finally:
        torture.close()
    for what, count in sorted(figures.items()):
        print(f"{count:8} {what}")
    for what, count in errors.most_common():
        print(f"{count:8} logged as an error: {what}")
    for problem in problems:
        print(f"BROKEN: {problem}")
    print(f"{0 if problems else 1} passed, {1 if problems else 0} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
