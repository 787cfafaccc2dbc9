"""What many schedules cost: prints what it measures, and fails only when something does not work.

    tests/bench/schedules.py [SCHEDULES]

First all are due in the same seconds, four times a minute: how long until the last of them was decided? Then none is
due: what does the daemon cost while it waits?
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import harness  # noqa: E402

BUSY = "*/15 * * * * *"
IDLE = "0 0 1 1 *"
ROUNDS = 4
IDLE_S = 10


def write_files(daemon, count, crontab, more="", per_file=1000):
    for first in range(0, count, per_file):
        daemon.define("\n".join(
            (["tasks: {NOTHING: {noop: true}}"] if first == 0 else []) +
            [f"load.N{number}: {{tasks: [NOTHING]{more}, periodic: {{crontab: '{crontab}'}}}}"
             for number in range(first, min(first + per_file, count))]), f"{first:06}.yml")


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def timed(work):
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def measure_busy(database):
    time.sleep(15 * ROUNDS + 10)
    for scheduled, rows, first, last in database.sql(
            "SELECT scheduled, count(*), extract(epoch FROM min(decided) - scheduled),"
            " extract(epoch FROM max(decided) - scheduled) FROM fires GROUP BY 1 ORDER BY 1"):
        print(f"  {scheduled:%H:%M:%S}: {rows} decided, {first * 1000:.0f} to {last * 1000:.0f} ms after it")


def measure(postgres, count, more):
    database = postgres.create_database()
    daemon = harness.Daemon(database=database, concurrency=256)
    try:
        write_files(daemon, count, BUSY, more)
        print(f"{count} schedules{more}: ready after {timed(daemon.start):.2f} s,"
              f" reloaded in {timed(daemon.reload):.2f} s, {memory_mib(daemon.process.pid):.0f} MiB")
        measure_busy(database)
        write_files(daemon, count, IDLE, more)
        print(f"  another crontab for all of them in {timed(daemon.reload):.2f} s")
        time.sleep(5)
        busy = cpu_s(daemon.process.pid)
        time.sleep(IDLE_S)
        print(f"  waiting: {100 * (cpu_s(daemon.process.pid) - busy) / IDLE_S:.1f} % of a core")
    finally:
        daemon.dispose()
        database.drop()


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    postgres = harness.Postgres()
    try:
        measure(postgres, count, "")
        measure(postgres, count, ", concurrency: {overlap: skip}")
    finally:
        postgres.close()


main()
