"""The page of watermarks: how far the log is appended, on disk, shown, replicated and expired.

    expired <= flushed <= appended        dispatched <= appended        replicated <= appended

Runs in: all; `appended`, `flushed`, `dispatched`, `expired` and `state` are moved by the writer
       alone, `replicated` by the replicator.
Owns: nothing more.
Fails: AssertionError when its mover would move one backwards.
"""

from clib import ffi, lib

from appliance.ring.region import Region, Segments

STARTING, SERVING, FAILED = 0, 1, 2


def create(segments: Segments) -> Region:
    """The region of the page."""
    return segments.create("watermarks", ffi.sizeof("ap_watermarks"))


class Watermarks:
    """Physical offsets in bytes, each readable at any time."""

    def __init__(self, region: Region) -> None:
        self._region = region  # the page is a pointer into it
        self._page = region.struct("ap_watermarks")
        names = ("appended", "flushed", "dispatched", "replicated", "expired", "state")
        self._at = {name: ffi.addressof(self._page, name) for name in names}

    def _get(self, name: str) -> int:
        return int(lib.ap_load(self._at[name]))

    @property
    def appended(self) -> int:
        """The log holds whole records up to here."""
        return self._get("appended")

    @property
    def flushed(self) -> int:
        """The disk holds them up to here."""
        return self._get("flushed")

    @property
    def dispatched(self) -> int:
        """Readers may see them up to here."""
        return self._get("dispatched")

    @property
    def replicated(self) -> int:
        """The slaves that count hold them up to here."""
        return self._get("replicated")

    @property
    def expired(self) -> int:
        """The log begins here."""
        return self._get("expired")

    @property
    def state(self) -> int:
        """STARTING, SERVING or FAILED (the disk refused a sync)."""
        return self._get("state")

    def move(self, name: str, value: int) -> None:
        """Moves one forward; its only mover calls this."""
        assert value >= self._get(name), f"{name} would go back from {self._get(name)} to {value}"
        lib.ap_store(self._at[name], value)

    def restart(self, name: str, value: int) -> None:
        """Sets one where recovery found it."""
        lib.ap_store(self._at[name], value)
