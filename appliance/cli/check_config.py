"""`appliance check-config FILE`: would `start` accept it?

Runs in: the process that the user starts.
Owns: nothing.
Fails: exit code 2, each mistake in a line on standard error.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.config import ConfigError, load


def run(file: Annotated[Path, typer.Argument(help="the broker.toml to check")]) -> None:
    """Check a configuration without starting anything."""
    try:
        config = load(file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    print(f"{file}: broker {config.broker.name} at {config.broker.address}, no mistakes")
