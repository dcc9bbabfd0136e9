"""The fast path of sends: columns of scanned frames → entries for the writer; answers → frames.

Runs in: frontends.
Owns: the frontend's `send` ring as its producer, its `done` ring as its consumer.
Fails: what is not plain is left to the coordinator; a full ring is Apache's flow-control answer.
"""

import ipaddress
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance import failpoint
from appliance.net.poll import Sockets
from appliance.ring import layout
from appliance.ring.ring import Ring
from appliance.ring.tables import TOPIC_SEND, TopicTable
from clib import ffi, lib

from appliance.net.responses import SERVICE_NOT_AVAILABLE, SYSTEM_BUSY

PROPERTIES_MAX = 32767
ODD_SYSTEM_FLAGS = 0xCC
"""Transaction types and inner batches (remoting.md 5.2): not plain messages."""
REGION = "DefaultRegion"
BUSY = "[OVERLOAD]system busy, start flow control for a while"
REFUSED = (
    "service not available now. It may be caused by one of the following reasons: the broker's "
    "disk is full, the broker's disk failed, or the broker is shutting down."
)


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
        self._properties_max = PROPERTIES_MAX - int(build.suffix_size) - 1
        self._busy = ffi.new("char[]", BUSY.encode())
        self._refused = ffi.new("char[]", REFUSED.encode())

    def take(self, count: int) -> tuple[npt.NDArray[np.intp], int]:
        """Publishes the plain sends among the first `count` requests for the writer.

        Returns the indexes of the sends that are not plain, and how many were taken.
        """
        requests = self._sockets.requests[:count]
        sends = np.flatnonzero(requests["kind"] == lib.AP_REQUEST_SEND)
        if not len(sends):
            return sends, 0
        columns = requests[sends]
        plain, queues = self._judge(columns)
        chosen = np.ascontiguousarray(sends[plain], np.uint32)
        if len(chosen):
            self._publish(chosen, np.ascontiguousarray(queues[plain], np.uint32))
        return sends[~plain], len(chosen)

    def _judge(self, columns: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
        """Which sends are plain, and the row of each one's queue."""
        topics = self._topics.rows
        rows = columns["topic_row"]
        known = np.maximum(rows, 0)
        before = self._topics.names["sequence"][known]
        flags = topics["flags"][known]
        queue_count = np.maximum(topics["read_queues"][known], topics["write_queues"][known])
        queues = topics["queue_base"][known] + columns["queue_id"].astype(np.int64)
        steady = (before == self._topics.names["sequence"][known]) & (before & 1 == 0)
        plain = (
            (columns["odd"] == 0)
            & (rows >= 0)
            & steady
            & (flags & TOPIC_SEND != 0)
            & (columns["queue_id"] >= 0)
            & (columns["queue_id"] < queue_count)
            & (columns["body_size"] > 0)
            & (columns["body_size"] <= self._build.message_max)
            & (columns["properties_max"] <= self._properties_max)
            & (columns["system_flag"] & ODD_SYSTEM_FLAGS == 0)
        )
        return plain, queues

    def _publish(self, chosen: npt.NDArray[np.uint32], queues: npt.NDArray[np.uint32]) -> None:
        ring, head = self._ring, self._ring.head
        entry_limit, arena_limit = ring.limits()
        built = lib.ap_send_build(
            self._sockets.net,
            self._sockets.request_rows,
            layout.pointer("uint32_t", chosen),
            len(chosen),
            self._build,
            ring.header,
            head,
            entry_limit,
            ring.arena_head,
            arena_limit,
            layout.pointer("uint32_t", queues),
        )
        failpoint.reach("frontend.built")
        ring.publish(head + built)
        failpoint.reach("frontend.published")
        for index in chosen[built:]:
            self._answer(self._sockets.requests[index], SYSTEM_BUSY, self._busy)

    def _answer(self, request: Any, code: int, remark: Any) -> None:
        if not int(request["flag"]) & 2:
            opaque = int(request["opaque"])
            lib.ap_answer_code(
                self._sockets.net, int(request["connection"]), opaque, code, remark
            )

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
        for offset in np.flatnonzero(codes):
            entry = self._ring.entries[(first + int(offset)) & self._ring.mask]
            if int(codes[offset]) == SERVICE_NOT_AVAILABLE and not entry["flags"] & lib.AP_ONEWAY:
                lib.ap_answer_code(
                    self._sockets.net,
                    int(entry["connection"]),
                    int(entry["opaque"]),
                    SERVICE_NOT_AVAILABLE,
                    self._refused,
                )
        failpoint.reach("frontend.answered")
        done.release(last)
        return last - first

    @property
    def pending(self) -> bool:
        """The writer has answered something."""
        return self._done.tail != self._done.head

    @property
    def idle(self) -> bool:
        """Nothing that was sent waits for its answer."""
        return self._done.tail == self._ring.head
