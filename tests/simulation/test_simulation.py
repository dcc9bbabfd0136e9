"""A whole appliance under kills, power cuts, cut connections and a full disk: nothing is lost.

SIMULATIONS says how many histories, else 1,000 in CI and 200 elsewhere; SIMULATION_SEED where they
begin. One that fails is replayed by `python -m tests.simulation.world SEED`.
"""

import os
from collections import Counter

import pytest

from appliance import failpoint
from tests.simulation.plan import CUT, FULL, KILL_ALL, POWER, RESTART, STALL
from tests.simulation.world import Outcome, run

HISTORIES = int(os.environ.get("SIMULATIONS", "1000" if "CI" in os.environ else "200"))
FIRST_SEED = int(os.environ.get("SIMULATION_SEED", "0"))
SHOWN_MAX = 5
ENOUGH = 150
"""Among so many histories everything that can happen has happened."""

PROCESSES = ("writer", "coordinator", "frontend-0", "frontend-1", "nameserver")

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(120 + HISTORIES)]


def test_nothing_is_lost_whatever_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    failed: list[Outcome] = []
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        outcome = run(seed)
        counts += outcome.counts
        failed += [outcome] if outcome.findings else []
    with capsys.disabled():
        print(f"\n{summary(counts)}")
    shown = "\n".join(map(str, failed[:SHOWN_MAX]))
    assert not failed, f"{len(failed)} of {HISTORIES} histories went wrong\n{shown}"
    if HISTORIES >= ENOUGH:
        assert not missing(counts), f"never happened: {', '.join(missing(counts))}"


def summary(counts: Counter[str]) -> str:
    """The totals, a line for each kind."""
    kills = ", ".join(f"{name} {counts[f'kill {name}']}" for name in PROCESSES)
    whole = ", ".join(
        f"{way} {counts[way]}" for way in (KILL_ALL, POWER, RESTART, CUT, FULL, STALL)
    )
    places = ", ".join(f"{place} {counts[f'death at {place}']}" for place in failpoint.PLACES)
    done = ", ".join(f"{what} {counts[f'messages {what}']}" for what in ("sent", "acknowledged"))
    return (
        f"{HISTORIES} histories from seed {FIRST_SEED}: {done}, turns {counts['turns']}\n"
        f"killed: {kills}\nwhole machine: {whole}\ndied at: {places}"
    )


def missing(counts: Counter[str]) -> list[str]:
    """What the histories should have had, and had not."""
    wanted = [f"death at {place}" for place in (*failpoint.PLACES, "disk")]
    wanted += [f"kill {name}" for name in PROCESSES]
    wanted += [KILL_ALL, POWER, RESTART, CUT, FULL, STALL]
    return [what for what in wanted if not counts[what]]


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_is_one_history(seed: int) -> None:
    first, again = run(seed), run(seed)
    assert first.trace == again.trace
    assert first.counts == again.counts


def test_seeds_differ() -> None:
    assert len({run(seed).trace for seed in range(5)}) == 5
