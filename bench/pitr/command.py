"""``./ops bench pitr``."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from backup.physical.service import UPKEEP_SECONDS
from bench.backup.data import fill_once
from bench.pitr import faults, parts
from bench.pitr.ledger import Figures
from bench.pitr.place import Place, place
from bench.rounds import workshop

Goal = tuple[str, str, bool]
NAMES = (
    "cost",
    "idle",
    "throughput",
    "base",
    "recovery",
    "disasters",
    "server-lost",
    "outage",
    "kills",
    "cap",
)
# The promises: the figure, its limit, and whether the limit is a minimum.
LIMITS: Mapping[str, tuple[str, float, bool]] = {
    "p50_seconds": ("host lost: median loss ≤ 1 s", 1.0, False),
    "max_seconds": ("host lost: greatest loss ≤ 2.5 s", 2.5, False),
    "holes": ("no hole in the ledger", 0.0, False),
    "server_lost_rows": ("server lost: nothing that was acknowledged is lost", 0.0, False),
    "server_lost_holes": ("server lost: no hole in the ledger", 0.0, False),
    "outage_rows_lost": ("store dead: nothing is lost", 0.0, False),
    "outage_gaps": ("store dead: no gap", 0.0, False),
    "outage_files": ("store dead: no file is written", 0.0, False),
    "outage_rss_bytes": ("store dead: peak RSS of the stream ≤ 200 MB", 200e6, False),
    "catch_up_ratio": ("store back: catches up at ≥ 2 × the pace of the WAL", 2.0, True),
    "kill_gaps": ("kill -9: no gap", 0.0, False),
    "kill_holes": ("kill -9: no hole in the ledger", 0.0, False),
    "bases_unproven": ("kill -9 of base backups: each that is listed is proven", 0.0, False),
    "cap_wal_ratio": ("sidecar dead: pg_wal ≤ limit + max_wal_size + segments of a checkpoint", 1.0, False),
    "cap_throughput_ratio": ("sidecar dead: throughput ≥ 0.95 × that without a slot", 0.95, True),
    "gap_recorded_seconds": ("sidecar back: gap recorded within 60 s", 60.0, False),
    "cpu_ratio": ("CPU ≤ 1.0 × pg_receivewal with the same packing", 1.0, False),
    "cpu_seconds_per_gigabyte": ("CPU ≤ 8 s per GB of WAL", 8.0, False),
    "rss_bytes": ("peak RSS of the stream ≤ 200 MB", 200e6, False),
    "idle_share": ("idle: ≤ 0.5% of a core", 0.005, False),
    "busy_share": ("100 commits a second: ≤ 2% of a core", 0.02, False),
    "throughput_ratio": ("commits of the primary ≥ 0.97 × those without", 0.97, True),
    "base_ratio": ("base backup ≤ 1.3 × pg_basebackup | zstd -2 -T2", 1.3, False),
    "base_rss_bytes": ("peak RSS of the base backup ≤ 200 MB", 200e6, False),
    "recovery_ratio": ("recovery ≤ 0.4 × the logical restore", 0.4, False),
    "tar_ratio": ("recovery ≤ 1.4 × a local tar and cp", 1.4, False),
    "proof_ratio": ("whole proof ≤ 1.0 × the logical verification", 1.0, False),
}


@click.command()
@click.option("--size", default=2000, show_default=True, metavar="MB", help="Megabytes of the plain dump.")
@click.option(
    "--wal",
    default=300,
    show_default=True,
    metavar="MB",
    help="Megabytes of WAL in a burst, and in a replay.",
)
@click.option("--disasters", default=20, show_default=True, help="Number of times that the host is lost.")
@click.option(
    "--rounds",
    default=2,
    show_default=True,
    help="Rounds of measurements that alternate; the median is reported.",
)
@click.option(
    "--outage", default=600, show_default=True, metavar="SECONDS", help="How long the store is dead."
)
@click.option(
    "--kills", default=30, show_default=True, help="Kills of the stream; a third as many of base backups."
)
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Measure only these parts.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder for everything; temporary by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def pitr(
    size: int,
    wal: int,
    disasters: int,
    outage: int,
    kills: int,
    rounds: int,
    only: tuple[str, ...],
    folder: Path | None,
    as_json: bool,
) -> None:
    """Compare point-in-time recovery with PostgreSQL's own programs.

    The WAL stream, base backups and recoveries are measured in one run.

    \b
    Examples:
      ./ops bench pitr --size 300 --disasters 5
      ./ops bench pitr --only cost --only idle
      ./ops bench pitr --size 100 --only outage --only kills
    """
    measured: Figures = {}
    with workshop(folder, "bench-pitr-") as where, place(where) as opened:
        fill_once(where, opened.postgres.url, size)
        chosen = {
            **_costs(opened, wal=wal, rounds=rounds),
            **_faults(opened, disasters=disasters, outage=outage, kills=kills, rounds=rounds),
        }
        for name, part in chosen.items():
            if not only or name in only:
                click.echo(f"measuring: {name}", err=True)
                measured |= part()
    goals = list(_goals(measured))
    if as_json:
        click.echo(json.dumps({"figures": measured, "goals": goals}, indent=2))
    else:
        _show(measured, goals)


def _costs(opened: Place, *, wal: int, rounds: int) -> Mapping[str, Callable[[], Figures]]:
    return {
        "cost": lambda: parts.cost(opened, wal),
        # One round of the upkeep.
        "idle": lambda: parts.idle(opened, UPKEEP_SECONDS),
        # Many short rounds: the differences are smaller than the noise of one.
        "throughput": lambda: parts.throughput(opened, 5.0, 5 * rounds),
        "base": lambda: parts.base(opened, rounds),
        "recovery": lambda: parts.recovery(opened, wal, rounds + 1),
    }


def _faults(
    opened: Place, *, disasters: int, outage: int, kills: int, rounds: int
) -> Mapping[str, Callable[[], Figures]]:
    return {
        "disasters": lambda: parts.disasters(opened, disasters),
        "server-lost": lambda: faults.server_lost(opened, disasters),
        "outage": lambda: faults.outage(opened, outage),
        "kills": lambda: faults.kills(opened, kills, max(kills // 3, 1)),
        "cap": lambda: faults.cap(opened, rounds + 1),
    }


def _goals(measured: Figures) -> Iterator[Goal]:
    for name, (title, limit, least) in LIMITS.items():
        if name in measured:
            found = measured[name]
            yield title, _text(name, found), found >= limit if least else found <= limit


def _text(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / 1e6:.0f} MB"
    if name.endswith("_share"):
        return f"{value:.2%}"
    if name.endswith("_ratio"):
        return f"{value:.2f}×"
    return f"{value:.2f}" if value % 1 else f"{value:.0f}"


def _show(measured: Figures, goals: list[Goal]) -> None:
    table = Table("figure", "value")
    for name, value in measured.items():
        table.add_row(name.replace("_", " "), _text(name, value))
    console = Console(width=120)
    console.print(table)
    for goal, found, reached in goals:
        console.print(f"{'reached' if reached else 'MISSED':7} {goal}: {found}")
