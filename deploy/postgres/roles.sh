#!/bin/sh
# Creates the roles in the production database, and takes the superuser's rights from the app's role. It runs at every
# start, so that a database which is older than this gets them too, and a changed password is applied.
# Connection: PGHOST, PGDATABASE.
set -eu
secrets=${SECRETS:-/run/secrets}
here=$(dirname "$0")
admin=posthub_admin
helper=posthub_takeover
# psql reads them from its environment, which the list of processes does not show.
export PGPASSWORD ADMIN_PASSWORD APP_PASSWORD BACKUP_PASSWORD EXPORTER_PASSWORD WAL_PASSWORD HELPER_PASSWORD
ADMIN_PASSWORD=$(cat "$secrets/postgres_admin_password")
APP_PASSWORD=$(cat "$secrets/postgres_password")
BACKUP_PASSWORD=$(cat "$secrets/backup_db_password")
EXPORTER_PASSWORD=$(cat "$secrets/exporter_db_password")
WAL_PASSWORD=$(cat "$secrets/wal_db_password")

# as USER PASSWORD [psql argument...]
as() {
  PGPASSWORD=$2
  user=$1
  shift 2
  psql --no-psqlrc --quiet --no-password --username "$user" --set ON_ERROR_STOP=1 "$@"
}

# After a restart of the engine, the database may still be starting, and its name may not resolve yet.
tries=${TRIES:-60}
until pg_isready --quiet --username "$admin"; do
  tries=$((tries - 1))
  if [ "$tries" -le 0 ]; then
    echo "Error: the database at ${PGHOST:-a local socket} does not answer" >&2
    echo "Try: docker compose -f docker-compose.prod.yml up -d --wait" >&2
    exit 1
  fi
  sleep 1
done

# In an earlier installation, the app's role is the superuser that initdb created. Only another superuser can rename it.
if ! as "$admin" "$ADMIN_PASSWORD" --output /dev/null --command 'SELECT 1' 2>/dev/null; then
  HELPER_PASSWORD=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  if ! as posthub "$APP_PASSWORD" --file "$here/helper.sql"; then
    echo "Error: neither $admin nor a superuser posthub can sign in with the passwords in .env.production" >&2
    echo "Try: docker exec -it posthub_postgres_prod psql -U $admin posthub, then \\password $admin" >&2
    exit 1
  fi
  # The app keeps working: one transaction gives its name, its password and everything it owned to the new role. It waits
  # for no lock longer than some seconds, so that no request waits longer either.
  until errors=$(as "$helper" "$HELPER_PASSWORD" --single-transaction --file "$here/takeover.sql" --file "$here/owner.sql" 2>&1); do
    tries=$((tries - 1))
    case $errors in *'lock timeout'*) ;; *) tries=0 ;; esac
    if [ "$tries" -le 0 ]; then
      echo "Error: the app's tables could not be given to its new role: $errors" >&2
      echo "Try: end long transactions, then docker compose -f docker-compose.prod.yml run --rm posthub_db_roles" >&2
      exit 1
    fi
    sleep 1
  done
fi

as "$admin" "$ADMIN_PASSWORD" --file "$here/roles.sql"
as "$admin" "$ADMIN_PASSWORD" --file "$here/owner.sql"
# Also those that a restore has made or kept. One that is busy is done at the next start.
others=$(as "$admin" "$ADMIN_PASSWORD" --tuples-only --no-align --file "$here/databases.sql")
printf '%s\n' "$others" | while IFS= read -r database; do
  [ -n "$database" ] || continue
  export PGDATABASE="$database"
  as "$admin" "$ADMIN_PASSWORD" --file "$here/owner.sql" || echo "Warning: $database still belongs to $admin" >&2
done
