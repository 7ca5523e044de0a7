# shellcheck shell=sh
# shellcheck disable=SC2034 # the scripts read what is parsed here
# Shared by the runbook scripts: options, the timeline, the silence, and the two kinds of stack that they work on.
#
# OPS_STACK=compose    (default) the containers of docker-compose.prod.yml
# OPS_STACK=embedded   the processes of ./ops demo, whose folder OPS_FOLDER names (default .ops/demo)

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
script=$(basename -- "$0")
OPS_STACK=${OPS_STACK:-compose}
OPS_FOLDER=${OPS_FOLDER:-$root/.ops/demo}
SILENCE=${SILENCE:-2h}
HEALTH_SECONDS=${HEALTH_SECONDS:-240}
dry_run=''
yes_i_mean=''
database=''
backup_id=latest
again=''
timeline=''
stopped=''
silenced=''
began=$(date +%s)

fail() {
  echo "Error: $1" >&2
  echo "Try: $2" >&2
  exit "${3:-1}"
}

# Usage text: the comment at the head of the script.
usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$root/runbooks/$script"
}

# accepts KIND ARGUMENT: reject an argument that the script does not list in `takes`, such as another script's option.
accepts() {
  case " ${takes:-} " in
    *" $1 "*) ;;
    *) fail "$script does not take $2" "runbooks/$script --help" 2 ;;
  esac
}

# Parse the options that all scripts have, and those that only some have.
parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --dry-run) dry_run=yes ;;
      --yes-i-mean) [ $# -gt 1 ] || fail "$1 needs a name" "runbooks/$script --help" 2; yes_i_mean=$2 && shift ;;
      -d | --database) [ $# -gt 1 ] || fail "$1 needs a name" "runbooks/$script --help" 2; database=$2 && shift ;;
      --again) accepts again "$1" && again=$1 ;;
      -*) fail "there is no option $1" "runbooks/$script --help" 2 ;;
      *) accepts id "$1" && backup_id=$1 ;;
    esac
    shift
  done
  case $OPS_STACK in
    compose)
      # shellcheck source=runbooks/lib/compose.sh
      . "$root/runbooks/lib/compose.sh"
      ;;
    embedded)
      # shellcheck source=runbooks/lib/embedded.sh
      . "$root/runbooks/lib/embedded.sh"
      ;;
    *) fail "OPS_STACK=$OPS_STACK is not compose or embedded" "unset it to use docker compose" 2 ;;
  esac
}

# Refuse before anything is changed if the confirmation cannot be asked for later.
need_consent() {
  if [ -z "$yes_i_mean" ] && [ -z "$dry_run" ] && [ ! -t 0 ]; then
    fail "cannot ask for confirmation without a terminal; nothing was changed" "confirm with --yes-i-mean NAME" 2
  fi
}

say() {
  line="$(date -u +%H:%M:%S)  +$(($(date +%s) - began)) s  $1"
  echo "$line"
  timeline="$timeline$line
"
}

# step TITLE COMMAND…: one line of the timeline, then the command; only the line in a dry run.
step() {
  title=$1
  shift
  if [ -n "$dry_run" ]; then
    echo "would: $title"
    return 0
  fi
  say "$title"
  "$@"
}

stop_services() {
  stopped="$*"
  for service in "$@"; do stack_stop "$service"; done
}

start_services() {
  for service in "$@"; do stack_start "$service"; done
  stopped=''
}

# Silences left by an earlier run are treated as ours. Watchdog is not silenced, because its absence wakes people.
silence() {
  if stack_alerts silence add 'alertname!=Watchdog' --for "$SILENCE" --by "$script" --comment "$script is at work" >/dev/null; then
    silenced=yes
  else
    say "alerts are NOT silenced: Alertmanager does not answer"
  fi
}

lift_silence() {
  silenced=''
  ids=$(stack_alerts silence list | sed -n "s/^\([^ ]*\) .*$script: $script is at work\$/\1/p") || return 0
  # shellcheck disable=SC2086 # several ids are several words
  [ -z "$ids" ] || stack_alerts silence end $ids
}

# A server whose files are gone may keep running without working; a restart initializes an empty one.
start_postgres() {
  stack_start postgres
  stack_postgres_answers >/dev/null 2>&1 || {
    say "PostgreSQL runs but does not answer: restarting it"
    stack_restart postgres
    stack_postgres_answers >/dev/null || fail "PostgreSQL does not answer" "read its log; if its data folder is damaged, move it elsewhere: a restore does not need it"
  }
}

migrate_if_needed() {
  if stack_manage migrate --check >/dev/null 2>&1; then
    say "no migration is missing"
  else
    say "migrate: the code is newer than the backup"
    stack_manage migrate --noinput
  fi
}

wait_until_healthy() {
  until_then=$(($(date +%s) + HEALTH_SECONDS))
  until stack_healthy; do
    [ "$(date +%s)" -lt "$until_then" ] || fail "the API is not healthy after $HEALTH_SECONDS s" "read its log; runbooks/rollback.sh undoes the promotion"
    sleep 1
  done
}

# Clean-up that a script may override.
at_end() {
  :
}

# However the script ends: restart what it stopped, lift the silence and print the timeline.
finish() {
  status=$?
  trap - EXIT
  set +e
  if [ "$status" -ne 0 ] && [ -n "$stopped" ]; then
    say "starting the stopped services again"
    # In subshells: a service that does not start must not leave alerts silenced or the timeline unprinted.
    for service in $stopped; do (stack_start "$service") || say "$service is NOT running"; done
  fi
  [ -z "$silenced" ] || lift_silence
  at_end
  if [ -z "$dry_run" ] && [ -n "$timeline" ]; then
    printf '\nTimeline (UTC), for the post-mortem:\n%s' "$timeline"
    if [ "$status" -eq 0 ]; then echo "done in $(($(date +%s) - began)) s"; else echo "FAILED after $(($(date +%s) - began)) s, exit code $status"; fi
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Run a backup command, for the chosen database if there is one.
sidecar() {
  verb=$1
  shift
  if [ -n "$database" ]; then set -- "$@" --database "$database"; fi
  stack_backup "$verb" "$@"
}

# The same for commands that ask for confirmation; --yes-i-mean answers in advance.
sidecar_confirmed() {
  if [ -n "$yes_i_mean" ]; then set -- "$@" --yes-i-mean "$yes_i_mean"; fi
  sidecar "$@"
}
