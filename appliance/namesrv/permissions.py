"""Requests that take a broker out of service for writers, and put it back.

Runs in: nameserver.
Owns: nothing. Formats: nameserver.md section 3.
Fails: never.

Both last until the broker registers with another DataVersion.
"""

from appliance.net.requests import Request, Response

from appliance.namesrv.state import READ, WRITE, State


def wipe_write_perm_of_broker(request: Request, state: State) -> Response:
    """No topic of the broker can be written. Peer: `wipeWritePermOfBroker`."""
    touched = [queues for _, queues in state.queues_of(request.args.brokerName)]
    for queues in touched:
        queues.perm &= ~WRITE
    return Response(fields={"wipeTopicCount": len(touched)})


def add_write_perm_of_broker(request: Request, state: State) -> Response:
    """Every topic of the broker can be read and written. Peer: `operateWritePermOfBroker`.

    It sets both bits and no other: read-only topics become writable and TBW102 stops inheriting.
    """
    touched = [queues for _, queues in state.queues_of(request.args.brokerName)]
    for queues in touched:
        queues.perm = READ | WRITE
    return Response(fields={"addTopicCount": len(touched)})
