"""`make bench`: the appliance beside the real Apache broker and the floor, into BENCHMARKS.md.

    python -m tools.bench.bench [--rounds 3] [--seconds 5] [--only NAME,...] [--flush async,sync]

Runs in: a developer's terminal; with a JDK and Maven, as tools/peer/peer needs them.
Owns: build/bench, emptied before and after; BENCHMARKS.md.
Fails: SystemExit with one line when a server does not start.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tools.bench import report
from tools.bench.compare import Results, Target, add_plan_arguments, measure, plan_of

ROOT = report.ROOT
FOLDER = ROOT / "build" / "bench"
PEER = ROOT / "tools" / "peer" / "peer"

APACHE_VERSION = "5.3.3"
APACHE_PORT, APACHE_NAMESRV_PORT = 21911, 21876
OUR_PORT, OUR_NAMESRV_PORT = 22911, 22876

CONFIGURATION = """\
[broker]
listen = "127.0.0.1:{port}"
nameservers = ["127.0.0.1:{namesrv}"]
[nameserver]
listen = "127.0.0.1:{namesrv}"
[store]
root = "{root}"
flush = "{flush}"
[log]
level = "warning"
"""


@contextmanager
def appliance(flush: str) -> Iterator[Target]:
    """A running appliance."""
    folder = FOLDER / "appliance"
    folder.mkdir(parents=True)
    file = folder / "broker.toml"
    file.write_text(
        CONFIGURATION.format(
            port=OUR_PORT, namesrv=OUR_NAMESRV_PORT, root=folder / "store", flush=flush
        )
    )
    command = [sys.executable, "-m", "appliance", "start", "--config", str(file)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            sys.exit("the appliance did not start")
        yield Target(OUR_PORT, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def apache(flush: str) -> Iterator[Target]:
    """A running Apache broker with its NameServer."""
    folder = FOLDER / "apache"
    try:
        _peer("start", "namesrv", "--dir", str(folder), "--port", str(APACHE_NAMESRV_PORT))
        started = _peer(
            *("start", "broker", "--dir", str(folder), "--port", str(APACHE_PORT)),
            *("--namesrv", f"127.0.0.1:{APACHE_NAMESRV_PORT}"),
            *("--set", f"flushDiskType={flush.upper()}_FLUSH"),
        )
        yield Target(APACHE_PORT, json.loads(started)["pid"])
    finally:
        _peer("stop", "--dir", str(folder))


def _peer(*arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, str(PEER), *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return run.stdout.strip().rpartition("\n")[2]


@contextmanager
def empty_folder() -> Iterator[None]:
    """Whatever an earlier run left is gone, and so is what this one leaves."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def main() -> None:
    """Measure every asked way to flush, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_plan_arguments(parser)
    parser.add_argument("--flush", default="async,sync", help="which tables (async,sync)")
    arguments = parser.parse_args()
    plan = plan_of(arguments)
    results: dict[str, Results] = {}
    for flush in arguments.flush.split(","):
        print(f"{flush} flush", file=sys.stderr, flush=True)
        with ExitStack() as running:
            running.enter_context(empty_folder())
            targets = {
                "ours": running.enter_context(appliance(flush)),
                "peer": running.enter_context(apache(flush)),
            }
            results[flush] = measure(targets, plan)
    print(report.write(results, plan, APACHE_VERSION).read_text())


if __name__ == "__main__":
    main()
