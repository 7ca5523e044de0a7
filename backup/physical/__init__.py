"""Physical backups of a whole PostgreSQL server: its write-ahead log (WAL) as a stream, and base backups."""
