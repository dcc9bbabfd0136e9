"""Shared memory: regions, rings, tables and watermarks; no idea what they carry."""
