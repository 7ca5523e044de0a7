"""``./ops bench backup``."""

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import pyrage
from rich.console import Console
from rich.table import Table

from bench import commands
from bench.backup.data import fill_once
from bench.backup.subjects import Bench, Measured
from bench.environment import BUCKET, environment
from bench.rounds import measure, workshop
from stack.programs import find, postgres_bin
from stack.servers import ObjectStore, Postgres

LIMIT_FACTOR = 1.3
GZIP_FACTOR = 5.0
MAX_RSS = 200 * 10**6
Goal = tuple[str, str, bool]


@click.command()
@click.option("--size", default=2000, show_default=True, metavar="MB", help="Megabytes of the plain dump.")
@click.option("--rounds", default=1, show_default=True, help="Runs of each subject; the median is reported.")
@click.option("--only", multiple=True, metavar="NAME", help="Measure only these: a, a2, b, c, ours.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder for database and bucket; temporary by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def backup(size: int, rounds: int, only: tuple[str, ...], folder: Path | None, as_json: bool) -> None:
    """Compare the backup with the usual methods and the streaming limit.

    All of them are measured in one run.

    \b
    Examples:
      ./ops bench backup --size 300
      ./ops bench backup --size 2000 --rounds 3
    """
    with workshop(folder, "bench-backup-") as place, _bench(place, size) as bench:
        subjects = _subjects(bench)
        chosen = {name: subjects[name] for name in only or subjects}
        results = measure(chosen, rounds)
    goals = list(_goals(results))
    if as_json:
        runs = {name: [asdict(each) for each in runs] for name, runs in results.items()}
        click.echo(json.dumps({"runs": runs, "goals": goals}, indent=2))
    else:
        _show(results, goals)


def _subjects(bench: Bench) -> dict[str, Callable[[], Measured]]:
    return {
        "a": bench.dump_limit,
        "a2": bench.stream_limit,
        "ours": bench.ours,
        "c": bench.file_upload,
        "b": bench.gzip_upload,
    }


@contextmanager
def _bench(place: Path, size: int) -> Iterator[Bench]:
    with Postgres(place / "postgres") as postgres, ObjectStore(place / "s3") as store:
        fill_once(place, postgres.url, size)
        env = {**environment(store, _recipient(place)), "DATABASE_URL": postgres.url}
        commands.compile_all(env)
        yield Bench(postgres.url, postgres_bin(), find("zstd"), BUCKET, place, env)


def _recipient(place: Path) -> str:
    """A recipient whose key is discarded, because no one needs to read these backups."""
    public = place / "recipient"
    if not public.exists():
        public.write_text(str(pyrage.x25519.Identity.generate().to_public()))
    return public.read_text()


def _goals(results: dict[str, list[Measured]]) -> Iterator[Goal]:
    if "ours" not in results:
        return
    ours = _seconds(results["ours"])
    stored = results["ours"][-1].stored or 0
    if "a2" in results:
        ratio = ours / _seconds(results["a2"])
        yield f"time ≤ {LIMIT_FACTOR} × streaming limit (a2)", f"{ratio:.2f} ×", ratio <= LIMIT_FACTOR
    if "b" in results:
        ratio = _seconds(results["b"]) / ours
        yield (
            f"≥ {GZIP_FACTOR:.0f} × faster than pg_dump | gzip | upload (b)",
            f"{ratio:.1f} ×",
            ratio >= GZIP_FACTOR,
        )
        gzipped = results["b"][-1].stored or 0
        yield "stored ≤ gzip's (b)", f"{stored / gzipped:.2f} ×", stored <= gzipped
    if "c" in results:
        gzipped = results["c"][-1].stored or 0
        yield "stored ≤ pg_dump -Fc's (c)", f"{stored / gzipped:.2f} ×", stored <= gzipped
    rss = max(run.rss or 0 for run in results["ours"])
    yield f"peak RSS ≤ {MAX_RSS / 1e6:.0f} MB", f"{rss / 1e6:.0f} MB", rss <= MAX_RSS


def _seconds(runs: list[Measured]) -> float:
    return statistics.median(each.seconds for each in runs)


TITLES = {
    "a": "(a) pg_dump -Fc -Z0 > /dev/null",
    "a2": "(a2) … | zstd -3 -T0 > /dev/null: the limit",
    "ours": "ours: counted, hashed, encrypted, uploaded",
    "c": "(c) pg_dump -Fc to a file, upload",
    "b": "(b) pg_dump | gzip | upload",
}


def _show(results: dict[str, list[Measured]], goals: list[Goal]) -> None:
    raw = next((each.raw for each in results.get("ours", []) if each.raw), None)
    table = Table("what", "seconds", "MB/s of plain dump", "stored MB", "peak RSS MB")
    for name, runs in results.items():
        seconds, last = _seconds(runs), runs[-1]
        table.add_row(
            TITLES[name],
            f"{seconds:.1f}",
            f"{raw / seconds / 1e6:.0f}" if raw else "–",
            f"{last.stored / 1e6:.0f}" if last.stored else "–",
            f"{last.rss / 1e6:.0f}" if last.rss else "–",
        )
    console = Console(width=120)
    console.print(table)
    for goal, found, reached in goals:
        console.print(f"{'reached' if reached else 'MISSED':7} {goal}: {found}")
