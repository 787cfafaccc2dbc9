"""The world breaks around the daemon; nothing acknowledged is lost, nothing runs twice, nothing is stuck."""

import http.client
import random
import signal
import threading
import time
import uuid

import pytest

import checker
import harness
from harness import alive, eventually
from sql_node import Node

# Each attempt leaves a line in a file when it starts; O_APPEND keeps the lines whole.
DEFINITIONS = r"""
tasks:
  RUN: {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$FILE"; sleep "${FOR:-0}"'}
  LONG: {script: 'echo "$DIRECTOR_TASK_ID $DIRECTOR_ATTEMPT" >> "$FILE"; echo $$ >> "$FILE.pids"; sleep 60'}
test.CHAIN: {tasks: [RUN, {B: {task: RUN}}, {C: {task: RUN}}]}
test.DIAMOND: {tasks: [RUN, {G: {type: group, tasks: [{B: {task: RUN}}, {C: {task: RUN}}]}}, {D: {task: RUN}}]}
test.SLOW: {tasks: [{A: {task: RUN, env: {FOR: "1"}}}, {B: {task: RUN}}]}
test.LONG: {tasks: [LONG, {B: {task: RUN}}]}
"""
SHORT_LEASE = {"heartbeat": "200ms", "lease": "2s", "query_timeout": "1900ms"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "executions"


@pytest.fixture
def rig(make, database, file):
    """Makes daemons whose tasks write to `file`; in the end every oracle is asked."""

    def make_daemon(**settings):
        return make(DEFINITIONS, task_env_FILE=file, **settings)

    yield make_daemon
    connection = database.server.connect(database.name)
    lines = file.read_text().splitlines() if file.exists() else []
    problems = checker.check(connection, quiet=True) + checker.check_executions(connection, lines)
    connection.close()
    assert problems == []


class Storm:
    """Clients that launch without a pause, and remember what was acknowledged."""

    def __init__(self, *daemons, clients=4):
        self.daemons = daemons
        self.acknowledged = []
        self.refused = 0
        self.wrong = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *failure):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def work(self, number):
        daemon = self.daemons[number % len(self.daemons)]
        while not self.over.is_set():
            body = {"project": "test", "name": random.choice(["CHAIN", "DIAMOND"]), "payload": {"n": number}}
            try:
                reply = daemon.post("/api/workflows", body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)  # no daemon there just now
                continue
            if reply.status == 201:
                self.acknowledged.append(reply.json()["id"])
                time.sleep(0.02)  # each launch is four processes to come
            elif reply.status == 503:
                assert int(reply.headers["Retry-After"]) > 0
                self.refused += 1
                time.sleep(0.02)
            else:
                self.wrong.append(reply)

    def check(self, database, statuses=("success",)):
        """All that was acknowledged is there and ends like this."""
        assert self.acknowledged and not self.wrong, self.wrong
        ids = list(set(self.acknowledged))
        assert len(ids) == len(self.acknowledged)
        connection = database.server.connect(database.name)
        assert checker.check_acknowledged(connection, ids) == []
        connection.close()
        unfinished = "SELECT count(*) FROM workflows WHERE finished IS NULL"
        eventually(lambda: database.value(unfinished) == 0,
                   lambda: f"{database.value(unfinished)} unfinished, e.g. "
                           f"{database.sql('SELECT * FROM tasks WHERE finished IS NULL LIMIT 3')}", 60)
        found = {row[0] for row in database.sql("SELECT DISTINCT status::text FROM workflows")}
        assert found <= set(statuses), found


# --- the daemon dies ---------------------------------------------------------------------------


def test_killed_under_load(rig, database):
    """Three times, at any moment, while clients launch."""
    daemon = rig(listen=f"127.0.0.1:{harness.free_port()}").start()
    database.install_audit()
    with Storm(daemon) as storm:
        for _ in range(3):
            time.sleep(random.uniform(0.3, 0.8))
            node = database.value("SELECT id::text FROM nodes WHERE state = 'active'")
            harness.KILLED_NODES.add(node)
            daemon.send_signal(signal.SIGKILL)
            daemon.wait_exit()
            daemon.start()
        time.sleep(0.3)
    storm.check(database, ("success", "error"))
    lost = database.sql("SELECT DISTINCT reason FROM workflows WHERE status = 'error'")
    assert lost in ([], [("node_lost",)])


