"""numpy dtypes of the C structs: derived from cffi's view of appliance.h, so that no number is
written twice.

Runs in: every process.
Owns: nothing.
Fails: KeyError for a struct that appliance.h does not declare; AssertionError where numpy and C
       disagree on a size.
"""

from functools import cache
from typing import Any

import numpy as np

from clib import ffi


def _scalar(ctype: Any) -> np.dtype[Any]:
    if ctype.kind == "pointer":
        return np.dtype(np.uint64)
    signed = int(ffi.cast(ctype, -1)) < 0
    return np.dtype(f"{'i' if signed else 'u'}{ffi.sizeof(ctype)}")


def _convert(ctype: Any) -> np.dtype[Any]:
    if ctype.kind == "array":
        return np.dtype((_convert(ctype.item), (ctype.length,)))
    if ctype.kind != "struct":
        return _scalar(ctype)
    fields = ctype.fields
    made = np.dtype(
        {
            "names": [name for name, _ in fields],
            "formats": [_convert(field.type) for _, field in fields],
            "offsets": [field.offset for _, field in fields],
            "itemsize": ffi.sizeof(ctype),
        }
    )
    assert made.itemsize == ffi.sizeof(ctype)
    return made


@cache
def dtype(struct: str) -> np.dtype[Any]:
    """The dtype of a C struct, by its name in appliance.h: `dtype("ap_send")`."""
    return _convert(ffi.typeof(struct))


@cache
def _pointer_type(struct: str) -> Any:
    return ffi.typeof(struct + " *")


def address_of(array: np.ndarray[Any, Any]) -> int:
    """Where an array's memory begins."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(array.view(np.uint8))))


def pointer(struct: str, array: np.ndarray[Any, Any]) -> Any:
    """A cffi pointer to an array's first element; the array must outlive it."""
    # Viewed as bytes: numpy describes a structured array anew for each buffer, in microseconds.
    return ffi.cast(_pointer_type(struct), ffi.from_buffer(array.view(np.uint8)))
