# shellcheck shell=sh
# shellcheck disable=SC2034 # the scripts read what is parsed here
# Shared by the runbook scripts: options, the timeline, the silence, and the kinds of stack that they work on.
#
# OPS_STACK=compose    (default) the containers of docker-compose.prod.yml
# OPS_STACK=command    services with their own commands, such as systemd's, in the file OPS_COMMANDS
# OPS_STACK=embedded   the processes of ./ops demo, whose folder OPS_FOLDER names (default .ops/demo)

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
script=$(basename -- "$0")
OPS_STACK=${OPS_STACK:-compose}
OPS_FOLDER=${OPS_FOLDER:-$root/.ops/demo}
# A silence is renewed while a script works, and ends soon after a script that was killed.
SILENCE=${SILENCE:-5m}
RENEW_SECONDS=${RENEW_SECONDS:-120}
LIFT_SECONDS=${LIFT_SECONDS:-10}
HEALTH_SECONDS=${HEALTH_SECONDS:-240}
dry_run=''
yes_i_mean=''
database=''
backup_id=latest
# What `latest` meant when the script began.
chosen=''
again=''
at=''
# The last line of a script that fails before it has changed anything.
unchanged=''
timeline=''
stopped=''
silenced=''
renewing=''
began=$(date +%s)

fail() {
  echo "Error: $1" >&2
  echo "Try: $2" >&2
  exit "${3:-1}"
}

# unless_interrupted STATUS: leave with the status of a command that Ctrl-C or SIGTERM has ended. It did not fail.
unless_interrupted() {
  case $1 in 130 | 131 | 143) exit "$1" ;; esac
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
      --at) accepts at "$1" && { [ $# -gt 1 ] || fail "$1 needs a time" "runbooks/$script --help" 2; } && at=$2 && shift ;;
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
    command)
      # shellcheck source=runbooks/lib/command.sh
      . "$root/runbooks/lib/command.sh"
      ;;
    *) fail "OPS_STACK=$OPS_STACK is not compose, command or embedded" "unset it to use docker compose" 2 ;;
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

# What ends early starts them again in the opposite order: workers need Redis.
stop_services() {
  stopped=''
  for service in "$@"; do stopped="$service $stopped"; done
  for service in "$@"; do stack_stop "$service"; done
}

start_services() {
  for service in "$@"; do stack_start "$service"; done
  stopped=''
}

# An interruption may come when it has stopped and not yet started again.
restart_service() {
  before=$stopped
  stopped="$1 $stopped"
  stack_restart "$1"
  stopped=$before
}

# One script at a time: two that stop and start the same services undo each other's work. The lock ends with the script.
take_lock() {
  [ -z "$dry_run" ] || return 0
  command -v flock >/dev/null || fail "flock is not on this machine" "install util-linux" 2
  lock=$(stack_lock)
  { mkdir -p "$(dirname -- "$lock")" && : >>"$lock"; } || fail "$lock cannot be written" "run it as the user that owns this checkout" 2
  exec 9<"$lock"
  flock -n 9 || fail "another script is at work: $(cat "$lock"); nothing was changed" "wait until it has ended; its lock ends with it"
  # On a full disk, others cannot see who holds it.
  echo "runbooks/$script, process $$, started at $(date -u +%H:%M:%S) UTC by $(id -un)" 2>/dev/null >"$lock" || true
}

add_silence() {
  stack_alerts silence add 'alertname!=Watchdog' --for "$SILENCE" --by "$script" --comment "$script is at work" >/dev/null
}

# Watchdog stays audible: its silence wakes people. Silences of an earlier run that was killed count as ours.
silence() {
  # Before the attempt: an interruption may come after Alertmanager has taken the silence.
  silenced=yes
  if add_silence; then
    keep_silent 9<&- >/dev/null 2>&1 &
    renewing=$!
  else
    silenced=''
    say "alerts are NOT silenced: no silence could be added"
  fi
}

keep_silent() {
  trap - EXIT
  trap '' INT QUIT
  trap 'kill "$sleeping" 2>/dev/null; exit 0' TERM HUP
  while :; do
    sleep "$RENEW_SECONDS" &
    sleeping=$!
    wait "$sleeping"
    kill -0 $$ 2>/dev/null || exit 0
    # Alertmanager may be restarting; the next one is added in time.
    add_silence || true
  done
}

stop_renewing() {
  [ -n "$renewing" ] || return 0
  kill "$renewing" 2>/dev/null || true
  wait "$renewing" 2>/dev/null || true
  renewing=''
}

end_silences() {
  listed=$(stack_alerts silence list) || return 1
  ids=$(printf '%s\n' "$listed" | sed -n "s/^\([^ ]*\) .*$script: $script is at work\$/\1/p")
  # shellcheck disable=SC2086 # several ids are several words
  [ -z "$ids" ] || stack_alerts silence end $ids
}

