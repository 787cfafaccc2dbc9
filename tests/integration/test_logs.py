"""The output of tasks: what is kept of it, when it can be read, and how."""

import re
import signal
import threading
import time

import pytest

from harness import eventually
from proxy import Proxy

DEFINITIONS = r"""
tasks:
  # Both streams, far enough apart that their order is known.
  BOTH:
    script: |
      echo one; sleep 0.05
      echo two >&2; sleep 0.05
      printf three; sleep 0.05
      printf ' four\n' >&2; sleep 0.05
      echo five
  # Prints the payload's text and waits for its file.
  HELD:
    env: {TEXT: "{{ payload.text }}", GATE: "{{ payload.gate }}"}
    script: |
      echo "$TEXT"
      until [ -e "$GATE" ]; do sleep 0.02; done
      echo done
  WAIT: {env: {GATE: "{{ payload.gate }}"}, script: 'until [ -e "$GATE" ]; do sleep 0.02; done'}
  ECHO: {script: 'echo "$TEXT"', env: {TEXT: "{{ payload.text }}"}}
  SILENT: {script: ':'}
  NOOP: {noop: true}
  NUMBERS: {script: seq 1 1000}
  FLOOD: {log_limit: 64KiB, script: 'echo first; yes 0123456789abcde | head -c 300M; echo last'}
  # Two writers in bytes, as fast as they can.
  FINE:
    log_limit: 64KiB
    command:
      - /usr/bin/python3
      - -c
      - |
        import os
        for i in range(20000):
            os.write(1, b"o")
            os.write(2, b"e")
  BINARY:
    script: |
      printf 'a\377b\000c\303'; sleep 0.3
      printf '\251 \342\202'; sleep 0.3
      printf '\254\n\360\237'
  AGAIN:
    retry: {limit: 1, interval: 0.05}
    script: 'echo attempt $DIRECTOR_ATTEMPT; [ $DIRECTOR_ATTEMPT = 2 ]'
  POLITE:
    env: {READY: "{{ payload.ready }}"}
    script: |
      trap 'echo cleaned; exit 0' TERM
      echo begun
      touch "$READY"
      while :; do sleep 0.02; done
  DRIP: {script: 'for i in $(seq 1 60); do echo line $i; sleep 0.05; done'}
test.BOTH: {tasks: [BOTH]}
test.HELD: {tasks: [HELD]}
test.LATER: {tasks: [WAIT, HELD]}
test.ECHO: {tasks: [ECHO]}
test.MANY: {tasks: [{G: {type: group, tasks: [ECHO, ECHO, ECHO, ECHO]}}]}
test.QUIET: {tasks: [SILENT, NOOP]}
test.NUMBERS: {tasks: [NUMBERS]}
test.FLOOD: {tasks: [FLOOD]}
test.FINE: {tasks: [FINE]}
test.BINARY: {tasks: [BINARY]}
test.AGAIN: {tasks: [AGAIN]}
test.POLITE: {tasks: [POLITE]}
test.DRIP: {tasks: [DRIP]}
test.KEPT: {retention: {offset: 0}, tasks: [ECHO]}
"""
GAP = re.compile(r"\n\[… (\d+) bytes left out …\]\n")


def log_path(daemon, workflow, place=0, query=""):
    task = daemon.workflow(workflow)["tasks"][place]["id"]
    return f"/api/workflows/{workflow}/tasks/{task}/log?{query}"


def read_log(daemon, workflow, place=0, query=""):
    reply = daemon.get(log_path(daemon, workflow, place, query))
    assert reply.status == 200, reply
    return reply.text


def run_log(daemon, name, payload=None, query="", status="success"):
    """Runs test.NAME; the log of its first task as soon as the end is seen."""
    return read_log(daemon, daemon.run(name, payload, status)["id"], query=query)


class Follower(threading.Thread):
    """Reads a log with follow=true; `text` grows."""

    def __init__(self, daemon, path):
        super().__init__()
        self.connection = daemon.connection()
        self.connection.request("GET", path)
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        self.text = ""
        self.start()

    def run(self):
        while piece := self.response.read1():
            self.text += piece.decode()

    def end(self):
        self.join(30)
        assert not self.is_alive()
        self.connection.close()
        return self.text


# --- what is kept ------------------------------------------------------------------------------


