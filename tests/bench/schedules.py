"""How a daemon bears many schedules: prints what is measured, and never fails.

    tests/bench/schedules.py [SCHEDULES]

All schedules are due in the same seconds, four times a minute. What is printed: how long loading them took, how long
until the last of them was decided, how late the first and the last workflow began, and what the daemon costs between.
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import harness  # noqa: E402

EVERY_S = 15


def definitions(count):
    lines = ["tasks:", "  NOTHING: {noop: true}"]
    for number in range(count):
        lines += [f"load.N{number}:", "  tasks: [NOTHING]",
                  f"  periodic: {{crontab: '*/{EVERY_S} * * * * *'}}"]
    return "\n".join(lines)


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_files(daemon, count, per_file=1000):
    for first in range(0, count, per_file):
        text = definitions(count).splitlines()
        head, body = text[:2], text[2 + first * 3:2 + (first + per_file) * 3]
        daemon.define("\n".join((head if first == 0 else []) + body), f"{first:06}.yml")


def decided(database):
    """Of the last instant that all schedules have a row for: nominal, first and last decision, last start."""
    return database.sql(
        "SELECT f.scheduled, count(*), extract(epoch FROM min(f.decided) - f.scheduled),"
        " extract(epoch FROM max(f.decided) - f.scheduled),"
        " extract(epoch FROM max(w.started) - f.scheduled), extract(epoch FROM max(w.finished) - f.scheduled)"
        " FROM fires f JOIN workflows w ON w.id = f.workflow_id GROUP BY 1 ORDER BY 1 DESC LIMIT 3")


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    postgres = harness.Postgres()
    database = postgres.create_database()
    daemon = harness.Daemon(database=database, log_level="warning")
    try:
        write_files(daemon, count)
        begin = time.monotonic()
        daemon.settings["log_level"] = "info"
        daemon.start()
        print(f"{count} schedules: ready after {time.monotonic() - begin:.2f} s")
        begin = time.monotonic()
        daemon.reload()
        print(f"reloaded in {time.monotonic() - begin:.2f} s, {memory_mib(daemon.process.pid):.0f} MiB")
        seconds = int(os.environ.get("BENCH_SECONDS", "50"))
        cpu = cpu_s(daemon.process.pid)
        begin = time.monotonic()
        time.sleep(EVERY_S - time.time() % EVERY_S + seconds)
        for scheduled, rows, first, last, started, finished in decided(database):
            print(f"{scheduled:%H:%M:%S}: {rows} fires decided {first * 1000:.0f} to {last * 1000:.0f} ms after it,"
                  f" started by {started or 0:.2f} s, ended by {finished or 0:.2f} s")
        busy = cpu_s(daemon.process.pid) - cpu
        print(f"the daemon's share of a core: {100 * busy / (time.monotonic() - begin):.1f} %")
    finally:
        daemon.finish()
        database.drop()
        postgres.close()


main()