def test_killed_with_a_long_task(rig, file, database):
    """The next life does not wait for the lease, and ends what the former one had started."""
    daemon = rig().start()
    workflow = daemon.launch("LONG")
    pids = eventually(lambda: read_pids(file), "the task runs")
    daemon.kill()
    daemon.start()
    found = daemon.wait(workflow, "error")
    assert [(task["status"], task["reason"]) for task in found["tasks"]] == [
        ("error", "node_lost"), ("canceled", "upstream_failed")]
    assert found["reason"] == "node_lost"
    eventually(lambda: not any(alive(pid) for pid in pids), "the former life's processes are gone")


def read_pids(file):
    path = file.with_name(file.name + ".pids")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


# --- PostgreSQL goes away ----------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_postgresql_away_for_three_seconds(rig, database, file, how):
    """Tasks run on, their results are kept; clients get 503 at once; all goes on by itself."""
    daemon = rig().start()
    running = [daemon.launch("SLOW") for _ in range(4)]
    for workflow in running:
        daemon.wait_task(workflow, "A", "progress")
    database.server.stop(how)
    try:
        eventually(lambda: daemon.get("/api/health").status == 503, "it has noticed")
        body = {"project": "test", "name": "CHAIN", "payload": {}}
        for method, path, body in (("POST", "/api/workflows", body), ("GET", "/api/workflows", None),
                                   ("GET", f"/api/workflows/{running[0]}", None), ("GET", "/api/definitions", None),
                                   ("POST", f"/api/workflows/{running[0]}/cancel", None)):
            begin = time.monotonic()
            reply = daemon.request(method, path, body)
            assert reply.status == 503 and int(reply.headers["Retry-After"]) > 0, (method, path, reply)
            assert time.monotonic() - begin < 3
        assert daemon.get("/api/ping").status == 200
        time.sleep(3)
        assert daemon.running()
    finally:
        database.server.start()
    eventually(lambda: daemon.get("/api/health").status == 200, "healthy")
    for workflow in running:
        assert [task["attempt"] for task in daemon.wait(workflow)["tasks"]] == [1, 1]
    daemon.run("CHAIN")


def test_list_under_way_hears_of_a_crash(rig, database):
    """At once, like any other request."""
    daemon = rig(query_timeout="10m", lease="1h").start()
    other = database.server.connect(database.name)
    other.cursor().execute("LOCK TABLE nodes")
    replies = []
    reader = threading.Thread(target=lambda: replies.append(daemon.get("/api/nodes")))
    reader.start()
    eventually(lambda: database.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                                      " AND query LIKE '%FROM nodes n %'"), "the list waits")
    database.disconnect()
    database.server.stop(signal.SIGQUIT)
    try:
        reader.join()
    finally:
        other.close()
        database.server.start()
    assert [reply.status for reply in replies] == [503]
    eventually(lambda: daemon.get("/api/health").status == 200, "healthy")


def test_postgresql_restarts_under_load(rig, database):
    daemon = rig().start()
    with Storm(daemon) as storm:
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT):
            time.sleep(0.5)
            database.server.stop(how)
            database.server.start()
        count = len(storm.acknowledged)
        eventually(lambda: len(storm.acknowledged) > count + 10, "launches again")
    storm.check(database)


def test_sessions_that_are_ended_under_load(rig, database):
    """pg_terminate_backend on any of the daemon's sessions, every 50 ms."""
    daemon = rig().start()
    database.install_audit()
    with Storm(daemon) as storm:
        end = time.monotonic() + 4
        killed = 0
        while time.monotonic() < end:
            killed += len(database.sql(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'directord' ORDER BY random() LIMIT 1) s"))
            time.sleep(0.05)
        count = len(storm.acknowledged)
        eventually(lambda: len(storm.acknowledged) > count + 10, "launches again")
    assert killed > 20
    storm.check(database)


def test_cancel_of_statements_under_load(rig, database):
    """pg_cancel_backend: the statement fails, the session lives."""
    daemon = rig().start()
    with Storm(daemon) as storm:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                         " AND application_name = 'directord' AND state = 'active'")
            time.sleep(0.01)
    storm.check(database)


def test_locks_of_others_hold_up_and_do_no_harm(rig, database):
    """Somebody locks the tables for a second in psql."""
    daemon = rig().start()
    with Storm(daemon) as storm:
        time.sleep(0.3)
        with database.server.connect(database.name) as other, other.cursor() as cursor:
            cursor.execute("LOCK TABLE workflows, tasks IN EXCLUSIVE MODE")
            time.sleep(1)
        other.close()
        time.sleep(0.3)
    storm.check(database)


# --- several daemons ---------------------------------------------------------------------------


