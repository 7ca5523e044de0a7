"""Every rule survives a missed scrape and a restart of its exporter: each promtool test again, with both."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alerts import promtool_tests
from alerts.rules import alert, alerts
from tests.alerts.programs import PROGRAMS
from tests.alerts.scenarios import (
    SCRAPE,
    SPREAD_UP_TO,
    Scenario,
    condensed,
    documents,
    expand,
    left_open,
    needed,
    reads_counter,
    scenarios,
    spread,
    with_first_appearance,
    with_missed_scrape,
    with_restart,
)

VARIANTS: dict[str, Callable[[Scenario], Scenario]] = {
    "missed scrape": with_missed_scrape,
    "restart": with_restart,
    "first appearance": with_first_appearance,
}


COMPONENTS = sorted({path.stem.partition("_")[0] for path in promtool_tests.files()})


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_missed_scrape_and_a_restart_end_no_alert(component: str, tmp_path: Path) -> None:
    firing = [
        one
        for path in promtool_tests.files()
        if path.stem.partition("_")[0] == component
        for one in map(spread, scenarios(path))
        if one.firing and one.alert not in OF_THE_SCRAPE
    ]
    # A day of scrapes costs more than an hour. It takes part if the alert has no short test, or one for each condition.
    short = {
        one.alert
        for one in firing
        if one.interval <= SCRAPE and " or " not in " ".join(alert(one.alert).expr.split())
    }
    varied = [
        replace(changed, place=f"{name}: {one.place}")
        for one in firing
        for name, change in VARIANTS.items()
        if not (change is with_missed_scrape and one.alert in short and one.interval > SCRAPE)
        if (changed := change(one)).series != one.series
    ]
    files = documents(varied, tmp_path)
    outcome = PROGRAMS.promtool("test", "rules", *(one.name for one in files), folder=tmp_path)
    assert outcome.ok, outcome.output


@pytest.mark.parametrize("component", COMPONENTS)
def test_rules_mean_the_same_with_windows_without_their_left_edge(component: str, tmp_path: Path) -> None:
    """Prometheus 2 includes a sample that is exactly as old as the window, Prometheus 3 does not."""
    # A silent test with a sample a minute is about one missed round; spread, it would be about four.
    asked = [
        spread(one)
        for path in promtool_tests.files()
        if path.stem.partition("_")[0] == component
        for one in scenarios(path)
        if one.at <= SPREAD_UP_TO and (one.firing or one.interval <= 2 * SCRAPE)
        if "[" in " ".join(needed(one.alert)) and one.alert not in OF_NO_SERIES
    ]
    files = documents(asked, tmp_path, left_open)
    assert "ms]" in "".join(path.read_text() for path in tmp_path.glob("*.rules.yml"))
    outcome = PROGRAMS.promtool("test", "rules", *(one.name for one in files), folder=tmp_path)
    assert outcome.ok, outcome.output


# They report on the scrape itself, so one scrape more or less changes their value.
OF_THE_SCRAPE = {"TargetFlapping"}


# They read no scraped series.
OF_NO_SERIES = {"AlertThresholdsMissing", "Watchdog"}


def test_every_alert_takes_part() -> None:
    """A new alert without the cases that apply to it fails here."""
    firing = [one for path in promtool_tests.files() for one in map(spread, scenarios(path)) if one.firing]
    names = {one.name for one in alerts()}
    assert names - {one.alert for one in firing} == set()
    missed = {one.alert for one in firing if with_missed_scrape(one).series != one.series}
    assert names - missed == OF_NO_SERIES
    restarted = {one.alert for one in firing if with_restart(one).series != one.series}
    assert {name for name in names - OF_NO_SERIES if reads_counter(name)} - restarted == set()


@pytest.mark.parametrize(
    ("values", "samples"),
    [
        ("1+2x3 _ 5x2", "1.0 3.0 5.0 7.0 _ 5 5 5"),
        ("_x2 -1 stale 2-1x2", "_ _ -1 stale 2.0 1.0 0.0"),
        ("1e3x1 NaN", "1e3 1e3 NaN"),
    ],
)
def test_the_notation_of_promtool_is_read(values: str, samples: str) -> None:
    assert " ".join(expand(values)) == samples


def test_a_situation_is_changed_as_it_says() -> None:
    series = (
        ('up{job="celery"}', ("1",) * 3),
        ("celery_tasks_total", ("0", "10", "20")),
        ("redis_up", ("1",) * 3),
    )
    plain = spread(Scenario("a", "A", 1, 60.0, 60.0, series, ()))
    counted = plain.series[1][1]
    assert [float(one) for one in counted] == [0, 2.5, 5, 7.5, 10, 12.5, 15, 17.5, 20, 20, 20, 20]
    assert [samples[4] for _, samples in with_missed_scrape(plain).series] == ["0", "stale", "stale"]
    later = Scenario("a", "A", 1, 120.0, 60.0, series, ())
    assert [float(one) for one in with_restart(later).series[1][1]] == [0, 0, 10]
    assert with_restart(later).series[2] == series[2]


def test_of_a_long_situation_the_end_is_spread() -> None:
    series = (("celery_tasks_total", ("0", "240", "480")), ("redis_up", ("1",)), ("a:b:ratio", ("3",) * 3))
    long = Scenario("a", "A", 1, 2 * 7200.0, 7200.0, series, ())
    assert spread(long) == long
    missed = with_missed_scrape(long)
    counted, ended, recorded = (samples for _, samples in missed.series)
    assert missed.interval == SCRAPE
    assert counted[:481] == ("0", *["_"] * 479, "240.0")
    assert counted[959:962] == ("479.5", "stale", "480.0")
    assert ended == ("1", *["_"] * 479)
    assert recorded[960] == "3"
    assert list(condensed(counted[478:482])) == ["_x2", "240.0", "240.5"]
