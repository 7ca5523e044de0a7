"""Reading an environment file as compose reads it: NAME=VALUE, quotes, comments."""

import re
from pathlib import Path

from sidecar import UsageError

# Inside quotes, # is an ordinary character; only a comment may follow the closing quote.
QUOTED = re.compile(r"""(['"])(.*?)\1\s*(#.*)?$""")


def read(path: Path) -> dict[str, str]:
    """The variables of a file.

    Raises:
        UsageError: the file is missing, or a line is not an assignment.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(
            f"{path.name} cannot be read: {error.strerror}", hint=f"cp .env.production.example {path.name}"
        ) from None
    return dict(
        _assignment(path, number, line)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    )


def _assignment(path: Path, number: int, line: str) -> tuple[str, str]:
    name, equals, value = line.strip().removeprefix("export ").partition("=")
    if not equals or not name.strip().isidentifier():
        raise UsageError(f"{path.name}, line {number} is not an assignment", hint="write NAME=VALUE")
    return name.strip(), _value(value.strip())


def _value(text: str) -> str:
    quoted = QUOTED.match(text)
    if quoted:
        return quoted[2]
    return text.partition(" #")[0].rstrip()
