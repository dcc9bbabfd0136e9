"""The official Java client: the scenarios of java/ compiled against it once, and run in one JVM.

Runs in: pytest.
Owns: java/target, which holds the client's jars and our classes.
Fails: AssertionError with the tool's own words when Maven or javac fails, or a scenario does.
"""

import fcntl
import hashlib
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.interop.program import Program

JAVA = Path(__file__).resolve().parent / "java"
SOURCES = JAVA / "src" / "interop"
TARGET = JAVA / "target"
PREPARE_SECONDS = 600.0
SCENARIO_SECONDS = 90.0

# The JVM lives for seconds: it shall start fast and stay small.
JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-Dfile.encoding=UTF-8"]


def scenario_names() -> list[str]:
    """The scenarios, in the order of the files; the Java source is where they are listed."""
    texts = (SOURCES / f"{name}.java" for name in re.findall(r"(\w+)\.SCENARIOS\)", _main()))
    return [name for text in texts for name in re.findall(r'\.put\("(\w+)"', text.read_text())]


def _main() -> str:
    return (SOURCES / "Main.java").read_text()


def class_path() -> str:
    """Our classes and the client's jars; fetched and compiled when their sources have changed."""
    TARGET.mkdir(exist_ok=True)
    with (TARGET / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pom = JAVA / "pom.xml"
        _once("jars", [pom], ["mvn", "-q", "-B", "-f", str(pom), *_copy_dependencies()])
        sources = sorted(SOURCES.glob("*.java"))
        _once("classes", [pom, *sources], ["javac", *_javac(), *map(str, sources)])
    return f"{TARGET / 'classes'}:{TARGET / 'lib'}/*"


def _copy_dependencies() -> list[str]:
    return ["dependency:copy-dependencies", f"-DoutputDirectory={TARGET / 'lib'}"]


def _javac() -> list[str]:
    # The old pull consumer is deprecated, and still what many programs use.
    lint = ["-nowarn", "-Xlint:all,-deprecation", "-Werror"]
    return [*lint, "-d", str(TARGET / "classes"), "-cp", f"{TARGET / 'lib'}/*"]


def _once(step: str, inputs: Iterable[Path], command: list[str]) -> None:
    """Run a step of the build, unless it has been run on these very files."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in inputs)).hexdigest()
    stamp = TARGET / f"{step}.sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return
    result = subprocess.run(command, capture_output=True, text=True, timeout=PREPARE_SECONDS)
    assert result.returncode == 0, f"{command[0]}: {result.stdout}{result.stderr}"
    stamp.write_text(digest)


def java_command(main: str, home: Path, *arguments: str, serialization: str = "JSON") -> list[str]:
    """The command line of one of our main classes; the client's logs and offsets go to `home`."""
    settings = [f"-Duser.home={home}", f"-Drocketmq.serialize.type={serialization}"]
    return ["java", *JVM, *settings, "-cp", class_path(), f"interop.{main}", *arguments]


class Player:
    """A JVM that plays scenarios against one broker, as they are asked for."""

    def __init__(self, nameserver: str, tag: str, home: Path, serialization: str) -> None:
        words = ["--namesrv", nameserver, "--tag", tag, "-"]
        command = java_command("Main", home, *words, serialization=serialization)
        self._program = Program(command, home / "scenarios.log")

    def play(self, name: str) -> None:
        """Play one scenario; its failure is ours."""
        self._program.tell(name)
        line = self._program.line(SCENARIO_SECONDS)
        assert line.startswith(f"ok {name} "), f"{line}\n{self._program.tail()}"

    def close(self) -> None:
        """End the JVM."""
        self._program.close()
