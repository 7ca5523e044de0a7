#!/bin/sh
# Starts Redis as the master, or as a replica of the master that the Sentinels name.
set -eu
. "$(dirname "$0")/common.sh"
config=${REDIS_CONFIG:-/tmp/redis.conf}
await_names
now=$(master)
umask 077
{
  echo "requirepass \"$REDISCLI_AUTH\""
  echo "masterauth \"$REDISCLI_AUTH\""
  echo "replica-announce-ip $me"
  [ "$now" = "$me" ] || echo "replicaof $now 6379"
} > "$config"
echo "starting $me; the master is $now"
exec redis-server "$config" \
  --dir /data --appendonly yes \
  --maxmemory 768mb --maxmemory-policy noeviction \
  --min-replicas-to-write 1 --min-replicas-max-lag 10
