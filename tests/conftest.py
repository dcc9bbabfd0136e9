"""What every test runs under: tests with the official client need its tools, and CI has them."""

import os
import shutil

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the interop tests, with the reason, where a tool is missing; CI must not."""
    missing = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
    wanting = [item for item in items if item.get_closest_marker("interop")]
    if not missing or not wanting:
        return
    if os.environ.get("CI") == "true":
        pytest.exit(f"CI needs {', '.join(missing)} for the interop tests", returncode=2)
    reason = f"the official Java client was not tried: {', '.join(missing)} not found"
    for item in wanting:
        item.add_marker(pytest.mark.skip(reason=reason))
