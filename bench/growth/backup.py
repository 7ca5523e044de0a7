"""Curves whose points are measured by a process of the checkout, so that an older one can be compared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.exporter.measure import Workshop
from bench.growth import commands
from bench.growth.exporter import Cost
from sidecar.cli import stderr_console

PROBE = Path(__file__).with_name("probe.py")
RENDERS = Path(__file__).with_name("renders.py")
SECONDS = 900.0


def probed(folder: Path, curve: str, size: int, probe: Path = PROBE) -> list[Cost]:
    """What a probe measures with the code of a checkout; empty if the probe fails."""
    done = subprocess.run(
        [sys.executable, "-P", str(probe), curve, str(size)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{probe.parent}",
            "BACKUP_STORE_URL": "file:///nonexistent",
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        stderr_console().print(f"{curve} {size:,}: {(done.stderr.splitlines() or ['?'])[-1]}", soft_wrap=True)
        return []
    return [Cost(what, value) for what, value in json.loads(done.stdout.splitlines()[-1]).items()]


def backups(_: Workshop, folder: Path, count: int) -> list[Cost]:
    """Verified backups of 25 tables in a store that answers after 30 ms."""
    return probed(folder, "backups", count)


def manifests(_: Workshop, folder: Path, tables: int) -> list[Cost]:
    """Tables of each of 50 backups."""
    return probed(folder, "manifests", tables)


def rendering(probe: str) -> Callable[[Workshop, Path, int], list[Cost]]:
    """What the exporter renders, without a broker."""
    return lambda _, folder, size: probed(folder, probe, size, RENDERS)


# Name of a curve → what its size counts, its sizes, the measurement.
CURVES: dict[str, tuple[str, tuple[int, ...], Callable[[Workshop, Path, int], list[Cost]]]] = {
    "backups": ("backups", (10, 100, 1_000), backups),
    "manifests": ("tables in each of 50 backups", (100, 1_000, 3_000), manifests),
    **commands.CURVES,
    "rendered-names": ("workers, each with 100 task names", (10, 100, 1_000), rendering("names")),
    "rendered-consumers": (
        "workers, each on 50 of 500 queues",
        (10, 100, 1_000),
        rendering("consumers"),
    ),
    "rendered-schedules": ("schedules", (100, 1_000, 10_000), rendering("schedules")),
}
