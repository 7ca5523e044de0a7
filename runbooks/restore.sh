#!/bin/sh
# Bring the database back from a backup: restored next to the live one, proven, then put in its place.
#
#   runbooks/restore.sh [ID|latest] [--database NAME] [--yes-i-mean NAME] [--again] [--dry-run]
#
# Silences alerts, stops workers and beat, restores, verifies, asks, promotes, migrates if needed, restarts, checks
# health, lifts the silence, prints a timeline. Until you have typed the database's name, the live database is as it
# was. The old one is kept; runbooks/rollback.sh takes the promotion back. Interrupted anywhere, run it again: a backup
# that is in production already is not restored a second time, unless --again asks for it.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id again'
parse "$@"
stack_check
need_consent

step "see that PostgreSQL answers" start_postgres
if [ -n "$dry_run" ]; then sidecar restore "$backup_id" ${again:+"$again"} --dry-run; fi
# Next to the live database, which a full disk would stop too.
look_for_room() {
  needed=$(sidecar restore "$backup_id" ${again:+"$again"} --dry-run --json | sed -n 's/^ *"server_bytes": \([0-9]*\),*$/\1/p')
  [ -n "$needed" ] || fail "it is not known how large the new database will be; nothing was done" "runbooks/restore.sh --dry-run says why"
  free=$(($(stack_postgres_free) * 1024))
  [ "$free" -gt $((needed + needed / 10)) ] || fail "the new database needs about $((needed >> 20)) MiB next to the live one, the server's disk has $((free >> 20)) MiB; nothing was done" "make room: old databases NAME_before_… take some"
}
step "see that the server's disk has room for a second database" look_for_room
step "silence alerts for $SILENCE" silence
step "stop workers and beat" stop_services workers beat

restored=''
restore_and_prove() {
  result=$(sidecar restore "$backup_id" ${again:+"$again"} --json) || {
    echo "$result"
    fail "the backup was not restored, or is not proven; the live database is as it was" "take an older one that is verified: $backup_by_hand list"
  }
  restored=$(printf '%s\n' "$result" | sed -n 's/^ *"into": "\(.*\)",$/\1/p')
  taken=$(printf '%s\n' "$result" | sed -n 's/^ *"taken": "\(.*\)",$/\1/p')
  rows=$(printf '%s\n' "$result" | sed -n 's/^ *"rows": \(.*\),$/\1/p')
  case $result in
    *'"promoted": true'*) say "an earlier run has put $restored into production's place: NOT restored again; --again does it" ;;
    *) say "$restored is proven: $rows rows, data of $taken" ;;
  esac
}
step "restore $backup_id into a new database and compare it with the backup" restore_and_prove
step "promote it: the live database keeps its rows under another name" sidecar_asking promote "$restored"
step "passwords of the sidecars' roles" stack_roles
step "look for missing migrations" migrate_if_needed
step "restart the API" stack_restart api
step "start workers and beat" start_services workers beat
step "wait until the API is healthy" wait_until_healthy
step "lift the silence" lift_silence
if [ -z "$dry_run" ]; then
  rpo=$((began - $(date -u -d "$taken" +%s)))
  say "RTO $(($(date +%s) - began)) s; RPO $rpo s: what was written after $taken is not there"
fi
