"""Builds the C helper as the extension module `clib._appliance`: cffi reads appliance.h as it
stands.

Runs in: setup.py, and by hand (`python clib/build.py` builds in place).
Owns: the compiler's flags. APPLIANCE_CFLAGS adds to them (sanitizers, coverage).
Fails: with the compiler's own words.
"""

import os
import pathlib

from cffi import FFI

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = (
    "answer.c",
    "append.c",
    "choose.c",
    "disk.c",
    "header.c",
    "layout.c",
    "measure.c",
    "pool.c",
    "record.c",
    "ring.c",
    "rows.c",
    "socket.c",
    "table.c",
    "text.c",
    "walk.c",
)
FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing"]

ffibuilder = FFI()
ffibuilder.cdef((HERE / "appliance.h").read_text())
ffibuilder.set_source(
    "clib._appliance",
    '#include <stddef.h>\n#include <stdint.h>\n#include "appliance.h"',
    sources=[f"clib/{name}" for name in SOURCES],
    include_dirs=["clib"],
    depends=["clib/appliance.h", "clib/bytes.h", "clib/entries.h"],
    extra_compile_args=FLAGS + os.environ.get("APPLIANCE_CFLAGS", "").split(),
    extra_link_args=os.environ.get("APPLIANCE_CFLAGS", "").split(),
    py_limited_api=False,  # one file name, however it is built: no stale one hides a new one
)

if __name__ == "__main__":
    os.chdir(HERE.parent)
    ffibuilder.compile(verbose=False)
