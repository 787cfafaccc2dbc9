"""What really happened, noted outside the daemons while faults are made; in the end the tables must tell the same story.

Every task that runs a program appends to one file, `start TASK ATTEMPT LINES` and, just before a success, `end …`: with
O_APPEND the lines are whole and in order. LINES is how many it has printed, of those that known_text says. The client
notes what was acknowledged to it.

    witness = Witness(database)
    daemon = harness.Daemon(witness.DEFINITIONS, database=database, **witness.settings)
    witness.launch(daemon, "CHAIN")
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

# Its result is the number of its attempt.
SCRIPT = ('note() { echo "$1 $DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT $n" >> "$WITNESS"; };'
          ' say() { n=$((n + 1)); echo "$n $DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT"; };'
          ' n=0; note start; say; %s; say; echo $DIRECTOR_ATTEMPT >&3; note end')
PERSISTENT = "retry: {limit: 30, interval: 50ms}"
TASKS = f"""
tasks:
  RUN: {{script: '{SCRIPT % "sleep 0.0$((DIRECTOR_ATTEMPT % 5))"}', {PERSISTENT}}}
  FLAKY: {{script: '{SCRIPT % "test $DIRECTOR_ATTEMPT -gt 1 || exit 1"}', {PERSISTENT}}}
  SLOW: {{script: '{SCRIPT % "sleep 2"}', {PERSISTENT}}}
  FAIL: {{script: '{SCRIPT % "exit 3"}'}}
  LONG: {{script: '{SCRIPT % "sleep 600"}', {PERSISTENT}}}
  STUBBORN: {{script: '{SCRIPT % 'trap "" TERM; setsid sleep 600 & sleep 600'}', grace: 300ms, {PERSISTENT}}}
  CHATTY: {{script: '{SCRIPT % "for i in $(seq 60); do say; sleep 0.02; done"}', {PERSISTENT}}}
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
test.LONG: {tasks: [{G: {type: group, tasks: [LONG, STUBBORN]}}, N]}
test.CHATTY: {tasks: [CHATTY]}
test.LIMITED: {tasks: [RUN], concurrency: {limit: 2}}
test.REPLACED: {tasks: [SLOW], concurrency: {limit: 1, overlap: replace}}
"""
PERIODIC = """
test.TICK: {tasks: [N], periodic: {interval: 0.5, catchup: all}}
test.TOCK: {tasks: [RUN], periodic: {interval: 1}, concurrency: {overlap: skip}}
"""
INTERVALS = {"TICK": 0.5, "TOCK": 1}
NAMES = ["CHAIN", "DIAMOND", "GROUP", "FAILS", "HOOKED", "SLOW", "LIMITED", "REPLACED"]

# Before its processes must be gone, a canceled workflow's owner may be dead, frozen or without its database for a while.
CANCEL_SECONDS = 30
# What PostgreSQL may say about us: of an unknown outcome that is sent again, and of faults.
EXPECTED_SQL = re.compile(r"the same batch is being committed by its first sending|terminating connection|canceling|"
                          r"the database system is |could not .*(client|socket)|could not extend file|No space left")


def known_text(task, attempt, lines):
    """What an attempt prints, or at least begins to."""
    return "".join(f"{n} {task} {attempt}\n" for n in range(1, lines + 1)).encode()


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

    def watch(self):
        """No process of a workflow whose cancel was acknowledged lives on."""
        while not self.over.wait(2):
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

    def notes(self):
        """(word, task, attempt, lines) in the order in which they were written."""
        found = []
        for line in self.path.read_text().splitlines():
            word, task, attempt, lines = line.split()
            found.append((word, task, int(attempt), int(lines)))
        return found

    def lines(self):
        """The same without the number of lines."""
        return [note[:3] for note in self.notes()]

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
        return [f"canceled, and then {status}: {workflow}" for workflow, status in rows] \
            + [f"alive {CANCEL_SECONDS} s after its workflow was canceled: {process}" for process in self.late]

    def log_problems(self, connection, whole=False):
        """Bytes that stand in no place of their own. `whole`: also those that are missing of attempts that ended well."""
        ends = {(task, attempt): 0 for _, task, attempt, _ in self.notes()}
        found = []
        for task, attempt, start, content in rows_of(
                connection, "SELECT left(workflow_id::text, 32) || lpad(to_hex(position + 1), 4, '0'), attempt, start,"
                " content FROM task_logs ORDER BY workflow_id, position, attempt, start"):
            end = start + len(content)
            if start < ends[task, attempt]:
                found.append(f"in two rows: the log of task {task}, attempt {attempt}, from byte {start} on")
            if bytes(content) != known_text(task, attempt, end // len(task) + 1)[start:end]:
                found.append(f"printed nowhere: the log of task {task}, attempt {attempt}, from byte {start} on")
            if whole and start > ends[task, attempt]:
                found.append(f"missing before byte {start}: the log of task {task}, attempt {attempt}")
            ends[task, attempt] = end
        return found + [f"missing from byte {ends[task, attempt]} on: the log of task {task}, attempt {attempt}"
                        for word, task, attempt, lines in self.notes() if whole and word == "end"
                        and ends[task, attempt] < len(known_text(task, attempt, lines))]

    def await_logs(self, deadline=10):
        """The problems that logs have when all of them should be written, and that must be soon."""
        end = time.monotonic() + deadline
        connection = self.database.server.connect(self.database.name)
        try:
            while (found := self.log_problems(connection, whole=True)) and time.monotonic() < end:
                time.sleep(0.1)
            return found
        finally:
            connection.close()

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
