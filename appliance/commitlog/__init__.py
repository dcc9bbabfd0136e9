"""The log and its views on disk, in Apache RocketMQ's formats; no idea who asks.

Runs in: writer (everything), frontends, coordinator and replicator (the readers).
Owns: the files of a store directory; which file owns which is said at the head of each module.
Fails: OSError is the machine's, StoreRefused a store that we do not open, RecordError bad bytes.
"""
