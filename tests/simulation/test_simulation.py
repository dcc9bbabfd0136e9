"""A thousand histories, each from its seed: nothing acknowledged is lost, whatever died when.

SIMULATIONS sets how many (200, in CI 1,000); SIMULATION_SEED where they begin. A seed that fails is
replayed by `python -m tests.simulation.world SEED`.
"""

import os
from collections import Counter

import pytest

from appliance.failpoint import PLACES
from tests.simulation.world import run

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(1200)]

HISTORIES = int(os.environ.get("SIMULATIONS", "1000" if os.environ.get("CI") == "true" else "200"))
FIRST_SEED = int(os.environ.get("SIMULATION_SEED", "0"))
ENOUGH = 200
"""From so many histories on, every process dies and every place is a place of death."""


def test_histories(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    failures = []
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        outcome = run(seed)
        counts.update(outcome.counts)
        if outcome.findings:
            failures.append(str(outcome))
    with capsys.disabled():
        print(f"\n{HISTORIES} histories from seed {FIRST_SEED}:")
        for name, count in sorted(counts.items()):
            print(f"  {count:9,d} {name}")
    assert not failures, "\n".join(failures[:10])
    if HISTORIES >= ENOUGH:
        passed = {place for place in PLACES if counts[f"passed {place}"]}
        assert passed == set(PLACES), f"never passed: {set(PLACES) - passed}"
        for name in ("writer", "coordinator", "frontend-0"):
            assert counts[f"kill {name}"], f"{name} was never killed"
        assert counts["power cut"], "the power was never cut"


def test_a_seed_is_a_history() -> None:
    first, second = run(FIRST_SEED), run(FIRST_SEED)
    assert first.trace == second.trace and first.counts == second.counts
