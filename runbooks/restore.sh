#!/bin/sh
# Restore the database from a backup next to the live one, verify it, then swap it into production.
#
#   runbooks/restore.sh [ID|latest] [--database NAME] [--yes-i-mean NAME] [--again] [--dry-run]
#
# Silences alerts, stops workers and beat, restores, verifies, asks for confirmation, promotes, migrates if needed,
# restarts, checks health, lifts the silence, and prints a timeline. Until you type the database's name, the live
# database is unchanged. It is kept afterwards; runbooks/rollback.sh undoes the promotion. If the script is
# interrupted, run it again: a backup that is already in production is not restored again without --again.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id again'
parse "$@"
stack_check
need_consent

step "check that PostgreSQL answers" start_postgres
if [ -n "$dry_run" ]; then sidecar restore "$backup_id" ${again:+"$again"} --dry-run; fi
# The new database is created next to the live one, which would stop too if the disk were full.
check_disk_space() {
  needed=$(sidecar restore "$backup_id" ${again:+"$again"} --dry-run --json | sed -n 's/^ *"server_bytes": \([0-9]*\),*$/\1/p')
  [ -n "$needed" ] || fail "the size of the new database is unknown; nothing was changed" "runbooks/restore.sh --dry-run shows why"
  free=$(($(stack_postgres_free) * 1024))
  [ "$free" -gt $((needed + needed / 10)) ] || fail "the new database needs about $((needed >> 20)) MiB next to the live one, but the server's disk has $((free >> 20)) MiB free; nothing was changed" "free disk space, for example by dropping databases NAME_before_… that are no longer needed"
}
step "check that the server's disk has room for a second database" check_disk_space
step "silence alerts for $SILENCE" silence
step "stop workers and beat" stop_services workers beat

restored=''
restore_and_verify() {
  result=$(sidecar restore "$backup_id" ${again:+"$again"} --json) || {
    echo "$result"
    fail "the backup was not restored, or the copy is not verified; the live database is unchanged" "choose an older verified backup: $backup_by_hand list"
  }
  restored=$(printf '%s\n' "$result" | sed -n 's/^ *"into": "\(.*\)",$/\1/p')
  taken=$(printf '%s\n' "$result" | sed -n 's/^ *"taken": "\(.*\)",$/\1/p')
  rows=$(printf '%s\n' "$result" | sed -n 's/^ *"rows": \(.*\),$/\1/p')
  case $result in
    *'"promoted": true'*) say "an earlier run has promoted $restored: NOT restored again; to restore again: --again" ;;
    *) say "$restored is verified: $rows rows, data of $taken" ;;
  esac
}
step "restore $backup_id into a new database and compare it with the backup" restore_and_verify
step "promote it: the live database is kept under another name" sidecar_confirmed promote "$restored"
step "set the passwords of the sidecars' roles" stack_roles
step "run missing migrations" migrate_if_needed
step "restart the API" stack_restart api
step "start workers and beat" start_services workers beat
step "wait until the API is healthy" wait_until_healthy
step "lift the silence" lift_silence
if [ -z "$dry_run" ]; then
  rpo=$((began - $(date -u -d "$taken" +%s)))
  say "RTO $(($(date +%s) - began)) s; RPO $rpo s: data written after $taken is missing"
fi
