#!/bin/sh
# Runs before a Redis pod stops, for example when its node is drained: if it is the master, a replica takes over first.
# Without it, the Sentinels notice only after ten seconds that the master is missing, and nothing can be sent meanwhile.
set -eu
. "$(dirname "$0")/common.sh"

mine() { timeout 3 redis-cli --raw "$@" | head -1; }
ask() { timeout 3 redis-cli -h "$1" -p "$SENTINEL_PORT" --raw sentinel "$2" "$MASTER_NAME" 2>/dev/null | head -1; }

[ "$(mine role)" = master ] || exit 0
# The Sentinel of this pod stops at the same time.
others="" i=0
while [ "$i" -lt "$REPLICAS" ]; do
  [ "$SERVICE-$i$DOMAIN" = "$me" ] || others="$others $SERVICE-$i$DOMAIN"
  i=$((i + 1))
done

# Writes wait, so that the new master has everything that this one confirmed. Those that still wait when this server stops
# fail, and the clients repeat them on the new master.
mine client pause 20000 write
started=
for sentinel in $others; do
  [ "$(ask "$sentinel" failover)" != OK ] || { started=yes && break; }
done
if [ -z "$started" ]; then
  mine client unpause
  exit 0
fi
# Clients ask any of the Sentinels, so all have to know the new master.
known() {
  for sentinel in $others; do
    [ "$(ask "$sentinel" get-master-addr-by-name)" != "$me" ] || return 1
  done
}
tries=0
until known || [ "$tries" -ge 15 ]; do
  tries=$((tries + 1))
  sleep 1
done
