"""HTTP as bytes on a socket: framing, limits, and clients that misbehave without harming others."""

import contextlib
import json
import select
import socket
import threading
import time

import pytest

from harness import DEADLINE, eventually

DEFINITIONS = "test.A: {tasks: []}"
SETTINGS = {
    "max_target": "1KiB", "max_head": "4KiB", "max_header_fields": 20, "max_body": "64KiB", "max_bodies": "256KiB",
    "head_timeout": "1s", "body_timeout": "1s", "idle_timeout": "3s", "reply_timeout": "2s", "max_connections": 64,
}
PING = b"GET /api/ping HTTP/1.1\r\nHost: x\r\n\r\n"
PONG = (200, b'{"message":"pong"}\n')
LAUNCH = b'{"project":"test","name":"A","payload":{}}'
INVALID = (400, b'{"error":"The request is not valid HTTP/1.1"}\n')


class Client:
    """A connection, and the replies on it as they come."""

    def __init__(self, daemon):
        self.socket = daemon.socket()
        self.stream = self.socket.makefile("rb")

    def send(self, *pieces):
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def head(self):
        """Status and fields (names in lower case) of the next reply."""
        line = self.stream.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        fields = {}
        while (field := self.stream.readline()) != b"\r\n":
            name, _, value = field.decode().partition(":")
            assert name.lower() not in fields
            fields[name.lower()] = value.strip()
        return int(line.split()[1]), fields

    def reply(self, body=True):
        status, self.fields = self.head()
        return status, self.stream.read(int(self.fields.get("content-length", 0))) if body else b""

    def is_closed(self):
        """Has the server closed, with nothing more to read?"""
        try:
            return self.stream.read(1) == b""
        except ConnectionResetError:
            return True

    def is_open(self):
        return not select.select([self.socket], [], [], 0.1)[0] and self.send(PING).reply() == PONG


@pytest.fixture
def client(daemon):
    clients = []

    def connect():
        clients.append(Client(daemon))
        return clients[-1]

    yield connect
    for one in clients:
        one.socket.close()


@pytest.fixture(autouse=True)
def bystander(daemon):
    """Whatever a test does, a connection beside it is served before and after."""
    beside = Client(daemon)
    assert beside.send(PING).reply() == PONG
    yield
    with contextlib.suppress(OSError, AssertionError):  # idle for too long: that is no harm
        beside.send(PING).reply()
    beside.socket.close()
    assert daemon.get("/api/ping").status == 200


def post(body, *fields, path=b"/api/workflows"):
    head = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Type: application/json", *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def post_sized(body, *fields):
    return post(body, b"Content-Length: %d" % len(body), *fields)


