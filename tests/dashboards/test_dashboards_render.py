"""Pictures without Grafana: every dashboard is drawn, from whatever Prometheus answers."""

import re
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from dashboards.__main__ import main
from dashboards.live_check import committed
from dashboards.render import render_all
from dashboards.render.page import draw_page
from dashboards.render.theme import THEMES, series_colors
from dashboards.render.ticks import ticks
from dashboards.render.values import mark, text
from dashboards.resolve import Scope
from sidecar.cli import run
from sidecar.grid import compacted
from sidecar.prometheus import Prometheus
from tests.dashboards.prometheus_double import PrometheusDouble

NOON = 1_795_000_000.0


def _one_of_each_kind() -> dict[str, Any]:
    """Return a small dashboard with one panel of every kind."""
    everything = committed()
    kinds = {panel["type"]: panel for dashboard in everything for panel in reversed(dashboard["panels"])}
    return {**everything[1], "panels": list(kinds.values())}


def _draw_small(double: PrometheusDouble, path: Path, theme: str = "dark") -> Path:
    scope = Scope(NOON - 3600, NOON, 15)
    draw_page(Prometheus(double.url), _one_of_each_kind(), scope, THEMES[theme], path)
    return path


def _draw(double: PrometheusDouble, out: Path, *names: str) -> list[Path]:
    return list(render_all(double.url, names, "1h", "dark", out, end=NOON))


def _has_color(path: Path, wanted: str, least: int = 20) -> bool:
    pixels = (matplotlib.image.imread(path)[:, :, :3] * 255).round().astype(int)
    rgb = [int(wanted[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((abs(pixels - rgb).max(axis=2) <= 2).sum() >= least)


def test_every_dashboard_is_drawn(tmp_path: Path) -> None:
    with PrometheusDouble() as double:
        paths = _draw(double, tmp_path)
    assert [path.name for path in paths] == [f"{dashboard['uid']}.png" for dashboard in committed()]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert not [expr for expr in double.asked if re.search(r"\$[A-Za-z_{]", expr)]


def test_the_same_data_gives_the_same_file(tmp_path: Path) -> None:
    with PrometheusDouble() as double:
        first = _draw_small(double, tmp_path / "first.png")
        second = _draw_small(double, tmp_path / "second.png")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("mode", ["empty", "nan"])
def test_no_data_is_drawn_as_no_data(tmp_path: Path, mode: str) -> None:
    with PrometheusDouble(mode) as double:
        assert _draw_small(double, tmp_path / "empty.png").exists()


@pytest.mark.parametrize(("value", "color"), [(0.0, "green"), (0.85, "orange"), (0.97, "red")])
def test_values_have_the_color_of_their_threshold(tmp_path: Path, value: float, color: str) -> None:
    redis = next(one for one in committed() if one["uid"] == "posthub-redis")
    memory = [panel for panel in redis["panels"] if panel["title"] == "Memory used"]
    path = tmp_path / "memory.png"
    with PrometheusDouble(value=value) as double:
        scope = Scope(NOON - 3600, NOON, 15)
        draw_page(Prometheus(double.url), {**redis, "panels": memory}, scope, THEMES["dark"], path)
    assert _has_color(path, THEMES["dark"].named[color])


@pytest.mark.parametrize("theme", sorted(THEMES))
def test_both_themes(tmp_path: Path, theme: str) -> None:
    with PrometheusDouble() as double:
        path = _draw_small(double, tmp_path / "page.png", theme)
    assert _has_color(path, THEMES[theme].page, least=10_000)


def test_an_alert_is_marked_each_time_it_comes(tmp_path: Path) -> None:
    celery = next(one for one in committed() if one["uid"] == "posthub-celery")
    graph = [panel for panel in celery["panels"] if panel["title"] == "Consumers"]
    pictures: list[bytes] = []
    with PrometheusDouble() as double:
        for double.fired in ((0.2, 0.3),), ((0.2, 0.3), (0.6, 0.7)), ((0.2, 0.3), (0.6, 0.8)):
            path = tmp_path / f"{len(pictures)}.png"
            page = {**celery, "panels": graph}
            draw_page(Prometheus(double.url), page, Scope(NOON - 3600, NOON, 15), THEMES["dark"], path)
            pictures.append(path.read_bytes())
    once, twice, longer = pictures
    assert once != twice
    assert twice == longer


@pytest.mark.parametrize("named", ["option", "variable"])
def test_a_password_in_the_address_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    url = "http://admin:hidden@127.0.0.1:9"
    monkeypatch.setenv("PROMETHEUS_URL", url)
    argv = ["render", *(["--prometheus-url", url] if named == "option" else []), "--out", str(tmp_path)]
    assert run(main, argv, prog="python -m dashboards") == 1
    message = capsys.readouterr().err
    assert "Prometheus at http://127.0.0.1:9 does not answer" in message
    assert "hidden" not in message


def test_a_password_in_the_address_is_not_drawn(tmp_path: Path) -> None:
    with PrometheusDouble() as double:
        plain = _draw_small(double, tmp_path / "plain.png").read_bytes()
        double.url = double.url.replace("//", "//admin:hidden@")
        assert _draw_small(double, tmp_path / "secret.png").read_bytes() == plain


def test_a_folder_that_cannot_be_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with PrometheusDouble() as double:
        argv = ["render", "--prometheus-url", double.url, "--out", str(tmp_path / "file" / "pictures")]
        assert run(main, argv, prog="python -m dashboards") == 1
    assert "set --out to a writable folder" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["127.0.0.1:9090", "http://", "ftp://127.0.0.1", "http://[::1"])
def test_what_is_not_an_address_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    argv = ["render", "--prometheus-url", url, "--out", str(tmp_path)]
    assert run(main, argv, prog="python -m dashboards") == 2
    assert "is not an address of Prometheus" in capsys.readouterr().err


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PrometheusDouble() as double:
        argv = [
            "render",
            "--prometheus-url",
            double.url,
            "--dashboard",
            "overview",
            "--range",
            "30m",
            "--out",
            str(tmp_path),
        ]
        assert run(main, argv, prog="python -m dashboards") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "posthub-overview.png")


@pytest.mark.parametrize(
    ("more", "mode", "code", "message"),
    [
        (("--dashboard", "nothing"), "data", 2, "choose from posthub-overview"),
        (("--range", "an hour"), "data", 2, "is not a time range"),
        ((), "error", 1, "parse error"),
    ],
)
def test_errors_say_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    mode: str,
    code: int,
    message: str,
) -> None:
    with PrometheusDouble(mode) as double:
        argv = ["render", "--prometheus-url", double.url, "--out", str(tmp_path), *more]
        assert run(main, argv, prog="python -m dashboards") == code
    assert message in capsys.readouterr().err


