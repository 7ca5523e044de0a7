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
# On a new server, finding out why a step failed takes longer, and nothing else promotes a database.
CONTINUES_SECONDS=86400
mark=$(stack_lock).new-server
marked_as="$backup_id $database${at:+ $at}"
in_use=''
refuse_use() {
  fail "this server already has a database with tables; nothing was changed" "this script is for an empty server; on this one, use runbooks/restore.sh"
}
# An interrupted run of this script may have put them there.
refuse_server_in_use() {
  if stack_postgres_in_use; then
    in_use=yes
    is_marked "$marked_as" || refuse_use
  fi
}
step "pull or build our images" stack_images
step "start Redis" stack_start redis
step "start PostgreSQL" start_postgres
step "check that this server has no data" refuse_server_in_use
step "list the backups in the store" sidecar list

proceed=--continue
if [ -n "$at" ]; then proceed=''; fi
plan() {
  planned=$(restore_it ${proceed:+"$proceed"} --dry-run --json) || cannot_begin $?
  promoted=$(field promoted_at "$planned")
  if [ -n "$promoted" ] && ! continues "$marked_as" "$promoted"; then promoted=''; fi
}
look_for_backup() {
  # There may be a newer backup than the one that an interrupted run has promoted.
  if [ -n "$in_use" ] && [ -z "$at" ]; then chosen=$(sed -n 3p "$mark"); fi
  plan
  [ -z "$promoted" ] || return 0
  [ -z "$in_use" ] || refuse_use
  [ -n "$at" ] || chosen=$(field id "$planned")
  leave_mark "$marked_as" "$chosen"
}
restore_and_verify() {
  if [ -n "$promoted" ]; then
    restored=$(field into "$planned")
    say "an interrupted run of this script has promoted $restored at $promoted: it continues from there"
    return 0
  fi
  result=$(restore_it --json) || {
    unless_interrupted $?
    echo "$result"
    fail "the backup was not restored, or the copy is not verified" "$(other_choice)"
  }
  restored=$(field into "$result")
}
restored=''
nothing="NOTHING was promoted: the live database is as it was"
unchanged=$nothing
step "choose the backup" look_for_backup
step "restore $(what_is_restored) into a new database and compare it with the backup" restore_and_verify
promote() { swap promote "$restored"; }
step "promote it: the empty database is kept under another name" promote
step "set the owner and the passwords of the roles" stack_roles
step "run missing migrations" migrate_if_needed
step "take a backup that adopts the old server's folder" take_backup
step "start everything" stack_start all
step "wait until the API is healthy" wait_until_healthy
[ -n "$dry_run" ] || rm -f "$mark"
if [ -n "$at" ] && [ -z "$dry_run" ]; then say "the WAL of this server needs its own name: give it a new one in BACKUP_SERVERS, and start posthub_backup_wal"; fi
