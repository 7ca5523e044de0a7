#!/bin/sh
# Starts Sentinel. Sentinel stores its state (its ID, the epoch, the master) in its configuration, so it is written once.
set -eu
. "$(dirname "$0")/common.sh"
umask 077
await_names
mkdir -p "$(dirname "$SENTINEL_CONFIG")"
if [ ! -s "$SENTINEL_CONFIG" ]; then
  now=$(master)
  # Sentinel resolves the master's name when it starts, and fails if it cannot.
  until timeout 3 redis-cli -h "$now" ping >/dev/null 2>&1; do
    echo "waiting for $now"
    sleep 1
  done
  cat > "$SENTINEL_CONFIG" <<EOF
port $SENTINEL_PORT
dir /tmp
requirepass "$REDISCLI_AUTH"
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $me
sentinel monitor $MASTER_NAME $now 6379 2
sentinel auth-pass $MASTER_NAME $REDISCLI_AUTH
sentinel sentinel-pass $REDISCLI_AUTH
sentinel down-after-milliseconds $MASTER_NAME 10000
sentinel failover-timeout $MASTER_NAME 60000
sentinel parallel-syncs $MASTER_NAME 1
EOF
fi
exec redis-server "$SENTINEL_CONFIG" --sentinel
