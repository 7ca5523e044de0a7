# Sourced by redis.sh and sentinel.sh: finds the master.
# Redis and Sentinel announce stable addresses: each pod's name under the headless service.
SERVICE=${SERVICE:-posthub-redis}
SENTINEL_PORT=${SENTINEL_PORT:-26379}
MASTER_NAME=${MASTER_NAME:-posthub}
SENTINEL_CONFIG=${SENTINEL_CONFIG:-/data/sentinel/sentinel.conf}
REPLICAS=${REPLICAS:-3}
NAME_OF_POD=${NAME_OF_POD:-$(hostname)}
DOMAIN=${DOMAIN-.$SERVICE}
REDISCLI_AUTH=$(cat "${PASSWORD_FILE:-/run/secrets/redis/password}")
export REDISCLI_AUTH

me="$NAME_OF_POD$DOMAIN"

# Redis and Sentinel answer nothing while they resolve a name, and Sentinel resolves five before it starts: without DNS,
# as after a power cut, it would be busy for minutes, and then do nothing for 30 s ("tilt").
await_names() {
  until timeout 3 getent hosts "$me" >/dev/null; do
    echo "waiting until DNS knows $me"
    sleep 1
  done
}

# The master that the Sentinels name. If none of them runs, such as after a power cut, the one that this pod's Sentinel
# stored last: the first pod may have older data. The first pod if none was stored yet.
master() {
  i=0
  while [ "$i" -lt "$REPLICAS" ]; do
    found=$(timeout 3 redis-cli -h "$SERVICE-$i$DOMAIN" -p "$SENTINEL_PORT" --raw \
      sentinel get-master-addr-by-name "$MASTER_NAME" 2>/dev/null | head -1)
    case $found in
      "$SERVICE"-*) echo "$found" && return ;;
    esac
    i=$((i + 1))
  done
  stored=$(sed -n "s/^sentinel monitor $MASTER_NAME \([^ ]*\) .*/\1/p" "$SENTINEL_CONFIG" 2>/dev/null || true)
  echo "${stored:-$SERVICE-0$DOMAIN}"
}
