#!/bin/sh
# From a bare server to a running PostHub, with the bucket and the key alone.
#
#   runbooks/new-server.sh [ID|latest] [--yes-i-mean NAME] [--dry-run]
#
# Wants on the new server: docker with compose, this checkout, and .env.production with the store's address and key, the
# age identity and the domains; docs/restore.md says where to have them. Pulls our images, or builds them. Makes all other secrets, starts PostgreSQL and
# Redis, restores and proves the newest backup, gives the roles their passwords, starts everything, checks health.
# Queued tasks are not brought back; runbooks/restore-redis.sh does that. Interrupted anywhere, run it again.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id'
parse "$@"
stack_check
need_consent

if [ "$OPS_STACK" = compose ]; then
  for name in BACKUP_STORE_URL BACKUP_AGE_IDENTITY; do
    grep -q "^$name=." .env.production || fail "$name is not in .env.production" "fill it in; docs/restore.md says where it is kept" 2
  done
fi
refuse_a_server_that_is_lived_in() {
  if stack_postgres_lived_in; then
    fail "there is a database with tables here already; nothing was done" "this script is for a bare server; runbooks/restore.sh restores on this one"
  fi
}
step "pull or build our images" stack_images
step "start Redis" stack_start redis
step "start PostgreSQL" start_postgres
step "see that nobody lives here" refuse_a_server_that_is_lived_in
step "what is in the store" sidecar list

restore_and_prove() {
  result=$(sidecar restore "$backup_id" --json) || {
    echo "$result"
    fail "the backup was not restored, or is not proven" "take an older one that is verified: $backup_by_hand list"
  }
  restored=$(printf '%s\n' "$result" | sed -n 's/^ *"into": "\(.*\)",$/\1/p')
}
restored=''
step "restore $backup_id into a new database and compare it with the backup" restore_and_prove
step "promote it: the empty database keeps another name" sidecar_asking promote "$restored"
step "look for missing migrations" migrate_if_needed
step "passwords of the sidecars' roles" stack_roles
step "back up the new server, which continues the folder of the old one" sidecar run --adopt
step "start everything" stack_start all
step "wait until the API is healthy" wait_until_healthy
