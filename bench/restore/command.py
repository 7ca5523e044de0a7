"""``./ops bench restore``."""

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.backup.data import create_tables_once, fill_once
from bench.environment import restoring
from bench.restore.subjects import Bench, Measured
from bench.rounds import measure, workshop
from stack.programs import postgres_bin
from stack.servers import ObjectStore, Postgres

LIMIT_FACTOR = 1.25
SEED_FACTOR = 1.5
WHOLE_FACTOR = 1.6
TODAY_FACTOR = 1.05
TABLES_FACTOR = 0.75
MAX_RSS = 200 * 10**6
Goal = tuple[str, str, bool]
TITLES = {
    "limit": "limit: pg_restore -j2 from a local plain archive",
    "ours": "ours: download, decrypt, unpack, restore",
    "verification": "ours, in a throwaway server: the verification's restore",
    "today": "the verification of another checkout",
    "seed": "the app's earlier script: download, gunzip | psql",
}


@click.command()
@click.option("--size", default=2000, show_default=True, metavar="MB", help="Megabytes of the plain dump.")
@click.option("--rounds", default=1, show_default=True, help="Runs of each subject; the median is reported.")
@click.option(
    "--tables",
    type=int,
    metavar="NUMBER",
    help="Measure with this number of small tables instead, each with 20 rows and two unique indexes.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Measure only these: limit, ours, verification, today, seed.",
)
@click.option(
    "--today",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Also measure the verification of another checkout of this project.",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder for everything; temporary by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def restore(
    size: int,
    tables: int | None,
    rounds: int,
    only: tuple[str, ...],
    today: Path | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Compare restore and verification with the limit.

    The app's earlier script is measured in the same run.

    \b
    Examples:
      ./ops bench restore --size 300
      ./ops bench restore --size 2000 --rounds 3
      ./ops bench restore --today ../older-checkout --only verification --only today --rounds 3
      ./ops bench restore --tables 2000 --today ../older-checkout --only verification --only today --rounds 6
    """
    with workshop(folder, "bench-restore-") as place, _bench(place, size, tables, today) as bench:
        subjects = _subjects(bench)
        results = measure({name: subjects[name] for name in only or subjects}, rounds)
    goals = list(_goals(results, TODAY_FACTOR if tables is None else TABLES_FACTOR))
    if as_json:
        runs = {name: [asdict(each) for each in runs] for name, runs in results.items()}
        click.echo(json.dumps({"runs": runs, "goals": goals}, indent=2))
    else:
        _show(results, goals)


def _subjects(bench: Bench) -> dict[str, Callable[[], Measured]]:
    older = {"today": bench.today} if bench.older else {}
    return {
        "limit": bench.limit,
        "ours": bench.ours,
        "verification": bench.verification,
        **older,
        "seed": bench.seed,
    }


@contextmanager
def _bench(place: Path, size: int, tables: int | None, today: Path | None) -> Iterator[Bench]:
    with Postgres(place / "postgres") as postgres, ObjectStore(place / "s3") as store:
        env = {**restoring(store, place), "DATABASE_URL": postgres.url}
        bench = Bench(postgres.url, postgres_bin(), place, env, store, today and today.resolve())
        if tables is not None:
            create_tables_once(place, postgres.url, tables)
        else:
            fill_once(place, postgres.url, size)
        bench.prepare()
        yield bench


def _goals(results: dict[str, list[Measured]], today_factor: float) -> Iterator[Goal]:
    if "ours" in results and "limit" in results:
        ratio = _seconds(results["ours"]) / _seconds(results["limit"])
        yield f"restore ≤ {LIMIT_FACTOR} × the limit", f"{ratio:.2f} ×", ratio <= LIMIT_FACTOR
    if "ours" in results and "seed" in results:
        ratio = _seconds(results["seed"]) / _seconds(results["ours"])
        yield (
            f"≥ {SEED_FACTOR} × faster than the app's earlier script",
            f"{ratio:.2f} ×",
            ratio >= SEED_FACTOR,
        )
    if "verification" in results:
        ratio = _whole(results["verification"]) / _seconds(results["verification"])
        yield f"whole verification ≤ {WHOLE_FACTOR} × its restore", f"{ratio:.2f} ×", ratio <= WHOLE_FACTOR
    if "verification" in results and "today" in results:
        ratio = _whole(results["verification"]) / _whole(results["today"])
        yield f"verification ≤ {today_factor} × the other checkout's", f"{ratio:.3f} ×", ratio <= today_factor
    peaks = [run.rss for runs in results.values() for run in runs if run.rss]
    if peaks:
        yield f"peak RSS ≤ {MAX_RSS / 1e6:.0f} MB", f"{max(peaks) / 1e6:.0f} MB", max(peaks) <= MAX_RSS


def _seconds(runs: list[Measured]) -> float:
    return statistics.median(each.seconds for each in runs)


def _whole(runs: list[Measured]) -> float:
    return statistics.median(each.whole or each.seconds for each in runs)


def _show(results: dict[str, list[Measured]], goals: list[Goal]) -> None:
    table = Table("what", "restore s", "with proof s", "peak RSS MB", "stages")
    for name, runs in results.items():
        last = runs[-1]
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in (last.stages or {}).items())
        table.add_row(
            TITLES[name],
            f"{_seconds(runs):.1f}",
            f"{_whole(runs):.1f}" if last.whole else "–",
            f"{last.rss / 1e6:.0f}" if last.rss else "–",
            stages,
        )
    console = Console(width=140)
    console.print(table)
    for goal, found, reached in goals:
        console.print(f"{'reached' if reached else 'MISSED':7} {goal}: {found}")
