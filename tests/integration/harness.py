"""What the integration tests are made of: a PostgreSQL to throw away, and daemons that run on it.

    DIRECTORD     the program under test; default: directord in the build directory ($BUILD, or build)
"""

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import textwrap
import time

import psycopg2

import checker

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIRECTORD = os.environ.get("DIRECTORD") or ROOT / os.environ.get("BUILD", "build") / "directord"
# Far longer than anything takes on a busy machine under a sanitizer: only a failure waits for it.
DEADLINE = 30
FINAL = ("success", "error", "canceled")
KILLED_NODES = set()  # by the tests, with kill -9: what their tasks started is nobody's
SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:")


def eventually(look, what, deadline=DEADLINE):
    """The first true value that `look` returns; `what` (text, or a function) says what was missed."""
    end = time.monotonic() + deadline
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def never(look, what, seconds=1):
    """`look` is false all the while. What it is to see would come at once, but on a busy machine."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert not look(), what
        time.sleep(0.02)


def make_directory():
    """A new directory that the unprivileged user of a PostgreSQL may enter."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="directord-"))
    path.chmod(0o755)
    return path


def processes(variable):
    """The processes whose environment has `variable` (NAME=value). A zombie has none."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def process_and_children(pid):
    """The sessions of PostgreSQL's server have process groups of their own."""
    pids = [pid]
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                pids.append(int(stat.parent.name))
    return pids


