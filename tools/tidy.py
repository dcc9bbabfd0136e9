"""The directions and habits of the code as a program: who imports whom, what a file looks like.

Runs in: `make lint` and tests/test_tidy.py; with --fix in `make format`.
Owns: nothing; with --fix, the order of imports.
Fails: exit code 1, one line for each finding.

The levels, lowest first; an arrow in ARCHITECTURE.md is a name in a row here:

    0  clib, values, config, clock, failpoint       1  ring, journal     2  commitlog     3  net
    4  broker, ha, namesrv, client, top, process, heritage               5  the five processes
    6  supervisor                                   7  cli, testing
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PURE_TABLES = ("appliance/net/requests.py", "appliance/net/responses.py")
FORBIDDEN = {"util", "utils", "common", "manager", "helper", "helpers", "service", "base"}
HEAD = ("Runs in:", "Owns:", "Fails:")

GROUND = "clib appliance.values appliance.config appliance.clock appliance.failpoint"
SHARED = f"{GROUND} appliance.ring"
PROCESS = f"{SHARED} appliance.journal appliance.heritage appliance.process"
PROTOCOL = " ".join(
    f"appliance.net.{name}" for name in ("requests", "responses", "fields", "frame", "json_text")
)
LOG_VIEW = " ".join(
    f"appliance.commitlog.{name}" for name in ("reader", "consume_queue", "record", "disk")
)
SERVED = "appliance.namesrv"
PROCESSES = " ".join(
    f"appliance.{name}"
    for name in ("frontend", "writer", "coordinator", "replicator", "nameserver")
)

ROOMS = {
    "clib": "",
    "appliance.values": "",
    "appliance.clock": "",
    "appliance.failpoint": "",
    "appliance.config": "appliance.values",
    "appliance.journal": GROUND,
    "appliance.ring": GROUND,
    "appliance.heritage": SHARED,
    "appliance.process": f"{SHARED} appliance.journal appliance.heritage",
    "appliance.commitlog": SHARED,
    **dict.fromkeys(PROTOCOL.split(), PROTOCOL),
    "appliance.net.send": f"{SHARED} appliance.net {LOG_VIEW}",
    "appliance.net.pull": f"{SHARED} appliance.net {LOG_VIEW}",
    "appliance.net.parked": f"{SHARED} appliance.net {LOG_VIEW}",
    "appliance.net": SHARED,
    "appliance.broker": f"{SHARED} appliance.net {LOG_VIEW}",
    "appliance.ha": f"{SHARED} {LOG_VIEW}",
    "appliance.namesrv": f"{GROUND} appliance.net",
    "appliance.client": "appliance.net",
    "appliance.client.same_host": f"{SHARED} appliance.client appliance.net",
    "appliance.top": f"{SHARED} appliance.net",
    "appliance.frontend": f"{PROCESS} appliance.net {LOG_VIEW}",
    "appliance.writer": f"{PROCESS} appliance.commitlog",
    "appliance.coordinator": f"{PROCESS} appliance.broker appliance.net {LOG_VIEW}",
    "appliance.replicator": f"{PROCESS} appliance.ha appliance.net.link",
    "appliance.nameserver": f"{PROCESS} appliance.namesrv appliance.net",
    "appliance.launch": f"{PROCESS} appliance.commitlog appliance.net {SERVED} {PROCESSES}",
    "appliance.supervisor": f"{PROCESS} appliance.commitlog appliance.launch",
    "appliance.cli": f"{GROUND} appliance.supervisor appliance.client appliance.top",
    "appliance.testing": f"{GROUND} appliance.client",
    "appliance.__main__": "appliance.cli",
}
"""Module prefix to the prefixes that it may import, beside its own room. The longest counts.

Client and protocol files know no level below them: who has no compiler can use them."""


class Finding(NamedTuple):
    """Something untidy, and where."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class Source(NamedTuple):
    """One parsed file; `path` is relative to the root."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name; a package's `__init__` has the package's."""
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")


class Import(NamedTuple):
    """One module of ours that a file imports."""

    line: int
    module: str


def sources(root: Path, *folders: str) -> Iterator[Source]:
    """The Python files below these folders."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text()
            yield Source(path.relative_to(root), text, ast.parse(text, str(path)))


def imports(source: Source, modules: set[str]) -> Iterator[Import]:
    """What a file imports of `modules`: a name out of a package is its submodule, if it is one."""
    package = (
        source.module if source.path.name == "__init__.py" else source.module.rpartition(".")[0]
    )
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = _imported_from(node, package, modules)
        else:
            continue
        yield from (Import(node.lineno, name) for name in names if name in modules)


def _imported_from(node: ast.ImportFrom, package: str, modules: set[str]) -> list[str]:
    origin = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        origin = ".".join([*above, *([node.module] if node.module else [])])
    deeper = [f"{origin}.{alias.name}" for alias in node.names]
    return [name if name in modules else origin for name in deeper]


def within(module: str, prefixes: str) -> bool:
    """Is the module one of these, or in one of these rooms?"""
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes.split())


def directions(source: Source, modules: set[str]) -> Iterator[Finding]:
    """Imports that go up, sideways, or into a room's back."""
    rooms = [room for room in ROOMS if within(source.module, room)]
    if not rooms:
        if source.module != "appliance":
            yield Finding(source.path, 1, "stands in no room that tools/tidy.py knows")
        return
    room = max(rooms, key=len)
    for line, module in imports(source, modules):
        # The root package holds the version alone: open to all.
        if module != "appliance" and not within(module, f"{room} {ROOMS[room]}"):
            yield Finding(source.path, line, f"{room} does not import {module}")


