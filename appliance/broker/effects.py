"""What a handler may ask of the coordinator besides answering.

Runs in: coordinator.
Owns: nothing.
Fails: never.

A handler returns a `Response`, one of these, or a list of them. The coordinator carries them out in
their order; `Push` and `Close` may stand beside the one that settles the request.
"""

from dataclasses import dataclass
from typing import TypeAlias

from appliance.net.frame import Frame
from appliance.net.requests import Response

Connection: TypeAlias = int
"""A client's connection: the frontend's number << 64 | the frontend's own 64-bit name for it."""


def connection_of(frontend: int, local: int) -> Connection:
    """The name that is unique in the whole appliance."""
    return frontend << 64 | local


def frontend_of(connection: Connection) -> int:
    """Which frontend has the socket."""
    return connection >> 64


def local_of(connection: Connection) -> int:
    """What that frontend calls the connection."""
    return connection & 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Append:
    """Store records of one queue, then answer; the answer is built from what was stored.

    The coordinator hands them to the writer. When it is killed before they are stored, its
    successor finds everything that the answer needs in the ring: nothing is kept here.
    """

    topic: str
    queue_id: int
    """Where they are stored."""
    records: tuple[bytes, ...]
    """Complete but for the offsets and the store time; more than one is a batch."""
    tags_codes: tuple[int, ...]
    """One a record; for a delayed message its delivery time in ms."""
    answered_queue_id: int
    """The queue that the sender asked for: a delayed message is stored in another."""
    unique_key: str = ""
    """Of a single message: what a sender is told as transactionId."""


@dataclass(frozen=True, slots=True)
class Push:
    """Send a request of ours to a client, and expect no answer."""

    connection: Connection
    frame: Frame


@dataclass(frozen=True, slots=True)
class Again:
    """Nothing is wrong: let the frontend handle the request on its fast path."""

    frame: Frame
    """The request as that path reads it, whoever had spelled it how."""


@dataclass(frozen=True, slots=True)
class Close:
    """End a client's connection."""

    connection: Connection
    reason: str


Effect: TypeAlias = Append | Push | Again | Close
Outcome: TypeAlias = Response | Effect | list[Response | Effect]
