"""What `make run` does: start the appliance, run the example against it, stay until Ctrl-C.

Runs in: a developer's terminal, as the parent of `appliance start`.
Owns: the terminal's Ctrl-C, so that make sees a clean end.
Fails: with the exit code of the appliance or of the example.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run until told to stop; the appliance's exit code."""
    take_terminal()
    appliance = subprocess.Popen(
        [sys.executable, "-m", "appliance", "start"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )

    def stop(number: int, frame: FrameType | None) -> None:
        appliance.terminate()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    assert appliance.stdout is not None
    for line in appliance.stdout:
        print(line, end="", flush=True)
        if line.startswith("ready"):
            example = subprocess.run([sys.executable, "examples/hello.py"], cwd=ROOT, check=False)
            if example.returncode:
                appliance.terminate()
                appliance.wait()
                return example.returncode
            print("running until Ctrl-C", flush=True)
    return appliance.wait()


def take_terminal() -> None:
    """Become the terminal's foreground group, so that Ctrl-C ends this and not make.

    Without a terminal, or in the background of one, signals come as they come.
    """
    try:
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return
    except OSError:
        return
    # A background group that touches its terminal is stopped by SIGTTOU, unless it is ignored.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())


if __name__ == "__main__":
    sys.exit(main())
