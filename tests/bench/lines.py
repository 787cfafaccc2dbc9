"""The lines of the bench. Each is a function that measures once and yields figures; what it is measured against comes
right before or after it, on the same machine in the same minute."""

import dataclasses
import json
import os
import pathlib
import random
import socket
import time

import ground
from ground import BUILD, CONNECTIONS, SECONDS, launch_body, percentile, run, wrk

MORE, LESS = "at least", "at most"  # which side of the yardstick is the good one


@dataclasses.dataclass
class Figure:
    name: str
    value: float
    unit: str
    yardstick: float = None  # the same for something else: `against` says what
    against: str = ""
    aim: float = None  # of the ratio value / yardstick
    side: str = MORE

    @property
    def ratio(self):
        return self.value / self.yardstick if self.yardstick else None


# --- the engine ----------------------------------------------------------------------------------


def run_chains(on, seconds=SECONDS):
    """Chains launched over HTTP until they are all done: workflows a second, and the mean size of a batch."""
    before = on.value("SELECT count(*) FROM workflows")
    calls = on.calls("launch", "finish")
    begin = time.monotonic()
    wrk(f"{on.url}/api/workflows", launch_body("CHAIN"), seconds=seconds)
    on.await_end()
    took = time.monotonic() - begin
    count = on.value("SELECT count(*) FROM workflows") - before
    assert not on.sql("SELECT 1 FROM workflows WHERE status <> 'success' AND name = 'CHAIN' LIMIT 1")
    return count / took, max(1, round(4 * count / (on.calls("launch", "finish") - calls)))


def engine(postgres):
    with ground.ground(postgres) as on:
        rate, batch = run_chains(on)
    with ground.ground(postgres) as on:
        on.daemon.stop()
        yardstick, _ = on.functions("engine", "CHAIN", batch, 2, round(rate * SECONDS))
    yield Figure("engine", rate, "chains/s", yardstick, f"the SQL functions alone, batches of {batch}", 0.4)


BACKLOG = 100_000


def backlog(postgres):
    with ground.ground(postgres) as on:
        on.daemon.stop()
        on.functions("launch", "ONE", count=BACKLOG)
        on.daemon.start()
        on.await_end()
        rate = on.value("SELECT count(*) / extract(epoch FROM max(finished) - min(started)) FROM tasks")
    with ground.ground(postgres) as on:
        on.daemon.stop()
        on.functions("launch", "ONE", count=BACKLOG)
        yardstick, _ = on.functions("drain", count=BACKLOG)
    yield Figure("backlog", float(rate), "tasks/s", yardstick, "the SQL functions alone, batches of 1000")


# --- requests ------------------------------------------------------------------------------------


def launch(postgres):
    with ground.ground(postgres) as on:
        load = wrk(f"{on.url}/api/workflows", launch_body("STAY"))
        batch = max(1, round(on.value("SELECT count(*) FROM workflows") / on.calls("launch")))
    with ground.ground(postgres) as on:
        on.daemon.stop()
        yardstick, _ = on.functions("launch", "STAY", batch, 1, round(load.rate * SECONDS))
    yield Figure("launch", load.rate, "requests/s", yardstick, f"launch() alone, batches of {batch}", 0.5)
    yield Figure("launch p50", load.p50 / 1000, "ms")
    yield Figure("launch p99", load.p99 / 1000, "ms", 25, "the aim", 1, LESS)


WORKFLOW = ("w.id, w.project, w.name, w.status::text, w.periodic, w.created, w.updated, w.started, w.finished, w.scheduled,"
            " w.relaunched_from, w.reason, w.comment, w.payload")
FIND = (f"SELECT {WORKFLOW} FROM workflows w WHERE w.id = :id;\n"
        "SELECT t.position, d.key, t.status::text, t.is_hook, t.attempt, t.queue, t.node_id, t.created, t.updated,"
        " t.started, t.finished, t.reason, t.result, d.previous FROM tasks t JOIN workflows w ON w.id = t.workflow_id"
        " JOIN definition_tasks d ON d.definition_id = w.definition_id AND d.position = t.position"
        " WHERE t.workflow_id = :id ORDER BY t.position;\n")
LIST = f"SELECT {WORKFLOW} FROM workflows w ORDER BY w.id DESC LIMIT 50;\n"


def pgbench(on, script, id="-"):
    """Runs of the script a second, on as many connections as the requests come from."""
    file = on.daemon.directory / "script.sql"
    file.write_text(script)
    out = run(ground.harness.postgres_programs() / "pgbench", "-n", "-Mprepared", f"-c{CONNECTIONS}", "-j2",
              f"-T{SECONDS:.0f}", f"-f{file}", f"-Did={id}", "-h", on.database.server.directory, "-Utests",
              on.database.name, stderr=ground.subprocess.DEVNULL)
    return float(ground.re.search(r"tps = ([\d.]+)", out).group(1))


