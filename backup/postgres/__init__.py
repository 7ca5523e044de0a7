"""The PostgreSQL side of a backup: preflight, lock, snapshot, dump."""
