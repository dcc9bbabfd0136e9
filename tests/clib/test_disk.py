"""disk.c: the flush thread answers every request with what the disk said; page-cache calls."""

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clib import ffi, lib


class Flusher:
    """The flush thread with its mailbox and bells."""

    def __init__(self) -> None:
        self.box = ffi.new("ap_flush *")
        self.bell = os.eventfd(0, os.EFD_CLOEXEC)
        self.done_bell = os.eventfd(0, os.EFD_CLOEXEC)
        arguments = (self.box, self.bell, self.done_bell)
        self.thread = threading.Thread(target=lib.ap_flush_serve, args=arguments, daemon=True)
        self.thread.start()

    def ask(self, fd: int) -> int:
        return int(lib.ap_flush_ask(self.box, fd, self.bell))

    def result(self) -> int:
        """errno of the sync that just ended; waits for it."""
        os.eventfd_read(self.done_bell)
        return int(self.box.error)

    def stop(self) -> None:
        self.box.stop = 1
        os.eventfd_write(self.bell, 1)
        self.thread.join(10)
        assert not self.thread.is_alive()
        os.close(self.bell)
        os.close(self.done_bell)


@pytest.fixture
def flusher() -> Iterator[Flusher]:
    made = Flusher()
    yield made
    made.stop()


def test_every_request_is_answered_once(flusher: Flusher, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        for number in range(1, 20):
            file.write(b"x")
            assert flusher.ask(file.fileno()) == 0
            assert flusher.result() == 0
            assert flusher.box.finished == flusher.box.asked == number
            assert flusher.box.took_ns > 0


def test_an_error_is_told_and_the_thread_goes_on(flusher: Flusher, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    assert flusher.ask(ours) == 0
    assert flusher.result() == errno.EINVAL, "a pipe cannot be synced"
    assert flusher.ask(9999) == 0
    assert flusher.result() == errno.EBADF
    with open(tmp_path / "file", "wb") as file:
        assert flusher.ask(file.fileno()) == 0
        assert flusher.result() == 0
    os.close(ours)
    os.close(theirs)


def test_one_sync_at_a_time() -> None:
    box, bell = ffi.new("ap_flush *"), os.eventfd(0)
    assert lib.ap_flush_ask(box, 1, bell) == 0
    assert lib.ap_flush_ask(box, 1, bell) == lib.AP_EFULL
    box.finished = 1
    assert lib.ap_flush_ask(box, 1, bell) == 0
    os.close(bell)


def test_a_bell_that_is_broken_ends_the_thread() -> None:
    box: Any = ffi.new("ap_flush *")
    lib.ap_flush_serve(box, 9999, 9999)


def test_populate(tmp_path: Path) -> None:
    memory = mmap.mmap(-1, 1 << 16)
    address = ffi.cast("uint8_t *", ffi.from_buffer(memory))
    assert lib.ap_populate(address, 1 << 16) in (0, -errno.EINVAL), "kernels before 5.14 have none"
    assert lib.ap_populate(address + 1, 4096) == -errno.EINVAL


def test_the_name_of_a_process() -> None:
    before = Path("/proc/self/comm").read_text().strip()
    assert lib.ap_name_process(b"a name of more than 15", 0) == 0
    assert Path("/proc/self/comm").read_text() == "a name of more \n"
    assert lib.ap_name_process(before.encode(), 0) == 0
    assert lib.ap_name_process(before.encode(), 9999) == -errno.EINVAL