def test_two_daemons_share_the_work(rig, database):
    """Started at once on an empty database: it is migrated once, and each task runs on one of them."""
    daemons = [rig(concurrency=2), rig(concurrency=2)]
    for daemon in daemons:
        daemon.spawn()
    for daemon in daemons:
        daemon.await_ready()
    numbers = [row[0] for row in database.sql("SELECT number FROM schema_migrations ORDER BY 1")]
    assert numbers == sorted(set(numbers)) and numbers
    with Storm(*daemons) as storm:
        eventually(lambda: len(storm.acknowledged) > 100, "a hundred launches")
    storm.check(database)
    shares = database.sql("SELECT node_id, count(*) FROM tasks GROUP BY 1")
    assert len(shares) == 2 and min(share for _, share in shares) > 10


def test_daemons_with_different_files_say_so(rig):
    daemons = [rig(heartbeat="200ms") for _ in range(2)]
    daemons[1].define(DEFINITIONS + "test.OWN: {tasks: []}")
    for daemon in daemons:
        daemon.start()

    def differing():
        return [daemon.get("/api/health").json()["definitions"]["differing_nodes"] for daemon in daemons]
    eventually(lambda: differing() == [1, 1], "both see that they differ")
    daemons[0].await_log("other daemons have other definition files")
    daemons[1].define(DEFINITIONS)
    eventually(lambda: differing() == [0, 0], "both see that they are alike")


def test_directories_of_another_name_are_alike(rig, database):
    daemons = [rig(heartbeat="200ms") for _ in range(2)]
    daemons[1].settings["workflows_dir"] = daemons[1].workflows.rename(daemons[1].directory / "elsewhere")
    for daemon in daemons:
        daemon.start()
    eventually(lambda: database.value("SELECT count(*) FROM nodes WHERE digest <> ''") == 2, "both have said it")
    assert database.value("SELECT count(DISTINCT digest) FROM nodes") == 1


def test_other_daemon_takes_over(rig, database, file):
    """A node that is killed is declared dead after its lease; what it held is lost, the rest goes on elsewhere."""
    first = rig(**SHORT_LEASE, concurrency=1).start()
    lost = first.launch("LONG")
    eventually(lambda: read_pids(file), "the task runs")
    waiting = first.launch("CHAIN")
    first.kill()
    second = rig(**SHORT_LEASE).start()
    second.wait(waiting)
    assert second.wait(lost, "error")["reason"] == "node_lost"


def test_frozen_daemon_is_fenced(rig, database, file):
    """While it sleeps it is declared dead; awake again it stops what it ran, and begins a new life."""
    frozen = rig(**SHORT_LEASE).start()
    frozen.expect_errors("has declared this node dead")
    node = frozen.node
    workflow = frozen.launch("LONG")
    pids = eventually(lambda: read_pids(file), "the task runs")
    frozen.send_signal(signal.SIGSTOP)
    other = rig(**SHORT_LEASE).start()
    try:
        assert other.wait(workflow, "error")["reason"] == "node_lost"
    finally:
        frozen.send_signal(signal.SIGCONT)
    eventually(lambda: not any(alive(pid) for pid in pids), "the task is stopped")
    eventually(lambda: frozen.node != node, "a new life")
    assert frozen.workflow(workflow)["tasks"][0]["reason"] == "node_lost"
    other.stop()
    frozen.run("CHAIN")


def test_slow_daemon_is_not_declared_dead(rig, database):
    """A pause that is shorter than the lease is nobody's business."""
    slow, other = (rig(heartbeat="200ms", lease="5s", query_timeout="4s").start() for _ in range(2))
    workflow = slow.launch("SLOW")
    slow.send_signal(signal.SIGSTOP)
    time.sleep(1)
    slow.send_signal(signal.SIGCONT)
    other.wait(workflow)
    assert database.sql("SELECT state FROM nodes") == [("active",), ("active",)]


def test_late_claim_of_a_former_life_starts_nothing(rig, database, file):
    """The node was declared dead while its claim was under way, and lives again when the answer comes."""
    daemon = rig(heartbeat="200ms", lease="8s", query_timeout="7s").start()
    daemon.expect_errors("has declared this node dead")
    node = daemon.node
    slow_down(database, "slow_claim", 4, "tasks", "INSERT", "NEW.status = 'progress'")
    launch = threading.Thread(target=daemon.launch, args=["CHAIN"])
    launch.start()
    eventually(lambda: slow_calls(database), "the launch, which claims, is under way")
    database.sql("UPDATE nodes SET state = 'dead'")
    eventually(lambda: daemon.node != node, "a new life")
    assert launch.is_alive()
    launch.join()
    eventually(lambda: database.sql("SELECT reason FROM workflows") == [("node_lost",)], "it is lost")
    assert not file.exists()


