#!/bin/sh
# Practise the restore, monthly: download, restore, proof, promotion and rollback in a throwaway server, with times.
#
#   runbooks/drill.sh [ID|latest] [--database NAME] [--dry-run]
#
# Nothing of production is touched, not even its server. Prints RTO and RPO and records the drill, which ends the alert
# BackupDrillOverdue.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id'
parse "$@"
stack_check

if [ -n "$dry_run" ]; then sidecar drill "$backup_id" --dry-run; fi
step "practise with $backup_id" sidecar drill "$backup_id"