lift_silence() {
  [ -n "$silenced" ] || return 0
  stop_renewing
  until_then=$(($(date +%s) + LIFT_SECONDS))
  # Alertmanager may be restarting, and a silence may expire between its listing and its end.
  until problem=$(end_silences 2>&1); do
    if [ "$(date +%s)" -ge "$until_then" ]; then
      echo "$problem" >&2
      say "the silence could NOT be lifted: it expires within $SILENCE"
      return 0
    fi
    sleep 1
  done
  silenced=''
}

# Whether PostgreSQL answers; if not, `problem` is the reason, without what a program prints around it.
postgres_answers() {
  answer=$(LC_MESSAGES=C stack_postgres_answers 2>&1 >/dev/null) && return 0
  problem=$(printf '%s\n' "$answer" | awk 'NF { last = $0 } /FATAL|PANIC/ { fatal = $0 } /[^ ]:  / && !first { first = $0 }
    END { print fatal ? fatal : first ? first : last }')
  return 1
}

# Whether the server itself refuses the connection, in a language other than English: after the word for FATAL, and a colon,
# come two blanks. Names of its files, which are the same in all languages, mean that they are damaged.
refused_in_another_language() {
  case $answer in
    *global/* | *base/* | *pg_*/*) return 1 ;;
  esac
  case $problem in
    *FATAL:\ \ * | *PANIC:\ \ *)
      # Each message in English has one of these words.
      case " $problem " in
        *' could '* | *' not '* | *' is '* | *' the '* | *' for '* | *' of '* | *' to '* | *' does '*) false ;;
      esac
      ;;
    *:\ \ *) true ;;
    *) false ;;
  esac
}

refused() {
  fail "PostgreSQL runs but refuses the connection: $problem" "correct the access of the scripts, or free a connection; the server itself was not restarted"
}

# A server whose files are gone may keep running without working; a restart initializes an empty one. One that only
# refuses us works for everyone else, and is left alone.
start_postgres() {
  stack_start postgres
  if postgres_answers; then return 0; fi
  case $problem in
    *authentication* | *pg_hba* | *password* | *'role "'* | *'too many'* | *'connection slots'* | *'permission denied'* | *'not currently accepting'*)
      refused
      ;;
  esac
  if refused_in_another_language; then refused; fi
  say "PostgreSQL runs but does not answer: restarting it"
  restart_service postgres
  postgres_answers ||
    fail "PostgreSQL does not answer: $problem" "read its log; if its data folder is damaged, move it elsewhere: a restore does not need it"
}

# count_rows DATABASE SOURCE: sets `counted`. An error must not be taken for an answer.
count_rows() {
  counted=$(stack_sql "$1" "SELECT count(*) FROM $2") || counted=''
  [ -n "$counted" ] || fail "the tables of $1 could not be counted; nothing was changed" "see the error above"
}

# Whether a database contains tables, in any schema. Those of extensions do not count.
has_tables() {
  count_rows template1 "pg_database WHERE datname = '$1'"
  [ "$counted" -ne 0 ] || return 1
  count_rows "$1" "pg_class WHERE relkind IN ('r', 'p') AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'pg_toast')) AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')"
  [ "$counted" -ne 0 ]
}

migrate_if_needed() {
  if stack_manage migrate --check >/dev/null 2>&1; then
    say "no migration is missing"
  else
    say "migrate: the code is newer than the backup"
    stack_manage migrate --noinput
  fi
}

if_sick="read its log, then run runbooks/$script again: it continues from there"
wait_until_healthy() {
  until_then=$(($(date +%s) + HEALTH_SECONDS))
  until stack_healthy; do
    [ "$(date +%s)" -lt "$until_then" ] || fail "the API is not healthy after $HEALTH_SECONDS s" "$if_sick"
    sleep 1
  done
}

# Writes a file, or leaves none: a part of one would take the room that Redis needs on a full disk.
# shellcheck disable=SC2016 # another shell reads it
put_file='trap "rm -f \"$1\"" EXIT; trap "exit 130" INT; trap "exit 131" QUIT; trap "exit 143" TERM HUP; cat >"$1"; trap - EXIT'

# Clean-up that a script may override.
at_end() {
  :
}

# Restarts what a script stopped, and lifts the silence. An impatient Ctrl-C does not interrupt this: it ignores the signal
# and, on a terminal, runs in a separate process group.
tidy() {
  if [ "$status" -ne 0 ] && [ -n "$stopped" ]; then
    echo "starting the stopped services again"
    # In separate shells: a service that does not start must not keep alerts silent and the timeline unprinted.
    for service in $stopped; do (stack_start "$service") || echo "$service is NOT running"; done
  fi
  lift_silence
  if [ -n "$leaves_mark" ] && [ -e "$mark" ]; then date +%s >>"$mark"; fi
  at_end
}

# Whether Ctrl-C reaches us. In the background of a terminal, a shell that asks for job control is stopped forever.
in_foreground() {
  [ -r "/proc/$$/stat" ] || return 1
  # shellcheck disable=SC2034 # the names of the fields that come before
  read -r pid name state parent group session terminal foreground others <"/proc/$$/stat"
  [ "$group" = "$foreground" ]
}

