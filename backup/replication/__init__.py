"""Backups in more than one place: the spool, the off-site copy, and the merged catalogue of both."""