def chunks(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# --- good requests -----------------------------------------------------------------------------


def test_keep_alive_is_the_default(client):
    connection = client()
    for _ in range(5):
        assert connection.send(PING).reply() == PONG
        assert "connection" not in connection.fields


def test_connection_close(client):
    connection = client().send(b"GET /api/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert connection.reply() == PONG
    assert connection.fields["connection"] == "close"
    assert connection.is_closed()


def test_http_1_0(client):
    connection = client().send(b"GET /api/ping HTTP/1.0\r\n\r\n")
    assert connection.reply() == PONG and connection.is_closed()
    connection = client().send(b"GET /api/ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert connection.reply() == PONG and connection.fields["connection"] == "keep-alive"
    assert connection.is_open()


def test_reply_has_a_date_and_its_length(client):
    connection = client().send(PING)
    connection.reply()
    assert connection.fields["content-length"] == str(len(PONG[1]))
    assert time.strptime(connection.fields["date"], "%a, %d %b %Y %H:%M:%S GMT")


def test_pipelined_requests_are_answered_in_order(client):
    connection = client()
    paths = [b"/api/ping" if n % 3 else b"/api/workflows/%d" % n for n in range(60)]
    connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths))
    for n, path in enumerate(paths):
        expected = PONG if n % 3 else (404, b'{"error":"Workflow %d not found"}\n' % n)
        assert connection.reply() == expected


def test_pipelined_launches_and_pings(client):
    """What waits for the database does not let a later one overtake it."""
    connection = client().send((post_sized(LAUNCH) + PING) * 10)
    for _ in range(10):
        assert connection.reply()[0] == 201
        assert connection.reply() == PONG


def test_a_request_in_single_bytes(client):
    connection = client()
    for byte in post_sized(LAUNCH) + PING:
        connection.send(bytes([byte]))
    assert connection.reply()[0] == 201
    assert connection.reply() == PONG


def test_chunked_body(client):
    connection = client()
    connection.send(post(chunks(LAUNCH[:10], LAUNCH[10:11], LAUNCH[11:]), b"Transfer-Encoding: chunked"), PING)
    assert connection.reply()[0] == 201
    assert connection.reply() == PONG


def test_chunk_extensions_and_trailers_are_ignored(client):
    body = b"%X;a=b\r\n%s\r\n0;last\r\nX-Sum: 1\r\n\r\n" % (len(LAUNCH), LAUNCH)
    connection = client().send(post(body, b"Transfer-Encoding: Chunked"), PING)
    assert connection.reply()[0] == 201
    assert connection.reply() == PONG


def test_expect_continue(client):
    head = post(b"", b"Content-Length: %d" % len(LAUNCH), b"Expect: 100-continue")
    connection = client().send(head)
    assert connection.head() == (100, {})
    assert connection.send(LAUNCH).reply()[0] == 201
    assert connection.is_open()


def test_too_large_a_body_is_refused_before_continue(client):
    connection = client().send(post(b"", b"Content-Length: 65537", b"Expect: 100-continue"))
    assert connection.reply() == (413, b'{"error":"The body is larger than 65536 bytes"}\n')
    assert connection.is_closed()


def test_unknown_expectation_is_417(client):
    assert client().send(post(b"", b"Content-Length: 2", b"Expect: pay")).reply()[0] == 417


def test_empty_lines_before_a_request(client):
    connection = client().send(b"\r\n\r\n" + PING + b"\r\n" + PING)
    assert connection.reply() == PONG and connection.reply() == PONG


def test_absolute_form(client):
    connection = client().send(b"GET http://x/api/ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.reply() == PONG and connection.is_open()


def test_options_of_the_server(client):
    connection = client().send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.reply() == (204, b"")
    assert "GET" in connection.fields["allow"] and "content-length" not in connection.fields


def test_head_does_not_shift_the_next_reply(client):
    connection = client().send(PING.replace(b"GET", b"HEAD") + PING)
    status, _ = connection.reply(body=False)
    assert (status, connection.fields["content-length"]) == (200, "19")
    assert connection.reply() == PONG


def test_half_closed_client_still_gets_its_reply(client):
    connection = client().send(post_sized(LAUNCH))
    connection.socket.shutdown(socket.SHUT_WR)
    assert connection.reply()[0] == 201
    assert connection.is_closed()


def test_body_of_the_largest_size(client):
    payload = json.dumps({"x": "y" * 65000})
    body = b'{"project":"test","name":"A","payload":%s}' % payload.encode()
    body += b" " * (65536 - len(body))
    assert client().send(post_sized(body)).reply()[0] == 201
    assert client().send(post(chunks(body[:40000], body[40000:]), b"Transfer-Encoding: chunked")).reply()[0] == 201


# --- bad requests ------------------------------------------------------------------------------

LINE = b"GET /api/ping HTTP/1.1\r\n"
MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "words": b"hello\r\n\r\n",
    "no version": b"GET /api/ping\r\nHost: x\r\n\r\n",
    "two blanks": b"GET  /api/ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "blank at the end": b"GET /api/ping HTTP/1.1 \r\nHost: x\r\n\r\n",
    "bare LF": b"GET /api/ping HTTP/1.1\nHost: x\n\n",
    "bare CR": LINE + b"Host: x\rX: y\r\n\r\n",
    "NUL in a value": LINE + b"Host: x\r\nX: a\0b\r\n\r\n",
    "NUL in the target": b"GET /api/\0ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "folded line": LINE + b"Host: x\r\nX: a\r\n b\r\n\r\n",
    "blank before the colon": LINE + b"Host : x\r\n\r\n",
    "first line begins with a blank": b" " + PING,
    "field without a colon": LINE + b"Host: x\r\nnonsense\r\n\r\n",
    "field without a name": LINE + b"Host: x\r\n: y\r\n\r\n",
    "no host": LINE + b"\r\n",
    "two hosts": LINE + b"Host: x\r\nHost: x\r\n\r\n",
    "bad host": LINE + b"Host: x y\r\n\r\n",
    "fragment": b"GET /api/ping#x HTTP/1.1\r\nHost: x\r\n\r\n",
    "relative target": b"GET api/ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "upgrade": LINE + b"Host: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "length and chunked": post(chunks(LAUNCH), b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "two lengths": post(LAUNCH, b"Content-Length: 42", b"Content-Length: 42"),
    "negative length": post(LAUNCH, b"Content-Length: -1"),
    "signed length": post(LAUNCH, b"Content-Length: +42"),
    "list of lengths": post(LAUNCH, b"Content-Length: 42, 42"),
    "hexadecimal length": post(LAUNCH, b"Content-Length: 0x2a"),
    "endless length": post(LAUNCH, b"Content-Length: 99999999999999999999999"),
    "gzip, chunked": post(chunks(LAUNCH), b"Transfer-Encoding: gzip, chunked"),
    "identity": post(LAUNCH, b"Transfer-Encoding: identity"),
    "chunked in 1.0": post(chunks(LAUNCH), b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "bad chunk size": post(b"zz\r\nab\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "chunk longer than said": post(b"2\r\nabc\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "endless chunk size": post(b"fffffffffffffffff\r\n", b"Transfer-Encoding: chunked"),
    "length in a trailer": post(b"0\r\nContent-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_request_is_400_and_closes(client, request_bytes):
    connection = client()
    assert connection.send(PING).reply() == PONG
    connection.send(request_bytes)
    status, body = connection.reply()
    # A body that is too large by its own account may be called so.
    assert (status, body) == INVALID or status == 413, (status, body)
    assert connection.fields["connection"] == "close"
    assert connection.fields["content-type"] == "application/json"
    with contextlib.suppress(OSError):  # nothing behind it is answered
        connection.send(PING)
    assert connection.is_closed()


@pytest.mark.parametrize("version, status", [(b"HTTP/2.0", 505), (b"HTTP/1.2", 505), (b"HTTP/0.9", 505),
                                             (b"HTTP/3.0", 505), (b"HTTP/1", 400), (b"http/1.1", 400)])
def test_other_versions(client, version, status):
    connection = client().send(b"GET /api/ping %s\r\nHost: x\r\n\r\n" % version)
    assert connection.reply()[0] == status and connection.is_closed()


def test_unknown_method_is_501_or_405(client):
    assert client().send(b"BREW /api/ping HTTP/1.1\r\nHost: x\r\n\r\n").reply()[0] in (405, 501)
    assert client().send(b"TRACE /api/ping HTTP/1.1\r\nHost: x\r\n\r\n").reply()[0] in (405, 501)


def test_replies_before_a_malformed_request_come_first(client):
    connection = client().send(post_sized(LAUNCH) + PING + b"nonsense\r\n\r\n")
    assert connection.reply()[0] == 201
    assert connection.reply() == PONG
    assert connection.reply() == INVALID and connection.is_closed()


def test_http_in_the_middle_of_a_body_is_body(client):
    """What Content-Length covers is never taken for a request."""
    connection = client().send(post_sized(PING) + PING)
    assert connection.reply()[0] == 400
    assert connection.reply() == PONG


# --- limits ------------------------------------------------------------------------------------


def test_long_target_is_414(client):
    good = b"GET /api/ping?%s HTTP/1.1\r\nHost: x\r\n\r\n"
    assert client().send(good % (b"a" * 1000)).reply() == PONG
    connection = client().send(good % (b"a" * 1024))
    assert connection.reply() == (414, b'{"error":"The request target is longer than 1024 bytes"}\n')
    assert connection.is_closed()


def test_endless_target_is_414(client):
    connection = client().send(b"GET /" + b"a" * 3000)
    assert connection.reply()[0] == 414 and connection.is_closed()


def test_large_head_is_431(client):
    connection = client().send(LINE + b"Host: x\r\nX: " + b"a" * 4096 + b"\r\n\r\n")
    assert connection.reply()[0] == 431 and connection.is_closed()


def test_many_fields_are_431(client):
    assert client().send(LINE + b"Host: x\r\n" + b"X: y\r\n" * 19 + b"\r\n").reply() == PONG
    assert client().send(LINE + b"Host: x\r\n" + b"X: y\r\n" * 20 + b"\r\n").reply()[0] == 431


def test_large_body_is_413(client):
    for request in (post_sized(b" " * 65537),
                    post(chunks(b" " * 40000, b" " * 40000), b"Transfer-Encoding: chunked"),
                    post(b"1;" + b"x" * 100000, b"Transfer-Encoding: chunked")):
        connection = client()
        with contextlib.suppress(OSError):
            connection.send(request)
        assert connection.reply()[0] in (400, 413) and connection.is_closed()


def test_bodies_of_all_connections_are_bounded(daemon, client):
    waiting = [client().send(post(b"", b"Content-Length: 65536"), b" " * 60000) for _ in range(4)]
    eventually(lambda: client().send(post(b"", b"Content-Length: 65536"), b" " * 60000).reply()[0] == 503,
               "503 while other bodies take all the room")
    for connection in waiting:
        connection.socket.close()
    eventually(lambda: client().send(post_sized(LAUNCH)).reply()[0] == 201, "room again")


# --- slow and vanishing clients ----------------------------------------------------------------


def test_slow_head_is_408(client):
    connection = client().send(b"GET /api/pi")
    status, body = connection.reply()
    assert (status, body) == (408, b'{"error":"The request did not arrive in time"}\n')
    assert connection.is_closed()


def test_slow_body_is_408(client):
    connection = client().send(post(b"{", b"Content-Length: 100"))
    assert connection.reply()[0] == 408 and connection.is_closed()


def test_single_bytes_do_not_extend_the_deadline(client):
    connection = client()
    begin = time.monotonic()
    with contextlib.suppress(OSError):
        while not select.select([connection.socket], [], [], 0.2)[0] and time.monotonic() < begin + DEADLINE:
            connection.send(b"G")
    assert connection.reply()[0] == 408


def test_idle_connection_is_closed_without_a_word(client):
    assert client().is_closed()


def test_client_that_does_not_read_is_cut_off(daemon, client):
    """The reply does not fit into the buffers; others are served meanwhile, and this one is closed in the end."""
    for _ in range(40):
        daemon.launch("A", {"x": "y" * 60000})
    greedy = client()
    greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = b"GET /api/workflows?per_page=40 HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.suppress(OSError):
        greedy.send(request * 16)
    begin = time.monotonic()
    assert daemon.get("/api/ping").status == 200
    assert time.monotonic() - begin < 5

    def is_cut():
        greedy.socket.settimeout(1)
        try:
            return greedy.socket.send(b"\r\n") == 0
        except socket.timeout:
            return False
        except OSError:
            return True
    eventually(is_cut, "cut off")


def test_clients_that_vanish(daemon):
    """In the middle of anything, by FIN and by RST."""
    requests = [b"", b"GET /", PING[:-2], post(b"", b"Content-Length: 10"), post(b"{", b"Content-Length: 10"),
                post(b"5\r\nab", b"Transfer-Encoding: chunked"), post_sized(LAUNCH), PING * 50,
                b"GET /api/workflows HTTP/1.1\r\nHost: x\r\n\r\n" * 5]
    for request in requests:
        for linger in (False, True):
            connection = daemon.socket()
            if linger:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(request)
            connection.close()
    assert daemon.get("/api/ping").status == 200


def test_more_connections_than_allowed_wait_or_replace_idle_ones(daemon):
    """64 busy ones; the one more is served as soon as there is room."""
    held = [Client(daemon) for _ in range(64)]
    for connection in held:
        connection.send(b"GET /")  # busy: in the middle of a head
    begin = time.monotonic()
    assert daemon.get("/api/ping").status == 200
    assert time.monotonic() - begin < 15
    for connection in held:
        connection.socket.close()


def test_idle_connections_make_room(daemon):
    idle = [Client(daemon) for _ in range(64)]
    for connection in idle:
        assert connection.send(PING).reply() == PONG
    assert daemon.get("/api/ping").status == 200
    for connection in idle:
        connection.socket.close()


def test_many_clients_at_once(daemon):
    replies = []

    def work():
        connection = Client(daemon)
        for n in range(25):
            connection.send(post_sized(LAUNCH) if n % 5 == 0 else PING)
            replies.append(connection.reply()[0])
        connection.socket.close()

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(replies) == [200] * 16 * 20 + [201] * 16 * 5


def test_unix_socket(start, tmp_path_factory):
    path = tmp_path_factory.mktemp("socket") / "api.sock"
    daemon = start("test.A: {tasks: []}", listen=f"127.0.0.1:0,unix:{path}")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(PING)
        assert connection.recv(4096).endswith(PONG[1])
    daemon.stop()
    assert not path.exists()
