"""The `appliance` command: one module a subcommand, of which the one asked for is loaded.

Runs in: the process that the user starts.
Owns: nothing.
Fails: exit code 2 with the reason on standard error.
"""

import sys
from importlib import import_module
from pkgutil import iter_modules

import typer


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; the exit code."""
    if not __debug__:
        print("appliance: python -O takes the assertions away: start without it", file=sys.stderr)
        return 2
    words = sys.argv[1:] if arguments is None else arguments
    names = [module.name.replace("_", "-") for module in iter_modules(__path__)]
    # Ready within 0.6 s: `start` does not wait for what the other commands import.
    wanted = [word for word in words[:1] if word in names] or names
    try:
        _commands(wanted)(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _commands(names: list[str]) -> typer.Typer:
    """An application with the subcommands of these names, each `run` in the module of the name."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="One host's worth of Apache RocketMQ: NameServer and broker.",
    )
    for name in names:
        module = import_module(f"{__name__}.{name.replace('-', '_')}")
        app.command(name)(module.run)
    # With a callback it stays a group of commands, even of one.
    app.callback()(_group)
    return app


def _group() -> None:
    """One host's worth of Apache RocketMQ: NameServer and broker."""
