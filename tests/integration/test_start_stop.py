"""How a daemon begins and ends: exit statuses, one clear line, and nothing left behind."""

import contextlib
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time

import psycopg2
import pytest

import harness
import witness
from harness import alive, eventually

USAGE, UNAVAILABLE, CONFIG = 2, 69, 78

DEFINITIONS = r"""
tasks:
  N: {noop: true}
  SLEEP:
    env: {FILE: "{{ payload.file }}", FOR: "{{ payload.for }}"}
    script: echo $$ >> "$FILE"; sleep "$FOR"; echo 1 >&3
  DEAF:
    env: {FILE: "{{ payload.file }}"}
    script: 'trap "" TERM; echo $$ >> "$FILE"; while :; do sleep 1; done'
    grace: 60s
test.N: {tasks: [N]}
test.SLEEP: {tasks: [SLEEP, N], hooks: {failure: N}}
test.DEAF: {tasks: [DEAF]}
"""


def refused(daemon, status):
    """Starts it, which fails with this status and one line about why; returns the line."""
    assert daemon.spawn().wait_exit() == status
    daemon.expect_errors('"cannot start"')
    lines = [line for line in daemon.log().splitlines() if " error " in line or line.startswith("directord:")]
    assert len(lines) == 1, daemon.log()
    return lines[0]


def pids(path):
    return path.read_text().split() if path.exists() else []


# --- starts that fail --------------------------------------------------------------------------


def test_port_in_use(start, make):
    address = start("").address
    line = refused(make("", listen=address), UNAVAILABLE)
    assert address in line and "in use" in line


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "localhost:8000", "unix:relative"])
def test_bad_address(make, listen):
    daemon = make("", listen=f"127.0.0.1:0,{listen}", database_uri="")
    line = refused(daemon, CONFIG)
    assert line.startswith(f"directord: DIRECTOR_LISTEN: {listen}: ")
    assert not (daemon.directory / "state").exists()  # before anything was begun


def test_every_address_is_named(make):
    daemon = make("test.A: {tasks: []}")
    path = daemon.directory / "api.sock"
    daemon.settings["listen"] = f"unix:{path},127.0.0.1:0,[::1]:0"
    daemon.spawn().await_log("Ctrl-C")
    log = daemon.log()
    first, second, third = re.search(r'"ready" listen=(\S+)', log)[1].split(",")
    assert first == f"unix:{path}" and second.startswith("127.0.0.1:") and third.startswith("[::1]:")
    assert f"API:      {first}\n          http://{second}\n          http://{third}\n" in log
    assert f"try:      curl -s --unix-socket {path} http://localhost/api/definitions\n" in log
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /api/ping HTTP/1.0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_greeting_suggests_what_is_loaded(start):
    daemon = start("example.ETL: {tasks: []}")
    daemon.await_log("Ctrl-C")
    assert f"try:      curl -s http://{daemon.address}/api/workflows -H" in daemon.log()


@pytest.mark.parametrize("setting, mode", [("", 0o660), ("0600", 0o600), ("666", 0o666)])
def test_mode_of_the_socket(make, setting, mode):
    daemon = make("", socket_mode=setting)
    path = daemon.directory / "api.sock"
    daemon.settings["listen"] = f"127.0.0.1:0,unix:{path}"
    daemon.spawn().await_log('"ready"')
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_no_directory_of_definitions(make, tmp_path):
    for path in (tmp_path / "nothing", harness.__file__):
        assert str(path) in refused(make("", workflows_dir=path), CONFIG)


def test_wrong_password(make, postgres, database):
    database.sql("DO $$ BEGIN CREATE ROLE locked LOGIN PASSWORD 'right'; EXCEPTION WHEN duplicate_object THEN END $$")
    line = refused(make("", database_uri=database.uri("locked", "wrong")), CONFIG)
    assert "password" in line and "DIRECTOR_DATABASE_URI" in line


def test_no_such_database(make, database):
    line = refused(make("", database_uri=database.uri().replace(database.name, "nowhere")), CONFIG)
    assert "nowhere" in line


