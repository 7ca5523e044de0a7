# shellcheck shell=sh
# shellcheck disable=SC2154 # common.sh sets them
# The containers of docker-compose.prod.yml.

compose() {
  docker compose -f docker-compose.prod.yml "$@"
}

containers() {
  case $1 in
    api) echo posthub_api_prod ;;
    workers) echo posthub_celery_worker posthub_celery_worker_ai ;;
    beat) echo posthub_celery_beat ;;
    postgres) echo posthub_postgres_prod ;;
    redis) echo posthub_redis_prod ;;
    all) echo ;;
  esac
}

# The lock of the scripts: one for each checkout, which is one for each stack.
stack_lock() {
  echo "$root/.ops/runbook.lock"
}

stack_check() {
  command -v docker >/dev/null || fail "docker is not installed here" "run the script on the server, as a user who may use docker" 2
  compose config --quiet || fail "docker-compose.prod.yml cannot be read" "check that .env.production exists" 2
}

stack_stop() {
  # shellcheck disable=SC2046 # several containers are several words
  compose stop $(containers "$1")
}

stack_start() {
  # shellcheck disable=SC2046 # several containers are several words
  compose up --detach --no-build --wait --wait-timeout 240 $(containers "$1")
}

stack_restart() {
  # shellcheck disable=SC2046 # several containers are several words
  compose restart $(containers "$1") && stack_start "$1"
}

stack_sql() {
  compose exec -T posthub_postgres_prod psql -U posthub_admin -d "$1" -Atc "$2"
}

stack_postgres_answers() {
  stack_sql template1 'SELECT 1'
}

# KiB that are free where PostgreSQL keeps its data.
stack_postgres_free() {
  # shellcheck disable=SC2016 # the container's shell reads it
  compose exec -T posthub_postgres_prod sh -c 'df -Pk "$PGDATA"' | awk 'NR == 2 { print $4 }'
}

stack_postgres_in_use() {
  has_tables posthub
}

# Our own images: pulled from the registry in POSTHUB_IMAGES if it is set, otherwise built here.
stack_images() {
  if grep -q '^POSTHUB_IMAGES=.' .env.production || [ -n "${POSTHUB_IMAGES:-}" ]; then
    compose pull --quiet
  else
    compose build
  fi
}

# Production's URL with the role of the server's owner, which may create databases. Passed through the environment, so that
# it does not appear in process lists.
restore_url() {
  compose run --rm --no-deps -T --entrypoint cat posthub_db_roles /run/secrets/restore_url
}

# How to run the sidecar's commands by hand on this stack.
# shellcheck disable=SC2034 # some scripts print it
backup_by_hand='docker compose -f docker-compose.prod.yml run --rm --no-deps posthub_backup'

# In a new container: the service may be down, or busy with a verification.
stack_backup() {
  terminal=-T
  if [ -t 0 ] && [ -t 1 ]; then terminal=''; fi
  BACKUP_RESTORE_URL=$(restore_url) || return
  export BACKUP_RESTORE_URL
  # shellcheck disable=SC2086 # empty must expand to nothing
  compose run --rm --no-deps $terminal ${mounts:-} -e BACKUP_RESTORE_URL -e BACKUP_RESTORE_URL_FILE= posthub_backup "$@"
}

stack_manage() {
  compose run --rm --no-deps -T posthub_migrate python manage.py "$@"
}

stack_roles() {
  compose run --rm --no-deps -T posthub_db_roles
}

stack_alerts() {
  compose exec -T posthub_alert_watch python -m alerts "$@"
}

stack_healthy() {
  compose exec -T posthub_api_prod python /srv/health/answers.py http://127.0.0.1:8000/health/ 2>/dev/null
}

# The RDB is restored to a folder on the host, and copied from there into the volume, which only Redis' user can write.
stack_fetch_rdb() {
  mounts="-v $1:/restore"
  sidecar restore "$backup_id" --to /restore/dump.rdb
  # The sidecar's user wrote it for itself alone. This user reads it next, and nobody else reaches the folder.
  compose run --rm --no-deps -T -v "$1:/restore" --entrypoint chmod posthub_backup 644 /restore/dump.rdb
  mounts=''
}

stack_redis_folder() {
  compose run --rm --no-deps -T --entrypoint sh posthub_redis_prod -eu -s -- /data
}

stack_redis_load() {
  compose run --rm --no-deps -T --entrypoint sh posthub_redis_prod -euc "$put_file" sh /data/restored.rdb <"$1"
}
