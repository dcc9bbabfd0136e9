"""`appliance start [--config broker.toml]`: the whole appliance, in the foreground.

Runs in: the process that the user starts, which becomes the supervisor.
Owns: nothing.
Fails: exit code 2, the reason in a line on standard error, when it cannot start.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance import supervisor
from appliance.config import ConfigError, load


def run(
    config: Annotated[
        Path | None,
        typer.Option(help="a broker.toml; without one, a complete broker on 127.0.0.1"),
    ] = None,
) -> None:
    """Run NameServer and broker until SIGTERM or Ctrl-C."""
    try:
        code = supervisor.run(load(config))
    except (ConfigError, supervisor.StartError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    raise typer.Exit(code)
