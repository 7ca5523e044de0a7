#!/bin/sh
# Set up PostHub on an empty server, from nothing but the bucket and the key.
#
#   runbooks/new-server.sh [ID|latest] [--database NAME] [--yes-i-mean NAME] [--dry-run]
#   runbooks/new-server.sh [SERVER] --at TIME|latest [--database NAME] [--yes-i-mean NAME] [--dry-run]
#
# With --at, the database comes from the base backups and the WAL of SERVER, as it was at that time: with `latest`, about
# a second before the old server was lost.
#
# The new server needs docker with compose, this checkout, and .env.production with the store's address and key, the
# age identity and the domains; docs/restore.md says where to keep copies of them. Pulls our images, or builds them.
# Creates all other secrets, starts PostgreSQL and Redis, restores and verifies the newest backup, sets the roles'
# passwords, starts everything, and checks health. Queued tasks are not restored; runbooks/restore-redis.sh does that.
# If it is interrupted, run it again.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id at'
parse "$@"
stack_check
take_lock
need_consent

if [ "$OPS_STACK" = compose ]; then
  for name in BACKUP_STORE_URL BACKUP_AGE_IDENTITY; do
    grep -q "^$name=." .env.production || fail "$name is not in .env.production" "fill it in; docs/restore.md says where it is kept" 2
  done
fi
if [ "$OPS_STACK" = compose ] && [ -n "$at" ]; then
  grep -q "^BACKUP_SERVERS=." .env.production || fail "BACKUP_SERVERS is not in .env.production, and --at needs the name of the old server" "fill it in, or restore a backup: leave --at out" 2
fi
refuse_server_in_use() {
  if stack_postgres_in_use; then
    fail "this server already has a database with tables; nothing was changed" "this script is for an empty server; on this one, use runbooks/restore.sh"
  fi
}
step "pull or build our images" stack_images
step "start Redis" stack_start redis
step "start PostgreSQL" start_postgres
step "check that this server has no data" refuse_server_in_use
step "list the backups in the store" sidecar list

restore_and_verify() {
  result=$(restore_it --json) || {
    unless_interrupted $?
    echo "$result"
    fail "the backup was not restored, or the copy is not verified" "$(other_choice)"
  }
  restored=$(printf '%s\n' "$result" | sed -n 's/^ *"into": "\(.*\)",$/\1/p')
}
restored=''
nothing="NOTHING was promoted: this server has no data yet"
unchanged=$nothing
step "restore $(what_is_restored) into a new database and compare it with the backup" restore_and_verify
promote() {
  # After an interruption nobody has seen the answer.
  unchanged="It is not known whether $restored was promoted: run the script again"
  sidecar_confirmed promote "$restored" || {
    status=$?
    case $status in 1 | 2) unchanged=$nothing ;; esac
    return "$status"
  }
  unchanged=''
}
step "promote it: the empty database is kept under another name" promote
step "set the owner and the passwords of the roles" stack_roles
step "run missing migrations" migrate_if_needed
step "take a backup that adopts the old server's folder" take_backup
step "start everything" stack_start all
step "wait until the API is healthy" wait_until_healthy
if [ -n "$at" ] && [ -z "$dry_run" ]; then say "the WAL of this server needs its own name: give it a new one in BACKUP_SERVERS, and start posthub_backup_wal"; fi
