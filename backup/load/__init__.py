"""From the store into a server: download, throwaway server, pg_restore. Verification and restore share it."""
