#!/bin/sh
# Practise the restore, once a month: download, restore, verify, promote and roll back in a throwaway server, timed.
#
#   runbooks/drill.sh [ID|latest] [--database NAME] [--dry-run]
#
# Production is not touched, nor is its server. Prints RTO and RPO and records the drill, which resolves the alert
# BackupDrillOverdue.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id'
parse "$@"
stack_check
take_lock

if [ -n "$dry_run" ]; then sidecar drill "$backup_id" --dry-run; fi
step "practise with $backup_id" sidecar drill "$backup_id"
