"""Fixtures: one PostgreSQL a session, a database and daemons a test or a module."""

import pytest

import harness

# These call SQL and Python alone: nothing that sanitizers look at.
collect_ignore = ["test_checker.py", "test_engine_functions.py"] if harness.has_sanitizer() else []


@pytest.fixture(scope="session")
def postgres():
    server = harness.Postgres()
    yield server
    log = server.log.read_text(errors="replace")
    server.close()
    assert "deadlock detected" not in log
    assert "PANIC" not in log


@pytest.fixture
def database(postgres):
    database = postgres.create_database()
    yield database
    database.drop()


def finish_all(daemons):
    """Each one is finished, whatever the others do; the first failure counts."""
    failures = []
    for daemon in reversed(daemons):
        try:
            daemon.finish()
        except Exception as failure:  # of whatever kind: the others must be stopped, too
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture
def make(request, database):
    """Makes daemons on the test's database; what they leave behind is checked after the test."""
    daemons = request.node.daemons = []

    def make_daemon(definitions="", **options):
        daemon = harness.Daemon(definitions, **{"database": database, **options})
        daemons.append(daemon)
        return daemon

    yield make_daemon
    try:
        finish_all(daemons)
    finally:
        keep_logs(request.node)


@pytest.fixture
def start(make):
    """The same, started."""
    return lambda definitions="", **options: make(definitions, **options).start()


@pytest.fixture(scope="module")
def shared_daemon(request, postgres):
    """One daemon for a module whose tests do not disturb each other; it runs the module's
    DEFINITIONS, with its SETTINGS."""
    database = postgres.create_database()
    daemon = harness.Daemon(request.module.DEFINITIONS, database=database,
                            **getattr(request.module, "SETTINGS", {}))
    daemon.start()
    yield daemon
    finish_all([daemon])
    database.drop()


@pytest.fixture
def daemon(request, shared_daemon):
    """The module's daemon; after each test all must be quiet and in order."""
    request.node.daemons = [shared_daemon]
    if not shared_daemon.running():
        shared_daemon.start()  # the test before had a crash to report
    shared_daemon.start_of_life = shared_daemon.log_path.stat().st_size
    yield shared_daemon
    keep_logs(request.node)
    shared_daemon.check(quiet=True)
    shared_daemon.expected = []


def keep_logs(node):
    """What the report of a failed test shows."""
    node.logs = [daemon.log(daemon.start_of_life) if daemon.log_path.exists() else daemon.last_words
                 for daemon in node.daemons]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    if report.when == "call" and hasattr(item, "daemons"):
        keep_logs(item)
    for number, log in enumerate(getattr(item, "logs", []), 1):
        report.sections.append((f"log of daemon {number}", log[-20000:]))