def read_by_id(on, limit=100):
    """Of random workflows: the load, and the ids."""
    ids = [id for (id,) in on.sql("SELECT id::text FROM workflows ORDER BY id LIMIT 20000")]
    ids = random.sample(ids, min(limit, len(ids)))
    file = on.daemon.directory / "ids"
    file.write_text("\n".join(ids) + "\n")
    return wrk(f"{on.url}/api/workflows", ids=file), ids


def read(postgres):
    with ground.ground(postgres) as on:
        on.functions("engine", "CHAIN", count=10000)
        load, ids = read_by_id(on)
        found = pgbench(on, FIND, ids[0])
        yield Figure("read by id", load.rate, "requests/s", found, "pgbench, the same queries", 0.5)
        yield Figure("read by id p99", load.p99 / 1000, "ms")
        load = wrk(f"{on.url}/api/workflows?per_page=50")
        found = pgbench(on, LIST)
        yield Figure("read list", load.rate, "requests/s", found, "pgbench, the same query")
        yield Figure("read list p99", load.p99 / 1000, "ms")
        with ground.bare_http() as bare:
            least = wrk(bare)
        load = wrk(f"{on.url}/api/ping")
        yield Figure("ping", load.rate, "requests/s", least.rate, "a bare libuv + llhttp server", 0.6)


# --- one at a time -------------------------------------------------------------------------------


class Client:
    """One keep-alive connection, with as little Python in the way as can be."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, method, path, body=""):
        """The body of the reply."""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                            f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        reply = b""
        while b"\r\n\r\n" not in reply:
            reply += self.socket.recv(65536)
        head, _, rest = reply.partition(b"\r\n\r\n")
        left = int(ground.re.search(rb"[Cc]ontent-[Ll]ength: (\d+)", head).group(1)) - len(rest)
        while left > 0:
            part = self.socket.recv(65536)
            rest += part
            left -= len(part)
        return rest


def launch_and_wait(client):
    """Milliseconds until the acknowledgement, behind which the first task has begun, and until success."""
    begin = time.perf_counter()
    workflow = json.loads(client.request("POST", "/api/workflows", launch_body("CHAIN")))["id"]
    started = time.perf_counter()
    while b'"status":"success"' not in client.request("GET", f"/api/workflows/{workflow}").split(b'"tasks"')[0]:
        pass
    return (started - begin) * 1000, (time.perf_counter() - begin) * 1000


def latency(postgres):
    with ground.ground(postgres) as on:
        client = Client(on.daemon.address)
        launch_and_wait(client)
        samples = []
        for _ in range(200):
            samples.append(launch_and_wait(client))
            time.sleep(ground.IDLE_MS / 1000)
        commit_ms = on.idle_functions("commit", "CHAIN")
        call_ms = on.idle_functions("launch", "STAY")
        chain_ms = on.idle_functions("engine", "CHAIN")
        started, ended = ([sample[i] for sample in samples] for i in range(2))
        yield Figure("one commit", commit_ms, "ms")
        yield Figure("latency to start", percentile(started, 0.5), "ms", call_ms,
                     "launch() alone", 2, LESS)
        yield Figure("latency to success", percentile(ended, 0.5), "ms", chain_ms,
                     "launch() and three finish() alone", 2, LESS)
        yield Figure("latency to success p99", percentile(ended, 0.99), "ms")


# --- processes -----------------------------------------------------------------------------------


def spawn_rate(on, count):
    """Processes a second, and how long a ping took in the worst hundredth meanwhile."""
    on.functions("launch", "TRUE", count=count)
    client = Client(on.daemon.address)
    pings = []
    while on.unfinished() if len(pings) % 100 == 0 else True:
        begin = time.perf_counter()
        client.request("GET", "/api/ping")
        pings.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.002)
    rate = on.value("SELECT count(*) / extract(epoch FROM max(finished) - min(started)) FROM tasks")
    return float(rate), percentile(pings, 0.99)


def spawn(postgres, count=4000):
    at_once = 128  # a slot is taken until its end is committed: enough of them that commits are not waited for
    for resident in (0, 500):
        label = f"spawn, {resident} MB resident" if resident else "spawn"
        times = BUILD / "spawn.times"
        heavy = {"LD_PRELOAD": str(BUILD / "tests/bench/heavy.so"), "HEAVY_MB": str(resident),
                 "HEAVY_TIMES": str(times.absolute())}
        with ground.ground(postgres, concurrency=at_once, variables=heavy) as on:
            assert on.resident_bytes() >= resident << 20
            rate, lag = spawn_rate(on, count)
            on.daemon.stop()
        start_us, _, turn_us, longest_us = map(int, times.read_text().split())
        bare = float(run(BUILD / "tests/bench/spawn_yardstick", count, at_once, env=heavy))
        bare_us = int(times.read_text().split()[0])
        yield Figure(label, rate, "tasks/s", bare, f"bare posix_spawn, {at_once} at once", 0.6)
        yield Figure(f"{label}: a start", start_us / 1000, "ms", bare_us / 1000, "bare posix_spawn")
        yield Figure(f"{label}: a turn of the loop", turn_us / 1000, "ms", 1, "the aim", 1, LESS)
        yield Figure(f"{label}: a turn p99", longest_us / 1000, "ms")
        yield Figure(f"{label}: ping p99", lag, "ms")


# --- time ----------------------------------------------------------------------------------------

SCHEDULES = 1000
FILES = 20
EVERY_SECOND = "  periodic: {interval: 1}\n"


def many(numbers, more):
    return "".join(f"bench.N{number}:\n  tasks: [NOTHING]\n{more}" for number in numbers)


def lateness(on):
    """Of the fires' commits, as the database notes them, in milliseconds; and how many fires there are not."""
    time.sleep(3 + 2 * SECONDS)
    on.daemon.stop()
    late = [ms for (ms,) in on.sql(
        "SELECT extract(epoch FROM pg_xact_commit_timestamp(f.xmin) - f.scheduled)::float * 1000 FROM fires f"
        " WHERE f.scheduled > (SELECT max(anchor) FROM schedules) + interval '2 s'")]
    missed = on.value("SELECT coalesce(sum(m.last - m.first + 1 - m.ran), 0)::float FROM"
                      " (SELECT round(extract(epoch FROM min(scheduled))) AS first,"
                      "  round(extract(epoch FROM max(scheduled))) AS last,"
                      "  count(*) FILTER (WHERE outcome = 'ran') AS ran FROM fires GROUP BY schedule_id) m")
    return late, missed


