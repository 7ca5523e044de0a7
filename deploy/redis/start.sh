#!/bin/sh
# Starts Redis. What an earlier version's user wrote last, when its group was already allowed to, may not be writable for
# this one: such files are replaced by copies.
set -eu
data=${DATA:-/data}
for file in "$data"/* "$data"/appendonlydir/*; do
  if [ -f "$file" ] && [ ! -w "$file" ]; then
    cp "$file" "$file.copy"
    mv -f "$file.copy" "$file"
  fi
done
exec redis-server --aclfile /run/secrets/users.acl "$@"
