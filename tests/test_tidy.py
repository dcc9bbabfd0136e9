"""The directions and habits hold for this repository, and tidy.py finds it when one does not."""

from pathlib import Path

import pytest

from tools import tidy

HEAD = '"""What it is for.\n\nRuns in: x.\nOwns: y.\nFails: z.\n"""\n'


def test_the_repository_is_tidy() -> None:
    assert [str(finding) for finding in tidy.findings(tidy.ROOT)] == []


def found(root: Path, files: dict[str, str]) -> list[str]:
    """What is untidy in a repository of these files, given without their heads."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + text)
    return [finding.text for finding in tidy.findings(root)]


@pytest.mark.parametrize(
    ("importer", "statement", "allowed"),
    [
        ("appliance/net/frame.py", "from appliance.net import fields", True),
        ("appliance/net/frame.py", "from appliance import clock", False),
        ("appliance/net/send.py", "from appliance.commitlog.reader import x", True),
        ("appliance/net/send.py", "from appliance.commitlog.append import x", False),
        ("appliance/ring/ring.py", "import clib", True),
        ("appliance/ring/ring.py", "import appliance.commitlog.append", False),
        ("appliance/commitlog/append.py", "from appliance.net.frame import x", False),
        ("appliance/writer.py", "from appliance.commitlog import append", True),
        ("appliance/writer.py", "from appliance.frontend import x", False),
        ("appliance/frontend.py", "from appliance.coordinator import x", False),
        ("appliance/launch.py", "from appliance import frontend, writer", True),
        ("appliance/cli/start.py", "from appliance import supervisor", True),
        ("appliance/broker/topics.py", "from .state import x", True),
        ("appliance/broker/topics.py", "from ..commitlog.append import x", False),
    ],
)
def test_an_import_goes_in_its_direction(
    tmp_path: Path, importer: str, statement: str, allowed: bool
) -> None:
    modules = [
        *("clib/__init__", "appliance/__init__", "appliance/clock", "appliance/frontend"),
        *("appliance/writer", "appliance/coordinator", "appliance/supervisor"),
        *("appliance/net/fields", "appliance/net/frame", "appliance/broker/state"),
        *("appliance/commitlog/reader", "appliance/commitlog/append"),
    ]
    files = {f"{name}.py": "" for name in modules}
    findings = found(tmp_path, {**files, importer: statement + "\n"})
    assert (findings == []) == allowed, findings


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("appliance/odd.py", "", "stands in no room"),
        ("appliance/clock.py", "def f():\n    import os\n", "import inside f"),
        ("appliance/clock.py", "def f():\n" + "    1\n" * 61, "f has 62 lines"),
        ("appliance/clock.py", "\n" * 500, "506 lines"),
        ("appliance/clock.py", "class TimeManager:\n    pass\n", "the word Manager says nothing"),
        ("appliance/ring/wait_util.py", "", "the word util says nothing"),
        ("tests/test_x.py", "def set_base():\n    pass\n", "the word base says nothing"),
    ],
)
def test_a_bad_habit_is_found(tmp_path: Path, name: str, text: str, finding: str) -> None:
    (text,) = found(tmp_path, {name: text})
    assert finding in text


@pytest.mark.parametrize("name", ["appliance/clock.py", "tools/x.py", "examples/x.py"])
def test_a_file_has_a_head(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text('"""A clock."""\n')
    assert [f.text for f in tidy.findings(tmp_path)] == ["no Runs in:, Owns:, Fails: at the head"]


def test_a_cycle_is_found(tmp_path: Path) -> None:
    findings = found(
        tmp_path,
        {
            "appliance/ring/a.py": "from appliance.ring import b\n",
            "appliance/ring/b.py": "from appliance.ring import c\n",
            "appliance/ring/c.py": "from appliance.ring import a\n",
        },
    )
    assert findings == [
        "import cycle: appliance.ring.a -> appliance.ring.b -> appliance.ring.c -> appliance.ring.a"
    ]


def test_the_command_loads_late_and_nobody_else(tmp_path: Path) -> None:
    assert found(tmp_path, {"appliance/cli/start.py": "def f():\n    import os\n"}) == []
