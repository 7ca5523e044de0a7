#!/bin/sh
# Restore the database from a backup next to the live one, verify it, then swap it into production.
#
#   runbooks/restore.sh [ID|latest] [--database NAME] [--yes-i-mean NAME] [--again] [--dry-run]
#   runbooks/restore.sh [SERVER] --at TIME|latest [--database NAME] [--yes-i-mean NAME] [--again] [--dry-run]
#
# With --at, the database as it was at that time, from the base backups and the WAL of SERVER. TIME has a zone, such as
# "2026-11-28 14:03:00+01:00".
#
# Silences alerts, stops workers and beat, restores, verifies, shows what will be lost, asks, promotes, migrates if
# needed, restarts, checks health, lifts the silence, prints a timeline. Until you have typed the database's name, the
# live database is as it was. The old one is kept; runbooks/rollback.sh takes the promotion back. Interrupted anywhere,
# run it again: it continues where it stopped. A new restore of a backup that is already in production, after a second
# accident, needs --again; without it the script ends before it stops anything.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id again at'
parse "$@"
stack_check
take_lock
need_consent

# Only for a backup can the command itself continue after its promotion.
proceed=--continue
if [ -n "$at" ]; then proceed=''; fi
what=$(what_is_restored)

if_sick="$if_sick; or runbooks/rollback.sh undoes the promotion"
nothing="NOTHING was restored: the live database is as it was"
unchanged=$nothing
step "see that PostgreSQL answers" start_postgres
if [ -n "$dry_run" ]; then restore_it --dry-run; fi
mark=$(stack_lock).restore
marked_as="$backup_id $database${at:+ $at}"
# Reports what would prevent a restore before anything is stopped.
look_for_room() {
  planned=$(restore_it ${proceed:+"$proceed"} --dry-run --json) || cannot_begin $?
  # From here on it is this one, whatever backup is finished meanwhile; and nothing about it is asked twice.
  [ -n "$at" ] || chosen=$(field id "$planned")
  promoted=$(field promoted_at "$planned")
  if [ -n "$promoted" ] && ! continues "$marked_as" "$promoted"; then
    fail "this backup was promoted into production at $promoted UTC; nothing was changed" "runbooks/restore.sh $what --again restores it once more, without what was written since"
  fi
  production=$(field production "$planned")
  if [ -n "$yes_i_mean" ] && [ "$yes_i_mean" != "$production" ]; then
    fail "$yes_i_mean is not $production; nothing was changed" "--yes-i-mean $production" 2
  fi
  needed=$(printf '%s\n' "$planned" | sed -n 's/^ *"server_bytes": \([0-9]*\),*$/\1/p')
  [ -n "$needed" ] || fail "it is not known how large the new database will be; nothing was changed" "runbooks/restore.sh --dry-run says why"
  free=$(($(stack_postgres_free) * 1024))
  [ "$free" -gt $((needed + needed / 10)) ] || fail "the new database needs about $((needed >> 20)) MiB next to the live one, but the server's disk has $((free >> 20)) MiB free; nothing was changed" "free disk space, for example by dropping databases NAME_before_… that are no longer needed"
}
step "see that the restore can begin, and that the server's disk has room for a second database" look_for_room
mark_beginning() {
  [ -n "$promoted" ] || leave_mark "$marked_as" "$chosen"
}
step "leave a mark, so that this restore can continue after an interruption" mark_beginning
step "silence alerts for $SILENCE" silence
step "stop workers and beat" stop_services workers beat

restored=''
restore_and_prove() {
  if [ -n "$at" ] && [ -n "$promoted" ] && [ -z "$again" ]; then
    restored=$(field into "$planned")
    taken=$promoted
    say "this restore was interrupted after its promotion at $promoted: it continues from there. If rows were lost again since: --again"
    return 0
  fi
  result=$(restore_it ${proceed:+"$proceed"} --json) || {
    unless_interrupted $?
    echo "$result"
    fail "the backup was not restored, or the copy is not verified; the live database is unchanged" "$(other_choice)"
  }
  restored=$(field into "$result")
  taken=$(field taken "$result")
  rows=$(printf '%s\n' "$result" | sed -n 's/^ *"rows": \(.*\),$/\1/p')
  case $result in
    *'"promoted": true'*) say "this restore was interrupted after its promotion at $promoted: it continues from there. If rows were lost again since: --again" ;;
    *) say "$restored is proven: $rows rows, data of $taken" ;;
  esac
}
step "restore $what into a new database and compare it with the backup" restore_and_prove
promote() {
  swap promote "$restored" || {
    status=$?
    echo "The restored and proven database $restored is kept. Run the script again, or: $backup_by_hand promote $restored" >&2
    return "$status"
  }
}
step "promote it: the live database keeps its rows under another name" promote
step "passwords of the sidecars' roles" stack_roles
step "look for missing migrations" migrate_if_needed
step "restart the API" restart_service api
step "start workers and beat" start_services workers beat
step "wait until the API is healthy" wait_until_healthy
step "lift the silence" lift_silence
[ -n "$dry_run" ] || rm -f "$mark"
if [ -z "$dry_run" ]; then
  rpo=$((began - $(date -u -d "$taken" +%s)))
  say "RTO $(($(date +%s) - began)) s; RPO $rpo s: data written after $taken is missing"
fi
step "back up the restored database, which continues the folder of the old one" take_backup
