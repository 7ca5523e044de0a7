"""The Redis side of a backup: the RDB as a replica would get it."""
