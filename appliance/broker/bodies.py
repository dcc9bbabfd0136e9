"""JSON bodies of requests, read with care: whatever a peer sends, it gets an answer.

Runs in: coordinator.
Owns: nothing.
Fails: `JsonError`, which becomes the answer, on a body that is not what the request carries.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from appliance.net import json_text
from appliance.net.json_text import JsonError
from appliance.net.requests import Request

T = TypeVar("T")


def read_body(request: Request, read: Callable[[dict[str, Any]], T]) -> T:
    """What `read` makes of the body's object; values of other types than it expects are refused."""
    value = json_text.loads(request.body)
    if not isinstance(value, dict):
        raise JsonError("it is not an object")
    try:
        return read(value)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise JsonError(str(error)) from error
