"""The peak memory of a process while it runs. The kernel's figure at its end includes the memory of its parent."""

import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

LOOK_SECONDS = 0.2
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


class Peak:
    """Samples the peak memory of one process, without its children, until it ends."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with suppress(OSError):
                if found := _PEAK.search(self._status.read_text()):
                    self.bytes = max(self.bytes, int(found[1]) * 1024)
