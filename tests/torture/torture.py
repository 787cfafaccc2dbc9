#!/usr/bin/python3
"""Three daemons on one database while everything that can be killed is killed; then the checker looks.

    TORTURE_SECONDS=600 TORTURE_SEED=42 make torture
    TORTURE_WITHOUT=lock make torture     # must fail: without a guard the checker sees what breaks

All randomness comes from the printed seed. What is true is kept outside the daemons: every task appends a line to a file
when it starts, and the client notes what was acknowledged. Exit status 1 and a list when a promise was broken.
"""

import collections
import http.client
import os
import pathlib
import random
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))

import checker  # noqa: E402
import harness  # noqa: E402

SECONDS = float(os.environ.get("TORTURE_SECONDS", 600))
SEED = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))
WITHOUT = os.environ.get("TORTURE_WITHOUT")
DAEMONS = 3
QUIET_SECONDS = float(os.environ.get("TORTURE_QUIET", 60))  # for everything to come to its end by itself

DEFINITIONS = """
tasks:
  RUN: &run {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$RUNS"; sleep 0.0$((DIRECTOR_ATTEMPT % 5))', retry: {limit: 20, interval: 50ms}}
  FLAKY: {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$RUNS"; test $DIRECTOR_ATTEMPT -gt 1', retry: {limit: 20, interval: 20ms}}
  FAIL: {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$RUNS"; exit 3'}
  # Its result is its attempt: what another attempt left in its place is seen.
  SLOW: {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$RUNS"; sleep 2; echo $DIRECTOR_ATTEMPT > $DIRECTOR_RESULT', retry: {limit: 20, interval: 50ms}}
  N: {noop: true}
test.CHAIN: {tasks: [RUN, N, RUN]}
test.GRAPH:
  tasks:
    - A: {task: RUN}
    - B: {task: N, depends_on: [A]}
    - C: {task: FLAKY, depends_on: [A]}
    - D: {task: RUN, depends_on: [B, C]}
test.GROUP: {tasks: [{G: {type: group, tasks: [RUN, N, FLAKY, N]}}, N]}
test.FAILS: {tasks: [N, {G: {type: group, tasks: [FAIL, RUN]}}, N], hooks: {failure: RUN, success: N}}
test.SLOW: {tasks: [SLOW, N]}
test.LIMITED: {tasks: [RUN], concurrency: {limit: 2}}
test.REPLACED: {tasks: [SLOW], concurrency: {limit: 1, overlap: replace}}
test.TICK: {tasks: [N], periodic: {interval: 0.5, catchup: all}}
test.TOCK: {tasks: [RUN], periodic: {interval: 1}, concurrency: {overlap: skip}}
"""
NAMES = ["CHAIN", "CHAIN", "CHAIN", "GRAPH", "GRAPH", "GROUP", "FAILS", "SLOW", "LIMITED", "REPLACED"]

# What may be taken out on purpose, so that the checker has something to see: which function loses which words.
GUARDS = {
    "lock": [("finish", "PERFORM lock_workflows(p_workflows);", "")],
    "fence": [("settle", "AND t.node_id = i.node_id AND t.attempt = i.attempt", "")],
    "cursor": [("fire", "s.cursor = u.seen AND u.cursor <= v_now", "true")],
}


