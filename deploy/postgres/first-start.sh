#!/bin/sh
# Runs once, when PostgreSQL's image has created an empty database: the app's role, so that migrations can run before
# roles.sql does.
set -eu
export APP_PASSWORD
APP_PASSWORD=$(cat /run/secrets/postgres_password)
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv app_password APP_PASSWORD
SET client_min_messages = 'warning';
CREATE ROLE posthub LOGIN PASSWORD :'app_password';
SELECT format('ALTER DATABASE %I OWNER TO posthub', current_database())
\gexec
CREATE EXTENSION vector;
SQL