def jitter(postgres):
    with ground.ground(postgres) as on:
        # An interval begins when its schedule is first seen, so these are due at twenty instants of each second …
        for first in range(0, SCHEDULES, SCHEDULES // FILES):
            on.daemon.define(many(range(first, first + SCHEDULES // FILES), EVERY_SECOND), f"{first}.yml")
            on.daemon.reload()
            time.sleep(0.03)
        late, missed = lateness(on)
        yield Figure("jitter p50", percentile(late, 0.5), "ms", 5, "the aim", 1, LESS)
        yield Figure("jitter p99", percentile(late, 0.99), "ms", 50, "the aim", 1, LESS)
        yield Figure("jitter: missed", missed, "fires")
    with ground.ground(postgres, ground.DEFINITIONS + many(range(SCHEDULES), EVERY_SECOND)) as on:
        late, missed = lateness(on)  # … and these all at the same one
        yield Figure("jitter at once p50", percentile(late, 0.5), "ms")
        yield Figure("jitter at once p99", percentile(late, 0.99), "ms")
        yield Figure("jitter at once: missed", missed, "fires")


MANY = 10000


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def schedules(postgres):
    with ground.ground(postgres) as on:
        for first in range(0, MANY, MANY // FILES):
            on.daemon.define(many(range(first, first + MANY // FILES), "  periodic: {crontab: '*/10 * * * * *'}\n"),
                             f"{first}.yml")
        begin = time.monotonic()
        on.daemon.reload()
        yield Figure(f"{MANY:,} schedules loaded", time.monotonic() - begin, "s")
        time.sleep(35)
        last = [ms for (ms,) in on.sql("SELECT extract(epoch FROM max(decided) - scheduled)::float * 1000 FROM fires"
                                       " GROUP BY scheduled HAVING count(*) = %s", MANY)]
        yield Figure(f"{MANY:,} at once, the last", percentile(last, 0.5), "ms")
    with ground.ground(postgres) as on:
        on.daemon.define(many(range(MANY), "  periodic: {crontab: '0 0 1 1 *'}\n"), "many.yml")
        on.daemon.reload()
        time.sleep(1)
        before = cpu_seconds(on.pid)
        time.sleep(10)
        yield Figure(f"{MANY:,} that wait", (cpu_seconds(on.pid) - before) * 100, "ms CPU/s")


schedules.rounds = 1


# --- size and age --------------------------------------------------------------------------------

MIB = 1 << 20
UNFINISHED = 100_000


def size(postgres):
    with ground.ground(postgres, ground.DEFINITIONS + many(range(1000), "")) as on:
        time.sleep(2)
        yield Figure("size, 1,000 definitions", on.resident_bytes() / MIB, "MiB", 20, "the aim", 1, LESS)
    connections = min(10000, ground.raise_file_limit() // 2 - 100)
    with ground.ground(postgres, max_connections=10000, idle_timeout="10m") as on:
        time.sleep(1)
        before = on.resident_bytes()
        on.functions("launch", "STAY", count=UNFINISHED)
        time.sleep(2)
        yield Figure("size, 100,000 unfinished", on.resident_bytes() / MIB, "MiB", before / MIB, "with none", 1.05,
                     LESS)
        before = on.resident_bytes()
        clients = [Client(on.daemon.address) for _ in range(connections)]
        for client in clients:
            client.request("GET", "/api/ping")
        each = (on.resident_bytes() - before) / connections
        yield Figure("size of an idle connection", each / 1024, "KiB", 4, "the aim", 1, LESS)
        for client in clients:
            client.socket.close()


def restart(postgres):
    with ground.ground(postgres) as on:
        on.daemon.stop()
        on.functions("launch", "ONE", count=UNFINISHED)
        begin = time.monotonic()
        on.daemon.start()
        took = time.monotonic() - begin
        yield Figure("restart, 100,000 unfinished", took, "s", 3, "the aim", 1, LESS)


def age(on, count):
    """So many finished chains of the past."""
    on.sql("INSERT INTO workflows (id, definition_id, project, name, status, created, updated, started, finished, payload)"
           " SELECT (lpad(to_hex((extract(epoch FROM c.at) * 1000)::bigint), 12, '0') || '7'"
           "         || lpad(to_hex(n %% 4096), 3, '0') || '8' || lpad(to_hex(n), 11, '0') || '0000')::uuid,"
           "        %s, 'bench', 'CHAIN', 'success', c.at, c.at, c.at, c.at, '{}'"
           "   FROM generate_series(1, %s) AS n"
           "  CROSS JOIN LATERAL (SELECT now() - interval '1 year' + n * interval '1 second') AS c (at)",
           on.definition("CHAIN"), count)
    on.sql("INSERT INTO tasks (workflow_id, position, status, waiting, attempt, queue, created, updated, started, finished)"
           " SELECT w.id, p, 'success', 0, 1, 'default', w.created, w.created, w.created, w.created"
           "   FROM workflows w CROSS JOIN generate_series(0, 2) AS p")
    on.sql("VACUUM ANALYZE workflows, tasks")
    on.sql("CHECKPOINT")


def grown(on):
    """Chains, launches and reads a second."""
    chains, _ = run_chains(on)
    launches = wrk(f"{on.url}/api/workflows", launch_body("STAY")).rate
    return chains, launches, read_by_id(on)[0].rate


def growth(postgres):
    counts = [1_000_000] + ([10_000_000] if os.environ.get("BENCH_FULL") else [])
    for count in counts:
        with ground.ground(postgres) as old:
            age(old, count)
            for _ in range(3):
                values = grown(old)
                with ground.ground(postgres) as new:
                    yardsticks = grown(new)
                for name, value, yardstick in zip(("engine", "launch", "read by id"), values, yardsticks):
                    yield Figure(f"{name}, {count:,} old", value, "/s", yardstick, "with empty tables", 0.8)


growth.rounds = 1  # its own: the old rows are made once

# --- others --------------------------------------------------------------------------------------


def peer(postgres, script, work, count):
    """Items a second of another engine on the same PostgreSQL."""
    database = postgres.create_database()
    try:
        return float(run("node_modules/.bin/node", script, database.uri(), work, count, cwd=ground.peers()))
    finally:
        database.drop()


def peers(postgres):
    with ground.ground(postgres) as on:
        chains, _ = run_chains(on)
    for name, script, count in (("pg-boss", "pg_boss.mjs", 20000), ("graphile-worker", "graphile_worker.mjs", 3000)):
        yield Figure(f"engine and {name}", chains, "chains/s", peer(postgres, script, "chains", count),
                     f"{name}, chains of 3", 1)
    tasks = next(backlog(postgres)).value
    for name, script, count in (("pg-boss", "pg_boss.mjs", 50000),
                                ("graphile-worker", "graphile_worker.mjs", BACKLOG)):
        yield Figure(f"backlog and {name}", tasks, "tasks/s", peer(postgres, script, "jobs", count),
                     f"{name}, single jobs", 1)


LINES = {line.__name__: line for line in (engine, backlog, launch, read, latency, spawn, jitter, schedules, size, growth,
                                      restart)}
EXTRA = {"peers": peers}
