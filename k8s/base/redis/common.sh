# Sourced by redis.sh and sentinel.sh: finds the master.
# Redis and Sentinel announce stable addresses: each pod's name under the headless service.
SERVICE=${SERVICE:-posthub-redis}
SENTINEL_PORT=${SENTINEL_PORT:-26379}
MASTER_NAME=${MASTER_NAME:-posthub}
REPLICAS=${REPLICAS:-3}
NAME_OF_POD=${NAME_OF_POD:-$(hostname)}
DOMAIN=${DOMAIN-.$SERVICE}
REDISCLI_AUTH=$(cat "${PASSWORD_FILE:-/run/secrets/redis/password}")
export REDISCLI_AUTH

me="$NAME_OF_POD$DOMAIN"

# The master that the Sentinels name; the first pod if none of them knows one yet.
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
  echo "$SERVICE-0$DOMAIN"
}
