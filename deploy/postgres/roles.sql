-- The role of the app, which owns the app's database and nothing else, and the roles of the backup sidecar, of the
-- exporters and of the WAL stream. Those can read, and cannot change anything. posthub_admin runs it.
\getenv app_password APP_PASSWORD
\getenv backup_password BACKUP_PASSWORD
\getenv exporter_password EXPORTER_PASSWORD
\getenv wal_password WAL_PASSWORD
-- A statement that contains a password must not reach the server's log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
-- Nor are messages about what already exists.
SET client_min_messages = 'warning';

SELECT 'CREATE ROLE posthub' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posthub')
\gexec
SELECT 'CREATE ROLE posthub_backup' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posthub_backup')
\gexec
SELECT 'CREATE ROLE posthub_exporter' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posthub_exporter')
\gexec
SELECT 'CREATE ROLE posthub_wal' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posthub_wal')
\gexec

ALTER ROLE posthub LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'app_password';
DROP ROLE IF EXISTS posthub_takeover;
-- Only a superuser can create it; the app's migrations find it.
CREATE EXTENSION IF NOT EXISTS vector;

-- BYPASSRLS: a backup from which row security had removed rows would look complete.
ALTER ROLE posthub_backup LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS
  CONNECTION LIMIT 10 PASSWORD :'backup_password';
ALTER ROLE posthub_exporter LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  CONNECTION LIMIT 10 PASSWORD :'exporter_password';
-- REPLICATION reads every database and every password hash, whatever else the role may do: nothing but the stream has it.
ALTER ROLE posthub_wal LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE REPLICATION NOBYPASSRLS
  CONNECTION LIMIT 10 PASSWORD :'wal_password';

-- Every table, view and sequence, including future ones.
GRANT pg_read_all_data TO posthub_backup;
GRANT pg_monitor TO posthub_exporter, posthub_wal;
SELECT format('GRANT CONNECT ON DATABASE %I TO posthub_backup, posthub_exporter', current_database())
\gexec

-- Of the application's tables, the exporter reads only beat's schedules.
SELECT format('GRANT SELECT ON %s TO posthub_exporter', oid::regclass)
FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'django\_celery\_beat\_%'
\gexec

-- Functions are granted in each database, and the stream is in this one.
\connect postgres
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO posthub_wal;
