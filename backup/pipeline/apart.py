"""Decrypts in a separate process, while this one decompresses and writes.

pyrage keeps Python's lock while it decrypts: in this process, nothing else that needs the lock could run meanwhile.
"""

import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from backup.cancellation import check_cancelled
from backup.errors import OURS
from backup.pipeline import decryptor
from backup.pipeline.child import end, start
from backup.pipeline.encrypt import Identity, Reader, Writer, damaged, no_identity
from backup.pipeline.source import CHUNK, F_SETPIPE_SZ
from backup.programs import clean_environment
from sidecar import OpsError
from sidecar.signals import uninterrupted

# Smaller objects are not worth it: starting the process takes as long as decrypting them.
LEAST = 64 << 20
_POLL_SECONDS = 1.0


def decrypt_apart(reader: Reader, writer: Writer, identities: Sequence[Identity]) -> None:
    """The same as :func:`backup.pipeline.encrypt.decrypt`, for large objects.

    Raises:
        NoIdentityError, VerificationError: see there.
        OpsError: the process was killed, or could not work.
    """
    process = None
    try:
        with uninterrupted():
            process = start(
                [sys.executable, "-I", decryptor.__file__],
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        _pass_on(process.stdout, _Input(process.stdin, reader, identities), writer)
        _check_end(process)
    finally:
        if process is not None:
            end(process)


class _Input:
    """What the process reads. The secret keys come first: others could read its arguments and its environment."""

    def __init__(self, pipe: IO[bytes], reader: Reader, identities: Sequence[Identity]) -> None:
        self._pipe = pipe
        self._reader = reader
        keys = json.dumps([str(identity) for identity in identities])
        self._left = memoryview(f"{keys}\n".encode())
        _enlarge(pipe)
        os.set_blocking(pipe.fileno(), False)

    def fileno(self) -> int:
        return self._pipe.fileno()

    def send(self) -> bool:
        """Send what there is room for; returns whether there is more to send."""
        try:
            self._left = self._left[os.write(self.fileno(), self._left) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False  # it has ended; its exit code says why
        self._left = self._left or memoryview(self._reader.read())
        return bool(self._left)

    def close(self) -> None:
        self._pipe.close()


def _pass_on(output: IO[bytes], source: _Input, writer: Writer) -> None:
    """Write what the process has decrypted, until it closes its output, and send it its input meanwhile."""
    _enlarge(output)
    poll = select.poll()
    poll.register(output, select.POLLIN)
    waits_for_keys = True
    while True:
        ready = dict(poll.poll(_POLL_SECONDS * 1000))
        check_cancelled()
        if output.fileno() in ready:
            if not (data := os.read(output.fileno(), CHUNK)):
                return
            if waits_for_keys:
                waits_for_keys, data = False, data.removeprefix(decryptor.READY)
                poll.register(source, select.POLLOUT)
            if data:
                writer.write(data)
        elif ready and not source.send():
            poll.unregister(source)
            source.close()


def _enlarge(pipe: IO[bytes]) -> None:
    with suppress(OSError):
        fcntl.fcntl(pipe, F_SETPIPE_SZ, CHUNK)


def _check_end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stderr is not None
    message = process.stderr.read().decode(errors="replace").strip()
    status = process.wait()
    if status == decryptor.NO_IDENTITY:
        raise no_identity(message)
    if status == decryptor.DAMAGED:
        raise damaged(message)
    if status != 0:
        ending = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        raise OpsError(
            f"the process that decrypts {ending}: {message[-300:] or 'it printed no message'}", hint=OURS
        )
