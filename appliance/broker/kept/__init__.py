"""What the coordinator keeps between requests: in memory, in shared tables, in Apache's files."""
