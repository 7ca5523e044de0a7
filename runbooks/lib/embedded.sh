# shellcheck shell=sh
# shellcheck disable=SC2154 # common.sh sets them
# The processes of ./ops demo. Its supervisor stops the processes named in control/hold, and lists running ones in
# control/running.

control=$OPS_FOLDER/control

processes() {
  case $1 in
    workers) echo worker worker-ai ;;
    all) echo postgres redis api worker worker-ai beat ;;
    *) echo "$1" ;;
  esac
}

# The lock of the scripts: one for each stack.
stack_lock() {
  echo "$control/runbook.lock"
}

stack_check() {
  [ -r "$control/environment" ] || fail "no embedded stack runs in $OPS_FOLDER" "start one: ./ops demo; or name its folder with OPS_FOLDER" 2
  # shellcheck disable=SC1091 # written by the stack when it starts
  . "$control/environment"
}

# wait_for SECONDS WHAT TEST…
wait_for() {
  last=$(($(date +%s) + $1))
  what=$2
  shift 2
  until "$@"; do
    [ "$(date +%s)" -lt "$last" ] || fail "$what takes too long" "read the logs in $OPS_FOLDER/logs"
    sleep 0.2
  done
}

stack_stop() {
  for process in $(processes "$1"); do : >"$control/hold/$process"; done
  for process in $(processes "$1"); do wait_for 120 "the end of $process" test ! -e "$control/running/$process"; done
}

stack_start() {
  for process in $(processes "$1"); do rm -f "$control/hold/$process"; done
  for process in $(processes "$1"); do wait_for 120 "the start of $process" test -e "$control/running/$process"; done
}

stack_restart() {
  stack_stop "$1"
  stack_start "$1"
}

stack_postgres_answers() {
  "$OPS_PYTHON" -c 'import os, psycopg; psycopg.connect(os.environ["OPS_POSTGRES_URL"], connect_timeout=5)'
}

stack_postgres_free() {
  df -Pk "$OPS_FOLDER" | awk 'NR == 2 { print $4 }'
}

# The demo's production database may always be replaced.
stack_postgres_in_use() {
  false
}

stack_images() {
  :
}

# How to run the sidecar's commands by hand on this stack.
# shellcheck disable=SC2034 # some scripts print it
backup_by_hand=". $control/environment && \"\$OPS_PYTHON\" -m backup"

stack_backup() {
  "$OPS_PYTHON" -m backup "$@"
}

stack_manage() (
  # shellcheck disable=SC1091 # written by the stack when it starts
  . "$control/app"
  cd "$root/app" || exit 1
  "$OPS_PYTHON" manage.py "$@"
)

stack_roles() {
  :
}

stack_alerts() {
  "$OPS_PYTHON" -m alerts "$@"
}

stack_healthy() {
  "$OPS_PYTHON" "$root/deploy/health/answers.py" "$OPS_HEALTH_URL" 2>/dev/null
}

stack_fetch_rdb() {
  sidecar restore "$backup_id" --to "$1/dump.rdb"
}

stack_redis_folder() {
  sh -eu -s -- "$OPS_REDIS_FOLDER"
}

stack_redis_load() {
  sh -euc "$put_file" sh "$OPS_REDIS_FOLDER/restored.rdb" <"$1"
}
