"""The command: measure the curves, print them next to those of an older checkout."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.exporter import subjects as versions
from bench.exporter.measure import Workshop
from bench.growth import backup
from bench.growth.curve import Curve
from bench.growth.exporter import CURVES, Cost, Maker, measured
from sidecar.cli import stderr_console
from sidecar.errors import OpsError

Measure = Callable[[int], list[Cost]]


@click.command()
@click.option("--today", metavar="FOLDER", help="Also measure another checkout of this project.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([*CURVES, *backup.CURVES]),
    help="Only this curve; repeatable.",
)
@click.option("--quick", is_flag=True, help="Skip the largest size of each curve.")
@click.option("--json", "as_json", is_flag=True, help="Print the curves as JSON.")
def growth(today: str | None, only: tuple[str, ...], quick: bool, as_json: bool) -> None:
    """Measure how cost grows with the size of an installation.

    With --today, an older checkout is measured as well. An exponent of 0 is flat, 1 linear, 2 quadratic.

    \b
    Examples:
      ./ops bench growth --quick
      ./ops bench growth --today ../older-checkout --only names --only waits
    """
    subjects: dict[str, Maker] = {"ours": versions.ours}
    if today is not None:
        subjects["today"] = partial(versions.today, today)
    curves: list[Curve] = []
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
        shop = Workshop(Path(folder))
        checkouts = {"ours": versions.ROOT, **({"today": Path(today).resolve()} if today else {})}
        for name in only or (*CURVES, *backup.CURVES):
            of, sizes = (CURVES.get(name) or backup.CURVES[name])[:2]
            points = sizes[:-1] if quick else sizes
            if name in CURVES:
                measures = {who: partial(measured, shop, name, make=make) for who, make in subjects.items()}
                curves += _curves(of, points, measures)
            else:
                measure = backup.CURVES[name][2]
                curves += _curves(
                    of, points, {who: partial(measure, shop, at) for who, at in checkouts.items()}
                )
    if as_json:
        click.echo(json.dumps([curve.__dict__ | {"exponent": curve.exponent} for curve in curves], indent=2))
    else:
        _print(curves)


def _curves(of: str, sizes: Iterable[int], measures: Mapping[str, Measure]) -> list[Curve]:
    found: dict[tuple[str, str], Curve] = {}
    for size in sizes:
        for who, measure in measures.items():
            for cost in _costs(who, size, measure):
                curve = found.setdefault((cost.what, who), Curve(cost.what, of, who))
                curve.points[size] = cost.value
                stderr_console().print(
                    f"{of} {size:,} · {who}: {cost.what}: {cost.value:,.4g}", soft_wrap=True
                )
    return sorted(found.values(), key=lambda curve: curve.what)


def _costs(who: str, size: int, measure: Measure) -> list[Cost]:
    """One point; empty if the subject fails at this size."""
    try:
        return measure(size)
    except OpsError as error:
        stderr_console().print(f"{size:,} · {who}: {error.message}", soft_wrap=True)
        return []


def _print(curves: list[Curve]) -> None:
    table = Table("measured", "grows with", "subject", "size: cost", "exponent")
    for curve in curves:
        points = "\n".join(f"{size:,}: {cost:,.4g}" for size, cost in curve.points.items())
        exponent = "" if curve.exponent is None else f"{curve.exponent:.2f}"
        table.add_row(curve.what, curve.of, curve.who, points, exponent)
    Console(width=150).print(table)
