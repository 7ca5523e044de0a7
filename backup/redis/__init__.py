"""The Redis side of a backup: the RDB, as a replica receives it."""
