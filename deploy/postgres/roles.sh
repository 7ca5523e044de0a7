#!/bin/sh
# The sidecars' roles in the production database. Runs at every start, so that a database which existed before the
# sidecars gets them too, and a changed password is taken over. Connection: PGHOST, PGUSER, PGDATABASE.
set -eu
secrets=${SECRETS:-/run/secrets}
here=$(dirname "$0")
export PGPASSWORD BACKUP_PASSWORD EXPORTER_PASSWORD
PGPASSWORD=$(cat "$secrets/postgres_password")
# psql takes them from its environment, where no process list shows them.
BACKUP_PASSWORD=$(cat "$secrets/backup_db_password")
EXPORTER_PASSWORD=$(cat "$secrets/exporter_db_password")
exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --file "$here/roles.sql"
