# shellcheck shell=sh
# shellcheck disable=SC2154 # common.sh and the file of commands set them
# A stack that is stopped and started with its own commands, such as systemd's. OPS_COMMANDS names the file with them
# (default /etc/ops/runbooks.env); deploy/systemd/runbooks.env is an example, and says what each of them is.

commands=${OPS_COMMANDS:-/etc/ops/runbooks.env}

units() {
  case $1 in
    api) echo "$API" ;;
    workers) echo "$WORKERS" ;;
    beat) echo "$BEAT" ;;
    postgres) echo "$POSTGRES" ;;
    redis) echo "$REDIS" ;;
    all) echo "$POSTGRES $REDIS $API $WORKERS $BEAT" ;;
  esac
}

# with COMMAND ARGUMENT…: run a line of the file with further arguments.
with() {
  given=$1
  shift
  sh -c "$given \"\$@\"" sh "$@"
}

# of_service COMMAND SERVICE: run it with the units of a service; one that this stack lacks has none. A service that is
# started by a command such as pg_ctl must not inherit the lock of the scripts.
of_service() {
  # shellcheck disable=SC2046 # several units are several words
  set -- "$1" $(units "$2")
  [ $# -eq 1 ] || with "$@" 9<&-
}

# The lock of the scripts: one for each checkout, which is one for each stack.
stack_lock() {
  echo "$root/.ops/runbook.lock"
}

stack_check() {
  [ -r "$commands" ] || fail "$commands cannot be read" "write it like deploy/systemd/runbooks.env, or name it with OPS_COMMANDS" 2
  STOP='' START='' HEALTHY='' BACKUP='' MANAGE='' ALERTS=false ROLES=true PSQL='' DATABASE=''
  API='' WORKERS='' BEAT='' POSTGRES='' REDIS='' POSTGRES_FOLDER='' REDIS_FOLDER=''
  # shellcheck disable=SC1090 # the operator writes it
  . "$commands"
  for name in STOP START HEALTHY BACKUP MANAGE PSQL DATABASE API POSTGRES POSTGRES_FOLDER; do
    eval "given=\$$name"
    [ -n "$given" ] || fail "$name is not set in $commands" "deploy/systemd/runbooks.env says what it is" 2
  done
  # How to run the sidecar's commands by hand on this stack.
  # shellcheck disable=SC2034 # some scripts print it
  backup_by_hand=$BACKUP
}

stack_stop() {
  of_service "$STOP" "$1"
}

stack_start() {
  of_service "$START" "$1"
}

stack_restart() {
  stack_stop "$1" && stack_start "$1"
}

stack_sql() {
  with "$PSQL" -d "$1" -c "$2"
}

# A server may need a moment after its start command has ended.
stack_postgres_answers() {
  for wait in 1 1 2 3 5 8 0; do
    stack_sql template1 'SELECT 1' && return 0
    sleep "$wait"
  done
  return 1
}

stack_postgres_free() {
  df -Pk "$POSTGRES_FOLDER" | awk 'NR == 2 { print $4 }'
}

stack_postgres_in_use() {
  has_tables "$DATABASE"
}

stack_images() {
  :
}

stack_backup() {
  with "$BACKUP" "$@"
}

stack_manage() {
  with "$MANAGE" "$@"
}

stack_roles() {
  with "$ROLES"
}

stack_alerts() {
  with "$ALERTS" "$@"
}

stack_healthy() {
  with "$HEALTHY" >/dev/null 2>&1
}

stack_fetch_rdb() {
  sidecar restore "$backup_id" --to "$1/dump.rdb"
}

# As the owner of Redis' data folder: Redis could not read what root has written there.
as_redis() {
  [ -n "$REDIS_FOLDER" ] || fail "REDIS_FOLDER is not set in $commands" "deploy/systemd/runbooks.env says what it is" 2
  owner=$(stat -c %U "$REDIS_FOLDER")
  if [ "$(id -un)" = "$owner" ]; then "$@"; else runuser -u "$owner" -- "$@"; fi
}

stack_redis_folder() {
  as_redis sh -eu -s -- "$REDIS_FOLDER"
}

stack_redis_load() {
  as_redis sh -euc "$put_file" sh "$REDIS_FOLDER/restored.rdb" <"$1"
}
