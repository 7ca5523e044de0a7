"""Pure decisions about backups: which to keep, and which one differs from its predecessors. No I/O, no clock."""