# Whatever ends the script: first it is tidied up, then comes the timeline.
finish() {
  status=$?
  trap '' INT TERM HUP QUIT PIPE
  trap - EXIT
  set +e
  if [ "$status" -ne 0 ] && [ -n "$stopped$silenced" ]; then say "tidying up, please wait"; fi
  stop_renewing
  if in_foreground; then set -m 2>/dev/null; fi
  tidy </dev/null &
  wait $!
  set +m 2>/dev/null
  if [ -z "$dry_run" ] && [ -n "$timeline" ]; then
    printf '\nTimeline (UTC), for the post-mortem:\n%s' "$timeline"
    if [ "$status" -eq 0 ]; then echo "done in $(($(date +%s) - began)) s"; else echo "FAILED after $(($(date +%s) - began)) s, exit code $status"; fi
  fi
  [ "$status" -eq 0 ] || [ -z "$unchanged" ] || echo "$unchanged"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'exit 143' TERM HUP
# The output is no longer read, as after `| head`: what is left to report goes to stderr.
trap 'exec >&2; exit 141' PIPE

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

# field NAME DOCUMENT: a text of a JSON document that a command has printed; empty if it is null or missing.
field() {
  printf '%s\n' "$2" | sed -n "s/^ *\"$1\": \"\(.*\)\",*\$/\1/p" | sed 's/\\\(["\\]\)/\1/g'
}

# A script leaves a mark from before its swap until it has finished. So one that was interrupted after the swap continues
# from there, and a swap by an earlier, finished script, or by hand, is not taken for its own.
mark=''
leaves_mark=''
CONTINUES_SECONDS=${CONTINUES_SECONDS:-3600}

# leave_mark WHAT [ID]: the lines are what is done, when this script began, the backup, and when the script ended.
leave_mark() {
  # A full disk may be the reason for the restore.
  if printf '%s\n' "$1" "$began" "${2:-}" 2>/dev/null >"$mark"; then
    leaves_mark=yes
  else
    say "no mark could be left: after an interruption, this script does not continue"
  fi
}

# is_marked WHAT: whether an earlier run left its mark for this.
is_marked() {
  [ -r "$mark" ] && [ "$(sed -n 1p "$mark")" = "$1" ]
}

# continues WHAT TIME: whether the swap at that time was one of an interrupted run of this script.
continues() {
  is_marked "$1" || return 1
  since=$(date -u -d "$2" +%s)
  until=$(sed -n 4p "$mark")
  [ "$(sed -n 2p "$mark")" -le "$since" ] && [ "$since" -le "${until:-$since}" ] && [ $((began - since)) -lt "$CONTINUES_SECONDS" ]
}

# swap promote NAME | swap rollback: afterwards, the last line says what is known. After an interruption nobody has seen
# the answer; after a failure, the server knows.
# shellcheck disable=SC2154 # each script says what $nothing is
swap() {
  case $1 in promote) whether="$2 was promoted" ;; *) whether="the databases were swapped" ;; esac
  unchanged="It is not known whether $whether: run the script again, and it continues from there"
  status=0
  sidecar_confirmed "$@" || status=$?
  case $status in
    0) unchanged='' ;;
    1)
      case $(sidecar "$@" --dry-run --json 2>/dev/null) in
        *'"found": true'*) unchanged="The databases WERE swapped: run the script again, and it continues from there" ;;
        *'"found": false'*) unchanged=$nothing ;;
      esac
      ;;
    2) unchanged=$nothing ;;
  esac
  return "$status"
}

# What is restored, in the words of the command line: a backup, or with --at a server as of a time.
what_is_restored() {
  printf '%s' "$backup_id${at:+ --at \"$at\"}"
}

# cannot_begin STATUS: the end of a script whose plan was refused. Wrong usage stays wrong usage.
cannot_begin() {
  unless_interrupted "$1"
  [ "$1" -eq 2 ] || set -- 1
  fail "it cannot begin; nothing was changed" "see the error above" "$1"
}

# Run a restore of that, with further options.
restore_it() {
  if [ -n "$at" ]; then set -- --at "$at" ${again:+"$again"} "$@"; else set -- ${again:+"$again"} "$@"; fi
  sidecar restore "${chosen:-$backup_id}" "$@"
}

other_choice() {
  if [ -n "$at" ]; then
    echo "choose another time; what can be recovered: $backup_by_hand wal status"
  else
    echo "choose an older verified backup: $backup_by_hand list"
  fi
}

# A server whose data folder was made again is another cluster to the backups, until it says that it continues the old one.
# A backup that fails, such as a base backup without a WAL stream, must not keep the app down.
take_backup() {
  sidecar run --adopt || {
    unless_interrupted $?
    say "a backup FAILED: run it by hand, $backup_by_hand run --adopt"
  }
}