def test_other_encoding(make, postgres):
    other = postgres.create_database("ENCODING 'SQL_ASCII' TEMPLATE template0")
    line = refused(make("", database=other), CONFIG)
    assert "SQL_ASCII" in line and "UTF8" in line


def test_database_of_director(make, database):
    database.sql("CREATE TABLE alembic_version ()")
    assert "alembic_version" in refused(make("", database=database), CONFIG)


def test_uri_that_is_none(make):
    assert "DIRECTOR_DATABASE_URI" in refused(make("", database_uri="mysql://x"), CONFIG)


def test_newer_tables_than_this_program_knows(start, make, database):
    start("").stop()
    database.sql("INSERT INTO schema_migrations SELECT (jsonb_populate_record(m, '{\"number\": 9999}')).*"
                 " FROM schema_migrations m LIMIT 1")
    assert "9999" in refused(make(""), CONFIG)


def test_second_daemon_on_a_state_directory(start, make):
    first = start("")
    line = refused(make("", state_dir=first.directory / "state"), UNAVAILABLE)
    assert str(first.directory / "state") in line and str(first.process.pid) in line


@pytest.mark.parametrize("name, value, found", [
    ("concurency", "3", "DIRECTOR_CONCURRENCY"), ("concurrency", "many", "many"), ("concurrency", "0", "0"),
    ("heartbeat", "1 week", "1 week"), ("lease", "1s", "DIRECTOR_LEASE"), ("log_level", "loud", "loud"),
])
def test_wrong_setting(make, name, value, found):
    line = refused(make("", **{name: value}), CONFIG)
    assert line.startswith("directord: ") and found in line


def test_wrong_line_in_the_settings_file(make, tmp_path):
    file = tmp_path / "directord.conf"
    file.write_text("# good\nDIRECTOR_CONCURENCY=3\n")
    daemon = make("")
    assert daemon.spawn("--config", file).wait_exit() == CONFIG
    assert f"{file}:2: " in daemon.log() and "DIRECTOR_CONCURRENCY" in daemon.log()


def test_settings_file(make, tmp_path):
    file = tmp_path / "directord.conf"
    file.write_text('DIRECTOR_CONCURRENCY=3 \nDIRECTOR_TASK_ENV_X="a b"\nDIRECTOR_QUEUES=x\n')
    daemon = make("test.A: {tasks: [{X: {command: [printenv, X], result: stdout}}]}", queues="default")
    daemon.start("--config", file)
    assert daemon.get("/api/health").json()["scheduler"]["slots"] == 3
    assert daemon.results("A") == {"X": "a b"}  # and the environment has won


# --- what changes on reload --------------------------------------------------------------------


def refuses_file(text):
    return lambda daemon: any(text in problem["error"] for problem in daemon.reload()["errors"])


def logs_less(daemon):
    start = daemon.log_path.stat().st_size
    daemon.reload()
    return "definitions loaded" not in daemon.log(start)


def has_short_pages(daemon):
    return len(daemon.get("/api/workflows").json()) == 1


def refuses_launches(daemon):
    """Three at once, while the database takes none."""
    statuses = []

    def launch():
        body = {"project": "test", "name": "N", "payload": {}}
        statuses.append(daemon.post("/api/workflows", body).status)
    threads = [threading.Thread(target=launch) for _ in range(3)]
    with contextlib.closing(daemon.database.server.connect(daemon.database.name)) as connection:
        connection.cursor().execute("LOCK TABLE workflows")
        for thread in threads:
            thread.start()
        time.sleep(0.5)
    for thread in threads:
        thread.join()
    return 503 in statuses


def stops_at_once(daemon):
    """What its tasks would do takes longer than anybody waits here."""
    daemon.launch("SLEEP", {"file": "/dev/null", "for": 10 * harness.DEADLINE})
    eventually(lambda: daemon.get("/api/health").json()["scheduler"]["running"] == 1, "the task runs")
    return daemon.stop() == 0


# Each setting with another value, and what a user then sees. The last one can be seen once only.
RELOADED = {
    "WORKFLOWS_PER_PAGE": ("1", has_short_pages),
    "LOG_LEVEL": ("error", logs_less),
    "MAX_FILE_SIZE": ("1KiB", refuses_file("larger than 1024 bytes")),
    "MAX_FILE_NODES": ("100", refuses_file("100 nodes")),
    "MAX_FILE_DEPTH": ("8", refuses_file("deep")),
    "MAX_WAITING_LAUNCHES": ("1", refuses_launches),
    "SHUTDOWN_GRACE": ("0", stops_at_once),
}


