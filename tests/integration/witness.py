"""What really happened, noted outside the daemons while faults are made; in the end the tables must tell the same story.

Every task that runs a program appends to one file, `start TASK ATTEMPT PID` and, just before a success, `end …`: with
O_APPEND the lines are whole and in order. Each prints some lines, too, so that its log is known. The client notes what
was acknowledged to it, and the test whom it has harmed.

    witness = Witness(database)
    daemon = harness.Daemon(witness.DEFINITIONS, database=database, **witness.settings)
    witness.launch(daemon, "CHAIN")
    witness.note_harm(daemon); daemon.kill()
    witness.problems([daemon])
"""

import collections
import pathlib
import re
import shutil
import threading
import time

import psycopg2

import checker
import fires
import harness

# Its result is the number of its attempt; what it prints is output().
SCRIPT = ('echo "start $DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT $$" >> "$WITNESS";'
          ' n=0; say() { n=$((n + 1)); echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT $n"; };'
          ' say; say; say; %s; say; echo $DIRECTOR_ATTEMPT >&3;'
          ' echo "end $DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT $$" >> "$WITNESS"')
PERSISTENT = "retry: {limit: 30, interval: 50ms}"
TASKS = f"""
tasks:
  RUN: {{script: '{SCRIPT % "sleep 0.0$((DIRECTOR_ATTEMPT % 5))"}', {PERSISTENT}}}
  FLAKY: {{script: '{SCRIPT % "test $DIRECTOR_ATTEMPT -gt 1 || exit 1"}', {PERSISTENT}}}
  SLOW: {{script: '{SCRIPT % "sleep 2"}', {PERSISTENT}}}
  FAIL: {{script: '{SCRIPT % "exit 3"}'}}
  CHATTY: {{script: '{SCRIPT % "for i in $(seq 60); do say; sleep 0.02; done"}', {PERSISTENT}}}
  LONG: {{script: '{SCRIPT % "sleep 600"}', {PERSISTENT}}}
  STUBBORN: {{script: '{SCRIPT % 'trap "" TERM; setsid sleep 600 & sleep 600'}', grace: 300ms, {PERSISTENT}}}
  N: {{noop: true}}
"""
WORKFLOWS = """
test.CHAIN: {tasks: [RUN, N, RUN]}
test.DIAMOND:
  tasks:
    - A: {task: RUN}
    - B: {task: N, depends_on: [A]}
    - C: {task: FLAKY, depends_on: [A]}
    - D: {task: RUN, depends_on: [B, C]}
test.GROUP: {tasks: [{G: {type: group, tasks: [RUN, N, FLAKY, N]}}, RUN]}
test.FAILS: {tasks: [N, {G: {type: group, tasks: [FAIL, RUN]}}, N], hooks: {failure: RUN, success: N}}
test.HOOKED: {tasks: [RUN], hooks: {failure: N, success: RUN}}
test.SLOW: {tasks: [SLOW, N]}
test.CHATTY: {tasks: [CHATTY]}
test.LONG: {tasks: [{G: {type: group, tasks: [LONG, STUBBORN]}}, N]}
test.LIMITED: {tasks: [RUN], concurrency: {limit: 2}}
test.REPLACED: {tasks: [SLOW], concurrency: {limit: 1, overlap: replace}}
"""
PERIODIC = """
test.TICK: {tasks: [N], periodic: {interval: 0.5, catchup: all}}
test.TOCK: {tasks: [RUN], periodic: {interval: 1}, concurrency: {overlap: skip}}
test.YEARLY: {tasks: [RUN], periodic: {crontab: "@yearly"}}
"""
INTERVALS = {"TICK": 0.5, "TOCK": 1}
NAMES = ["CHAIN", "DIAMOND", "GROUP", "FAILS", "HOOKED", "SLOW", "LIMITED", "REPLACED"]

