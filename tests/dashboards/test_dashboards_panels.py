"""Every query of every panel shows the right value in the simulated stack, and a query with a mistake does not.

After an intended change of a panel: ``python -m tests.dashboards.test_dashboards_panels``, and read the difference in
values.yml.
"""

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.lint.rules import queries
from dashboards.live_check import committed
from dashboards.resolve import resolve
from sidecar import OpsError
from sidecar.prometheus import Prometheus
from stack.programs import find
from stack.servers import Prometheus as Server
from tests.alerts.fixtures import exposed
from tests.dashboards.world import FIXED, OWN, WITHOUT_SCOPE, WORLDS, metrics, openmetrics, rounded, scope
from tests.dashboards.wrongqueries import wrong

VALUES = Path(__file__).with_name("values.yml")
Shown = dict[str, Any]
# What the scrape and Prometheus itself add to the captured pages.
NOT_CAPTURED = {"scrape_samples_post_metric_relabeling", "ai:spend_usd:increase1d"}


class OldServer(Server):
    """Prometheus that keeps samples of any age."""

    def command(self) -> list[str]:
        return [*super().command(), "--storage.tsdb.retention.time=100y"]


def start(folder: Path) -> Server:
    """A Prometheus with only the simulated stack's samples."""
    samples = folder / "world.txt"
    with samples.open("w", encoding="utf-8") as file:
        file.writelines(openmetrics())
    command = [
        str(find("promtool")),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(samples),
        str(folder / "data"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    config = folder / "prometheus.yml"
    config.write_text("{}\n")
    return OldServer(folder, config=config).start()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    server = start(tmp_path_factory.mktemp("world"))
    yield Prometheus(server.url)
    server.stop()


@cache
def named_queries() -> dict[str, tuple[dict[str, Any], str]]:
    """The dashboard and the text of each query, by a name that gives its position."""
    return {
        f"{dashboard['uid'].removeprefix('posthub-')}: {panel['title']}: {panel['targets'][index]['refId']}": (
            dashboard,
            expr,
        )
        for dashboard in committed()
        for panel, index, expr in queries(dashboard)
    }


def shown(prometheus: Prometheus, dashboard: dict[str, Any], expr: str, world: str) -> Shown:
    """The answer of a query: values by the labels of their series."""
    asked = scope(world)
    found = prometheus.instant(resolve(expr, dashboard, asked), asked.end)
    return {
        " ".join(
            f"{name}={value}" for name, value in sorted(one.labels.items()) if name != "__name__"
        ): rounded(one.last)
        for one in sorted(found, key=lambda one: sorted(one.labels.items()))
    }


@cache
def expected() -> dict[str, dict[str, Shown]]:
    found: dict[str, dict[str, Shown]] = yaml.load(VALUES.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return found


def same(one: Shown, other: Shown, rel: float = 1e-4) -> bool:
    """Whether two answers are equal; versions of Prometheus add up in different orders."""
    return one.keys() == other.keys() and all(
        value == other[labels] or value == pytest.approx(other[labels], rel=rel)
        for labels, value in one.items()
    )


def test_every_query_shows_its_value(world: Prometheus) -> None:
    assert list(expected()) == list(named_queries()), "run python -m tests.dashboards.test_dashboards_panels"
    for name, (dashboard, expr) in named_queries().items():
        for situation in WORLDS:
            found = shown(world, dashboard, expr, situation)
            # Prometheus 3 extrapolates less if samples begin within the window, as they do in those of hours and days.
            rel = 0.1 if "increase(" in expr else 1e-4
            assert same(found, expected()[name][situation], rel), f"{name}, {situation}: {found}"


def test_every_query_shows_something_while_there_is_something_to_show() -> None:
    assert [name for name, worlds in expected().items() if not worlds["busy"]] == []


def test_a_mistake_in_a_query_changes_its_value(world: Prometheus) -> None:
    """Otherwise the value above proves little: then give the series of world.py other values, or more labels."""
    tried, noticed = Counter[str](), Counter[str]()
    for name, (dashboard, expr) in named_queries().items():
        for _, changed in wrong(expr):
            tried[name] += 1
            noticed[name] += any(
                not _same_or_refused(world, dashboard, changed, situation, expected()[name][situation])
                for situation in WORLDS
            )
    weak = [
        name for name in tried if noticed[name] < tried[name] / 2 and name.split(": ")[1] not in OWN_TESTS
    ]
    assert weak == []
    assert noticed.total() >= 0.9 * tried.total()


def _same_or_refused(prometheus: Prometheus, dashboard: Any, expr: str, situation: str, right: Shown) -> bool:
    try:
        return same(shown(prometheus, dashboard, expr, situation), right)
    except OpsError:
        return False


def test_the_world_has_the_labels_of_the_captured_pages() -> None:
    recorded = {one for one in metrics() if WITHOUT_SCOPE.fullmatch(one)}
    assert set(metrics()) - recorded - set(exposed()) - OWN.keys() == NOT_CAPTURED
    assert {name for name, _, _ in FIXED} <= set(metrics())


# They show 0 or 1; test_dashboards_values.py has their cases.
OWN_TESTS = {"Targets", "Backup targets"}


def main() -> None:
    """Write values.yml again."""
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        prometheus = Prometheus(server.url)
        values = {
            name: {situation: shown(prometheus, dashboard, expr, situation) for situation in WORLDS}
            for name, (dashboard, expr) in named_queries().items()
        }
        server.stop()
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=200)
    VALUES.write_text(
        "# What each query shows in the made-up world of world.py; see test_dashboards_panels.py.\n" + text
    )


if __name__ == "__main__":
    main()