def test_order_and_streams(daemon):
    workflow = daemon.run("BOTH")["id"]
    reply = daemon.get(log_path(daemon, workflow))
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.text == "one\ntwo\nthree four\nfive\n"
    assert read_log(daemon, workflow, query="stream=stdout") == "one\nthreefive\n"
    assert read_log(daemon, workflow, query="stream=stderr") == "two\n four\n"
    assert read_log(daemon, workflow, query="stream=stdout,stderr") == reply.text
    rows = daemon.database.sql("SELECT stream, at, convert_from(content, 'UTF8') FROM task_logs"
                               " WHERE workflow_id = %s ORDER BY start", workflow)
    assert [(stream, text) for stream, _, text in rows] == [
        (1, "one\n"), (2, "two\n"), (1, "three"), (2, " four\n"), (1, "five\n")]
    started, finished = daemon.database.sql("SELECT started, finished FROM tasks WHERE workflow_id = %s", workflow)[0]
    times = [at for _, at, _ in rows]
    assert times == sorted(times) and started <= times[0] and times[-1] <= finished


def test_whole_log_with_the_final_status(daemon):
    for i in range(30):
        assert run_log(daemon, "ECHO", {"text": f"number {i}"}) == f"number {i}\n"
    for _ in range(5):
        workflow = daemon.run("MANY", {"text": "x" * 50000})["id"]
        assert [len(read_log(daemon, workflow, place)) for place in range(4)] == [50001] * 4


def test_nothing_printed(daemon):
    workflow = daemon.run("QUIET")["id"]
    assert [read_log(daemon, workflow, place) for place in range(2)] == ["", ""]


def test_flood(daemon):
    before = daemon.database.value("SELECT pg_current_wal_lsn()::text")
    workflow = daemon.run("FLOOD")["id"]
    text = read_log(daemon, workflow)
    (left_out,) = map(int, GAP.findall(text))
    head, _, tail = GAP.split(text)
    assert len(head) == 16 * 1024 and head.startswith("first\n0123456789abcde\n")
    assert len(tail) == 48 * 1024 and tail.endswith("0123456789abcde\nlast\n")
    assert len(head) + left_out + len(tail) == 300 * 1024 * 1024 + len("first\nlast\n")
    rows, size = daemon.database.sql("SELECT count(*), sum(octet_length(content)) FROM task_logs"
                                     " WHERE workflow_id = %s", workflow)[0]
    assert rows < 50 and size <= 80 * 1024  # a row that reaches into the gap stays whole
    written = daemon.database.value("SELECT pg_current_wal_lsn() - %s::pg_lsn", before)
    assert written < 20 * 1024 * 1024


def test_two_streams_in_bytes(daemon):
    workflow = daemon.run("FINE")["id"]
    text = read_log(daemon, workflow)
    left_out = sum(map(int, GAP.findall(text)))
    assert len(GAP.sub("", text)) + left_out == 40000
    assert daemon.database.value("SELECT count(*) FROM task_logs WHERE workflow_id = %s", workflow) < 3000


def test_binary(daemon):
    assert run_log(daemon, "BINARY") == "a\ufffdb\0cé €\n\ufffd\ufffd"


def test_attempts(daemon):
    workflow = daemon.run("AGAIN")["id"]
    assert read_log(daemon, workflow) == "attempt 2\n"
    assert read_log(daemon, workflow, query="attempt=1") == "attempt 1\n"
    reply = daemon.get(log_path(daemon, workflow, query="attempt=3"))
    assert reply.status == 404 and reply.json()["error"].startswith("Attempt 3 of task ")


def test_canceled(daemon, tmp_path):
    workflow = daemon.launch("POLITE", {"ready": str(tmp_path / "ready")})
    eventually((tmp_path / "ready").exists, "the task runs")
    daemon.cancel(workflow)
    # The shell itself says of the sleep that it was terminated.
    eventually(lambda: re.fullmatch("begun\n(Terminated\n)?cleaned\n", read_log(daemon, workflow)),
               lambda: f"both lines: {read_log(daemon, workflow)}")


def test_retention(daemon):
    workflow = daemon.run("KEPT", {"text": "x"})["id"]
    daemon.database.sql("SELECT clear_workflows(-1, 100)")
    assert daemon.database.value("SELECT count(*) FROM task_logs WHERE workflow_id = %s", workflow) == 0


# --- when it can be read -----------------------------------------------------------------------


def test_running(daemon, tmp_path):
    workflow = daemon.launch("HELD", {"text": "now", "gate": str(tmp_path / "gate")})
    daemon.wait_task(workflow, "HELD", "progress")
    eventually(lambda: read_log(daemon, workflow) == "now\n", "its output within a second", 1.5)
    (tmp_path / "gate").touch()
    daemon.wait(workflow)
    assert read_log(daemon, workflow) == "now\ndone\n"


