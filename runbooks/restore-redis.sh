#!/bin/sh
# Restore Redis from a backup, with or without an append-only file.
#
#   runbooks/restore-redis.sh [ID|latest] --database NAME [--yes-i-mean NAME] [--dry-run]
#
# Redis ignores a dump.rdb while its append-only file is enabled. So a server without one loads the backup and then
# writes a new append-only file, in a separate folder. The files are swapped only when it is complete; the previous
# ones are kept in before-TIME in Redis' data folder. If anything fails earlier, Redis' files are unchanged.
# Tasks that were queued when the backup was taken are queued again, even those that have run since.

set -eu
# shellcheck source=lib/common.sh
. "$(dirname -- "$0")/lib/common.sh"
takes='id'
parse "$@"
stack_check
take_lock
[ -n "$database" ] || fail "which Redis?" "name it with --database: $backup_by_hand list shows the names" 2
need_consent

# The container writes as another user; the outer folder keeps everyone else out of the inner one. Its name is known before
# it is made, so that an interruption leaves nothing.
private=$(mktemp -du)
work=$private/restore
at_end() { rm -rf "$private"; }
mkdir -m 700 "$private"
mkdir "$work"
chmod 777 "$work"

confirm() {
  if [ -z "$yes_i_mean" ]; then
    printf 'All keys of %s will be replaced.\n' "$database"
    for left in 2 1 0; do
      printf 'Type %s to continue: ' "$database"
      read -r yes_i_mean || break
      [ "$yes_i_mean" != "$database" ] || break
      [ "$left" -eq 0 ] || echo "$yes_i_mean is not $database; tries left: $left"
    done
  fi
  [ "$yes_i_mean" = "$database" ] || fail "$yes_i_mean is not $database; nothing was changed" "--yes-i-mean $database" 2
}

if [ -n "$dry_run" ]; then sidecar restore "$backup_id" --to "$work/dump.rdb" --dry-run; fi
nothing="NOTHING was restored: the files of Redis are as they were"
unchanged=$nothing
step "download and check the backup" stack_fetch_rdb "$work"
step "ask for confirmation" confirm
step "silence alerts for $SILENCE" silence
step "stop workers, beat and Redis" stop_services workers beat redis
step "copy the file into Redis' data folder" stack_redis_load "$work/dump.rdb"

replace() {
  stack_redis_folder <<'SHELL'
cd "$1"
now=$(date -u +%Y%m%dT%H%M%SZ)
kept=before-$now
new=$1/restoring
loading=''
swapping=''
# If the swap fails midway. Files that are not yet in their place are those of the backup.
put_back() {
  for name in dump.rdb appendonlydir appendonly.aof; do
    if [ "$swapping" = placing ]; then rm -rf "$name"; fi
    if [ -e "$kept/$name" ]; then mv "$kept/$name" .; fi
  done
  rmdir "$kept"
}
# Unless the swap is complete, nothing of Redis' own has changed, whatever has failed: that is exit code 4.
tidy() {
  status=$?
  # An impatient Ctrl-C does not interrupt this.
  trap '' INT TERM HUP QUIT
  if [ -n "$loading" ]; then
    kill "$loading" 2>/dev/null || true
    wait "$loading" 2>/dev/null || true
  fi
  if [ "$status" -ne 0 ] && [ -n "$swapping" ]; then
    put_back || {
      echo "files of Redis are still in $kept" >&2
      exit "$status"
    }
  fi
  rm -rf "$new" restored.rdb
  case $status in
    0 | 130 | 131 | 143) exit "$status" ;;
    4) ;;
    *) echo "Redis' own files are unchanged" >&2 ;;
  esac
  exit 4
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'exit 143' TERM HUP
rm -rf "$new"
# Redis would start from its file of another name, or from none, and everything would look restored.
other=''
for name in */*.manifest; do
  case $name in before-* | appendonlydir/appendonly.aof.manifest) ;; *) if [ -e "$name" ]; then other=$name; fi ;; esac
done
if [ ! -e dump.rdb ] && [ ! -e appendonlydir ] && [ ! -e appendonly.aof ]; then
  for name in *.rdb; do
    case $name in restored.rdb | temp-*) ;; *) if [ -e "$name" ]; then other=$name; fi ;; esac
  done
fi
[ -z "$other" ] || {
  echo "Redis has its data in $other: set dbfilename, appendfilename and appenddirname to their defaults, or move it away" >&2
  exit 4
}
mkdir "$new"
mv restored.rdb "$new/dump.rdb"
server=${OPS_REDIS_SERVER:-redis-server}
client=${OPS_REDIS_CLI:-redis-cli}
socket=$(mktemp -u /tmp/redis-restore-XXXXXX)
log=$new/log
ask() { "$client" -s "$socket" "$@"; }
load() {
  "$server" --port 0 --unixsocket "$socket" --dir "$new" --save '' --appendonly no --databases "$1" >"$log" &
  loading=$!
  until ask ping 2>/dev/null | grep -q PONG; do
    kill -0 "$loading" 2>/dev/null || return 1
    sleep 0.2
  done
}
# Redis refuses a file with a database that it has no number for; each number costs memory.
load 1024 || load 65536 || load 1000000 || {
  tail -n 3 "$log" >&2
  echo "Redis did not load the backup; its own files are unchanged" >&2
  exit 4
}
echo "loaded: $(ask info keyspace | sed -n 's/^db[0-9]*:keys=\([0-9]*\).*/\1/p' | awk '{ sum += $1 } END { print sum + 0 }') keys"
ask config set appendonly yes >/dev/null
until ask info persistence | tr -d '\r' | grep -qx 'aof_rewrite_in_progress:0' &&
  ask info persistence | tr -d '\r' | grep -qx 'aof_rewrite_scheduled:0'; do sleep 0.2; done
ask info persistence | tr -d '\r' | grep -qx 'aof_last_bgrewrite_status:ok' || {
  tail -n 3 "$log" >&2
  echo "Redis did not write an append-only file, for which its disk needs room; its own files are unchanged" >&2
  exit 4
}
ask shutdown nosave || true
wait
loading=''
# From here on, nothing interrupts it: Redis would start without any of its files.
trap '' INT TERM HUP QUIT
mkdir "$kept"
swapping=moving
for name in dump.rdb appendonlydir appendonly.aof; do
  if [ -e "$name" ]; then mv "$name" "$kept/"; fi
done
swapping=placing
for name in dump.rdb appendonlydir appendonly.aof; do
  if [ -e "$new/$name" ]; then mv "$new/$name" .; fi
done
swapping=''
echo "the previous files are in $kept"
SHELL
}
load_and_swap() {
  # After an interruption nobody has seen how far it came.
  unchanged="It is not known which files Redis has: look for before-TIME in its data folder, and run the script again"
  status=0
  replace || status=$?
  if [ "$status" -eq 4 ]; then
    unchanged=$nothing
    return 1
  fi
  [ "$status" -eq 0 ] || return "$status"
  unchanged=''
}
step "load it and write a new append-only file" load_and_swap
step "start Redis" stack_start redis
step "start workers and beat" start_services workers beat
step "lift the silence" lift_silence
