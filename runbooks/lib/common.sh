# shellcheck shell=sh
# shellcheck disable=SC2034 # the scripts read what is parsed here
# What the runbook scripts have in common: options, the timeline, the silence, and the two kinds of stack they work on.
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

# wants WHAT ARGUMENT: refuse what the script does not name in `takes`; half asleep, one types what another script takes.
wants() {
  case " ${takes:-} " in
    *" $1 "*) ;;
    *) fail "$script does not take $2" "runbooks/$script --help" 2 ;;
  esac
}

# The options that all scripts have, and those of some.
parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --dry-run) dry_run=yes ;;
      --yes-i-mean) [ $# -gt 1 ] || fail "$1 wants a name" "runbooks/$script --help" 2; yes_i_mean=$2 && shift ;;
      -d | --database) [ $# -gt 1 ] || fail "$1 wants a name" "runbooks/$script --help" 2; database=$2 && shift ;;
      --again) wants again "$1" && again=$1 ;;
      -*) fail "there is no option $1" "runbooks/$script --help" 2 ;;
      *) wants id "$1" && backup_id=$1 ;;
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
    *) fail "OPS_STACK=$OPS_STACK is neither compose nor embedded" "leave it unset for docker compose" 2 ;;
  esac
}

# Somebody must be there to say yes, before anything is touched.
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

# Silences of an earlier run that died count as ours. Watchdog stays audible: its silence wakes people.
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

# A server whose files are gone may run on and be of no use; a start makes an empty one of it.
start_postgres() {
  stack_start postgres
  stack_postgres_answers >/dev/null 2>&1 || {
    say "PostgreSQL runs and does not answer: it is restarted"
    stack_restart postgres
    stack_postgres_answers >/dev/null || fail "PostgreSQL does not answer" "read its log; if its data folder is damaged, move it away, it is not needed for a restore"
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
    [ "$(date +%s)" -lt "$until_then" ] || fail "the API is not healthy after $HEALTH_SECONDS s" "read its log; runbooks/rollback.sh takes the promotion back"
    sleep 1
  done
}

# What a script has to tidy up of its own.
at_end() {
  :
}

# Whatever ends the script: what it stopped runs again, alerts are heard again, and the timeline is there.
finish() {
  status=$?
  trap - EXIT
  set +e
  if [ "$status" -ne 0 ] && [ -n "$stopped" ]; then
    say "starting again what was stopped"
    # In shells of their own: one that does not start must not keep alerts silent and the timeline unprinted.
    for service in $stopped; do (stack_start "$service") || say "$service does NOT run"; done
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

# backup … for the database that was chosen, if one was.
sidecar() {
  verb=$1
  shift
  if [ -n "$database" ]; then set -- "$@" --database "$database"; fi
  stack_backup "$verb" "$@"
}

# The same with the typed confirmation, or the option that stands for it.
sidecar_asking() {
  if [ -n "$yes_i_mean" ]; then set -- "$@" --yes-i-mean "$yes_i_mean"; fi
  sidecar "$@"
}