# Before its processes must be gone, a canceled workflow's owner may be dead, frozen or without its database for a while.
CANCEL_SECONDS = 30
# Before nothing of it may start any more, its owner may be frozen.
START_SECONDS = 10
# So long after a restart of PostgreSQL what was logged just before it may be missing: commits of logs do not wait for
# the disk.
LOG_SECONDS = 10
# Of a daemon at rest.
MAX_DESCRIPTORS = 64
MAX_RESIDENT_BYTES = 128 << 20
# What PostgreSQL may say about us: of an unknown outcome that is sent again, and of faults.
EXPECTED_SQL = re.compile(r"the same batch is being committed by its first sending|terminating connection|canceling|"
                          r"the database system is |could not .*(client|socket)|could not extend file|No space left")


def environments():
    """The environments of all processes, by id."""
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            lines = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found[int(process.name)] = dict(line.decode(errors="replace").split("=", 1) for line in lines if b"=" in line)
    return found


def zombies(pid):
    """The dead children that `pid` has not reaped."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) == pid:
            found.append(int(stat.parent.name))
    return found


def output(task, attempt, key):
    """What a task of SCRIPT prints, in whole."""
    lines = 64 if key == "CHATTY" else 4
    return "".join(f"{task} {attempt} {n}\n" for n in range(1, lines + 1)).encode()


def rows_of(connection, query, *values):
    with connection, connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return cursor.fetchall()


class Witness:
    DEFINITIONS = TASKS + WORKFLOWS + PERIODIC
    QUIET_DEFINITIONS = TASKS + WORKFLOWS

    def __init__(self, database):
        self.database = database
        self.directory = harness.make_directory()
        self.path = self.directory / "lines"
        self.path.touch()
        self.settings = {"task_env_WITNESS": self.path}
        self.launched = []
        self.by_key = collections.defaultdict(set)
        self.canceled = {}  # and when that was acknowledged
        self.silent_from = {}  # place in the file behind which nothing of a canceled workflow may start
        self.harms = []  # the state directory of a daemon, and when
        self.late = set()  # processes of a canceled workflow that were seen too late
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def close(self):
        self.over.set()
        self.watcher.join()
        shutil.rmtree(self.directory)

    # --- what the client is told

    def launch(self, daemon, name, **members):
        """The id, when it was acknowledged. Any failure else is an exception."""
        workflow = daemon.launch(name, **members)
        self.note_launch(workflow)
        return workflow

    def note_launch(self, workflow, key=None):
        """`key`: an Idempotency-Key, with which it was told to the client; there may be several answers."""
        self.launched.append(workflow)
        if key is not None:
            self.by_key[key].add(workflow)

    def cancel(self, daemon, workflow):
        """True when it was acknowledged; False when the workflow had ended before."""
        reply = daemon.cancel(workflow)
        assert reply.status in (201, 409), reply
        if reply.status == 201:
            self.canceled[workflow] = time.monotonic()
        return reply.status == 201

    def relaunch(self, daemon, workflow, from_failed=False):
        """The new one's id, when it was acknowledged; None where it cannot be relaunched."""
        reply = daemon.post(f"/api/workflows/{workflow}/relaunch", {"from": "failed"} if from_failed else {})
        assert reply.status in (201, 404, 409), reply
        return self.note_acknowledged(reply)

    def trigger(self, daemon, name):
        """Fires its schedule by hand."""
        reply = daemon.post(f"/api/schedules/test.{name}/trigger")
        assert reply.status in (201, 404, 409), reply
        return self.note_acknowledged(reply)

    def note_acknowledged(self, reply):
        if reply.status != 201:
            return None
        self.note_launch(reply.json()["id"])
        return reply.json()["id"]

    # --- what the test does

    def note_harm(self, *daemons):
        """Kills, stops or freezes them: only then may attempts be lost with their node, and the end of a log."""
        self.harms += [(str(daemon.directory / "state"), time.time()) for daemon in daemons]

    def watch(self):
        """No process of a workflow whose cancel was acknowledged lives on, and none starts."""
        while not self.over.wait(1):
            for workflow, at in list(self.canceled.items()):
                if time.monotonic() - at > START_SECONDS:
                    self.silent_from.setdefault(workflow, self.path.stat().st_size)
            due = {workflow for workflow, at in list(self.canceled.items())
                   if time.monotonic() - at > CANCEL_SECONDS}
            for pid, environment in environments().items() if due else ():
                if environment.get("DIRECTOR_WORKFLOW_ID") in due:
                    self.late.add(f"{pid} of {environment['DIRECTOR_WORKFLOW_ID']}")

    # --- what is left to do

    def unfinished(self):
        return self.database.value("SELECT count(*) FROM workflows w WHERE finished IS NULL OR EXISTS"
                                   " (SELECT FROM tasks t WHERE t.workflow_id = w.id"
                                   "   AND (t.held OR t.finished IS NULL))")

    def await_quiet(self, deadline=60):
        """Nothing is launched any more. True when all came to its end by itself in time."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            try:
                if self.unfinished() == 0:
                    return True
            except psycopg2.Error:
                pass  # somebody still makes faults
            time.sleep(0.1)
        return False

    # --- the comparison

    def lines(self):
        """(word, task, attempt) in the order in which they were written."""
        return [line for _, *line in self.placed_lines()]

    def placed_lines(self):
        """The same, each with its place in the file."""
        place = 0
        for line in self.path.read_text().splitlines(keepends=True):
            word, task, attempt, _ = line.split()
            yield place, word, task, int(attempt)
            place += len(line)

    def problems(self, daemons=(), deadline=60):
        """What does not fit together, when all is quiet, and that must be soon."""
        quiet = self.await_quiet(deadline)
        connection = self.database.server.connect(self.database.name)
        try:
            found = checker.check(connection, quiet=True)
            if not quiet:
                return found  # what goes on would look different from one look to the next
            found += checker.check_acknowledged(connection, self.launched)
            found += self.execution_problems(connection)
            found += self.cancel_problems(connection)
            found += self.loss_problems(connection)
            found += self.log_problems(connection)
        finally:
            connection.close()
        found += [f"one key, several workflows: {workflows}" for workflows in self.by_key.values() if len(workflows) > 1]
        found += self.fire_problems() + self.process_problems(daemons) + self.server_problems()
        return found

    def execution_problems(self, connection):
        lines = self.lines()
        starts = [f"{task} {attempt}" for word, task, attempt in lines if word == "start"]
        ends = {(task, attempt): place for place, (word, task, attempt) in enumerate(lines) if word == "end"}
        rows = rows_of(
            connection,
            "SELECT left(t.workflow_id::text, 32) || lpad(to_hex(t.position + 1), 4, '0'), t.attempt, t.status::text,"
            " t.result::text, ARRAY (SELECT a.attempt FROM attempts a"
            "  WHERE a.workflow_id = t.workflow_id AND a.position = t.position),"
            " t.status = 'success' AND t.claim IS NULL, d.action IS NULL"
            " FROM tasks t JOIN workflows w ON w.id = t.workflow_id JOIN definition_tasks d"
            " ON d.definition_id = w.definition_id AND d.position = t.position")
        # Those that a relaunch has taken over have run as tasks of its original.
        tasks = {row[0]: row[1:-2] for row in rows if not row[-1] and not row[-2]}
        found = checker.check_executions(connection, starts, {row[0] for row in rows if row[-1]})
        for task, (attempt, status, result, _) in tasks.items():
            if status == "success" and (task, attempt) not in ends:
                found.append(f"success of an attempt that did not end well: task {task}, attempt {attempt}")
            if status == "success" and result != str(attempt):
                found.append(f"result of another attempt: task {task}, attempt {attempt}, result {result}")
        found += [f"ran, and the tables do not know how it ended: task {task}, attempt {attempt}"
                  for word, task, attempt in lines if word == "start" and task in tasks
                  and attempt < tasks[task][0] and attempt not in tasks[task][3]]
        return found + self.order_problems(connection, lines, ends, tasks)

    @staticmethod
    def order_problems(connection, lines, ends, tasks):
        """No task started before the ends of those it waits for, through any noops between."""
        rows = rows_of(
            connection,
            "WITH RECURSIVE waits (definition_id, position, on_position) AS ("
            " SELECT definition_id, position, unnest(previous) FROM definition_tasks WHERE role = 'task'"
            " UNION SELECT w.definition_id, w.position, unnest(d.previous) FROM waits w JOIN definition_tasks d"
            "  ON d.definition_id = w.definition_id AND d.position = w.on_position WHERE d.action IS NULL)"
            " SELECT left(w.id::text, 32) || lpad(to_hex(s.position + 1), 4, '0'),"
            "        left(w.id::text, 32) || lpad(to_hex(s.on_position + 1), 4, '0')"
            " FROM workflows w JOIN waits s USING (definition_id)")
        before = collections.defaultdict(list)
        for task, predecessor in rows:
            if predecessor in tasks:
                before[task].append(predecessor)
        never = len(lines)
        return [f"started before its predecessor {predecessor} had ended: task {task}"
                for place, (word, task, _) in enumerate(lines) if word == "start"
                for predecessor in before[task] if ends.get((predecessor, tasks[predecessor][0]), never) > place]

    def cancel_problems(self, connection):
        rows = rows_of(connection, "SELECT id::text, status::text FROM workflows"
                       " WHERE id::text = ANY (%s) AND status <> 'canceled'", list(self.canceled))
        began = [(task, workflow) for place, word, task, _ in self.placed_lines() if word == "start"
                 for workflow in [f"{task[:32]}0000"] if place >= self.silent_from.get(workflow, place + 1)]
        return [f"canceled, and then {status}: {workflow}" for workflow, status in rows] \
            + [f"started {START_SECONDS} s after its workflow was canceled: task {task}" for task, _ in began] \
            + [f"alive {CANCEL_SECONDS} s after its workflow was canceled: {process}" for process in self.late]

    def harmed_nodes(self, connection):
        """Each start of a daemon is a node: whom something was done to before its directory had the next one."""
        rows = rows_of(
            connection,
            "SELECT id::text, state_directory, extract(epoch FROM started)::float, extract(epoch FROM"
            " lead(started) OVER (PARTITION BY state_directory ORDER BY started))::float FROM nodes")
        return {node for node, directory, begin, end in rows
                if any(directory == where and begin - 1 <= at <= (end or at) for where, at in self.harms)}

    def loss_problems(self, connection):
        harmed = self.harmed_nodes(connection)
        rows = rows_of(
            connection,
            "SELECT workflow_id::text, position, attempt, node_id::text FROM attempts WHERE reason = 'node_lost'"
            " UNION ALL SELECT workflow_id::text, position, attempt, node_id::text FROM tasks WHERE reason = 'node_lost'")
        return [f"lost with a node that nothing was done to: task {workflow}/{position}, attempt {attempt}, node {node}"
                for workflow, position, attempt, node in rows if node not in harmed]

    def log_problems(self, connection):
        """The log of each success is what it has printed. Its end may be missing where its daemon was harmed, and some
        of it where PostgreSQL was; but never is anything else there."""
        rows = rows_of(
            connection,
            "SELECT left(t.workflow_id::text, 32) || lpad(to_hex(t.position + 1), 4, '0'), t.attempt, t.node_id::text,"
            " d.key, extract(epoch FROM t.started)::float, extract(epoch FROM t.finished)::float,"
            " ARRAY (SELECT l.start FROM task_logs l WHERE l.workflow_id = t.workflow_id AND l.position = t.position"
            "         AND l.attempt = t.attempt ORDER BY l.start),"
            " ARRAY (SELECT l.content FROM task_logs l WHERE l.workflow_id = t.workflow_id AND l.position = t.position"
            "         AND l.attempt = t.attempt ORDER BY l.start)"
            " FROM tasks t JOIN workflows w ON w.id = t.workflow_id JOIN definition_tasks d"
            " ON d.definition_id = w.definition_id AND d.position = t.position"
            " WHERE t.status = 'success' AND t.claim IS NOT NULL AND d.action IS NOT NULL")
        harmed = self.harmed_nodes(connection)
        found = []
        for task, attempt, node, key, started, finished, starts, contents in rows:
            expected = output(task, attempt, key)
            contents = list(map(bytes, contents))
            wrong = [start for start, content in zip(starts, contents)
                     if content != expected[start:start + len(content)]]
            if wrong:
                found.append(f"log of what was never printed: task {task}, attempt {attempt}, from byte {wrong[0]}")
            excused = node in harmed or any(started <= at <= finished + LOG_SECONDS
                                            for at in self.database.server.restarts)
            if b"".join(contents) != expected and not excused:
                found.append(f"log that is not whole: task {task}, attempt {attempt}, {b''.join(contents)!r}")
        return found

    def fire_problems(self):
        found = []
        for name, seconds in INTERVALS.items():
            if not self.database.value("SELECT count(*) FROM schedules WHERE name = %s", name):
                continue
            schedule = fires.Schedule(self.database, name)
            due = fires.interval(schedule.anchor, seconds, schedule.anchor, schedule.cursor)
            found += [f"{name}: {problem}" for problem in fires.uncovered(schedule, due)[:5]]
        return found

    def process_problems(self, daemons):
        """Leftovers of any daemon there ever was; then the daemons that still run."""
        nodes = {node for (node,) in self.database.sql("SELECT id::text FROM nodes")}
        found = [f"a process is left: {harness.command(pid)}" for pid, environment in environments().items()
                 if environment.get("DIRECTOR_NODE") in nodes]
        for daemon in daemons:
            if not daemon.running():
                found.append(f"the daemon is gone: {daemon.process.returncode}")
                continue
            end = time.monotonic() + 5
            while zombies(daemon.process.pid) and time.monotonic() < end:
                time.sleep(0.1)
            found += [f"zombie: {pid}" for pid in zombies(daemon.process.pid)]
            if daemon.descriptors() > MAX_DESCRIPTORS:
                found.append(f"a daemon has {daemon.descriptors()} descriptors")
            if daemon.resident_bytes() > MAX_RESIDENT_BYTES and not harness.has_sanitizer():
                found.append(f"a daemon has {daemon.resident_bytes()} bytes in memory")
        found += [line for daemon in daemons for line in daemon.log().splitlines() if harness.SANITIZER.search(line)]
        return found

    def server_problems(self):
        found = [f"idle in a transaction: {query}" for (query,) in self.database.sql(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%%' AND state_change < now() - interval '1 s'")]
        lines = self.database.server.log.read_text(errors="replace").splitlines()
        return found + [f"PostgreSQL: {line}" for line in lines if re.search(r"ERROR:|PANIC:|deadlock detected", line)
                        and not EXPECTED_SQL.search(line)][:10]

    def figures(self):
        """What it was all about, for people."""
        count = self.database.value
        return {
            "workflows": count("SELECT count(*) FROM workflows"),
            "launches acknowledged": len(self.launched),
            "cancels acknowledged": len(self.canceled),
            "programs started": sum(word == "start" for word, _, _ in self.lines()),
            "attempts lost with their node": count(
                "SELECT (SELECT count(*) FROM attempts WHERE reason = 'node_lost')"
                " + (SELECT count(*) FROM tasks WHERE reason = 'node_lost')"),
            "fires decided": count("SELECT coalesce(sum(coalesce(count, 1)), 0)::bigint FROM fires"),
            "daemons that lived": count("SELECT count(*) FROM nodes"),
        }
