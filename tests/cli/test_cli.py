"""The `appliance` command: what is loaded, what is printed, which exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from appliance import __version__
from appliance.cli import main


def run(*words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-m", "appliance", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"appliance {__version__}\n"


def test_one_command_loads_no_other() -> None:
    script = (
        "import sys; from appliance.cli import main; main(['version']);"
        "print([m for m in sys.modules if m.startswith(('appliance.', 'numpy', 'rich'))])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "['appliance.cli', 'appliance.cli.version']"


def test_help_lists_the_commands() -> None:
    shown = run("--help").stdout
    for name in ("start", "check-config", "version"):
        assert name in shown


def test_an_unknown_command_is_a_mistake_of_the_user() -> None:
    result = run("strat")
    assert result.returncode == 2
    assert "strat" in result.stderr


def test_python_without_assertions_is_refused() -> None:
    result = run("version", flags=("-O",))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_check_config_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('[broker]\nname = "b"\n')
    assert main(["check-config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: broker b at 127.0.0.1:10911, no mistakes\n"


@pytest.mark.parametrize("command", [["check-config"], ["start", "--config"]])
def test_a_wrong_configuration_is_told_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('[store]\nflush = "fast"\n[broker]\nid = -1\n')
    assert main([*command, str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{file}: [broker] id: found -1, allowed a whole number from 0 to 2147483647",
        f'{file}: [store] flush: found "fast", allowed "sync" or "async"',
    ]
