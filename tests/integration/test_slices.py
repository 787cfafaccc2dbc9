"""Replies that are read from the database slice by slice: whole, in order, and in little memory."""

import http.client
import json
import re
import select
import threading
import time

import pytest

from harness import eventually, has_sanitizer

DEFINITIONS = """
tasks:
  LARGE: {script: 'python3 -c "print([0] * 200000)" > $DIRECTOR_RESULT'}
  AGAIN: {script: 'python3 -c "print([$DIRECTOR_ATTEMPT] * 200000)" > $DIRECTOR_RESULT; exit 1', retry: {limit: 2, interval: 0}}
test.EMPTY: {tasks: []}
test.LARGE: {tasks: [LARGE, LARGE, LARGE, LARGE]}
"""
MEGABYTE = 1 << 20


@pytest.fixture
def large(start):
    """A daemon with workflows whose payloads of a megabyte do not fit into a slice together."""
    daemon = start("test.EMPTY: {tasks: []}")
    daemon.ids = [daemon.launch("EMPTY", {"n": n, "text": f"{n:02}" * (MEGABYTE // 2 - 100)}) for n in range(12)][::-1]
    return daemon


def peak_bytes(daemon):
    status = open(f"/proc/{daemon.process.pid}/status", encoding="ascii").read()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024


def forget_peak(daemon):
    with open(f"/proc/{daemon.process.pid}/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")


def ids(reply):
    assert reply.status == 200, reply
    return [workflow["id"] for workflow in reply.json()]


def test_page_of_large_payloads_takes_little_memory(large):
    forget_peak(large)
    before = peak_bytes(large)
    reply = large.get("/api/workflows")
    assert reply.headers["Transfer-Encoding"] == "chunked" and "Content-Length" not in reply.headers
    assert peak_bytes(large) - before < 8 * MEGABYTE or has_sanitizer()
    assert ids(reply) == large.ids
    assert [workflow["payload"]["n"] for workflow in reply.json()] == list(range(12))[::-1]
    assert reply.body == b"[" + b",".join(
        large.get(f"/api/workflows?per_page=1&page={n}").body[1:-2] for n in range(1, 13)) + b"]\n"
    assert "Link" not in reply.headers


def test_link_of_a_page_in_slices(large):
    first = large.get("/api/workflows?per_page=7")
    assert ids(first) == large.ids[:7]
    path = re.fullmatch(r'<(/api/workflows\?.*)>; rel="next"', first.headers["Link"])[1]
    assert ids(large.get(path)) == large.ids[7:]
    assert ids(large.get("/api/workflows?per_page=3&page=3")) == large.ids[6:9]
    small = large.get("/api/workflows?per_page=7&with_payload=false")
    assert small.headers["Link"].replace("&with_payload=false", "") == first.headers["Link"]
    assert "Content-Length" in small.headers


def test_small_and_large_payloads_in_one_page(large):
    small = [large.launch("EMPTY", {"n": n}) for n in range(3)][::-1]
    assert ids(large.get("/api/workflows")) == small + large.ids
    assert ids(large.get("/api/workflows?per_page=4")) == small + large.ids[:1]
    assert ids(large.get("/api/workflows?per_page=3")) == small


def test_head_of_a_page_in_slices(large):
    head = large.request("HEAD", "/api/workflows?per_page=7")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Transfer-Encoding"] == "chunked"
    assert head.headers["Link"] == large.get("/api/workflows?per_page=7").headers["Link"]


def test_page_in_slices_over_http_1_0(large):
    with large.socket() as client:
        client.sendall(b"GET /api/workflows HTTP/1.0\r\n\r\n")
        head, _, body = b"".join(iter(lambda: client.recv(MEGABYTE), b"")).partition(b"\r\n\r\n")
    assert b"chunked" not in head and body == large.get("/api/workflows").body


def test_many_small_workflows(start, database):
    daemon = start("test.EMPTY: {tasks: []}")
    first = daemon.run("EMPTY")["id"]
    database.sql("INSERT INTO workflows (id, definition_id, project, name, status, created, updated, payload) SELECT "
                 "('00000000-0000-7000-8000-' || lpad(to_hex(n << 16), 12, '0'))::uuid, 1, 'test', 'EMPTY', 'success', "
                 "now(), now(), '{}' FROM generate_series(1, 6000) n")
    reply = daemon.get("/api/workflows?per_page=5000")
    assert reply.headers["Transfer-Encoding"] == "chunked"
    found = ids(reply)
    assert (len(found), found[0]) == (5000, first) and found == sorted(found, reverse=True)
    path = re.fullmatch(r"<(.*)>.*", reply.headers["Link"])[1]
    assert len(ids(daemon.get(path))) == 1001
    database.sql("DELETE FROM workflows WHERE id < '00000000-0000-7001-0000-000000000000'")  # the checker knows better


def test_large_results_and_attempts(start):
    daemon = start(DEFINITIONS + "test.AGAIN: {tasks: [AGAIN]}\n")
    workflow = daemon.run("LARGE")["id"]
    tasks = daemon.get(f"/api/workflows/{workflow}?attempts=true").json()["tasks"]
    assert [len(task["result"]) for task in tasks if task["key"] == "LARGE"] == [200000] * 4
    for task in tasks:
        assert [attempt["result"] for attempt in task["attempts"]] == [task["result"]][:task.get("attempt", 0)]
    reply = daemon.get(f"/api/workflows/{workflow}")
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert reply.json()["tasks"] == [{key: task[key] for key in task if key != "attempts"} for task in tasks]
    (task,) = daemon.get(f"/api/workflows/{daemon.run('AGAIN', status='error')['id']}?attempts=true").json()["tasks"]
    assert [attempt["attempt"] for attempt in task["attempts"]] == [1, 2, 3]
    assert task["attempts"][-1]["result"] == task["result"]


def test_failure_in_the_middle_ends_the_connection(large, database):
    with large.socket() as client:
        client.sendall(b"GET /api/workflows HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        other = database.server.connect(database.name)
        other.cursor().execute("LOCK TABLE workflows IN ACCESS EXCLUSIVE MODE")
        received = client.makefile("rb")
        with pytest.raises(ConnectionResetError):
            while received.read(MEGABYTE):
                pass
            raise AssertionError("the end looks like one")
        other.rollback()
    large.await_log("ended short")


def test_replies_of_all_clients_are_bounded(start):
    daemon = start("tasks: {SLEEP: {command: [sleep, 60]}}\ntest.SLEEP: {tasks: [SLEEP]}\ntest.EMPTY: {tasks: []}",
                   max_replies="1MiB")
    running = daemon.launch("SLEEP")
    text = "x" * (MEGABYTE - 100)
    for _ in range(30):
        daemon.launch("EMPTY", {"text": text})
    client = daemon.socket()
    client.sendall(b"GET /api/workflows HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(12) == b"HTTP/1.1 200"
    reply = daemon.get("/api/workflows?per_page=2")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert reply.json() == {"error": "Too many replies wait for their clients"}
    assert daemon.get("/api/ping").status == 200
    daemon.launch("EMPTY")  # what is no read is not held up
    assert daemon.cancel(running).status == 201
    client.close()
    eventually(lambda: daemon.get("/api/workflows?per_page=2").status == 200, "room for a reply")


def hold_up_slices(database):
    """From now on they wait for a lock, which the connection that is returned has, together with one on the table."""
    source = database.value("SELECT pg_get_functiondef('slice_workflows'::regproc)")
    database.sql(source.replace("$function$", "$function$ SELECT pg_advisory_xact_lock_shared(1);", 1))
    other = database.server.connect(database.name)
    other.cursor().execute("SELECT pg_advisory_lock(1)")
    other.cursor().execute("LOCK TABLE workflows IN ACCESS EXCLUSIVE MODE")
    return other


def test_pages_that_are_half_read_are_bounded(start, database):
    """The first part of a page waits in memory for the slice that follows it: only where there is room."""
    daemon = start("test.EMPTY: {tasks: []}", max_replies="1MiB", query_timeout="60s", lease="120s")
    found = [daemon.run("EMPTY", {"text": size * "x"})["id"] for size in (5000, 1, 1)][::-1]
    other = hold_up_slices(database)
    clients = [daemon.socket() for _ in range(3)]
    for client in clients:
        client.sendall(b"GET /api/workflows HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert daemon.get("/api/ping").status == 200
    other.commit()  # all begin to read

    def refused():
        return select.select(clients, [], [], 0)[0]

    eventually(lambda: len(refused()) == 2, "two find no room")
    (first,) = (client for client in clients if client not in refused())
    for client in refused():
        assert b"503 Service Unavailable" in client.recv(1000)
    other.close()
    reply = http.client.HTTPResponse(first)
    reply.begin()
    assert (reply.status, [workflow["id"] for workflow in json.load(reply)]) == (200, found)
    assert ids(daemon.get("/api/workflows")) == found


def test_page_without_room_has_no_next_one(start):
    daemon = start("test.EMPTY: {tasks: []}", max_replies="1536KiB")
    for size in 30 * [MEGABYTE - 100] + 30 * [30000]:
        daemon.launch("EMPTY", {"text": size * "x"})
    with daemon.socket() as client:
        client.sendall(b"GET /api/workflows HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        reply = daemon.get("/api/workflows?per_page=30")
        assert (reply.status, reply.headers["Retry-After"], reply.headers["Link"]) == (503, "1", None)
        assert daemon.get("/api/workflows?per_page=1").headers["Link"]


def test_logs_are_bounded(start, database):
    daemon = start("tasks: {TALK: {script: 'yes 0123456789abcde | head -c 20M', log_limit: 32MiB}}\n"
                   "test.TALK: {tasks: [TALK]}", max_replies="1MiB", query_timeout="60s", lease="120s")
    workflow = daemon.run("TALK")
    path = f"/api/workflows/{workflow['id']}/tasks/{workflow['tasks'][0]['id']}/log"
    eventually(lambda: len(daemon.get(path).body) == 20 * MEGABYTE, "all of it is written")
    other = database.server.connect(database.name)
    other.cursor().execute("LOCK TABLE task_logs IN ACCESS EXCLUSIVE MODE")
    clients = [daemon.socket() for _ in range(3)]
    for client in clients:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert daemon.get("/api/ping").status == 200
    other.close()  # all begin to read
    assert sorted(client.recv(12) for client in clients) == [b"HTTP/1.1 200", b"HTTP/1.1 503", b"HTTP/1.1 503"]
    for client in clients:
        client.close()
    eventually(lambda: daemon.get(path + "?tail=2").text == 2 * "0123456789abcde\n", "room for a reply")


def test_payloads_of_relaunches_are_bounded(start, database):
    """They wait for their commit as bodies do, although they were not sent."""
    daemon = start("test.EMPTY: {tasks: []}", max_bodies="1MiB", query_timeout="60s", lease="120s")
    workflow = daemon.run("EMPTY", {"text": "x" * (MEGABYTE // 4 * 3)})["id"]
    other = database.server.connect(database.name)
    other.cursor().execute("LOCK TABLE workflows IN SHARE MODE")
    clients = [daemon.socket() for _ in range(3)]
    for client in clients:
        client.sendall(f"POST /api/workflows/{workflow}/relaunch HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def answered():
        return select.select(clients, [], [], 0)[0]

    eventually(lambda: len(answered()) == 2, "two find no room")
    assert {client.recv(12) for client in answered()} == {b"HTTP/1.1 503"}
    other.close()
    eventually(lambda: len(daemon.get("/api/workflows?with_payload=0&status=success").json()) == 2, "one is done")


def test_slow_search_holds_up_nobody_and_says_so(start, database):
    daemon = start("test.EMPTY: {tasks: []}", query_timeout="3s")
    for _ in range(40):
        daemon.launch("EMPTY")
    # The worst text for strpos: it looks at hundreds of bytes for each one.
    database.sql("UPDATE workflows SET comment = repeat('a', 2000000)")
    workflow = daemon.run("EMPTY")["id"]
    replies = {}

    def search():
        replies["search"] = daemon.get("/api/workflows?comment=b" + "a" * 400)

    def list_behind():
        replies["list"] = daemon.get("/api/workflows?per_page=0")

    threads = [threading.Thread(target=search), threading.Thread(target=list_behind)]
    threads[0].start()
    time.sleep(1)
    threads[1].start()
    reads = 0
    while threads[0].is_alive():
        assert daemon.get(f"/api/workflows/{workflow}").status == 200
        reads += 1
    assert reads > 3
    for thread in threads:
        thread.join()
    assert (replies["search"].status, replies["search"].json()) == (
        503, {"error": "the database took longer than DIRECTOR_QUERY_TIMEOUT allows"})
    assert replies["list"].status == 200
    lines = [line for line in daemon.log().splitlines() if "took longer than DIRECTOR_QUERY_TIMEOUT allows" in line]
    assert len(lines) == 1 and "warning" in lines[0] and "statement=list_workflows" in lines[0]
