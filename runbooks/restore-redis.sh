#!/bin/sh
# Bring Redis back from a backup, whether it keeps an append-only file or not.
#
#   runbooks/restore-redis.sh [ID|latest] --database NAME [--yes-i-mean NAME] [--dry-run]
#
# Redis ignores a dump.rdb while its append-only file is on. So the backup is loaded by a server without one, which then
# writes a new append-only file; Redis starts from that. What was there is kept in before-TIME in its data folder.
# Tasks that were queued when the backup was made are queued again: think of those that have run since.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id'
parse "$@"
stack_check
[ -n "$database" ] || fail "which Redis?" "name it with --database: backup list shows the names" 2
need_consent

work=$(mktemp -d)
chmod 777 "$work"
at_end() { rm -rf "$work"; }

confirm() {
  [ -n "$yes_i_mean" ] || {
    printf 'All keys of %s will be replaced. Type %s to go on: ' "$database" "$database"
    read -r yes_i_mean
  }
  [ "$yes_i_mean" = "$database" ] || fail "$yes_i_mean is not $database; nothing was done" "--yes-i-mean $database" 2
}

if [ -n "$dry_run" ]; then sidecar restore "$backup_id" --to "$work/dump.rdb" --dry-run; fi
step "fetch and check the backup" stack_fetch_rdb "$work"
step "ask" confirm
step "silence alerts for $SILENCE" silence
step "stop workers, beat and Redis" stop_services workers beat redis
step "put the file beside Redis' own" stack_redis_load "$work/dump.rdb"

replace() {
  stack_redis_folder <<'SHELL'
cd "$1"
kept=before-$(date -u +%Y%m%dT%H%M%SZ)
mkdir "$kept"
for name in dump.rdb appendonlydir appendonly.aof; do
  if [ -e "$name" ]; then mv "$name" "$kept/"; fi
done
mv restored.rdb dump.rdb
server=${OPS_REDIS_SERVER:-redis-server}
client=${OPS_REDIS_CLI:-redis-cli}
socket=$(mktemp -u /tmp/redis-restore-XXXXXX)
"$server" --port 0 --unixsocket "$socket" --dir "$1" --save '' --appendonly no >/dev/null &
ask() { "$client" -s "$socket" "$@"; }
until ask ping 2>/dev/null | grep -q PONG; do
  kill -0 $! || exit 1
  sleep 0.2
done
echo "loaded: $(ask info keyspace | grep -c '^db') databases"
ask config set appendonly yes >/dev/null
until ask info persistence | tr -d '\r' | grep -qx 'aof_rewrite_in_progress:0' &&
  ask info persistence | tr -d '\r' | grep -qx 'aof_rewrite_scheduled:0'; do sleep 0.2; done
ask info persistence | tr -d '\r' | grep -qx 'aof_last_bgrewrite_status:ok'
ask shutdown nosave || true
wait
echo "what was there is in $kept"
SHELL
}
step "load it and write a new append-only file" replace
step "start Redis" stack_start redis
step "start workers and beat" start_services workers beat
step "lift the silence" lift_silence
