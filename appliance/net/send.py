"""The fast path of sends: columns of scanned frames → entries for the writer; answers → frames.

Runs in: frontends.
Owns: the frontend's `send` ring as its producer, its `done` ring as its consumer.
Fails: what is not plain is left to the coordinator; a full ring is Apache's flow-control answer.
"""

import ipaddress
import json
from typing import Any

import numpy as np

from appliance import failpoint
from appliance.ring.ring import Ring
from appliance.ring.tables import TopicTable
from clib import ffi, lib

from appliance.net.frame import ONEWAY
from appliance.net.poll import Sockets
from appliance.net.responses import MESSAGE_ILLEGAL, SERVICE_NOT_AVAILABLE, SYSTEM_BUSY

REGION = "DefaultRegion"
BUSY = "[OVERLOAD]system busy, start flow control for a while"
REFUSED = (
    "service not available now. It may be caused by one of the following reasons: the broker's "
    "disk is full, the broker's disk failed, or the broker is shutting down."
)
TOO_LONG = "the message is illegal: a file of the store does not hold all of it"


def build_facts(cluster: str, host: str, port: int, message_max: int) -> Any:
    """What every record of this broker has in common, as C wants it (ap_build).

    `host` is the numeric address that records carry as storeHost.
    """
    address = ipaddress.ip_address(host).packed + port.to_bytes(4)
    suffix = f"MSG_REGION\x01{REGION}\x02TRACE_ON\x01true\x02CLUSTER\x01{cluster}\x02".encode()
    region = json.dumps({"MSG_REGION": REGION, "TRACE_ON": "true"}, separators=(",", ":"))[1:-1]
    build = ffi.new("ap_build *")
    build.store_host, build.store_host_size = address.ljust(20, b"\0"), len(address)
    build.suffix[0 : len(suffix)], build.suffix_size = suffix, len(suffix)
    build.region[0 : len(region)], build.region_size = region.encode(), len(region)
    build.message_max = message_max
    return build


class SendPath:
    """Sends of one frontend."""

    def __init__(
        self, sockets: Sockets, topics: TopicTable, build: Any, ring: Ring, done: Ring
    ) -> None:
        self._sockets, self._topics, self._build = sockets, topics, build
        self._ring, self._done = ring, done
        ring.freed_by(done)
        most = len(sockets.requests)
        self._chosen, self._queue_rows = ffi.new("uint32_t[]", most), ffi.new("uint32_t[]", most)
        self._others, self._other_count = ffi.new("uint32_t[]", most), ffi.new("uint64_t *")
        self._busy = ffi.new("char[]", BUSY.encode())
        self._refusals = {
            SERVICE_NOT_AVAILABLE: ffi.new("char[]", REFUSED.encode()),
            MESSAGE_ILLEGAL: ffi.new("char[]", TOO_LONG.encode()),
        }

    def take(self, count: int) -> tuple[list[int], int]:
        """Publishes the plain sends among the first `count` requests for the writer.

        Returns the indexes of all other requests, in order, and how many sends were taken.
        """
        rows, topics = self._sockets.request_rows, self._topics.table
        chosen = lib.ap_send_choose(
            rows,
            count,
            topics,
            self._build,
            self._chosen,
            self._queue_rows,
            self._others,
            self._other_count,
        )
        if chosen:
            self._publish(int(chosen))
        return ffi.unpack(self._others, self._other_count[0]), int(chosen)

    def _publish(self, count: int) -> None:
        ring, head = self._ring, self._ring.head
        entry_limit, arena_limit = ring.limits()
        built = lib.ap_send_build(
            self._sockets.net,
            self._sockets.request_rows,
            self._chosen,
            count,
            self._build,
            ring.header,
            head,
            entry_limit,
            ring.arena_head,
            arena_limit,
            self._queue_rows,
        )
        failpoint.reach("frontend.built")
        ring.publish(head + built)
        failpoint.reach("frontend.published")
        for i in range(built, count):
            self._answer(self._sockets.request_rows[self._chosen[i]], SYSTEM_BUSY, self._busy)

    def _answer(self, request: Any, code: int, remark: Any) -> None:
        if not request.flag & ONEWAY:
            net = self._sockets.net
            lib.ap_answer_code(net, request.connection, request.opaque, code, remark)

    def complete(self) -> int:
        """Answers what the writer is done with; how many."""
        done = self._done
        first, last = done.poll()
        if first == last:
            return 0
        lib.ap_send_answer(
            self._sockets.net, self._build, self._ring.header, done.header, first, last
        )
        codes = done.part(first, last)["code"]
        for offset in np.flatnonzero(codes).tolist():
            self._refuse(first + offset, int(codes[offset]))
        failpoint.reach("frontend.answered")
        done.release(last)
        return last - first

    def _refuse(self, position: int, code: int) -> None:
        """Answers a send that the writer did not store; one that is stored has its answer."""
        entry, remark = self._ring.entries[position & self._ring.mask], self._refusals.get(code)
        if remark is not None and not entry["flags"] & lib.AP_ONEWAY:
            connection, opaque = int(entry["connection"]), int(entry["opaque"])
            lib.ap_answer_code(self._sockets.net, connection, opaque, code, remark)

    @property
    def pending(self) -> bool:
        """The writer has answered something."""
        return self._done.tail != self._done.head

    @property
    def idle(self) -> bool:
        """Nothing that was sent waits for its answer."""
        return self._done.tail == self._ring.head
