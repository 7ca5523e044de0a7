#!/bin/sh
# collect-redis.sh FOLDER: collects this image's Redis programs and their libraries, to copy them into another image.
# The C runtime's libraries are left out: the target image has its own.
set -eu
target=$1
mkdir -p "$target/bin" "$target/lib"
for program in redis-server redis-cli redis-check-rdb redis-check-aof; do
  found=$(PATH=/usr/bin:/usr/local/bin command -v "$program")
  cp -L "$found" "$target/lib/$program"
  ldd "$found" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | while read -r library; do
    case ${library##*/} in
      libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux*) ;;
      *) [ -e "$target/lib/${library##*/}" ] || cp -L "$library" "$target/lib/" ;;
    esac
  done
  # redis-server decides by the name of its file which of these programs it is.
  {
    echo '#!/bin/sh'
    echo "LD_LIBRARY_PATH=$target/lib exec $target/lib/$program \"\$@\""
  } > "$target/bin/$program"
  chmod 755 "$target/bin/$program"
done