def test_settings_change_on_reload_as_they_say(make, tmp_path):
    explained = re.split(r"^DIRECTOR_(\w+)=", run("--help").stdout, flags=re.MULTILINE)[1:]
    assert set(RELOADED) == {name for name, text in zip(explained[::2], explained[1::2])
                             if "Changes on reload." in re.sub(r"\s+", " ", text)}
    daemon = make(DEFINITIONS)
    daemon.define("# " + 2000 * "long" + "\n{}", "long.yml")
    daemon.define("test.WIDE: {tasks: [], labels: {%s}}" % ", ".join(f"L{i}: x" for i in range(200)), "wide.yml")
    daemon.define("test.DEEP: {tasks: [], periodic: {interval: 1d, payload: {x: [[[[[[[[]]]]]]]]}}}", "deep.yml")
    daemon.expect_errors("definition refused")
    file = tmp_path / "directord.conf"
    long_grace = f"DIRECTOR_SHUTDOWN_GRACE={10 * harness.DEADLINE}s\n"
    file.write_text(long_grace)
    del daemon.settings["shutdown_grace"]  # the environment would win
    daemon.start("--config", file)
    for _ in range(2):
        daemon.run("N")
    for name, (value, is_seen) in RELOADED.items():
        assert name == "SHUTDOWN_GRACE" or not is_seen(daemon), name
        file.write_text(f"{long_grace}DIRECTOR_{name}={value}\n")
        daemon.send_signal(signal.SIGHUP)
        eventually(lambda: is_seen(daemon), f"{name} is {value}")


def run(*arguments):
    return subprocess.run([harness.DIRECTORD, *arguments], capture_output=True, text=True, timeout=harness.DEADLINE,
                          env={"PATH": "/usr/bin:/bin", "HOME": "/"})


def test_command_line():
    assert run("--nonsense").returncode == USAGE and len(run("--nonsense").stderr.splitlines()) == 1
    assert run("words").returncode == USAGE
    shown = run("--help")
    assert shown.returncode == 0 and "DIRECTOR_DATABASE_URI" in shown.stdout and "--check" in shown.stdout
    assert re.fullmatch(r"directord \d+\.\d+\.\d+\n", run("--version").stdout)


def test_names_of_director_only_warn(make):
    daemon = make("")
    daemon.variables["DIRECTOR_BROKER_URI"] = "redis://localhost"
    daemon.start()
    assert re.search("warning .*DIRECTOR_BROKER_URI", daemon.log())


# --- a database that is not there yet ----------------------------------------------------------


def test_database_that_cannot_be_reached_yet_is_waited_for(make, postgres):
    daemon = make(DEFINITIONS)
    postgres.stop()
    try:
        port = harness.free_port()
        daemon.settings["listen"] = daemon.address = f"127.0.0.1:{port}"
        daemon.spawn()
        daemon.await_log("cannot be reached yet")
        eventually(lambda: can_connect(daemon), "it listens")
        reply = daemon.post("/api/workflows", {"project": "test", "name": "N", "payload": {}})
        assert (reply.status, reply.json()) == (503, {"error": "the database is not available"})
        assert int(reply.headers["Retry-After"]) > 0
        assert daemon.get("/api/workflows").status == 503
        assert daemon.get("/api/ping").status == 200
        health = daemon.get("/api/health")
        assert health.status == 503 and health.json()["database"]["status"] == "away"
    finally:
        postgres.start()
    daemon.await_log('"ready"')
    daemon.run("N")


def can_connect(daemon):
    try:
        daemon.socket().close()
        return True
    except OSError:
        return False


def test_stop_while_waiting_for_the_database(make, tmp_path):
    daemon = make("", database=None, database_uri=f"postgresql:///x?host={tmp_path}")
    daemon.spawn()
    daemon.await_log("cannot be reached yet")
    assert daemon.stop() == 0