@contextlib.contextmanager
def frozen(server):
    """SIGSTOP for all of PostgreSQL; the server first, so that no session is added."""
    server.process.send_signal(signal.SIGSTOP)
    pids = process_and_children(server.process.pid)

    def signal_all(number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(signal.SIGCONT)


@contextlib.contextmanager
def starved(daemon, spare=0):
    """It has no descriptor left but `spare` of them."""
    pid = daemon.process.pid
    used = max((int(fd) for fd in os.listdir(f"/proc/{pid}/fd")), default=0) + 1
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, usual[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


class Disk:
    """A small file system of its own; as an ordinary user, who may not mount, just a directory that is never full."""

    def __init__(self, size):
        self.directory = make_directory()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "directord-tests", self.directory]
        self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        self.filler = self.directory / "filler"

    def fill(self):
        with open(self.filler, "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1 << 20))
        with open(self.filler, "ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def free(self):
        self.filler.unlink(missing_ok=True)

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", self.directory])
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def has_sanitizer():
    """The program under test; a sanitizer must be loaded before anything else."""
    return b"__asan_init" in pathlib.Path(DIRECTORD).read_bytes()


def compile_shim(name, directory):
    """The library to be preloaded that is made of tests/integration/NAME.c."""
    shim = pathlib.Path(directory) / f"{name}.so"
    source = pathlib.Path(__file__).with_name(f"{name}.c")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-o", shim, source], check=True)
    return shim


# --- PostgreSQL --------------------------------------------------------------------------------


def postgres_programs():
    versions = pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    return newest.parent if newest else pathlib.Path(shutil.which("postgres")).parent


class Postgres:
    """A server of the tests' own, on a unix socket. It need not survive a power cut."""

    OPTIONS = {
        "fsync": "off",
        "full_page_writes": "off",
        "listen_addresses": "",
        "max_connections": 200,
        "shared_buffers": "64MB",
        "log_line_prefix": "%m [%p] ",
    }
    VARIABLES = {}

    def __init__(self):
        self.directory = make_directory()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.numbers = itertools.count(1)
        self.restarts = []  # when; it may have crashed before
        self.identity = {}
        if os.geteuid() == 0:  # whom PostgreSQL refuses to serve
            self.identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.directory, "postgres", "postgres")
        self.run("initdb", "-D", self.data, "-U", "tests", "-A", "trust", "-E", "UTF8",
                 "--locale=C", "--no-sync")
        access = self.data / "pg_hba.conf"
        access.write_text("local all locked scram-sha-256\n" + access.read_text())
        self.launch()

    def run(self, program, *arguments):
        subprocess.run([postgres_programs() / program, *map(str, arguments)], check=True,
                       cwd=self.directory, stdout=subprocess.DEVNULL, **self.identity)

    def start(self):
        """Anew."""
        self.restarts.append(time.time())
        self.launch()

    def launch(self):
        options = [f"-c{key}={value}" for key, value in self.OPTIONS.items()]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [postgres_programs() / "postgres", "-D", self.data, "-k", self.directory, *options],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=os.environ | self.VARIABLES, **self.identity)
        eventually(self.answers, "PostgreSQL answers")

    def answers(self):
        with contextlib.suppress(psycopg2.OperationalError):
            self.connect("postgres").close()
            return True

    def stop(self, how=signal.SIGINT):
        """SIGINT ends the sessions in order, SIGQUIT crashes."""
        self.process.send_signal(how)
        self.process.wait(DEADLINE)

    @contextlib.contextmanager
    def unreachable(self, database):
        """No daemon gets in, and those that are in are thrown out; our own connection to the database stays."""
        database.value("SELECT 1")
        socket_file = self.directory / ".s.PGSQL.5432"
        hidden = socket_file.with_name("hidden")
        socket_file.rename(hidden)
        try:
            database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'directord'")
            yield
        finally:
            hidden.rename(socket_file)

    def close(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def connect(self, name):
        return psycopg2.connect(host=str(self.directory), user="tests", dbname=name)

    def administer(self, statement):
        connection = self.connect("postgres")
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def create_database(self, options=""):
        name = f"test{next(self.numbers)}"
        self.administer(f"CREATE DATABASE {name} {options}")
        return Database(self, name)


def create_template(server, definitions="", audit=False):
    """A database that a daemon has migrated, and that knows the definitions; others may be made of it."""
    template = server.create_database()
    Daemon(definitions, database=template).start().finish()
    if audit:
        template.install_audit()
    template.disconnect()
    return template


class Database:
    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.connection = None

    def uri(self, user="tests", password=None):
        login = user if password is None else f"{user}:{password}"
        return f"postgresql://{login}@/{self.name}?host={self.server.directory}"

    def cursor(self):
        """Each statement is a transaction of its own."""
        if self.connection is None or self.connection.closed:
            self.connection = self.server.connect(self.name)
            self.connection.autocommit = True
        return self.connection.cursor()

    def sql(self, statement, *values):
        """Rows as tuples."""
        try:
            return self.sql_once(statement, values)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self.disconnect()  # the server was restarted meanwhile
            return self.sql_once(statement, values)

    def sql_once(self, statement, values):
        with self.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement, *values):
        return self.sql(statement, *values)[0][0]

    def problems(self, **how):
        connection = self.server.connect(self.name)
        try:
            return checker.check(connection, **how)
        finally:
            connection.close()

    def install_audit(self):
        connection = self.server.connect(self.name)
        checker.install_audit(connection)
        connection.close()

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def drop(self):
        self.disconnect()
        self.server.administer(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")


# --- HTTP --------------------------------------------------------------------------------------


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:2000]!r}"


# --- the daemon --------------------------------------------------------------------------------


