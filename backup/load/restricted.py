"""Input for psql that comes from a store: SQL only. psql's own commands can run programs and write files."""

import re
import secrets

from backup.programs import Programs

# The first minor versions that know \restrict, by major version; later major versions all do.
_SINCE = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
# What psql prints for a command that it refuses.
REFUSED = "backslash commands are restricted"
_OWN = re.compile(rb"\\(?:un)?restrict [A-Za-z0-9]+\s*")


def restriction(programs: Programs) -> bytes:
    r"""The line that makes psql refuse every command of its own; empty for a psql that is too old to know it.

    Only ``\unrestrict`` with the same random word would end it.
    """
    major, _, minor = programs.version("psql").partition(".")
    number = int(re.match(r"\d*", minor)[0] or 0)  # type: ignore[index]
    if int(major) < 18 and number < _SINCE.get(int(major), 1 << 16):
        return b""
    return b"\\restrict " + secrets.token_hex(32).encode() + b"\n"


def is_restriction(line: bytes) -> bool:
    """Whether a line is a dump's own restriction, which ours takes the place of."""
    return _OWN.fullmatch(line) is not None
