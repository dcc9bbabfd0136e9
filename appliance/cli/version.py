"""`appliance version`: which release this is.

Runs in: the process that the user starts.
Owns: nothing.
Fails: never.
"""

from appliance import __version__


def run() -> None:
    """Print the release."""
    print(f"appliance {__version__}")
