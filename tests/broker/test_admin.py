"""The runtime table has everything that the exporter and mqadmin read unasked."""

import json
import re

from tests.broker.paper import Desk
from tests.broker.test_send import properties, send

LONGS = """msgPutTotalTodayNow msgGetTotalTodayNow msgPutTotalTodayMorning msgGetTotalTodayMorning
msgPutTotalYesterdayMorning msgGetTotalYesterdayMorning sendThreadPoolQueueSize
sendThreadPoolQueueCapacity sendThreadPoolQueueHeadWaitTimeMills pullThreadPoolQueueSize
pullThreadPoolQueueCapacity pullThreadPoolQueueHeadWaitTimeMills queryThreadPoolQueueSize
queryThreadPoolQueueCapacity queryThreadPoolQueueHeadWaitTimeMills bootTimestamp commitLogMinOffset
commitLogMaxOffset dispatchMaxBuffer dispatchBehindBytes pageCacheLockTimeMills
getMessageEntireTimeMax putMessageEntireTimeMax putMessageTimesTotal putMessageSizeTotal
startAcceptSendRequestTimeStamp earliestMessageTimeStamp remainTransientStoreBufferNumbs
brokerVersion"""
DOUBLES = "consumeQueueDiskRatio commitLogDiskRatio putMessageAverageSize"
RATES = "putTps getMissTps getFoundTps getTotalTps getTransferredTps"


def table_of(desk: Desk) -> dict[str, str]:
    answer = desk.ask(desk.open(), "GET_BROKER_RUNTIME_INFO")
    table: dict[str, str] = json.loads(answer.body)["table"]
    return table


def test_the_exporter_can_parse_it() -> None:
    table = table_of(Desk())
    assert all(re.fullmatch(r"-?\d+", table[key]) for key in LONGS.split())
    assert all(0 <= float(table[key]) <= 1 for key in DOUBLES.split())
    assert all(len([*map(float, table[key].split())]) == 3 for key in RATES.split())
    total, free = re.findall(r"[\d.]+ GiB", table["commitLogDirCapacity"])
    assert total and free
    assert float(table["remainHowManyDataToFlush"].split()[0]) == 0
    assert table["brokerVersionDesc"] == "V5_3_3"


def test_it_tells_how_far_things_are() -> None:
    desk = Desk()
    send(desk, i=properties(DELAY=2))
    desk.pass_ms(3_700_000)
    table = table_of(desk)
    assert table["scheduleMessageOffset_2"] == "1,1"
    assert int(table["commitLogMaxOffset"]) > 0
    assert table["runtime"] == "[ 0 days, 1 hours, 1 minutes, 40 seconds ]"
    assert int(table["earliestMessageTimeStamp"]) == desk.coordinator.state.started_ms
