"""Stands between daemons and PostgreSQL, and breaks requests.

    proxy = Proxy(server); uri = proxy.uri("name")
    proxy.arm("lose", 7)
    proxy.reached

    proxy.arm("lose", 3, of=b"append_logs", again=True)

A request is what the server answers with ReadyForQuery: a start-up, a simple query, or whatever goes up to a Sync. They
are counted from 1, over all connections, in the order in which they come; with `of`, only those that contain these
bytes. The fault at number k, and with `again` at 2k, 3k …:

    cut      the connection ends, and the request has not reached the server
    lose     the server does what is asked; then the connection ends instead of the reply
    tear     the same, after a part of the reply
    stall    the server does what is asked; the reply never comes, and the connection stays
    late     the request is held back; it reaches the server when the daemon has given up and sent it again
"""

import asyncio
import collections
import contextlib
import shutil
import struct
import threading

import harness

FAULTS = ("cut", "lose", "tear", "stall", "late")
SOCKET = ".s.PGSQL.5432"
CANCEL_REQUEST = 80877102
# Before a late request is delivered; a daemon that sends no more gets it after so many tenths of a second.
LATE_REQUESTS = 10
LATE_TRIES = 30


class Proxy:
    def __init__(self, server):
        self.server = server
        self.directory = harness.make_directory()
        self.count = 0
        self.arm(None, 0)
        self.reached = False
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def uri(self, name, user="tests"):
        return f"postgresql://{user}@/{name}?host={self.directory}"

    def arm(self, fault, number, of=b"", again=False):
        """Counts from 1 again."""
        self.count, self.reached = 0, False
        self.fault, self.number, self.of, self.again = fault, number, of, again

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        shutil.rmtree(self.directory)

    def run(self, started):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.start_unix_server(self.serve, self.directory / SOCKET))
        self.loop.call_soon(started.set)
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))

    async def serve(self, reader, writer):
        try:
            server = await asyncio.open_unix_connection(self.server.directory / SOCKET)
        except OSError:
            writer.close()
            return
        await Connection(self, (reader, writer), server).run()

    def next_fault(self, request):
        """What is to be done with the request that has come."""
        if self.of not in request:
            return None
        self.count += 1
        if self.count != self.number and not (self.again and self.count % self.number == 0):
            return None
        self.reached = True
        return self.fault


class Connection:
    def __init__(self, proxy, client, server):
        self.proxy = proxy
        self.client_reader, self.client_writer = client
        self.server_reader, self.server_writer = server
        self.expected = collections.deque()  # the faults of the requests that the server works on

    async def run(self):
        """Ends with the first direction that ends."""
        directions = [asyncio.ensure_future(self.forward()), asyncio.ensure_future(self.back())]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        for result in await asyncio.gather(*directions, return_exceptions=True):
            if result is not None and not isinstance(result, (OSError, EOFError, asyncio.CancelledError)):
                raise result
        for writer in (self.client_writer, self.server_writer):
            with contextlib.suppress(OSError):
                writer.close()

    @staticmethod
    async def message(reader):
        head = await reader.readexactly(5)
        return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)

    async def forward(self):
        """Request by request, each as a whole."""
        head = await self.client_reader.readexactly(8)
        size, code = struct.unpack("!II", head)
        request = head + await self.client_reader.readexactly(size - 8)
        whole = True  # as a start-up is, and a CancelRequest, which has no answer
        counts = code != CANCEL_REQUEST
        while not whole or await self.send(request, counts):
            packet = await self.message(self.client_reader)
            request = packet if whole else request + packet
            whole, counts = packet[:1] in b"SQX", packet[:1] in b"SQ"

    async def send(self, request, counts):
        """False when the connection is to end here."""
        if counts:
            fault = self.proxy.next_fault(request)
            if fault == "cut":
                return False
            self.expected.append(fault)
            if fault == "late":
                await self.await_resend()
        self.server_writer.write(request)
        await self.server_writer.drain()
        if counts and fault == "late":
            await asyncio.Future()  # nothing comes any more; back() ends the connection with the reply
        return True

    async def await_resend(self):
        """The daemon closes this connection, and has sent enough by others since then."""
        while await self.client_reader.read(1 << 16):
            pass
        enough = self.proxy.count + LATE_REQUESTS
        for _ in range(LATE_TRIES):
            if self.proxy.count >= enough:
                break
            await asyncio.sleep(0.1)

    async def back(self):
        fault = None
        while fault is None:
            packet = await self.message(self.server_reader)
            fault = self.expected[0] if self.expected else None  # a notification comes unasked
            if packet[:1] == b"Z":
                self.expected.popleft()
            if fault is None or fault == "tear":
                self.client_writer.write(packet if fault is None else packet[:len(packet) // 2 + 1])
                await self.client_writer.drain()
        while fault == "stall" or packet[:1] != b"Z":
            packet = await self.message(self.server_reader)
