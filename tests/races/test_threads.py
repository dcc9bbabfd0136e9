"""threads.c under TSan: every order that the C files promise is there, seen from both sides."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLIB = HERE.parent.parent / "clib"
SOURCES = sorted(path for path in CLIB.glob("*.c") if path.name != "_appliance.c")
# gcc warns that TSan does not know fences; what they order is checked by waking and sleeping.
FLAGS = ["-std=c11", "-O1", "-g", "-pthread", "-fsanitize=thread", "-Wno-tsan"]


def compiled(folder: Path) -> Path:
    """The program, or a skip where the compiler has no TSan."""
    program = folder / "threads"
    command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS, f"-I{CLIB}"]
    sources = [str(path) for path in (HERE / "threads.c", *SOURCES)]
    made = subprocess.run([*command, *sources, "-o", str(program)], capture_output=True, text=True)
    if "tsan" in made.stderr and made.returncode:
        pytest.skip("the compiler has no thread sanitizer")
    assert made.returncode == 0, made.stderr
    return program


def test_threads_in_each_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    # Under a random layout of addresses TSan may find its own taken.
    command = ["setarch", "--addr-no-randomize", str(compiled(tmp_path))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0 and not run.stderr, run.stderr[:4000]