def test_systemd_is_told(make, tmp_path, postgres):
    """That it waits for the database, however long; then that it is ready, and that it stops."""
    daemon = make(DEFINITIONS)
    heard = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(harness.DEADLINE)

        def hear(line):
            while not heard or line not in heard[-1]:
                heard.append(systemd.recv(4096).decode())

        daemon.variables["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        postgres.stop()
        try:
            daemon.spawn()
            for _ in range(2):
                hear("STATUS=Waiting for the database: ")
                hear("EXTEND_TIMEOUT_USEC=120000000")
        finally:
            postgres.start()
        hear("READY=1")
        daemon.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
    assert daemon.wait_exit() == 0


# --- stop --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_of_an_idle_daemon(start, database, number):
    daemon = start(DEFINITIONS)
    node = daemon.node
    begin = time.monotonic()
    assert daemon.stop(number) == 0
    assert time.monotonic() - begin < 5
    assert database.sql("SELECT id::text, state FROM nodes") == [(node, "stopped")]


def test_running_tasks_get_their_grace(start, tmp_path):
    daemon = start(DEFINITIONS, shutdown_grace="20s")
    workflow = daemon.launch("SLEEP", {"file": str(tmp_path / "pids"), "for": 0.7})
    eventually(lambda: pids(tmp_path / "pids"), "the task runs")
    assert daemon.stop() == 0
    daemon.start()
    found = daemon.wait(workflow)  # what it left is gone on with
    assert [(task["status"], task["attempt"]) for task in found["tasks"]] == [("success", 1), ("success", 1)]


def test_after_the_grace_they_are_stopped(start, tmp_path, database):
    daemon = start(DEFINITIONS, shutdown_grace="200ms")
    workflow = daemon.launch("SLEEP", {"file": str(tmp_path / "pids"), "for": 60})
    (pid,) = eventually(lambda: pids(tmp_path / "pids"), "the task runs")
    assert daemon.stop() == 0
    assert not alive(int(pid))
    assert database.sql("SELECT status::text, reason FROM workflows") == [("error", "node_stopped")]
    daemon.start()
    found = daemon.workflow(workflow)
    assert [(task["status"], task.get("reason")) for task in found["tasks"][:2]] == [
        ("error", "node_stopped"), ("canceled", "upstream_failed")]
    eventually(lambda: daemon.workflow(workflow)["tasks"][2]["status"] == "success", "its hook runs after the restart")


def test_what_is_claimed_after_the_grace_is_not_started(start, tmp_path, postgres, database):
    """By a call that was under way."""
    daemon = start(DEFINITIONS, shutdown_grace="0s")
    other = postgres.connect(database.name)
    other.cursor().execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
    payload = {"file": str(tmp_path / "pids"), "for": 600}
    caller = threading.Thread(target=daemon.launch, args=("SLEEP", payload))
    caller.start()
    eventually(lambda: database.value("SELECT count(*) FROM pg_stat_activity"
                                      " WHERE wait_event_type = 'Lock' AND query LIKE '%launch%'"), "the call waits")
    daemon.send_signal(signal.SIGTERM)
    daemon.await_log('"stopping"')
    other.rollback()
    assert daemon.wait_exit() == 0
    caller.join()
    assert pids(tmp_path / "pids") == []
    assert "in time" not in daemon.log()
    assert database.sql("SELECT status::text, reason FROM workflows") == [("error", "node_stopped")]


def test_second_signal_hurries(start, tmp_path):
    daemon = start(DEFINITIONS, shutdown_grace="10m")
    daemon.launch("DEAF", {"file": str(tmp_path / "pids")})
    (pid,) = eventually(lambda: pids(tmp_path / "pids"), "the task runs")
    begin = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    daemon.await_log("waiting for running tasks")
    assert daemon.stop(signal.SIGINT) == 0
    assert time.monotonic() - begin < 15
    assert not alive(int(pid))


def test_reads_and_cancels_while_it_stops(start, tmp_path):
    """One can see what it waits for, and put an end to it; new work is refused."""
    daemon = start("example.ETL: {tasks: []}\n" + DEFINITIONS, shutdown_grace="10m")
    workflow = daemon.launch("SLEEP", {"file": str(tmp_path / "pids"), "for": 600})
    eventually(lambda: pids(tmp_path / "pids"), "the task runs")
    daemon.send_signal(signal.SIGTERM)
    daemon.await_log("waiting for running tasks")
    assert daemon.workflow(workflow)["status"] == "progress"
    assert [found["id"] for found in daemon.get("/api/workflows").json()] == [workflow]
    health = daemon.get("/api/health")
    assert (health.status, health.json()["status"]) == (503, "stopping")
    for path, body in (("/api/workflows", {"project": "test", "name": "N", "payload": {}}),
                       (f"/api/workflows/{workflow}/relaunch", None), ("/api/reload", None),
                       ("/api/schedules/test.N/trigger", None)):
        reply = daemon.post(path, body)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5"), path
        assert reply.json() == {"error": "the daemon is stopping and takes no new work"}
    assert daemon.cancel(workflow).status == 201
    assert daemon.wait_exit() == 0


def test_nothing_new_starts_while_it_stops(start, tmp_path, database):
    daemon = start(DEFINITIONS, concurrency=1, shutdown_grace="20s")
    daemon.launch("SLEEP", {"file": str(tmp_path / "pids"), "for": 1})
    waiting = [daemon.launch("N") for _ in range(3)]
    eventually(lambda: pids(tmp_path / "pids"), "the task runs")
    assert daemon.stop() == 0
    statuses = "SELECT DISTINCT status::text FROM workflows WHERE id::text = ANY (%s)"
    assert database.sql(statuses, waiting) == [("pending",)]
    daemon.start()
    for workflow in waiting:
        daemon.wait(workflow)


def test_requests_at_the_moment_of_the_stop_are_answered(make, database):
    """Those of connections that the daemon has accepted; and what was acknowledged runs, if later."""
    daemon = make(DEFINITIONS)
    acknowledged = []
    for _ in range(5):
        daemon.start()
        connections = [daemon.connection() for _ in range(8)]
        body = '{"project":"test","name":"N","payload":{}}'
        for connection in connections:
            connection.request("POST", "/api/workflows", body, {"Content-Type": "application/json"})
        daemon.send_signal(signal.SIGTERM)
        replies = list(filter(None, map(reply_if_any, connections)))
        assert {reply.status for reply in replies} <= {201, 503}
        acknowledged += [reply.json()["id"] for reply in replies if reply.status == 201]
        assert daemon.wait_exit() == 0
        assert database.value("SELECT count(*) FROM tasks WHERE status = 'progress'") == 0
    assert acknowledged
    daemon.start()
    for workflow in acknowledged:
        daemon.wait(workflow)


def reply_if_any(connection):
    try:
        return harness.Reply(connection.getresponse())
    except (ConnectionResetError, http.client.RemoteDisconnected):
        return None


def test_stop_at_any_moment_of_the_start(make, database):
    daemon = make(DEFINITIONS)
    for delay in range(0, 200, 20):
        daemon.spawn()
        time.sleep(delay / 1000)
        # Before its first act the signal has its default meaning.
        assert daemon.stop() in (0, -signal.SIGTERM), daemon.log(daemon.start_of_life)
    daemon.start()
    daemon.run("N")


def test_restart_after_kill_is_not_held_up(start, tmp_path):
    """By the lock, the port, or the lease of its former life."""
    daemon = start(DEFINITIONS, listen=f"127.0.0.1:{harness.free_port()}")
    workflow = daemon.launch("SLEEP", {"file": str(tmp_path / "pids"), "for": 60})
    eventually(lambda: pids(tmp_path / "pids"), "the task runs")
    daemon.kill()
    daemon.start()
    found = daemon.wait(workflow, "error")
    assert found["reason"] == found["tasks"][0]["reason"] == "node_lost"


# --- the private PostgreSQL --------------------------------------------------------------------


@pytest.fixture(scope="module")
def state():
    """Making a cluster takes seconds: one for all of these tests."""
    path = harness.make_directory()
    yield path
    for pid in filter(None, [server_pid(path)]):
        os.kill(pid, signal.SIGQUIT)
        eventually(lambda: not alive(pid), "PostgreSQL has ended")
    shutil.rmtree(path)


class Programs:
    """PostgreSQL's, with a server that waits before its first act while it is held, and notes who it is."""

    def __init__(self):
        self.directory = harness.make_directory()
        self.held = self.directory / "held"
        self.launches = self.directory / "launches"
        self.launches.touch()
        self.launches.chmod(0o666)  # the server has another user
        real = harness.postgres_programs()
        for program in real.iterdir():
            (self.directory / program.name).symlink_to(program)
        self.write_server(f"""case "$*" in
            *listen_addresses*) echo $$ >> {self.launches} ;;
            esac
            while [ -e {self.held} ]; do sleep 0.1; done
            exec {real}/postgres "$@"
            """)

    def write_server(self, script):
        new = self.directory / "new"
        new.write_text("#!/bin/sh\n" + script)
        new.chmod(0o755)
        new.rename(self.directory / "postgres")

    def launched(self):
        return [int(pid) for pid in self.launches.read_text().split()]


def test_private_server_that_cannot_be(make, tmp_path):
    """Not before somebody changes something: a restart every 5 s would not help."""
    line = refused(make("", database_uri="", postgres_bin=tmp_path), CONFIG)
    assert "DIRECTOR_POSTGRES_BIN" in line and str(tmp_path) in line
    daemon = make("", database_uri="")
    foreign = daemon.directory / "state/postgresql/file"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    if os.geteuid() == 0:
        shutil.chown(foreign.parent, "postgres")
    assert "is no PostgreSQL cluster" in refused(daemon, CONFIG)


@pytest.fixture
def programs():
    found = Programs()
    yield found
    shutil.rmtree(found.directory)


@pytest.fixture
def private(request, state, programs):
    daemon = harness.Daemon(DEFINITIONS, state_dir=state, postgres_bin=programs.directory)
    request.node.daemons = [daemon]
    yield daemon.start()
    request.node.logs = [daemon.log()]
    daemon.finish()
    assert server_pid(state) is None
    assert not any(alive(pid) for pid in programs.launched())


def server_pid(state):
    """The process of the server that runs in the state directory."""
    try:
        pid = int((state / "postgresql/postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):  # no file, or just made
        return None
    return pid if alive(pid) else None


def connect(state):
    user = pathlib.Path(state / "postgresql").owner()
    return psycopg2.connect(host=str(state / "postgresql"), user=user, dbname="directord")


def test_private_server_is_private(private, state):
    private.run("N")
    connection = connect(state)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('listen_addresses'), current_setting('server_encoding'),"
                       " current_setting('fsync')")
        assert cursor.fetchone() == ("", "UTF8", "on")
    connection.close()
    assert (state / "postgresql").stat().st_mode & 0o777 == 0o700
    assert os.getsid(server_pid(state)) != os.getsid(private.process.pid)  # Ctrl-C is the daemon's


def test_private_server_stops_with_the_daemon_and_keeps_what_there_was(private, state):
    workflow = private.run("N")["id"]
    server = server_pid(state)
    assert private.stop() == 0
    assert not alive(server)
    private.start()
    assert private.workflow(workflow)["status"] == "success"


def test_private_server_outlives_a_killed_daemon_and_is_used_again(private, state):
    workflow = private.launch("N")
    server = server_pid(state)
    private.kill()
    assert server_pid(state) == server
    private.start()
    assert server_pid(state) == server
    private.wait_end(workflow)


def test_both_killed(private, state):
    """postmaster.pid is left behind, and what was acknowledged is there."""
    launched = [private.launch("N") for _ in range(20)]
    server = server_pid(state)
    private.kill()
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not alive(server), "the server is dead")
    assert (state / "postgresql/postmaster.pid").exists()
    private.start()
    for workflow in launched:
        private.wait_end(workflow)


def test_private_server_that_dies_is_started_again(private, state):
    workflow = private.run("N")["id"]
    server = server_pid(state)
    os.kill(server, signal.SIGQUIT)
    eventually(lambda: server_pid(state) not in (None, server), "another server")
    eventually(lambda: private.get(f"/api/workflows/{workflow}").status == 200, "it is used")
    private.run("N")


def test_impatient_signals_do_not_leave_the_private_server_running(private, state):
    """The stop of a server that does not act is waited for, whatever comes meanwhile."""
    server = server_pid(state)
    os.kill(server, signal.SIGSTOP)
    try:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            private.send_signal(number)
            time.sleep(0.3)
        assert private.running()
    finally:
        os.kill(server, signal.SIGCONT)
    assert private.wait_exit() == 0
    assert not alive(server)


def test_a_signal_while_the_private_server_starts(private, state):
    """A server that recovers may take minutes."""
    server = server_pid(state)
    private.kill()
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not alive(server), "the server is dead")
    private.spawn()
    eventually(lambda: server_pid(state), "a server starts")
    private.send_signal(signal.SIGTERM)
    assert private.wait_exit() == 0
    assert server_pid(state) is None


