"""The official admin tool, one process a command.

Runs in: pytest.
Owns: nothing that lasts.
Fails: AssertionError with the tool's own words when a command fails or says something else.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.interop.brokers import PEER

ADMIN_SECONDS = 60.0
AT_ONCE = 8
"""Commands that run side by side: each spends most of its time waiting for its own end."""


def mqadmin(nameserver: str, command: str) -> str:
    """Run a command; what it printed."""
    words = [sys.executable, str(PEER), "mqadmin", *command.split(), "-n", nameserver]
    result = subprocess.run(words, capture_output=True, text=True, timeout=ADMIN_SECONDS)
    # The tool ends with 0 after an exception, too, and prints it.
    assert result.returncode == 0, f"{command}: {result.stderr}"
    assert "Exception" not in result.stdout + result.stderr, f"{command}: {result}"
    return result.stdout


def check(nameserver: str, commands: Mapping[str, Sequence[str]]) -> None:
    """Run commands, in no order; what each prints must match each of its patterns."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outputs = pool.map(lambda command: mqadmin(nameserver, command), commands)
        for (command, patterns), output in zip(commands.items(), outputs, strict=True):
            for pattern in patterns:
                assert re.search(pattern, output), f"{command}: no {pattern!r} in\n{output}"
