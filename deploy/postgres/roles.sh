#!/bin/sh
# Creates the sidecars' roles in the production database. It runs at every start, so that a database which is older than
# the sidecars gets them too, and a changed password is applied. Connection: PGHOST, PGUSER, PGDATABASE.
set -eu
secrets=${SECRETS:-/run/secrets}
here=$(dirname "$0")
export PGPASSWORD BACKUP_PASSWORD EXPORTER_PASSWORD WAL_PASSWORD
PGPASSWORD=$(cat "$secrets/postgres_password")
# psql reads them from its environment, which the list of processes does not show.
BACKUP_PASSWORD=$(cat "$secrets/backup_db_password")
EXPORTER_PASSWORD=$(cat "$secrets/exporter_db_password")
WAL_PASSWORD=$(cat "$secrets/wal_db_password")
# After a restart of the engine, the database may still be starting, and its name may not resolve yet.
tries=${TRIES:-60}
until pg_isready --quiet; do
  tries=$((tries - 1))
  if [ "$tries" -le 0 ]; then
    echo "Error: the database at ${PGHOST:-a local socket} does not answer" >&2
    echo "Try: docker compose -f docker-compose.prod.yml up -d --wait" >&2
    exit 1
  fi
  sleep 1
done
exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --file "$here/roles.sql"
