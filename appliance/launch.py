"""From a number in the process table to a running process: the real clock, disk and sockets.

Runs in: each child, right after the fork.
Owns: which object runs under which number.
Fails: a store that cannot be opened ends the process with one line.
"""

import logging

from appliance import process
from appliance.clock import Clock
from appliance.commitlog.disk import RealDisk
from appliance.commitlog.flush import ThreadSyncer
from appliance.coordinator import Coordinator
from appliance.frontend import Frontend, make_sockets
from appliance.heritage import COORDINATOR, FRONTEND, NAMESERVER, WRITER, Heritage, process_name
from appliance.journal import open_journal
from appliance.nameserver import NameServer
from appliance.namesrv.settings import Settings
from appliance.net.poll import SocketLimits, Sockets
from appliance.writer import Writer

log = logging.getLogger("appliance.launch")


def run_child(number: int, heritage: Heritage, clock: Clock) -> int:
    """Runs the process of that number until it is told to stop; its exit code."""
    open_journal(heritage.config.log, process_name(number))
    return process.run(number, heritage, lambda: make(number, heritage, clock), clock)


def make(number: int, heritage: Heritage, clock: Clock) -> process.Process:
    """The process object of a number, over the real machine."""
    disk = RealDisk()
    if number == WRITER:
        syncer = ThreadSyncer(heritage.doorbells.bells[WRITER])
        return Writer(heritage, disk, syncer, clock)
    if number == COORDINATOR:
        return Coordinator(heritage, disk, clock.now())
    if number == NAMESERVER:
        return NameServer(_nameserver_sockets(heritage), disk, _settings(heritage), clock.now())
    index = number - FRONTEND
    return Frontend(index, heritage, make_sockets(index, heritage), disk)


def _nameserver_sockets(heritage: Heritage) -> Sockets:
    limits = heritage.limits
    sockets = Sockets(
        SocketLimits(limits.connections_max, limits.frame_max, limits.response_backlog_max)
    )
    for listener in heritage.listeners[NAMESERVER]:
        sockets.listen(listener)
    sockets.watch_doorbell(heritage.doorbells.bells[NAMESERVER])
    return sockets


def _settings(heritage: Heritage) -> Settings:
    folder = f"{heritage.config.store.root}/namesrv"
    return Settings.kept_in(folder, heritage.config.nameserver.port)
