"""Questions to the store: 29, 30, 31, 32, 33.

Runs in: coordinator.
Owns: nothing.
Fails: never; what is asked wrongly is refused with a code.

Peers: AdminBrokerProcessor, QueryMessageProcessor (broker.md section 6).
"""

from appliance.net.requests import RefusedError, Request, Response
from appliance.net.responses import SYSTEM_ERROR

from appliance.broker.state import State


def search_offset_by_timestamp(request: Request, state: State) -> Response:
    """The first message stored at a time or later; UPPER: the last one at that time or earlier."""
    asked = request.args
    upper = (asked.boundaryType or "").upper() == "UPPER"
    offset = state.store.search(asked.topic, asked.queueId, asked.timestamp, upper=upper)
    return Response(fields={"offset": offset})


def get_max_offset(request: Request, state: State) -> Response:
    """The queue offset behind the last message that readers may see; 0 of an unknown queue."""
    return Response(
        fields={"offset": state.store.bounds(request.args.topic, request.args.queueId)[1]}
    )


def get_min_offset(request: Request, state: State) -> Response:
    """The first queue offset whose message is still in the log; 0 of an unknown queue."""
    return Response(
        fields={"offset": state.store.bounds(request.args.topic, request.args.queueId)[0]}
    )


def get_earliest_msg_storetime(request: Request, state: State) -> Response:
    """When the first message of a queue was stored; -1 when it is empty."""
    asked = request.args
    begin, _ = state.store.bounds(asked.topic, asked.queueId)
    return Response(fields={"timestamp": state.store.store_time(asked.topic, asked.queueId, begin)})


def view_message_by_id(request: Request, state: State) -> Response:
    """The record at a physical offset."""
    offset = request.args.offset
    record = state.store.record(offset)
    if record is None:
        raise RefusedError(SYSTEM_ERROR, f"can not find message by the offset, {offset}")
    return Response(body=record)
