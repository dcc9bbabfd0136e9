"""A process whose lines of output a test can wait for, each with a deadline.

Runs in: pytest.
Owns: the process, and the file that takes what it writes to stderr.
Fails: AssertionError, with the end of that file, when a line or the end does not come in time.
"""

import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

LOG_TAIL_SIZE = 3_000


class Program:
    """A running process; `line` gives its output, `tell` and `end_input` its input."""

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with log.open("a") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                bufsize=1,
                env=env,
            )
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self, seconds: float) -> str:
        """The next line of output."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no output within {seconds:.0f} s\n{self.tail()}") from None
        assert line is not None, f"ended with {self.wait(seconds)} instead\n{self.tail()}"
        return line

    def lines_so_far(self) -> list[str]:
        """Everything that was printed and not yet taken, without waiting."""
        lines = []
        while not self._lines.empty():
            line = self._lines.get()
            assert line is not None, f"ended with {self.wait(10)}\n{self.tail()}"
            lines.append(line)
        return lines

    def tell(self, line: str) -> None:
        """Write a line to the input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def end_input(self) -> None:
        """Close the input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal; none if the process has ended."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit code, once the process has ended."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"did not end in {seconds:.0f} s\n{self.tail()}") from None

    def close(self) -> None:
        """End the process at once, if it still runs."""
        self._process.kill()
        self._process.wait()

    def tail(self) -> str:
        """The end of what it wrote to stderr."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_SIZE:]
