"""Decrypts standard input to standard output. pyrage keeps Python's lock while it works, so large objects need a process.

This file is started as a script, by :mod:`backup.pipeline.apart`::

    python -I decryptor.py

It closes its memory to other processes, prints one byte, and reads one line of secret keys before what it decrypts.
It imports as little as possible, so that starting it takes about 50 ms.
"""

import ctypes
import json
import os
import sys

import pyrage

PR_SET_DUMPABLE = 4
BUFFER = 1 << 20
READY = b"\n"
# Exit codes. The message is on standard error.
NO_IDENTITY, DAMAGED = 3, 4


def main() -> int:
    """Decrypt, and return the exit code."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.write(sys.stdout.fileno(), READY)
    # pyrage writes 8 KiB at a time.
    with open(0, "rb", BUFFER) as source, open(1, "wb", BUFFER) as target:
        keys = json.loads(source.readline())
        identities = [pyrage.x25519.Identity.from_str(key) for key in keys]
        try:
            pyrage.decrypt_io(source, target, identities)
        except pyrage.DecryptError as error:
            return _failed(error, NO_IDENTITY)
        except OSError as error:
            return _failed(error, DAMAGED)
    return 0


def _failed(error: Exception, status: int) -> int:
    print(error, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
