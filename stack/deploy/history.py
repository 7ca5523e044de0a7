"""The tags that ran on this host. ``.env`` has the current one and its registry, so that plain compose commands mean it too."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

TAG, IMAGES = "POSTHUB_TAG", "POSTHUB_IMAGES"


class History:
    """The deployments of one checkout.

    Args:
        dry: record nothing.
    """

    def __init__(self, root: Path, *, dry: bool = False) -> None:
        self._dry = dry
        self._env = root / ".env"
        self._log = root / ".ops" / "deployments.jsonl"

    @property
    def empty(self) -> bool:
        """Whether no deployment was ever noted."""
        return not self._entries()

    def current(self) -> str | None:
        """The current tag, if one was ever deployed."""
        return self._get(TAG) or None

    def images(self) -> str:
        """Its registry; empty when none was given."""
        return self._get(IMAGES)

    def previous(self) -> str | None:
        """The tag before the current one. After a rollback, this is never the tag that was rolled back from."""
        ran: list[str] = []
        for tag, back in self._entries():
            if back and tag in ran:
                del ran[ran.index(tag) + 1 :]
            elif tag not in ran[-1:]:
                ran.append(tag)
        current = self.current()
        return next((tag for tag in reversed(ran) if tag != current), None)

    def add(self, tag: str, images: str = "", *, back: bool = False) -> None:
        """Record a deployment or a rollback."""
        if self._dry:
            return
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("a", encoding="utf-8") as log:
            entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "tag": tag, "back": back}
            log.write(json.dumps(entry) + "\n")
        self._set(TAG, tag)
        if images:
            self._set(IMAGES, images)

    def _entries(self) -> list[tuple[str, bool]]:
        if not self._log.exists():
            return []
        entries = map(json.loads, self._log.read_text(encoding="utf-8").splitlines())
        return [(entry["tag"], entry["back"]) for entry in entries]

    def _text(self) -> str:
        return self._env.read_text(encoding="utf-8") if self._env.exists() else ""

    def _get(self, name: str) -> str:
        found = _line(name).search(self._text())
        return found[1].strip() if found else ""

    def _set(self, name: str, value: str) -> None:
        text, line = self._text(), f"{name}={value}"
        if text and not text.endswith("\n"):
            text += "\n"
        text = _line(name).sub(line, text) if _line(name).search(text) else f"{text}{line}\n"
        self._env.write_text(text, encoding="utf-8")


def _line(name: str) -> re.Pattern[str]:
    return re.compile(rf"^{name}=(.*)$", re.MULTILINE)
