"""The C helper, opened once: `ffi` and `lib`; the contract is appliance.h beside this file.

Runs in: every process but the pure-Python client.
Owns: nothing.
Fails: ImportError when the extension was not built; `pip install .` builds it.
"""

from clib._appliance import ffi, lib

__all__ = ["ffi", "lib"]
