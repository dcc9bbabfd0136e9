"""Measure one broker beside another and beside the floor, in one run.

    python -m tools.bench.compare --ours PORT:PID [--peer PORT:PID]
        [--rounds 3] [--seconds 5] [--only NAME,...]

Runs in: a developer's terminal, or bench.py. PORT:PID is a running broker on 127.0.0.1; what PID's
    descendants use is counted with it.
Owns: the floor's process (rmqnull, which stores nothing) and the topics bench_*.
Fails: SystemExit when a broker goes away.

Every scenario runs in turn on ours, the peer and the floor, round after round, so that a machine
that slows down slows all three; the medians count. A JVM needs warming: the first round is not
counted, and is longer for the peer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
FLOOR_PORT = 10999

SCENARIOS = {
    "produce-128": "produce -c 8 -w 32 -s 128",
    "produce-4k": "produce -c 8 -w 16 -s 4096",
    "produce-batch32": "produce -c 4 -w 8 -s 128 -b 32",
    "produce-1-in-flight": "produce -c 1 -w 1 -s 128",
    "produce-1000-conns": "produce -c 1000 -w 1 -s 128",
    "produce-5k-per-s": "produce -c 8 -s 128 -r 5000",
    "e2e-2k-per-s": "e2e -s 128 -r 2000",
    "consume-128": "consume",
}
"""Name to rmqload's arguments. consume-128 reads back what produce-128 wrote."""

FIGURES = ("msgs_per_s", "p50_us", "p99_us", "broker_cpu_us_per_msg", "broker_own_mb")

Figures = dict[str, float]
"""The medians of one scenario on one target, by figure."""

Results = dict[str, dict[str, Figures]]
"""By scenario and target: ours, peer, floor."""


class Target(NamedTuple):
    """A running broker on 127.0.0.1."""

    port: int
    pid: int


class Plan(NamedTuple):
    """How much is measured."""

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    rounds: int = 3
    seconds: float = 5.0


def measure(targets: Mapping[str, Target], plan: Plan) -> Results:
    """The medians of every scenario on every target, the floor included."""
    with tempfile.TemporaryDirectory() as folder:
        load, null = build(Path(folder))
        with floor(null) as bottom:
            rows = _run(load, {**targets, "floor": bottom}, plan)
    return {
        scenario: {
            target: {name: statistics.median(row[name] for row in run) for name in FIGURES}
            for target, run in by_target.items()
        }
        for scenario, by_target in rows.items()
    }


def build(folder: Path) -> list[Path]:
    """Compile the load generator and the floor into a folder."""
    programs = [folder / name for name in ("rmqload", "rmqnull")]
    for program in programs:
        source = HERE / f"{program.name}.c"
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return programs


@contextmanager
def floor(null: Path) -> Iterator[Target]:
    """The server that answers everything and stores nothing."""
    process = subprocess.Popen([str(null), str(FLOOR_PORT)])
    time.sleep(0.2)
    try:
        yield Target(FLOOR_PORT, process.pid)
    finally:
        process.terminate()
        process.wait()


def _run(
    load: Path, targets: Mapping[str, Target], plan: Plan
) -> dict[str, dict[str, list[Figures]]]:
    """Every counted run's figures, by scenario and target."""
    rows: dict[str, dict[str, list[Figures]]] = {name: {} for name in plan.scenarios}
    for turn in range(plan.rounds + 1):
        for scenario in plan.scenarios:
            for name, target in targets.items():
                if name == "floor" and not SCENARIOS[scenario].startswith("produce"):
                    continue
                if turn == 0 and scenario == "consume-128" and "produce-128" not in plan.scenarios:
                    _load(load, target, "produce-128", ["-n", "300000", "-d", "60"])
                warming = 3 if turn == 0 and name == "peer" else 1
                figures = _load(load, target, scenario, ["-d", str(plan.seconds * warming)])
                if turn:
                    rows[scenario].setdefault(name, []).append(figures)
        print(f"round {turn} of {plan.rounds}", file=sys.stderr, flush=True)
    return rows


def _load(load: Path, target: Target, scenario: str, more: list[str]) -> Figures:
    """One run of the load generator."""
    topic = "produce-128" if scenario == "consume-128" else scenario
    where = ["-p", str(target.port), "-P", str(target.pid)]
    where += ["-t", f"bench_{os.getpid()}_{topic.replace('-', '_')}"]
    run = subprocess.run(
        [str(load), *SCENARIOS[scenario].split(), *where, *more], capture_output=True, text=True
    )
    if not run.stdout:
        sys.exit(f"{scenario} on port {target.port}: {run.stderr.strip()}")
    row = json.loads(run.stdout)
    if row["errors"]:
        print(f"{scenario} on port {target.port}: {row['errors']} errors: {run.stderr.strip()}")
    return {name: row[name] for name in FIGURES}


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """What this program and bench.py share."""
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds")
    parser.add_argument("--seconds", type=float, default=5, help="of one scenario on one target")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(SCENARIOS)}")


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the arguments ask for."""
    names = tuple(arguments.only.split(",")) if arguments.only else tuple(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        sys.exit(f"unknown scenario {', '.join(unknown)}; known are {', '.join(SCENARIOS)}")
    return Plan(names, arguments.rounds, arguments.seconds)


def _target(text: str) -> Target:
    port, _, pid = text.partition(":")
    return Target(int(port), int(pid))


def main() -> None:
    """Measure running brokers and print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ours", type=_target, required=True, metavar="PORT:PID")
    parser.add_argument("--peer", type=_target, metavar="PORT:PID")
    add_plan_arguments(parser)
    arguments = parser.parse_args()
    targets = {"ours": arguments.ours}
    if arguments.peer:
        targets["peer"] = arguments.peer
    print(json.dumps(measure(targets, plan_of(arguments)), indent=1))


if __name__ == "__main__":
    main()
