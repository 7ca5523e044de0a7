-- A superuser for the time of the takeover: no role can rename itself.
\getenv helper_password HELPER_PASSWORD
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';

SELECT 'CREATE ROLE posthub_takeover' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'posthub_takeover')
\gexec
ALTER ROLE posthub_takeover LOGIN SUPERUSER CONNECTION LIMIT 2 PASSWORD :'helper_password';
