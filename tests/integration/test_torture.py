"""Short pieces of tests/torture, with the promise that the checker sees what is broken on purpose."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

TORTURE = pathlib.Path(__file__).resolve().parent.parent / "torture"


def torture(program, **variables):
    return subprocess.run([sys.executable, TORTURE / program], env={**os.environ, **variables}, capture_output=True,
                          text=True)


def test_nothing_is_lost_or_doubled():
    ended = torture("torture.py", TORTURE_SECONDS="60", TORTURE_FAULTS="all")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_request_may_fail():
    ended = torture("replies.py", TORTURE_REPLIES="2")
    assert ended.returncode == 0, ended.stdout + ended.stderr


SYMPTOMS = {
    "lock": "waiting is not the number of predecessors|unfinished workflow whose tasks are all final",
    "fence": "result of another attempt|success of an attempt that did not end well|log of what was never printed",
    "cursor": "a row for what was never due|instant with two rows|periodic workflow without exactly one fire",
    "cancel": "workflows went from (success|error) to canceled",
}


@pytest.mark.parametrize("guard", SYMPTOMS)
def test_the_checker_sees(guard):
    """Without the row lock, the attempt's fence, the cursor of the schedules or the condition that only what is
    unfinished can be canceled, promises break, and just that is seen."""
    for _ in range(5):
        ended = torture("torture.py", TORTURE_SECONDS="12", TORTURE_WITHOUT=guard, TORTURE_QUIET="20")
        assert "BROKEN" in ended.stdout or ended.returncode == 0, ended.stdout + ended.stderr
        if re.search(f"BROKEN: .*({SYMPTOMS[guard]})", ended.stdout):
            return
    raise AssertionError(f"without the guard '{guard}' its absence was not seen\n{ended.stdout}")