def test_who_waits_for_the_private_server_is_told(private, programs):
    private.stop()
    programs.held.touch()
    private.spawn()
    private.await_log("waiting for the private PostgreSQL.* is not ready after")
    private.send_signal(signal.SIGTERM)
    assert private.wait_exit() == 0
    events = re.findall('(?:info|warning|error) "(.*?)"', private.log(private.start_of_life))
    assert events[-3:] == ["stopping", "private PostgreSQL stopped", "stopped"]
    assert not any(alive(pid) for pid in programs.launched())


def test_private_servers_that_died_are_reaped(private, state):
    for _ in range(3):
        server = server_pid(state)
        os.kill(server, signal.SIGKILL)
        eventually(lambda: server_pid(state) not in (None, server), "another server")
        eventually(lambda: private.get("/api/health").status == 200, "it is used")
    eventually(lambda: not witness.zombies(private.process.pid), "the servers and all their children are reaped")


def kill_server(state):
    server = server_pid(state)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: server_pid(state) != server, "the server is dead")


def test_private_server_that_takes_long_is_started_once(private, state, programs):
    """Its daemon asks every few seconds whether it is ready, long before it has a postmaster.pid."""
    programs.held.touch()
    former = programs.launched()
    kill_server(state)
    eventually(lambda: programs.launched() != former, "it is started again")
    harness.never(lambda: len(programs.launched()) > len(former) + 1, "another one beside it", seconds=10)
    programs.held.unlink()
    eventually(lambda: private.get("/api/health").status == 200, "it is used")
    private.await_log("had ended and was started again")
    private.run("N")
    assert not witness.zombies(private.process.pid)


