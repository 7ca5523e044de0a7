#!/bin/sh
# hiredis-py 3.5.0: Reader.feed() with a lot of data slows down the gets() that follow. The reader moves the rest of its buffer
# to the front each time it has parsed another 1 kB, so the time grows with the square of the amount fed at once.
# A subscriber that reads 256 kB at a time spends four times as long in the parser as one that feeds 16 kB pieces.
#
# Seen on 2026-11-29 with Python 3.11: 8 MB of pub/sub messages of 600 bytes, fed in pieces of
#   16 kB: 0.008 s    256 kB: 0.031 s    8 MB at once: 1.344 s
#
# Usage: findings/hiredis-slow-on-large-feeds.sh     (Python 3.11 or 3.12 as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install hiredis==3.5.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import hiredis

message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$600\r\n" + b"x" * 600 + b"\r\n"
stream = message * (8_000_000 // len(message))


def seconds(piece):
    reader, parsed, started = hiredis.Reader(), 0, time.process_time()
    for at in range(0, len(stream), piece):
        reader.feed(stream[at : at + piece])
        while reader.gets() is not False:
            parsed += 1
    assert parsed == len(stream) // len(message)
    return time.process_time() - started


def best(piece):
    return min(seconds(piece) for _ in range(3))


small, middle, whole = best(1 << 14), best(1 << 18), best(len(stream))
print(f"hiredis {hiredis.__version__}: 16 kB pieces {small:.3f} s, 256 kB {middle:.3f} s, at once {whole:.3f} s")
if whole < 5 * small:
    sys.exit("changed: expected that one large feed takes more than five times as long")
PYTHON
