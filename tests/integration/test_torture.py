"""Short pieces of tests/torture, with the promise that the checker sees what is broken on purpose."""

import os
import pathlib
import subprocess
import sys

import pytest

TORTURE = pathlib.Path(__file__).resolve().parent.parent / "torture"


def torture(program, **variables):
    return subprocess.run([sys.executable, TORTURE / program], env={**os.environ, **variables}, capture_output=True,
                          text=True)


def test_nothing_is_lost_or_doubled():
    ended = torture("torture.py", TORTURE_SECONDS="15")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_request_may_fail():
    ended = torture("replies.py", TORTURE_REPLIES="2")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("guard", ["lock", "fence", "cursor"])
def test_the_checker_sees(guard):
    """Without the row lock, the attempt's fence or the cursor of the schedules, promises break, and that is seen."""
    for _ in range(5):
        ended = torture("torture.py", TORTURE_SECONDS="12", TORTURE_WITHOUT=guard, TORTURE_QUIET="10")
        assert "BROKEN" in ended.stdout or ended.returncode == 0, ended.stdout + ended.stderr
        if ended.returncode == 1:
            return
    raise AssertionError(f"without the {guard} nothing was found to be broken")
