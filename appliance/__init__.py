"""One host's worth of Apache RocketMQ without a JVM: NameServer, broker, store and replication."""

__version__ = "0.1.0"