def test_follow(daemon, tmp_path):
    gate = tmp_path / "gate"
    workflow = daemon.launch("HELD", {"text": "now", "gate": str(gate)})
    followers = [Follower(daemon, log_path(daemon, workflow, query=f"follow=true{more}"))
                 for more in ("", "&stream=stderr", "&offset=2")]
    eventually(lambda: followers[0].text == "now\n", "the first line")
    time.sleep(0.5)
    assert all(follower.is_alive() for follower in followers)
    gate.touch()
    assert [follower.end() for follower in followers] == ["now\ndone\n", "", "w\ndone\n"]
    assert daemon.task(workflow, "HELD")["status"] == "success"  # not before its end


def test_follow_what_has_not_begun(daemon, tmp_path):
    gate = tmp_path / "gate"
    workflow = daemon.launch("LATER", {"text": "now", "gate": str(gate)})
    follower = Follower(daemon, log_path(daemon, workflow, 1, "follow=1"))
    time.sleep(0.5)
    gate.touch()
    assert follower.end() == "now\ndone\n"
    canceled = daemon.launch("LATER", {"text": "now", "gate": "/nowhere"})
    follower = Follower(daemon, log_path(daemon, canceled, 1, "follow=1"))
    daemon.cancel(canceled)
    assert follower.end() == ""


def test_follow_what_drips(daemon):
    workflow = daemon.launch("DRIP")
    follower = Follower(daemon, log_path(daemon, workflow, query="follow=1&tail=0"))
    assert follower.end().splitlines()[-40:] == [f"line {i}" for i in range(21, 61)]


def test_follower_that_leaves(daemon, tmp_path):
    gate = tmp_path / "gate"
    workflow = daemon.launch("HELD", {"text": "now", "gate": str(gate)})
    path = log_path(daemon, workflow, query="follow=1")
    for _ in range(120):  # more than there may be at a time
        with daemon.socket() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
    gate.touch()
    daemon.wait(workflow)


def test_burst_of_followers(daemon, tmp_path):
    """All of them are asked for before the first one streams."""
    gate = tmp_path / "gate"
    workflow = daemon.launch("HELD", {"text": "now", "gate": str(gate)})
    path = log_path(daemon, workflow, query="follow=1")
    clients = [daemon.socket() for _ in range(110)]
    for client in clients:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert sorted(client.recv(12) for client in clients) == [b"HTTP/1.1 200"] * 100 + [b"HTTP/1.1 503"] * 10
    for client in clients:
        client.close()
    gate.touch()
    daemon.wait(workflow)
    assert {daemon.get(f"{path}&attempt=7").status for _ in range(101)} == {404}


def test_too_many_followers(daemon, tmp_path):
    gate = tmp_path / "gate"
    workflow = daemon.launch("HELD", {"text": "now", "gate": str(gate)})
    path = log_path(daemon, workflow, query="follow=1")
    followers = [Follower(daemon, path) for _ in range(100)]
    reply = daemon.get(path)
    assert reply.status == 503 and reply.headers["Retry-After"] == "5"
    gate.touch()
    assert {follower.end() for follower in followers} == {"now\ndone\n"}


def test_connections_lost(daemon):
    workflow = daemon.launch("DRIP")
    follower = Follower(daemon, log_path(daemon, workflow, query="follow=1"))
    for _ in range(4):
        daemon.database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE datname = current_database() AND pid <> pg_backend_pid()")
        time.sleep(0.4)
    eventually(lambda: daemon.get("/api/health").status == 200, "the database is back")
    daemon.wait(workflow)
    wanted = "".join(f"line {i}\n" for i in range(1, 61))
    eventually(lambda: read_log(daemon, workflow) == wanted, lambda: read_log(daemon, workflow))
    assert follower.end() == wanted


@pytest.fixture
def proxy(postgres):
    proxy = Proxy(postgres)
    yield proxy
    proxy.close()


def lose_log_connection(daemon, proxy):
    """For as long as the log-in of the next one is not answered."""
    daemon.run("ECHO", {"text": "first"})
    proxy.arm("stall", 1, of=b"application_name\0directord")
    assert daemon.database.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                 " WHERE datname = current_database() AND query LIKE '%%append_logs(%%'"
                                 " AND pid <> pg_backend_pid()") == 1
    eventually(lambda: proxy.reached, "the log connection is asked for again")