class Torture:
    def __init__(self):
        self.random = random.Random(SEED)
        self.postgres = harness.Postgres()
        self.database = self.postgres.create_database()
        self.runs = harness.make_directory() / "runs"
        self.runs.touch()
        self.daemons = [self.make_daemon() for _ in range(DAEMONS)]
        self.lock = threading.Lock()
        self.acknowledged = []
        self.canceled = []
        self.counts = collections.Counter()
        self.done = False

    def make_daemon(self):
        return harness.Daemon(DEFINITIONS, database=self.database, heartbeat="500ms", lease="4s", concurrency=6,
                              query_timeout="3s", shutdown_grace="1s", task_env_RUNS=self.runs)

    # --- the client -------------------------------------------------------------------------------------------

    def client(self, seed):
        rng = random.Random(seed)
        while not self.done:
            daemon = rng.choice(self.daemons)
            try:
                workflow = daemon.launch(rng.choice(NAMES))
                with self.lock:
                    self.acknowledged.append(workflow)
                if rng.random() < 0.1:
                    reply = daemon.cancel(workflow)
                    if reply.status == 201:
                        self.canceled.append(workflow)
            except (AssertionError, OSError, http.client.HTTPException, AttributeError, ValueError):
                time.sleep(0.05)  # away; another one serves
            time.sleep(rng.random() * 0.05)

    # --- the faults -------------------------------------------------------------------------------------------

    def kill_daemon(self):
        daemon = self.random.choice(self.daemons)
        daemon.process.kill()
        daemon.process.wait()
        self.counts["kill -9 of a daemon"] += 1
        time.sleep(self.random.random() * 0.3)
        if self.random.random() < 0.3:
            daemon.spawn()  # and the next fault meets it while it starts
        else:
            daemon.start()

    def pause_daemon(self):
        daemon = self.random.choice(self.daemons)
        if not daemon.running():
            return
        os.kill(daemon.process.pid, signal.SIGSTOP)
        self.counts["daemon frozen past its lease"] += 1
        time.sleep(5.5)
        os.kill(daemon.process.pid, signal.SIGCONT)

    def kill_backends(self):
        for _ in range(self.random.randrange(1, 12)):
            try:
                killed = self.database.value(
                    "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE datname ="
                    " current_database() AND application_name LIKE 'directord%%' ORDER BY random() LIMIT 2) b")
                self.counts["backend kills"] += killed
            except Exception:  # ours was among them, or the server is away
                self.database.disconnect()
            time.sleep(self.random.uniform(0.02, 0.06))

    def kill_postgres(self):
        how = self.random.choice([signal.SIGKILL, signal.SIGQUIT])
        if how == signal.SIGKILL:
            os.kill(self.postgres.process.pid, how)
            self.postgres.process.wait()
            time.sleep(0.3)  # its children notice
        else:
            self.postgres.stop(how)
        self.counts["kill -9 or immediate stop of PostgreSQL"] += 1
        time.sleep(self.random.random() * 2)
        for _ in range(50):
            try:
                self.postgres.start()
                return
            except Exception:
                time.sleep(0.2)
        raise SystemExit("PostgreSQL does not start any more")

    def fault(self):
        kinds = [self.kill_daemon] * 10 + [self.kill_backends] * 6 + [self.kill_postgres] * 3 + [self.pause_daemon]
        if WITHOUT == "fence":  # what it guards against is a node that comes back
            kinds = [self.pause_daemon]
        self.random.choice(kinds)()
        time.sleep(self.random.random() * 0.5)

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
        if WITHOUT:
            self.remove_guard(WITHOUT)
        for daemon in self.daemons[1:]:
            daemon.start()
        clients = [threading.Thread(target=self.client, args=(SEED + i,), daemon=True) for i in range(4)]
        for client in clients:
            client.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self.fault()
        self.done = True
        for client in clients:
            client.join()
        self.settle()
        return self.problems()

    def settle(self):
        """Nothing is launched or fired any more: everything must come to its end by itself."""
        self.database.disconnect()  # the last fault may have met our own connection
        for daemon in self.daemons:
            if not daemon.running():
                daemon.spawn()
            daemon.await_ready()
            daemon.define("{}")
            os.kill(daemon.process.pid, signal.SIGHUP)
        unfinished = "SELECT count(*) FROM workflows w WHERE finished IS NULL OR EXISTS (SELECT FROM tasks t" \
                     " WHERE t.workflow_id = w.id AND (t.held OR t.finished IS NULL))"
        end = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < end and self.database.value(unfinished) > 0:
            time.sleep(0.5)

    def problems(self):
        found = self.database.problems(quiet=True)
        connection = self.postgres.connect(self.database.name)
        found += checker.check_acknowledged(connection, self.acknowledged)
        nothing_to_run = self.noops()
        found += [problem for problem in checker.check_executions(connection, self.runs.read_text().splitlines())
                  if not problem.startswith("done without having run")
                  or problem.split()[-1] not in nothing_to_run]
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM workflows WHERE id::text = ANY (%s) AND status <> 'canceled'",
                           (self.canceled,))
            wrong = cursor.fetchone()[0]
            cursor.execute("SELECT workflow_id::text FROM tasks WHERE status = 'success'"
                           " AND result::text ~ '^[0-9]+$' AND result::text::integer <> attempt")
            found += [f"result of another attempt: workflow {workflow}" for (workflow,) in cursor.fetchall()]
            cursor.execute("SELECT id, substr(trigger, 10) FROM schedules WHERE trigger LIKE 'interval:%'")
            for schedule, interval in cursor.fetchall():
                seconds = 0.5 if interval == "500ms" else float(interval.rstrip("s"))
                found += [f"instant without a row: schedule {schedule}, {instant}"
                          for instant in checker.missing_fires(cursor, schedule, seconds)]
        if wrong:
            found.append(f"{wrong} acknowledged cancels were overwritten")
        if "deadlock detected" in self.postgres.log.read_text(errors="replace"):
            found.append("PostgreSQL saw a deadlock")
        self.counts["workflows"] = self.database.value("SELECT count(*) FROM workflows")
        self.counts["attempts lost with their node"] = self.database.value(
            "SELECT (SELECT count(*) FROM attempts WHERE reason = 'node_lost')"
            " + (SELECT count(*) FROM tasks WHERE reason = 'node_lost')")
        self.counts["acknowledged launches"] = len(self.acknowledged)
        self.counts["acknowledged cancels"] = len(self.canceled)
        self.counts["task starts"] = len(self.runs.read_text().splitlines())
        return found

    def noops(self):
        return {task for (task,) in self.database.sql(
            "SELECT left(t.workflow_id::text, 32) || lpad(to_hex(t.position + 1), 4, '0') FROM tasks t"
            " JOIN workflows w ON w.id = t.workflow_id JOIN definition_tasks d"
            " ON d.definition_id = w.definition_id AND d.position = t.position WHERE d.action IS NULL")}

    def close(self):
        for daemon in self.daemons:
            if daemon.running():
                daemon.stop()
        self.postgres.close()


def main():
    print(f"seed {SEED}, {SECONDS:g} s", flush=True)
    torture = Torture()
    try:
        problems = torture.run()
    finally:
        torture.close()
    for what, count in sorted(torture.counts.items()):
        print(f"{count:8} {what}")
    for problem in problems:
        print(f"BROKEN: {problem}")
    print(f"{0 if problems else 1} passed, {1 if problems else 0} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
