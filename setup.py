"""Builds the C helper `clib` with cffi; everything else about the package is in pyproject.toml.

Runs in: pip and the Makefile, never in the appliance.
Owns: the compiled module that clib/build.py names.
Fails: with the C compiler's own message, a warning included.
"""

from setuptools import setup

setup(cffi_modules=["clib/build.py:ffibuilder"])
