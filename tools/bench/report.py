"""BENCHMARKS.md from the figures of a run: a table for each way to flush, and what was measured on.

Runs in: bench.py.
Owns: the text of BENCHMARKS.md.
Fails: never; what this machine does not tell is left out.
"""

import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tools.bench.compare import FIGURES, SCENARIOS, Figures, Plan, Results

ROOT = Path(__file__).resolve().parents[2]

UNITS = {
    "msgs_per_s": "messages/s",
    "p50_us": "p50, µs",
    "p99_us": "p99, µs",
    "broker_cpu_us_per_msg": "CPU per message, µs",
    "broker_own_mb": "own memory, MB",
}


class Aim(NamedTuple):
    """What a figure should reach: as a multiple of Apache's, or by itself."""

    low: float = 0.0
    high: float = float("inf")
    relative: bool = True

    def __str__(self) -> str:
        bound = f"≥ {self.low:g}" if self.low else f"≤ {self.high:.3g}"
        return f"{bound} ×" if self.relative else bound


AIMS = {
    ("produce-128", "msgs_per_s"): Aim(low=3),
    ("produce-128", "broker_cpu_us_per_msg"): Aim(high=1 / 5),
    ("consume-128", "msgs_per_s"): Aim(low=2),
    ("e2e-2k-per-s", "p50_us"): Aim(high=1 / 3),
    **{(scenario, "broker_own_mb"): Aim(high=200, relative=False) for scenario in SCENARIOS},
}

HEAD = """# Benchmarks

Written by `make bench`; do not edit. The appliance, the real Apache RocketMQ {apache} and the floor
(`rmqnull`: it answers everything and stores nothing) run side by side on one machine, each scenario
on each in turn, {rounds} counted rounds of {seconds:g} s; the medians are shown. The load generator
is `tools/bench/rmqload.c`; its arguments stand in `tools/bench/compare.py`. Own memory is anonymous
and shared memory of all processes, without the page cache of mapped files. *Aim* is what the ratio
to Apache (×), or the figure itself, should reach.

{machine}
"""


def write(results: dict[str, Results], plan: Plan, apache: str) -> Path:
    """Write the file from the results by flush mode; its path."""
    head = HEAD.format(
        apache=apache, rounds=plan.rounds, seconds=plan.seconds, machine="\n".join(machine())
    )
    parts = [head]
    for flush, measured in results.items():
        parts.append(f"## {flush.capitalize()} flush against {flush} flush\n")
        parts.append("\n".join(table(measured)) + "\n")
    path = ROOT / "BENCHMARKS.md"
    path.write_text("\n".join(parts))
    return path


def table(results: Results) -> Iterator[str]:
    """Markdown: a row for each scenario and figure that was measured."""
    columns = ("scenario", "figure", "appliance", "Apache", "floor", "ratio", "aim", "")
    yield f"| {' | '.join(columns)} |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for scenario, by_target in results.items():
        for figure in FIGURES:
            if any(row[figure] for row in by_target.values()):
                yield f"| {' | '.join(_row(scenario, figure, by_target))} |"


def _row(scenario: str, figure: str, by_target: dict[str, Figures]) -> list[str]:
    value = {target: figures[figure] for target, figures in by_target.items()}
    ratio = value["ours"] / value["peer"] if value.get("peer") else None
    aim = AIMS.get((scenario, figure))
    reached = value["ours"] if aim and not aim.relative else ratio
    verdict = ""
    if aim and reached is not None:
        verdict = "met" if aim.low <= reached <= aim.high else "**missed**"
    figures = [_number(value.get(target)) for target in ("ours", "peer", "floor")]
    shown = "" if ratio is None else f"{ratio:.2f}"
    return [scenario, UNITS[figure], *figures, shown, str(aim or ""), verdict]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


def machine() -> Iterator[str]:
    """What the figures depend on, as lines of a list."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    yield f"* {_field('/proc/cpuinfo', 'model name')}, {cores} cores, {memory:.0f} GiB of memory"
    yield f"* Linux {platform.release()} on {platform.machine()}; store on {_file_system()}"
    yield f"* Python {platform.python_version()}; {_java()}"
    commit = _output("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    yield f"* {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit or 'unknown'}"


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return f"unknown {name}"


def _file_system() -> str:
    return _output("stat", "--file-system", "--format=%T", str(ROOT)) or "an unknown file system"


def _java() -> str:
    lines = _output("java", "-version").splitlines()
    return lines[0].replace('"', "") if lines else "no Java"


def _output(*command: str) -> str:
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
