"""Regions of memory that processes share: created, named, verified and removed here.

A name is `appliance-<instance>-<pid of the owner>-<boot>-<what>`, so that a start can tell what a
dead owner left, and `appliance top` can find a living one. Every region is allocated before it is
mapped: a full /dev/shm is an error at start, never a signal later.

Runs in: the supervisor creates and removes; children inherit the mappings.
Owns: /dev/shm/appliance-*.
Fails: RegionError with what to do when there is no room, or a region is not what it should be.
"""

import contextlib
import mmap
import os
import pathlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import posix_ipc

from clib import ffi, lib

from appliance.ring.layout import dtype

PREFIX = "appliance-"
SHM = pathlib.Path("/dev/shm")
HEAD = dtype("ap_region").itemsize
PAGE = mmap.PAGESIZE


class RegionError(RuntimeError):
    """Shared memory could not be had, or is not ours."""


class Region:
    """A piece of memory with its head (`ap_region`) filled in.

    `array` is all of it as bytes; `view()` shows a part as structs.
    """

    def __init__(self, name: str, array: npt.NDArray[np.uint8]) -> None:
        self.name = name
        self.array = array
        self.address = int(array.__array_interface__["data"][0])
        self.size = array.size

    def stamp(self, generation: int) -> None:
        """Fills in the head of a fresh region; `generation` tells this start from others."""
        head = self.struct("ap_region")
        head.magic, head.version = lib.AP_MAGIC, lib.AP_VERSION
        head.size, head.generation, head.owner_pid = self.size, generation, os.getpid()

    def verify(self, generation: int | None = None) -> None:
        """Refuses a region of another program, version, size or start (RegionError)."""
        head = self.struct("ap_region")
        found = (head.magic, head.version, head.size)
        if found != (lib.AP_MAGIC, lib.AP_VERSION, self.size):
            raise RegionError(f"{self.name}: not a region of this version: {found}")
        if generation is not None and head.generation != generation:
            raise RegionError(f"{self.name}: belongs to another start ({head.generation})")

    def struct(self, name: str, offset: int = 0) -> Any:
        """A cffi pointer to a struct at `offset`."""
        assert offset + ffi.sizeof(name) <= self.size
        return ffi.cast(name + " *", self.address + offset)

    def view(self, name: str, offset: int, count: int) -> np.ndarray[Any, Any]:
        """`count` structs from `offset` on, as a numpy array over the same memory."""
        kind = dtype(name)
        return self.array[offset : offset + count * kind.itemsize].view(kind)


class Segments(Protocol):
    """Where regions come from: shared memory in production, the process's own in a simulation."""

    def create(self, what: str, size: int) -> Region:
        """A zeroed region of at least `size` bytes."""

    def remove(self) -> None:
        """Takes the names away; what is mapped stays usable."""


class PrivateSegments:
    """Regions in anonymous memory, for processes that a test steps inside one process."""

    def create(self, what: str, size: int) -> Region:
        """A zeroed region of at least `size` bytes."""
        region = Region(what, np.frombuffer(mmap.mmap(-1, _whole_pages(size)), np.uint8))
        region.stamp(1)
        return region

    def remove(self) -> None:
        """Nothing to do: the memory goes with its last user."""


class SharedSegments:
    """Regions in /dev/shm, named after their owner."""

    def __init__(self, instance: str) -> None:
        self.stem = f"{PREFIX}{instance}-{os.getpid()}-{boot_id()}-"
        self.generation = int.from_bytes(os.urandom(7))
        self._names: list[str] = []

    def create(self, what: str, size: int) -> Region:
        """A zeroed, allocated region of at least `size` bytes; RegionError when /dev/shm is
        full."""
        name, size = "/" + self.stem + what, _whole_pages(size)
        memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
        self._names.append(name)
        try:
            os.posix_fallocate(memory.fd, 0, size)
            mapped = mmap.mmap(memory.fd, size)
        except OSError as error:
            raise RegionError(
                f"/dev/shm: no room for {size} bytes of shared memory ({error.strerror}): "
                "free some or enlarge it"
            ) from error
        finally:
            memory.close_fd()
        region = Region(what, np.frombuffer(mapped, np.uint8))
        region.stamp(self.generation)
        return region

    def remove(self) -> None:
        """Unlinks all names; what is mapped stays usable. May be called by any process, more than
        once."""
        for name in self._names:
            _unlink(name)


def sweep(shm: pathlib.Path = SHM) -> list[str]:
    """Removes the regions of owners that are dead, or of another boot; returns their names."""
    swept = []
    for path in shm.glob(PREFIX + "*"):
        parts = path.name.split("-", 4)
        if len(parts) != 5 or not parts[2].isdigit():
            continue
        if parts[3] != boot_id() or not _alive(int(parts[2])):
            _unlink("/" + path.name)
            swept.append(path.name)
    return swept


def boot_id() -> str:
    """Eight characters that tell this boot of the machine from others."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _unlink(name: str) -> None:
    with contextlib.suppress(posix_ipc.ExistentialError):  # somebody else swept it
        posix_ipc.unlink_shared_memory(name)


def _whole_pages(size: int) -> int:
    return (size + PAGE - 1) // PAGE * PAGE
