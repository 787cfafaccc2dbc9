"""Runs the bench and prints its table: `bench.py [LINE...]`, all lines without names (docs/performance.md explains each).

Three rounds (BENCH_ROUNDS); in each, a line and its yardstick come right after each other. What is printed, and written
to bench.json in the build directory, are medians: of the values, of the yardsticks, and of the rounds' ratios.
"""

import json
import os
import statistics
import sys
import time

import ground
import lines

ROUNDS = int(os.environ.get("BENCH_ROUNDS", 3))


def measure(postgres, names):
    """Every figure of every round, by its name."""
    found = {}
    for number in range(ROUNDS):
        for name in names:
            line = (lines.LINES | lines.EXTRA)[name]
            if number >= getattr(line, "rounds", ROUNDS):
                continue
            begin = time.monotonic()
            for figure in line(postgres):
                found.setdefault(figure.name, []).append(figure)
            print(f"round {number + 1}: {name}, {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return found


def summary(figures):
    first = figures[0]

    def median(values):
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None
    ratio = median(figure.ratio for figure in figures)
    reached = None
    if first.aim is not None:
        reached = ratio >= first.aim if first.side == lines.MORE else ratio <= first.aim
    return {"name": first.name, "value": median(figure.value for figure in figures), "unit": first.unit,
            "yardstick": median(figure.yardstick for figure in figures), "against": figures[-1].against,
            "ratio": ratio, "aim": None if first.aim is None else f"{first.side} {first.aim:g}", "reached": reached}


def number(value):
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}"


def table(rows):
    head = ["line", "value", "", "yardstick", "ratio", "aim", "against"]
    cells = [[row["name"], number(row["value"]), row["unit"], number(row["yardstick"]),
              "" if row["ratio"] is None else f"{row['ratio']:.2f}",
              "" if row["aim"] is None else row["aim"] + ("" if row["reached"] else " (missed)"), row["against"]]
             for row in rows]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    for line in [head, ["-" * width for width in widths], *cells]:
        yield "| " + " | ".join(cell.rjust(width) if i in (1, 3, 4) else cell.ljust(width)
                                for i, (cell, width) in enumerate(zip(line, widths))) + " |"


def main():
    names = sys.argv[1:] or list(lines.LINES)
    unknown = [name for name in names if name not in lines.LINES | lines.EXTRA]
    if unknown:
        sys.exit(f"no such line: {', '.join(unknown)}; there are {', '.join(lines.LINES | lines.EXTRA)}")
    postgres = ground.Postgres()
    try:
        rows = [summary(figures) for figures in measure(postgres, names).values()]
    finally:
        postgres.close()
    (ground.BUILD / "bench.json").write_text(json.dumps(rows, indent=2) + "\n")
    print("\n".join(table(rows)))


main()
