"""What `make sanitize` does: the tests of the C helper, with the compiler's sanitizers in it.

Runs in: a developer's terminal. CC names the compiler, by default cc.
Owns: build/sanitize, a copy of the packages with its own compiled helper in each.
Fails: exit code 1 when a sanitizer or a test complains.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Sanitizer(NamedTuple):
    """One way to build the helper, and the tests that are worth running on it."""

    name: str
    flags: str
    library: str
    environment: dict[str, str]
    tests: tuple[str, ...]


SANITIZERS = (
    Sanitizer(
        "address",
        "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all",
        "libasan.so",
        # The interpreter itself never gives back what it allocates once.
        {"ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
        ("tests/clib", "tests/ring"),
    ),
    Sanitizer(
        "thread",
        # gcc warns that TSan does not model fences; what they order is checked without them too.
        "-O1 -g -fsanitize=thread -Wno-tsan",
        "libtsan.so",
        {"TSAN_OPTIONS": "halt_on_error=1"},
        # TSan sees one process: what two do to each other is in threads.c, once more by threads.
        ("tests/ring", "tests/races", "tests/clib/test_ring.py", "tests/clib/test_table.py"),
    ),
)


def main() -> int:
    """Build and test under each sanitizer; stop at the first that complains."""
    for sanitizer in SANITIZERS:
        print(f"sanitizer: {sanitizer.name}", flush=True)
        if run(sanitizer, build(sanitizer)):
            return 1
    return 0


def build(sanitizer: Sanitizer) -> Path:
    """Compile the helper with the sanitizer in it; the folder to put on the import path."""
    folder = ROOT / "build" / "sanitize" / sanitizer.name
    # clib/build.py appends the variable to its own flags; the last -O counts.
    environment = {**os.environ, "APPLIANCE_CFLAGS": sanitizer.flags}
    command = ["setup.py", "--quiet", "build", "--build-base", str(folder / "build")]
    command += ["--build-lib", str(folder / "lib")]
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)
    return folder / "lib"


def run(sanitizer: Sanitizer, folder: Path) -> int:
    """Run the tests on that build; pytest's exit code."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    library = subprocess.run(
        [*compiler, f"-print-file-name={sanitizer.library}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    environment = {**os.environ, **sanitizer.environment, "LD_PRELOAD": library}
    command = ["-m", "pytest", "-m", "not slow", "-o", f"pythonpath={folder} ."]
    # A sanitizer speaks to the real stderr just before the end.
    command += ["--capture", "sys", *sanitizer.tests]
    # Under a random layout of addresses TSan may find its own taken.
    fixed = ["setarch", "--addr-no-randomize"]
    return subprocess.run([*fixed, sys.executable, *command], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
