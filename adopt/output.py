"""Writes files repeatedly without overwriting a person's changes."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sidecar import UsageError

MEMORY = ".ops-init.json"
# The mode of files that people write passwords into.
SECRET_MODE = 0o600


@dataclass(frozen=True)
class Written:
    """The outcome for each file, by path.

    Attributes:
        kept: a person has changed it; the new text is next to it, as ``.new``.
        gone: no longer wanted, and unchanged since it was written.
    """

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def write(folder: Path, files: Mapping[str, str]) -> Written:
    """Write the files below a folder.

    Raises:
        UsageError: the folder has other files of these names, or cannot be written.
    """
    try:
        return _write(folder, files)
    except OSError as error:
        raise UsageError(
            f"{error.filename}: {error.strerror}", hint="name a folder that you can write to"
        ) from None


def _write(folder: Path, files: Mapping[str, str]) -> Written:
    known = _memory(folder)
    foreign = [path for path in files if path not in known and (folder / path).exists()]
    if foreign:
        raise UsageError(
            f"{folder} has files that were not written here: {', '.join(foreign[:3])}; nothing was written",
            hint="name a new folder",
        )
    new: list[str] = []
    changed: list[str] = []
    kept: list[str] = []
    gone: list[str] = []
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.read_text(encoding="utf-8") if target.exists() else None
        if before == text:
            continue
        if before is not None and _digest(before) != known[path]:
            kept.append(path)
            _put(target.with_name(f"{target.name}.new"), text)
            continue
        (new if before is None else changed).append(path)
        _put(target, text)
    for path in sorted(set(known) - set(files)):
        target = folder / path
        if target.exists() and _digest(target.read_text(encoding="utf-8")) == known[path]:
            target.unlink()
            gone.append(path)
    remembered = {path: known[path] if path in kept else _digest(text) for path, text in files.items()}
    _put(folder / MEMORY, json.dumps(remembered, indent=1, sort_keys=True) + "\n")
    return Written(tuple(new), tuple(changed), tuple(kept), tuple(gone))


def _memory(folder: Path) -> dict[str, str]:
    """Path → digest of what was written last."""
    file = folder / MEMORY
    if not file.exists():
        return {}
    try:
        return {
            str(path): str(digest) for path, digest in json.loads(file.read_text(encoding="utf-8")).items()
        }
    except (ValueError, AttributeError):
        raise UsageError(f"{file} is damaged", hint="name a new folder") from None


def _put(target: Path, text: str) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.touch(mode=SECRET_MODE if target.name.partition(".new")[0].endswith(".env") else 0o666)
    draft.write_text(text, encoding="utf-8")
    draft.replace(target)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