def slow_calls(database):
    return database.value("SELECT count(*) FROM pg_stat_activity"
                          " WHERE datname = current_database() AND wait_event = 'PgSleep'")


def test_stop_while_a_claim_skips_what_is_locked(make, database):
    """The claim's answer comes while the daemon stops, and says that it left something out."""
    daemon = make(DEFINITIONS, task_env_FILE="/dev/null", concurrency=1).start()
    slow = daemon.launch("SLOW")
    daemon.wait_task(slow, "A", "progress")
    locked = daemon.launch("CHAIN")
    with database.server.connect(database.name) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM workflows WHERE id = %s FOR UPDATE", [locked])
        daemon.wait_task(slow, "A", "success")
        slow_down(database, "slow_claim", 0.5, "tasks", "UPDATE")
        eventually(lambda: slow_calls(database), "the claim is under way")
        begin = time.monotonic()
        daemon.stop()
        assert time.monotonic() - begin < 5
    other.close()
    assert database.sql("SELECT state FROM nodes") == [("stopped",)]


# --- the database is slow ------------------------------------------------------------------------


def slow_down(database, name, seconds, table, event, condition=None):
    """Each row of the table that fits takes the time; without a condition, each statement does."""
    each = "STATEMENT" if condition is None else f"ROW WHEN ({condition})"
    database.sql(f"""CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$""")
    database.sql(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH {each} EXECUTE FUNCTION {name}()")


def test_what_takes_too_long_goes_in_parts(make, database):
    """Forty claims, and forty ends, are more than one statement may do in its time; the connection stays."""
    tasks = ", ".join("A" for _ in range(40))
    daemon = make("tasks: {A: {noop: true}}\ntest.G: {tasks: [{G: {type: group, tasks: [%s]}}]}" % tasks,
                  query_timeout="1s", concurrency=40).start()
    slow_down(database, "slow_claim", 0.05, "tasks", "UPDATE", "NEW.status = 'progress'")
    slow_down(database, "slow_end", 0.05, "tasks", "UPDATE", "NEW.status = 'success'")
    daemon.run("G")
    assert "database away" not in daemon.log()


def test_end_that_takes_too_long_alone_is_tried_again(make, database):
    daemon = make("tasks: {A: {noop: true}}\ntest.A: {tasks: [A]}", query_timeout="1s", heartbeat="200ms").start()
    slow_down(database, "slow_end", 2, "tasks", "UPDATE", "NEW.status = 'success'")
    workflow = daemon.launch("A")
    daemon.await_log("the end of an attempt took longer than DIRECTOR_QUERY_TIMEOUT allows; it is sent again\"")
    database.sql("DROP TRIGGER slow_end ON tasks")
    daemon.wait(workflow)
    assert "database away" not in daemon.log()


def test_fires_that_take_too_long_are_told_once_a_query(make, database):
    """Not once a schedule."""
    daemon = make("tasks: {A: {noop: true}}\n" + "".join(
        f"test.A{n}: {{tasks: [A], periodic: {{interval: 1}}}}\n" for n in range(3)), query_timeout="1s").start()
    fires = "SELECT count(*) FROM fires WHERE outcome = 'ran'"
    eventually(lambda: database.value(fires), "they fire")
    slow_down(database, "slow_fire", 2, "fires", "INSERT")
    eventually(lambda: daemon.log().count("statement=fire") > 3, "it has given up after three, and begun anew")
    database.sql("DROP TRIGGER slow_fire ON fires")
    before = database.value(fires)
    eventually(lambda: database.value(fires) > before, "they fire again")
    assert "could not be decided" not in daemon.log()


def test_launch_that_takes_too_long_is_told_so(rig, database):
    daemon = rig(query_timeout="1s").start()
    slow_down(database, "slow_launch", 2, "workflows", "INSERT", "NEW.payload->>'slow' IS NOT NULL")
    reply = daemon.post("/api/workflows", {"project": "test", "name": "CHAIN", "payload": {"slow": 1}})
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert reply.json()["error"] == "the database took longer than DIRECTOR_QUERY_TIMEOUT allows"
    daemon.run("CHAIN")
    assert "database away" not in daemon.log()


@pytest.mark.parametrize("reason", ["node_lost", "timed_out"])
def test_ends_that_take_too_long_go_in_parts(make, database, reason):
    """Of three hundred runs, whose node died or whose time is over."""
    daemon = make("tasks: {A: {noop: true}}\ntest.A: {tasks: [A], timeout: 1h}", query_timeout="1s", heartbeat="200ms")
    daemon.start()
    slow_down(database, "slow_end", 0.005, "tasks", "UPDATE", f"NEW.reason = '{reason}' AND OLD.reason IS NULL")
    node = Node(database)
    ids = [node.new_id() for _ in range(300)]
    node.launch_batch(ids, ["A"] * len(ids), slots=len(ids))
    if reason == "timed_out":
        database.sql("UPDATE workflows SET deadline = now()")
        eventually(lambda: not database.sql("SELECT 1 FROM workflows WHERE finished IS NULL"), "all runs are over")
    node.set_state("dead")
    eventually(lambda: not database.sql("SELECT 1 FROM claims"), "nothing is held")
    assert database.sql("SELECT DISTINCT status::text, reason FROM workflows") == [("error", reason)]
    assert "database away" not in daemon.log()


# --- cloned machines ----------------------------------------------------------------------------


@pytest.mark.parametrize("directory, boot, age, state", [
    ("own", "own", 0, "dead"),  # killed a moment ago
    ("own", "other", 10 ** 9, "dead"),  # the machine was rebooted
    ("own", "other", 0, "active"),  # a clone of this machine, which runs
    ("other", "own", 0, "active"),  # a container whose host name and paths are fixed
])
def test_whose_past_is_ended(make, database, directory, boot, age, state):
    daemon = make("").start()
    daemon.stop()
    node = str(uuid.uuid4())
    database.sql("""INSERT INTO nodes (id, host, boot_id, state_directory, directory_id, version, queues, slots,
                                       max_input, heartbeat)
                    SELECT %s, host, CASE %s WHEN 'own' THEN boot_id ELSE 'other' END, state_directory,
                           CASE %s WHEN 'own' THEN directory_id ELSE gen_random_uuid() END, version, queues, slots,
                           max_input, now() - make_interval(secs => %s) FROM nodes""", node, boot, directory, age)
    daemon.start()
    assert database.value("SELECT state FROM nodes WHERE id = %s", node) == state


# --- hints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason, most", [("ready", 0), ("stop", 12)])
def test_hints_without_end_cost_little(make, database, reason, most):
    make("", heartbeat="1h", lease="1d").start()
    database.sql("CREATE TABLE beats (at timestamptz)")
    database.sql("""CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN INSERT INTO beats VALUES (now()); RETURN NEW; END $$""")
    database.sql("CREATE TRIGGER note BEFORE UPDATE ON nodes FOR EACH ROW EXECUTE FUNCTION note()")
    end = time.monotonic() + 1
    while time.monotonic() < end:
        database.sql(f"SELECT pg_notify('directord', '{uuid.uuid4()} {reason}')")
    if most:
        eventually(lambda: database.value("SELECT count(*) FROM beats"), "a heartbeat")
    time.sleep(0.3)
    assert database.value("SELECT count(*) FROM beats") <= most


# --- bad luck with single rows -----------------------------------------------------------------


def test_one_bad_launch_does_not_harm_those_beside_it(rig, database):
    """A batch in which the database refuses one item goes through without it."""
    daemon = rig().start()
    database.sql("""ALTER TABLE workflows ADD CONSTRAINT bad CHECK (payload ->> 'bad' IS NULL)""")
    daemon.expect_errors("a request failed in the database")
    statuses = {}

    def launch(n):
        body = {"project": "test", "name": "CHAIN", "payload": {"bad": 1} if n % 10 == 0 else {}}
        statuses[n] = daemon.post("/api/workflows", body).status

    threads = [threading.Thread(target=launch, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((status == 201) == (n % 10 != 0) for n, status in statuses.items()), statuses
    database.sql("ALTER TABLE workflows DROP CONSTRAINT bad")
    ended = "SELECT count(*) FROM workflows WHERE status = 'success'"
    eventually(lambda: database.value(ended) == 36, "the others end")


def test_table_that_is_gone_for_a_moment(rig, database):
    """Never an exit on an SQL error."""
    daemon = rig().start()
    daemon.run("CHAIN")
    daemon.expect_errors('relation ."tasks.*" does not exist')
    database.sql("ALTER TABLE tasks RENAME TO away")
    assert daemon.post("/api/workflows", {"project": "test", "name": "CHAIN", "payload": {}}).status in (500, 503)
    assert daemon.get("/api/ping").status == 200
    time.sleep(1.5)
    assert daemon.running()
    database.sql("ALTER TABLE away RENAME TO tasks")
    daemon.run("CHAIN")
