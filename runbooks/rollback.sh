#!/bin/sh
# Undo the last promotion: the database that it replaced returns to production, as it was at that moment.
#
#   runbooks/rollback.sh [--database NAME] [--yes-i-mean NAME] [--dry-run]
#
# What was written since the promotion stays in the promoted database, which is kept under another name. Silences
# alerts, stops workers and beat, asks for confirmation, swaps, restarts, and checks health. If it is interrupted, run
# it again.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
parse "$@"
stack_check
take_lock
need_consent

if [ -n "$dry_run" ]; then sidecar rollback --dry-run; fi
nothing="NOTHING was rolled back: the live database is as it was"
unchanged=$nothing
mark=$(stack_lock).rollback
# Reports what prevents it before anything is stopped.
look_for_promotion() {
  planned=$(sidecar rollback --dry-run --json) || cannot_begin $?
  returned=$(field returned_at "$planned")
  if [ -n "$returned" ] && ! continues "$database" "$returned"; then
    fail "the last promotion was already undone at $returned UTC; nothing was changed" "to return to the promoted database: $backup_by_hand promote $(field kept "$planned")"
  fi
  [ -n "$returned" ] || leave_mark "$database"
}
step "see that there is a promotion to undo" look_for_promotion
step "silence alerts for $SILENCE" silence
step "stop workers and beat" stop_services workers beat
step "swap the databases back" swap rollback
step "run missing migrations" migrate_if_needed
step "restart the API" restart_service api
step "start workers and beat" start_services workers beat
step "wait until the API is healthy" wait_until_healthy
step "lift the silence" lift_silence
[ -n "$dry_run" ] || rm -f "$mark"
