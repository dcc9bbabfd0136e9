"""How the broker is: 28.

Runs in: coordinator.
Owns: nothing.
Fails: never.

Peer: AdminBrokerProcessor.prepareRuntimeInfo. The exporter parses most keys unasked, so all of them
are there; what an appliance has not (thread pools, say) is empty (remoting.md section 13.3).
"""

from appliance.net import json_text
from appliance.net.frame import VERSION
from appliance.net.requests import Request, Response

from appliance.broker import names
from appliance.broker.kept.delays import LEVELS_MS
from appliance.broker.state import State

_ZEROS = (
    *("msgPutTotalTodayNow", "msgPutTotalTodayMorning", "msgPutTotalYesterdayMorning"),
    *("msgGetTotalTodayNow", "msgGetTotalTodayMorning", "msgGetTotalYesterdayMorning"),
    *("pageCacheLockTimeMills", "getMessageEntireTimeMax", "putMessageEntireTimeMax"),
    *("putMessageTimesTotal", "putMessageSizeTotal", "putMessageFailedTimes"),
    *("dispatchMaxBuffer", "remainTransientStoreBufferNumbs", "startAcceptSendRequestTimeStamp"),
    *("EndTransactionQueueSize", "EndTransactionThreadPoolQueueCapacity"),
    *("timerReadBehind", "timerOffsetBehind", "timerCongestNum"),
)
_RATES = ("putTps", "getFoundTps", "getMissTps", "getTotalTps", "getTransferredTps")
_FRACTIONS = ("putMessageAverageSize", "putLatency99", "putLatency999")
_POOLS = ("send", "pull", "litePull", "query", "ack")
_POOL_KEYS = ("QueueSize", "QueueCapacity", "QueueHeadWaitTimeMills")
_GIB = 1 << 30


def get_broker_runtime_info(request: Request, state: State) -> Response:
    """The runtime table: text to text."""
    table = dict.fromkeys(_ZEROS, "0")
    table |= dict.fromkeys(_RATES, "0.0 0.0 0.0") | dict.fromkeys(_FRACTIONS, "0.0")
    table |= {f"{pool}ThreadPool{key}": "0" for pool in _POOLS for key in _POOL_KEYS}
    table |= {"timerEnqueueTps": "0.0", "timerDequeueTps": "0.0"}
    table |= {"putMessageDistributeTime": "null", "remainHowManyDataToCommit": "0 B"}
    table |= _broker(request, state) | _log(state) | _disk(state) | _delays(state)
    return Response(body=json_text.dumps({"table": dict(sorted(table.items()))}))


def _broker(request: Request, state: State) -> dict[str, str]:
    seconds, _ = divmod(max(request.now_ms - state.started_ms, 0), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return {
        "bootTimestamp": str(state.started_ms),
        "brokerActive": "true",
        "brokerVersion": str(VERSION),
        "brokerVersionDesc": "V5_3_3",
        "runtime": f"[ {days} days, {hours} hours, {minutes} minutes, {seconds} seconds ]",
    }


def _log(state: State) -> dict[str, str]:
    marks = state.store.watermarks
    return {
        "commitLogMinOffset": str(marks.expired),
        "commitLogMaxOffset": str(marks.appended),
        "dispatchBehindBytes": str(marks.appended - marks.dispatched),
        "remainHowManyDataToFlush": f"{max(marks.appended - marks.flushed, 0)} B",
        "earliestMessageTimeStamp": str(state.store.earliest_ms()),
    }


def _disk(state: State) -> dict[str, str]:
    total, free = state.store.disk_space()
    ratio = f"{(total - free) / total:.4f}" if total else "0.0"
    capacity = f"Total : {total / _GIB:.1f} GiB, Free : {free / _GIB:.1f} GiB."
    return {
        "commitLogDirCapacity": capacity,
        "commitLogDiskRatio": ratio,
        f"commitLogDiskRatio_{state.config.store.commitlog_folder}": ratio,
        "consumeQueueDiskRatio": ratio,
    }


def _delays(state: State) -> dict[str, str]:
    def line(level: int) -> str:
        _, end = state.store.bounds(names.SCHEDULE_TOPIC, level - 1)
        return f"{state.delays.offset(level)},{end}"

    return {f"scheduleMessageOffset_{n}": line(n) for n in range(1, len(LEVELS_MS) + 1)}
