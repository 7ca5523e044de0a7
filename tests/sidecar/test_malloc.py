"""Memory that a process returns to the system."""

import subprocess
import sys

from sidecar.malloc import return_large_blocks

BLOCKS = 8
# One block is freed at first: by default, the C library then keeps blocks of this size. What is allocated last fills the
# gaps, and lies above the blocks.
PROGRAM = f"""
import sys
from pathlib import Path
from sidecar.malloc import return_large_blocks

def resident():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024

if sys.argv[1:]:
    return_large_blocks()
begin = resident()
bytearray(b"x" * (16 << 20))
blocks = [bytearray(b"x" * (16 << 20)) for _ in range({BLOCKS})]
above = [bytearray(100 << 10) for _ in range(600)]
blocks.clear()
print(resident() - begin)
"""


def _kept(*arguments: str) -> float:
    """MiB that a program keeps after it has freed large blocks."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def test_a_large_block_is_returned_as_soon_as_it_is_free() -> None:
    assert _kept() - _kept(return_large_blocks.__name__) > 64