def cycles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """The import cycles, each once, as the modules on the way round."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> Iterator[list[str]]:
        if module in way:
            yield [*way[way.index(module) :], module]
        elif module not in done:
            for target in sorted(graph.get(module, set())):
                yield from visit(target, [*way, module])
            done.add(module)

    for module in sorted(graph):
        yield from visit(module, [])


def late_imports(source: Source) -> Iterator[Finding]:
    """Imports inside functions; appliance/cli alone loads late."""
    for function in _functions(source.tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield Finding(source.path, node.lineno, f"import inside {function.name}")


def head(source: Source) -> Iterator[Finding]:
    """The head of a file is its manual; a package's may be one sentence where it holds no code."""
    manual = ast.get_docstring(source.tree) or ""
    if not manual:
        yield Finding(source.path, 1, "no docstring at the head")
    code = [node for node in source.tree.body if isinstance(node, _DEFINITIONS)]
    if code or source.path.name != "__init__.py":
        missing = [word for word in HEAD if not re.search(rf"^{word}", manual, re.MULTILINE)]
        if missing:
            yield Finding(source.path, 1, f"no {', '.join(missing)} at the head")


def lengths(source: Source) -> Iterator[Finding]:
    """Files and functions that are too long to be taken in."""
    lines = source.text.count("\n")
    if lines >= FILE_LINES_MAX and str(source.path) not in PURE_TABLES:
        yield Finding(source.path, lines, f"{lines} lines, under {FILE_LINES_MAX} wanted")
    for function in _functions(source.tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES_MAX:
            text = f"{function.name} has {length} lines, {FUNCTION_LINES_MAX} wanted at most"
            yield Finding(source.path, function.lineno, text)


def names(source: Source) -> Iterator[Finding]:
    """Words that say nothing, in the names of files, classes and functions."""
    defined = [
        (node.lineno, node.name) for node in ast.walk(source.tree) if isinstance(node, _DEFINITIONS)
    ]
    for line, name in [(1, source.path.stem), *defined]:
        words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
        for word in words:
            if word.lower() in FORBIDDEN:
                yield Finding(source.path, line, f"{name}: the word {word} says nothing")


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def findings(root: Path) -> Iterator[Finding]:
    """Everything untidy below a root."""
    product = list(sources(root, "clib", "appliance"))
    modules = {source.module for source in product}
    for source in product:
        yield from directions(source, modules)
        if not within(source.module, "appliance.cli"):
            yield from late_imports(source)
    graph = {s.module: {target for _, target in imports(s, modules)} - {s.module} for s in product}
    for way in cycles(graph):
        yield Finding(Path(*way[0].split(".")), 1, f"import cycle: {' -> '.join(way)}")
    for source in [*product, *sources(root, "tools", "examples")]:
        yield from head(source)
    for source in [*product, *sources(root, "tools", "examples", "tests")]:
        yield from lengths(source)
        yield from names(source)


def import_order(root: Path, *, fix: bool) -> bool:
    """Standard library, libraries, lower levels, own room, a blank line between: ruff's sorting,
    with a section more for each room. Prints what is out of order."""
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--output-format", "concise"]
    command += ["--select", "I", "--fix"] if fix else ["--select", "I"]
    sections = ["future", "standard-library", "third-party", "first-party", "own-room"]
    in_order = True
    for room in sorted(path.parent.name for path in (root / "appliance").glob("*/__init__.py")):
        options = [
            "lint.per-file-ignores = {}",
            f"lint.isort.section-order = {[*sections, 'local-folder']}",
            f'lint.isort.sections = {{ own-room = ["appliance.{room}"] }}',
        ]
        words = [word for option in options for word in ("--config", option)]
        run = subprocess.run([*command, *words, f"appliance/{room}"], cwd=root)
        in_order &= run.returncode == 0
    return in_order


def main() -> int:
    """Print what is untidy."""
    found = list(findings(ROOT))
    for finding in found:
        print(finding)
    in_order = import_order(ROOT, fix="--fix" in sys.argv[1:])
    return 1 if found or not in_order else 0


if __name__ == "__main__":
    sys.exit(main())
