"""Runs one program under Landlock: it reads what it is given, writes into its own folder, and opens no TCP connection.

This file is started as a script, restricts its own process and becomes the program::

    python -I -S landlock.py [tcp] [read=PATH …] [write=PATH …] -- PROGRAM [ARGUMENT …]

It imports as little as possible, so that starting it takes about 15 ms, and it needs no privilege.

The system calls and constants are those of the kernel's ``Documentation/userspace-api/landlock.rst`` and
``include/uapi/linux/landlock.h``. Restrictions that an older kernel does not know are left out of the request: version 1 restricts
files, 4 adds TCP, 6 adds signals and abstract sockets.
"""

import ctypes
import os
import signal
import sys

# The same numbers on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
# The rights in version 1: the four above, removing, and creating each kind of file.
_FIRST = (1 << 13) - 1
_READ = _EXECUTE | _READ_FILE | _READ_DIR
# Rights that apply to a file; the kernel rejects the others for it.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 1 << 0 | 1 << 1
_SIGNALS_AND_SOCKETS = 1 << 0 | 1 << 1

TCP_VERSION, SCOPE_VERSION = 4, 6
# The exit code of a program that could not be confined; it was not run.
NOT_CONFINED = 125
# The message if the kernel refused. The exit code then says nothing about the program's input.
REFUSED = "error: it cannot be confined"


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The kernel's version of Landlock; 0 if it has none or it is disabled."""
    return max(_syscall(_CREATE_RULESET, None, 0, _VERSION), 0)


def restrict(read: list[str], write: list[str], *, tcp: bool = False) -> None:
    """Restrict this thread, and everything that it starts, permanently.

    Args:
        read: files and folders that may be read and run; those that do not exist are left out.
        write: folders and devices that may also be written, and not run.
        tcp: whether TCP connections may be opened and accepted.

    Raises:
        OSError: the kernel refused.
    """
    known = version()
    ruleset = _ruleset(known, tcp=tcp)
    try:
        for path in read:
            _allow(ruleset, path, _READ)
        for path in write:
            _allow(ruleset, path, _files(known) & ~_EXECUTE)
        _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def main(arguments: list[str]) -> None:
    """Become the program, confined; does not return."""
    end = arguments.index("--")
    rules, command = arguments[:end], arguments[end + 1 :]
    read, write = (
        [rule[len(kind) :] for rule in rules if rule.startswith(kind)] for kind in ("read=", "write=")
    )
    # Python ignores this signal, and the program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        restrict(read, write, tcp="tcp" in rules)
    except OSError as error:
        sys.exit(_failed(f"{REFUSED}: {error}"))
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(_failed(f"error: {command[0]}: {error.strerror}"))


def _failed(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return NOT_CONFINED


def _files(known: int) -> int:
    newer = ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
    return _FIRST | sum(right for since, right in newer if known >= since)


def _ruleset(known: int, *, tcp: bool) -> int:
    net = _TCP if known >= TCP_VERSION and not tcp else 0
    scoped = _SIGNALS_AND_SOCKETS if known >= SCOPE_VERSION else 0
    attributes = _Ruleset(_files(known), net, scoped)
    # A kernel accepts only the fields that its version knows.
    size = 24 if known >= SCOPE_VERSION else 16 if known >= TCP_VERSION else 8
    return _checked(_syscall(_CREATE_RULESET, ctypes.byref(attributes), size, 0))


def _allow(ruleset: int, path: str, wanted: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a missing path cannot be read anyway
    try:
        allowed = wanted if os.path.isdir(path) else wanted & _OF_FILES  # noqa: PTH112 - pathlib takes a long time to load
        rule = _PathBeneath(allowed, handle)
        _checked(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(handle)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(libc.syscall(ctypes.c_long(number), *words))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