def test_no_prometheus_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["render", "--prometheus-url", "http://127.0.0.1:9", "--out", str(tmp_path)]
    assert run(main, argv, prog="python -m dashboards") == 1
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0, "s", "0 s"),
        (4.2e-8, "s", "42 ns"),
        (0.0042, "s", "4.20 ms"),
        (60, "s", "1 min"),
        (93_600, "s", "1.08 days"),
        (1536, "bytes", "1.50 KiB"),
        (61e6, "Bps", "61 MB/s"),
        (0.0523, "percentunit", "5.23%"),
        (-3.195, "percentunit", "-319%"),
        (1_234_567, "short", "1.23 Mil"),
        (12_345, "none", "12345"),
        (0.00012, "ops", "0.000120 ops/s"),
        (float("nan"), "s", "NaN"),
        (float("inf"), "bytes", "∞"),
    ],
)
def test_values_as_people_read_them(value: float, unit: str, shown: str) -> None:
    assert text(value, unit) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.5, "percentunit", "50%"),
        (90, "s", "1.5 mins"),
        (0.25, "short", "0.25"),
        (600, "reqps", "600 req/s"),
    ],
)
def test_texts_at_an_axis_have_no_trailing_zeros(value: float, unit: str, shown: str) -> None:
    assert mark(value, unit) == shown


@pytest.mark.parametrize(
    ("low", "high", "unit", "expected"),
    [
        (0, 300, "s", [0, 100, 200, 300]),
        (0, 10, "short", [0, 2.5, 5, 7.5, 10]),
        (0, 4096, "bytes", [0, 1024, 2048, 3072, 4096]),
        (-1, 1, "short", [-1, -0.5, 0, 0.5, 1]),
        (0, 8 * 86400, "s", [0, 200000, 400000, 600000]),
    ],
)
def test_ticks_are_round_in_the_unit(low: float, high: float, unit: str, expected: list[float]) -> None:
    assert ticks(low, high, unit) == expected


def test_a_name_keeps_its_color_and_neighbours_differ() -> None:
    names = [f"queue {index}" for index in range(10)]
    assert len(set(series_colors(THEMES["dark"], names))) == 10
    assert series_colors(THEMES["dark"], ["quick"]) == series_colors(THEMES["dark"], ["quick", "default"])[:1]


def test_positions_move_up_to_where_there_is_room() -> None:
    def place(x: int, y: int, w: int, h: int) -> dict[str, int]:
        return {"x": x, "y": y, "w": w, "h": h}

    found = compacted([place(0, 5, 24, 1), place(0, 9, 12, 4), place(12, 20, 12, 6), place(0, 30, 24, 1)])
    assert [each["y"] for each in found] == [0, 1, 1, 7]


def test_a_dashboard_without_data_is_not_drawn(tmp_path: Path) -> None:
    with PrometheusDouble(mode="empty") as double:
        drawn = render_all(double.url, ("redis",), "1h", "dark", tmp_path, end=NOON, only_with_data=True)
        assert list(drawn) == []
        assert list(tmp_path.iterdir()) == []
        assert len(_draw(double, tmp_path, "redis")) == 1
