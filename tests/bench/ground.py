"""What the measurements stand on: a durable PostgreSQL, a daemon on it, wrk, and the yardsticks written in C."""

import contextlib
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import harness  # noqa: E402

BUILD = harness.ROOT / os.environ.get("BUILD", "build")
SECONDS = float(os.environ.get("BENCH_SECONDS", 5))
CONNECTIONS = 64
IDLE_MS = 5  # between two launches on an idle daemon, and between two calls on an idle server

DEFINITIONS = """
tasks:
  NOTHING: {noop: true}
  TRUE: {command: [/bin/true]}
bench.ONE:                      # a task that does nothing
  tasks: [NOTHING]
bench.CHAIN:                    # three of them, one after the other
  tasks: [NOTHING, NOTHING, NOTHING]
bench.STAY:                     # the same, in a queue that nobody serves
  tasks: [NOTHING, NOTHING, NOTHING]
  queue: elsewhere
bench.TRUE:                     # a process, with pipes for its output and its result
  tasks: [TRUE]
"""


class Postgres(harness.Postgres):
    """As the daemon's private one (daemon/postgres_cluster.c, command.c): what was committed survives a power cut."""

    OPTIONS = {
        "listen_addresses": "",
        "max_connections": 200,
        "shared_buffers": "128MB",
        "max_wal_size": "1GB",
        "checkpoint_timeout": "15min",
        "wal_compression": "on",
        "jit": "off",
        "max_parallel_workers_per_gather": 0,
        "autovacuum_naptime": "15s",
        # For the figures: calls of the engine's functions, and when a transaction was committed.
        "track_functions": "pl",
        "track_commit_timestamp": "on",
    }
    VARIABLES = {"MALLOC_TRIM_THRESHOLD_": "4194304", "MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TOP_PAD_": "1048576"}


class Ground:
    """A new database with the definitions above, and the daemon that registered them."""

    def __init__(self, postgres, definitions=DEFINITIONS, variables=None, **settings):
        # Tasks that do nothing need slots, not cores.
        settings = {"concurrency": 2000, "queues": "default", **settings}
        self.database = postgres.create_database()
        self.daemon = harness.Daemon(definitions, database=self.database, **settings)
        self.daemon.variables |= variables or {}
        self.daemon.start()

    @property
    def url(self):
        return f"http://{self.daemon.address}"

    @property
    def pid(self):
        return self.daemon.process.pid

    def sql(self, statement, *values):
        return self.database.sql(statement, *values)

    def value(self, statement, *values):
        return self.database.value(statement, *values)

    def definition(self, name):
        return self.value("SELECT max(id) FROM definitions WHERE project = 'bench' AND name = %s", name)

    def functions(self, what, name="ONE", batch=1000, connections=2, count=10000):
        """The engine's functions in a loop: items a second, and the median time of a call in microseconds."""
        return self.yardstick(what, name, batch, connections, count, 0)[:2]

    def idle_functions(self, what, name, count=200):
        """The same one at a time on an idle server: milliseconds that the round of calls takes."""
        return self.yardstick(what, name, 1, 1, count, IDLE_MS)[2] / 1000

    def yardstick(self, what, name, batch, connections, count, pause_ms):
        out = run(BUILD / "tests/bench/sql_yardstick", self.database.uri(), what, self.definition(name), batch,
                  connections, count, pause_ms)
        return [float(value) for value in out.split()]

    def calls(self, *functions):
        """How often the engine's functions were called so far."""
        return self.value("SELECT coalesce(sum(pg_stat_get_function_calls(p.oid)), 0)::bigint FROM pg_proc p"
                          " WHERE p.proname = ANY (%s)", list(functions))

    def unfinished(self):
        return self.value("SELECT EXISTS (SELECT 1 FROM tasks WHERE due IS NOT NULL AND queue = 'default')"
                          " OR EXISTS (SELECT 1 FROM claims)")

    def await_end(self, deadline=300):
        harness.eventually(lambda: not self.unfinished(), "the end of all workflows", deadline)

    def resident_bytes(self):
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+) kB", text, re.M).group(1)) * 1024

    def close(self):
        self.daemon.dispose()
        self.database.drop()


@contextlib.contextmanager
def ground(postgres, *arguments, **settings):
    made = Ground(postgres, *arguments, **settings)
    try:
        yield made
    finally:
        made.close()


def run(*command, **how):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False, **how)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}")
    return done.stdout


class Load:
    """What wrk says of a run."""

    def __init__(self, text):
        self.__dict__ |= {key: float(value) for key, value in re.findall(r"^(\w+)=(\S+)$", text, re.M)}
        self.rate = self.requests / self.seconds

    def check(self):
        assert self.errors == 0, f"{self.errors:.0f} of {self.requests:.0f} requests failed"
        return self


def wrk(url, body="", connections=CONNECTIONS, seconds=SECONDS, ids=None):
    """GETs the address, or POSTs the body. With `ids`, a file of lines, each request appends one of them."""
    return Load(run("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", HERE / "requests.lua", url, "--",
                    body, ids or "", stderr=subprocess.STDOUT)).check()


def launch_body(name):
    return f'{{"project":"bench","name":"{name}","payload":{{}}}}'


def raise_file_limit():
    """As many open files as we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def peers():
    """The directory of the other engines, as npm has installed them beside the build."""
    return BUILD / "peers"


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


@contextlib.contextmanager
def bare_http():
    """The least that an HTTP server can do; its address."""
    port = harness.free_port()
    process = subprocess.Popen([BUILD / "tests/bench/bare_http", str(port)])
    try:
        time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
