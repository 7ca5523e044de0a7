"""The peak memory of a process while it runs. The kernel's figure at its end includes the memory of its parent."""

import re
from contextlib import suppress
from pathlib import Path

from bench.background import Background

POLL_SECONDS = 0.2
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


class Peak(Background):
    """Samples the peak memory of one process, without its children, until it ends."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._status = Path(f"/proc/{pid}/status")
        super().__init__()

    def work(self) -> None:
        while not self.ending.wait(POLL_SECONDS):
            with suppress(OSError):
                if found := _PEAK.search(self._status.read_text()):
                    self.bytes = max(self.bytes, int(found[1]) * 1024)