def test_private_server_that_does_not_come_back(private, state, programs):
    """The log says why, and once, however often it is tried."""
    good = (programs.directory / "postgres").read_text()
    programs.write_server(f"echo $$ >> {programs.launches}; echo no room for it; exit 1\n")
    former = programs.launched()
    kill_server(state)
    eventually(lambda: len(programs.launched()) >= len(former) + 3, "it is tried again and again")
    programs.write_server(good.removeprefix("#!/bin/sh\n"))
    private.await_log("had ended and was started again")
    said = re.findall("warning .* is not back yet.*no room for it.*", private.log())
    assert len(said) == 1 and "server.log" in said[0]
    eventually(lambda: private.get("/api/health").status == 200, "it is used")


def test_stop_while_the_private_server_is_started_again(private, state, programs):
    programs.held.touch()
    former = programs.launched()
    kill_server(state)
    launched = eventually(lambda: programs.launched()[len(former):], "it is started again")
    time.sleep(3)  # by now all connections wait for it, one after the other for 5 s
    private.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    assert private.wait_exit(120) == 0
    assert time.monotonic() - begin < 15
    assert not any(alive(pid) for pid in launched)


def test_daemon_killed_while_its_private_server_starts(private, state, programs):
    """The next one cannot know of that server, and starts another: PostgreSQL lets one of both go on."""
    programs.held.touch()
    former = programs.launched()
    kill_server(state)
    eventually(lambda: programs.launched() != former, "it is started again")
    private.kill()
    private.spawn()
    both = eventually(lambda: len(programs.launched()) == len(former) + 2 and programs.launched()[len(former):],
                      "another one is started")
    programs.held.unlink()
    private.await_ready()
    private.run("N")
    eventually(lambda: len([pid for pid in both if alive(pid)]) == 1, "one of both goes on")