def test_stop_waits_for_logs(start, database, proxy):
    daemon = start(DEFINITIONS, database_uri=proxy.uri(database.name), query_timeout="3s")
    lose_log_connection(daemon, proxy)
    daemon.run("ECHO", {"text": "second"})
    assert database.value("SELECT string_agg(encode(content, 'escape'), '|') FROM task_logs") == "first\n"
    assert daemon.stop() == 0
    assert database.value("SELECT count(*) FROM task_logs WHERE content = 'second\n'") == 1


def test_stop_says_which_logs_it_gave_up(start, database, proxy):
    daemon = start(DEFINITIONS, database_uri=proxy.uri(database.name), query_timeout="25s")
    lose_log_connection(daemon, proxy)
    daemon.run("ECHO", {"text": "second"})
    daemon.send_signal(signal.SIGTERM)
    daemon.await_log("stopping")
    assert daemon.stop() == 0  # a second signal
    daemon.await_log("the database did not take the last logs in time; their ends are lost. logs=1")


# --- the request -------------------------------------------------------------------------------


@pytest.mark.parametrize("query, wanted", [
    ("tail=3", [998, 999, 1000]),
    ("tail=1", [1000]),
    ("tail=0", []),
    ("tail=5000", range(1, 1001)),
    ("offset=0", range(1, 1001)),
    ("offset=3888", [1000]),
    ("offset=3893", []),
    ("offset=9223372036854775807", []),
    ("tail=2&offset=3888", [1000]),
    ("tail=2&stream=stderr", []),
])
def test_parts(daemon, query, wanted):
    workflow = getattr(daemon, "numbers", None) or daemon.run("NUMBERS")["id"]
    daemon.numbers = workflow
    assert read_log(daemon, workflow, query=query) == "".join(f"{i}\n" for i in wanted)


@pytest.mark.parametrize("query", ["tail=-1", "tail=x", "attempt=0", "offset=-1", "stream=stdin",
                                   "tail=1&tail=2"])
def test_bad_request(daemon, query):
    workflow = daemon.run("QUIET")["id"]
    reply = daemon.get(log_path(daemon, workflow, query=query))
    assert reply.status == 400 and query.split("=")[0] in reply.json()["error"], reply


def test_not_found(daemon):
    workflow = daemon.run("QUIET")["id"]
    other = daemon.run("QUIET")["id"]
    path = log_path(daemon, workflow)
    for wrong, error in [
            (path.replace(workflow, "x"), "Workflow x not found"),
            (path.replace(workflow, "00000000-0000-7000-8000-000000000000"), None),
            (path.replace(workflow, other), None),
            (path.replace("0001/log", "0003/log"), None),
            (path.replace("0001/log", "0000/log"), None),
            (re.sub("tasks/[^/]*", "tasks/ECHO", path), "Task ECHO not found")]:
        reply = daemon.get(wrong)
        assert reply.status == 404, wrong
        assert error in (None, reply.json()["error"])


def test_head(daemon):
    workflow = daemon.run("NUMBERS")["id"]
    reply = daemon.request("HEAD", log_path(daemon, workflow, query="follow=1"))
    assert reply.status == 200 and reply.body == b""


# --- the guards in the database ----------------------------------------------------------------

APPEND = """SELECT append_logs(%(node)s, ARRAY [%(workflow)s]::uuid[], '{0}', ARRAY [%(attempt)s],
    ARRAY [%(head)s]::bigint[], ARRAY [%(tail)s]::bigint[], '{1}', ARRAY [%(start)s]::bigint[], '{1}',
    ARRAY [now()], ARRAY [%(content)s]::bytea[])"""


def test_fenced_and_repeatable(daemon):
    workflow = daemon.run("AGAIN")["id"]
    database = daemon.database

    def append(**what):
        with database.cursor() as cursor:
            cursor.execute(APPEND, {"node": daemon.node, "workflow": workflow, "attempt": 2, "head": 10, "tail": 10,
                                    "start": 10, "content": b"more\n", **what})
        return read_log(daemon, workflow)

    assert append(node="00000000-0000-4000-8000-000000000000") == "attempt 2\n"
    assert append(attempt=3) == "attempt 2\n"
    assert append() == append() == "attempt 2\nmore\n"
    assert append(content=b"else\n") == "attempt 2\nmore\n"
    assert append(start=15, tail=15) == "attempt 2\n\n[… 5 bytes left out …]\nmore\n"
    append(attempt=1, start=10)
    assert read_log(daemon, workflow, query="attempt=1") == "attempt 1\nmore\n"
