#!/bin/sh
# Bring Redis back from a backup, whether it keeps an append-only file or not.
#
#   runbooks/restore-redis.sh [ID|latest] --database NAME [--yes-i-mean NAME] [--dry-run]
#
# Redis ignores a dump.rdb while its append-only file is on. So the backup is loaded by a server without one, which then
# writes a new append-only file, both in a folder of their own. Only when that is whole, the files change places; what was
# there is kept in before-TIME in Redis' data folder. Whatever fails before leaves Redis' files as they were.
# Tasks that were queued when the backup was made are queued again: think of those that have run since.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id'
parse "$@"
stack_check
[ -n "$database" ] || fail "which Redis?" "name it with --database: $backup_by_hand list shows the names" 2
need_consent

# The container writes as another user; nobody else gets as far as the inner folder.
private=$(mktemp -d)
work=$private/restore
mkdir "$work"
chmod 777 "$work"
at_end() { rm -rf "$private"; }

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
step "put the file next to Redis' own" stack_redis_load "$work/dump.rdb"

replace() {
  stack_redis_folder <<'SHELL'
cd "$1"
now=$(date -u +%Y%m%dT%H%M%SZ)
kept=before-$now
new=$1/restoring
loading=''
tidy() {
  [ -z "$loading" ] || kill "$loading" 2>/dev/null || true
  rm -rf "$new" restored.rdb
}
trap tidy EXIT
rm -rf "$new"
mkdir "$new"
mv restored.rdb "$new/dump.rdb"
server=${OPS_REDIS_SERVER:-redis-server}
client=${OPS_REDIS_CLI:-redis-cli}
socket=$(mktemp -u /tmp/redis-restore-XXXXXX)
"$server" --port 0 --unixsocket "$socket" --dir "$new" --save '' --appendonly no >/dev/null &
loading=$!
ask() { "$client" -s "$socket" "$@"; }
until ask ping 2>/dev/null | grep -q PONG; do
  kill -0 "$loading" 2>/dev/null || { echo "Redis did not load the backup; its own files are as they were" >&2; exit 1; }
  sleep 0.2
done
echo "loaded: $(ask info keyspace | sed -n 's/^db[0-9]*:keys=\([0-9]*\).*/\1/p' | awk '{ sum += $1 } END { print sum + 0 }') keys"
ask config set appendonly yes >/dev/null
until ask info persistence | tr -d '\r' | grep -qx 'aof_rewrite_in_progress:0' &&
  ask info persistence | tr -d '\r' | grep -qx 'aof_rewrite_scheduled:0'; do sleep 0.2; done
ask info persistence | tr -d '\r' | grep -qx 'aof_last_bgrewrite_status:ok'
ask shutdown nosave || true
wait
loading=''
mkdir "$kept"
for name in dump.rdb appendonlydir appendonly.aof; do
  if [ -e "$name" ]; then mv "$name" "$kept/"; fi
done
for name in dump.rdb appendonlydir appendonly.aof; do
  if [ -e "$new/$name" ]; then mv "$new/$name" .; fi
done
echo "what was there is in $kept"
SHELL
}
step "load it and write a new append-only file" replace
step "start Redis" stack_start redis
step "start workers and beat" start_services workers beat
step "lift the silence" lift_silence
