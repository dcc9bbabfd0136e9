"""failpoint.py: every place has a name, and every name a place."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import failpoint

ROOT = Path(__file__).parent.parent


def test_places_are_those_in_the_code() -> None:
    reached = set()
    for path in (ROOT / "appliance").rglob("*.py"):
        reached |= set(re.findall(r'failpoint\.reach\("(.*?)"\)', path.read_text()))
    assert reached == set(failpoint.PLACES)
    assert len(failpoint.PLACES) == len(set(failpoint.PLACES))


def test_nothing_happens_unless_it_is_armed() -> None:
    seen: list[str] = []
    failpoint.reach("flush.asked")
    failpoint.arm(seen.append)
    failpoint.reach("flush.asked")
    failpoint.arm(None)
    failpoint.reach("flush.seen")
    assert seen == ["flush.asked"]


def passes(wanted: str) -> subprocess.CompletedProcess[bytes]:
    """A program that passes flush.asked and flush.seen three times each, and says so."""
    program = (
        "from appliance import failpoint\n"
        "failpoint.arm_from_environment()\n"
        "for _ in range(3):\n"
        "    for place in ('flush.asked', 'flush.seen'):\n"
        "        failpoint.reach(place)\n"
        "        print(place, flush=True)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"APPLIANCE_FAILPOINT": wanted, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("wanted", "passed"), [("flush.asked", 0), ("flush.seen:2", 3), ("flush.asked:3", 4)]
)
def test_the_environment_kills_at_the_nth_passing(wanted: str, passed: int) -> None:
    run = passes(wanted)
    assert (run.returncode, len(run.stdout.splitlines())) == (-signal.SIGKILL, passed)


def test_without_a_place_nothing_is_armed() -> None:
    assert passes("").returncode == 0


def test_an_unknown_place_is_our_own_mistake() -> None:
    run = passes("flush.never")
    assert run.returncode == 1 and b"no place is called 'flush.never'" in run.stderr
