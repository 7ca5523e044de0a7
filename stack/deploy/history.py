"""Which tags ran on this host. ``.env`` holds the present one and where its images are, so that plain compose commands mean it too."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

TAG, IMAGES = "POSTHUB_TAG", "POSTHUB_IMAGES"


class History:
    """The deployments of one checkout.

    Args:
        dry: note nothing.
    """

    def __init__(self, root: Path, *, dry: bool = False) -> None:
        self._dry = dry
        self._env = root / ".env"
        self._log = root / ".ops" / "deployments.jsonl"

    def current(self) -> str | None:
        """The tag that runs, if one was ever deployed."""
        found = _line(TAG).search(self._text())
        return found[1].strip() or None if found else None

    def previous(self) -> str | None:
        """The tag that ran before the present one."""
        current = self.current()
        return next((tag for tag in reversed(self._tags()) if tag != current), None)

    def add(self, tag: str, images: str = "") -> None:
        """Note a deployment."""
        if self._dry:
            return
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(
                json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), "tag": tag}) + "\n"
            )
        self._set(TAG, tag)
        if images:
            self._set(IMAGES, images)

    def _tags(self) -> list[str]:
        if not self._log.exists():
            return []
        return [json.loads(line)["tag"] for line in self._log.read_text(encoding="utf-8").splitlines()]

    def _text(self) -> str:
        return self._env.read_text(encoding="utf-8") if self._env.exists() else ""

    def _set(self, name: str, value: str) -> None:
        text, line = self._text(), f"{name}={value}"
        text = _line(name).sub(line, text) if _line(name).search(text) else f"{text}{line}\n"
        self._env.write_text(text, encoding="utf-8")


def _line(name: str) -> re.Pattern[str]:
    return re.compile(rf"^{name}=(.*)$", re.MULTILINE)