class Daemon:
    """A directord of its own, and what it leaves behind.

    Settings are given without DIRECTOR_ and in lower case: concurrency=2.
    """

    def __init__(self, definitions="", database=None, **settings):
        self.directory = make_directory()
        self.workflows = self.directory / "workflows.d"
        self.workflows.mkdir(exist_ok=True)
        self.database = database
        self.variables = {}  # others of its environment
        self.command = [DIRECTORD]
        self.settings = {"shutdown_grace": "1s", "listen": "127.0.0.1:0", **settings}
        self.log_path = self.directory / "log"
        self.process = None
        self.address = None
        self.last_words = ""  # its log, when it is disposed of
        self.expected = []
        self.start_of_life = 0  # in the log
        self.checked = 0  # up to here the log was looked at
        if definitions:
            self.define(definitions)

    # --- life

    def environment(self):
        kept = {key: os.environ[key] for key in os.environ if key in ("PATH", "HOME", "LANG")
                or key.endswith("SAN_OPTIONS")}
        settings = {"state_dir": self.directory / "state", "workflows_dir": self.workflows,
                    **self.settings}
        if self.database:
            settings.setdefault("database_uri", self.database.uri())
        return kept | self.variables | {f"DIRECTOR_{key.upper()}": str(value) for key, value in settings.items()}

    def spawn(self, *arguments):
        """Starts it and does not wait."""
        self.start_of_life = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.command, *map(str, arguments)], stderr=log,
                                            stdin=subprocess.DEVNULL, stdout=log, cwd="/",
                                            env=self.environment())
        return self

    def start(self, *arguments):
        """Starts it and waits until it is ready."""
        return self.spawn(*arguments).await_ready()

    def await_ready(self):
        self.await_log(r'"ready" listen=(\S+)')
        self.address = re.search(r'"ready" listen=([^,\s]+)', self.log(self.start_of_life)).group(1)
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self, deadline=DEADLINE):
        """The exit status; negative: the signal."""
        return self.process.wait(deadline)

    def stop(self, number=signal.SIGTERM):
        self.send_signal(number)
        return self.wait_exit()

    def kill(self):
        """kill -9."""
        KILLED_NODES.add(self.node)
        self.send_signal(signal.SIGKILL)
        self.wait_exit()

    # --- what it takes up

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    # --- definitions

    def define(self, text, name="test.yml"):
        """Puts a file into workflows.d, in one step as an editor does."""
        new = self.workflows / f".{name}"
        new.write_text(textwrap.dedent(text))
        new.rename(self.workflows / name)

    def reload(self):
        return self.post("/api/reload").json()

    # --- the log

    def log(self, start=0):
        with open(self.log_path, "rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def await_log(self, pattern):
        """Waits until this life of the daemon has logged it."""
        def look():
            ended = not self.running()
            if re.search(pattern, self.log(self.start_of_life)):
                return True
            assert not ended, f"the daemon ended ({self.process.returncode}) before {pattern}"
        eventually(look, f"{pattern} in the log")

    def expect_errors(self, *patterns):
        """These errors in the log are what the test is about."""
        self.expected += patterns

    def unexpected_lines(self):
        text = self.log(self.checked)
        self.checked += len(text.encode())
        return [line for line in text.splitlines()
                if SANITIZER.search(line)
                or re.match(r"\S+ error ", line)
                and not any(re.search(pattern, line) for pattern in self.expected)]

    # --- the API

    def connection(self, timeout=DEADLINE):
        host, port = self.address.rsplit(":", 1)
        return http.client.HTTPConnection(host, int(port), timeout=timeout)

    def request(self, method, path, body=None, headers=None):
        """`body`: bytes and text as they are, anything else as JSON."""
        headers = dict(headers or {})
        if body is not None:
            if not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            if isinstance(body, str):
                body = body.encode()
            headers.setdefault("Content-Type", "application/json")
        connection = self.connection()
        try:
            connection.request(method, path, body, headers)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def post(self, path, body=None, **headers):
        return self.request("POST", path, body, headers)

    def socket(self):
        host, port = self.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), DEADLINE)

    def launch(self, name, payload=None, **members):
        """Launches test.NAME and returns its id."""
        body = {"project": "test", "name": name, "payload": payload or {}, **members}
        reply = self.post("/api/workflows", body)
        assert reply.status == 201, reply
        return reply.json()["id"]

    def cancel(self, workflow):
        return self.post(f"/api/workflows/{workflow}/cancel")

    def workflow(self, workflow):
        reply = self.get(f"/api/workflows/{workflow}")
        assert reply.status == 200, reply
        return reply.json()

    def task(self, workflow, key):
        """The one task of that key."""
        (task,) = [task for task in self.workflow(workflow)["tasks"] if task["key"] == key]
        return task

    def attempts(self, workflow, key):
        """All attempts of the one task of that key, the last one too."""
        found = self.get(f"/api/workflows/{workflow}?attempts=true").json()
        (task,) = [task for task in found["tasks"] if task["key"] == key]
        return task["attempts"]

    def wait(self, workflow, status="success"):
        """Waits until the workflow has the status; another final one is a failure."""
        def look():
            assert self.running(), f"the daemon ended with status {self.process.returncode}"
            found = self.workflow(workflow)
            assert found["status"] == status or found["status"] not in FINAL, found
            return found["status"] == status and found
        return eventually(look, lambda: f"{status}: {self.workflow(workflow)}")

    def wait_end(self, workflow):
        """Waits until the workflow has ended, in whatever way."""
        return eventually(lambda: (found := self.workflow(workflow))["status"] in FINAL and found,
                          lambda: f"an end: {self.workflow(workflow)}")

    def wait_task(self, workflow, key, status):
        """A hook is not there before its workflow has ended."""
        def look():
            found = [task for task in self.workflow(workflow)["tasks"] if task["key"] == key]
            return found and found[0]["status"] == status and found[0]
        return eventually(look, lambda: f"task {key} {status}: {self.workflow(workflow)}")

    def run(self, name, payload=None, status="success"):
        """Launches test.NAME and waits for its end."""
        return self.wait(self.launch(name, payload), status)

    def results(self, name, payload=None):
        """Runs test.NAME; the results by key."""
        return {task["key"]: task["result"] for task in self.run(name, payload)["tasks"]}

    @property
    def node(self):
        return self.get("/api/health").json()["scheduler"]["node"]

    # --- the end of a test

    def leftovers(self):
        """Processes of attempts that this database's nodes started."""
        if self.database is None or not checker.is_migrated(self.database.cursor()):
            return []
        return [pid for (node,) in self.database.sql("SELECT id::text FROM nodes")
                if node not in KILLED_NODES for pid in processes(f"DIRECTOR_NODE={node}")]

    def check(self, quiet):
        """What must hold after every test; with `quiet`, also that nothing is left to do."""
        lines = self.unexpected_lines()
        assert not lines, "\n".join(["unexpected in the log:", *lines])
        if self.database is None or not checker.is_migrated(self.database.cursor()):
            return
        if quiet:
            assert self.running(), f"the daemon ended with status {self.process.returncode}"
            eventually(lambda: not self.database.problems(quiet=True),
                       lambda: "\n".join(["order in the tables:",
                                          *self.database.problems(quiet=True)]))
        problems = self.database.problems(quiet=quiet)
        assert not problems, "\n".join(["in the tables:", *problems])
        eventually(lambda: not self.leftovers(),
                   lambda: f"no process left: {[command(pid) for pid in self.leftovers()]}", 5)

    def finish(self):
        """Stops it, looks at what it leaves behind, and cleans up."""
        try:
            if self.running():
                status = self.stop()
                assert status == 0, f"the daemon ended with status {status}"
            self.check(quiet=False)
        finally:
            self.dispose()

    def dispose(self):
        self.last_words = self.log(self.start_of_life) if self.log_path.exists() else ""
        if self.running():
            self.process.kill()
            self.process.wait()
        for node in KILLED_NODES:
            for pid in processes(f"DIRECTOR_NODE={node}"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


def command(pid):
    with contextlib.suppress(OSError):
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return f"{pid} {b' '.join(words).decode(errors='replace')}"
    return str(pid)


def user_name():
    """Who runs the tests."""
    return pwd.getpwuid(os.geteuid()).pw_name
