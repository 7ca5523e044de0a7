-- The superuser posthub of an earlier installation becomes posthub_admin, and posthub an ordinary role with the same
-- password. Sessions that are open keep their rights until they end.
\getenv admin_password ADMIN_PASSWORD
\getenv app_password APP_PASSWORD
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = 'panic';
SET LOCAL lock_timeout = '5s';

ALTER ROLE posthub RENAME TO posthub_admin;
ALTER ROLE posthub_admin PASSWORD :'admin_password';
CREATE ROLE posthub LOGIN PASSWORD :'app_password';

-- Its own settings, such as time limits. The value of a list is stored with its quotes.
SELECT format('ALTER ROLE posthub %s SET %I TO %s', CASE WHEN datname IS NULL THEN '' ELSE format('IN DATABASE %I', datname) END, name,
  CASE WHEN name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')
    THEN value ELSE quote_literal(value) END)
FROM pg_db_role_setting LEFT JOIN pg_database ON pg_database.oid = setdatabase, unnest(setconfig) AS entry,
  split_part(entry, '=', 1) AS name, substr(entry, strpos(entry, '=') + 1) AS value
WHERE setrole = 'posthub_admin'::regrole
\gexec
