"""Pushing to a Grafana (its double): everything arrives once, and every refusal says what to do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboards.__main__ import main
from dashboards.live_check import committed
from sidecar.cli import run
from tests.dashboards.grafana_double import EDITOR, VIEWER, GrafanaDouble


@pytest.fixture
def grafana() -> Iterator[GrafanaDouble]:
    with GrafanaDouble() as double:
        yield double


@pytest.fixture
def push(grafana: GrafanaDouble, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def push(token: str = EDITOR, *more: str) -> int:
        monkeypatch.setenv("GRAFANA_TOKEN", token)
        return run(main, ["push", "--url", grafana.url, *more], prog="python -m dashboards")

    return push


def test_everything_arrives_in_its_folder(grafana: GrafanaDouble, push, capsys) -> None:  # type: ignore[no-untyped-def]
    assert push() == 0
    assert grafana.folders["posthub"]["title"] == "PostHub"
    assert set(grafana.dashboards) == {dashboard["uid"] for dashboard in committed()}
    assert all(one["meta"]["folderUid"] == "posthub" for one in grafana.dashboards.values())
    assert "posthub-celery: created" in capsys.readouterr().out


def test_a_second_push_changes_nothing(grafana: GrafanaDouble, push, capsys) -> None:  # type: ignore[no-untyped-def]
    push()
    grafana.writes.clear()
    capsys.readouterr()
    assert push() == 0
    assert grafana.writes == []
    assert capsys.readouterr().out.count("unchanged") == len(committed())


def test_an_edit_in_grafana_is_put_right(grafana: GrafanaDouble, push, capsys) -> None:  # type: ignore[no-untyped-def]
    push()
    grafana.dashboards["posthub-redis"]["dashboard"]["panels"][1]["title"] = "Mine"
    grafana.writes.clear()
    assert push() == 0
    assert grafana.writes == ["/api/dashboards/db"]
    assert grafana.dashboards["posthub-redis"]["dashboard"]["version"] == 2
    assert "posthub-redis: updated" in capsys.readouterr().out


def test_the_token_may_come_from_a_file(grafana: GrafanaDouble, push, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "token").write_text(f"{EDITOR}\n")
    assert push("", "--token-file", str(tmp_path / "token")) == 0


def test_the_folder_gets_the_title_that_is_asked_for(grafana: GrafanaDouble, push, capsys) -> None:  # type: ignore[no-untyped-def]
    push()
    assert push(EDITOR, "--folder", "Other") == 0
    assert grafana.folders["posthub"]["title"] == "Other"
    assert "folder Other: renamed, it was PostHub" in capsys.readouterr().out
    assert push(EDITOR, "--folder", "Other") == 0
    assert "folder Other: there" in capsys.readouterr().out


def test_an_empty_token_file_is_refused(push, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    assert push("", "--token-file", str(tmp_path / "token")) == 2
    assert "characters that are not allowed" in capsys.readouterr().err


@pytest.mark.parametrize("page", [(200, "<html>Log in</html>"), (200, "[]"), (302, ""), (200, "null")])
def test_something_else_at_the_address_is_not_a_success(
    grafana: GrafanaDouble,
    push: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    page: tuple[int, str],
) -> None:
    grafana.page = page
    assert push() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "a log-in page or a proxy" in printed.err


@pytest.mark.parametrize(
    ("token", "code", "message"),
    [
        ("", 2, "no Grafana token"),
        ("glsa_\u017elu\u0165", 2, "characters that are not allowed"),
        ("glsa_\nx", 2, "characters that are not allowed"),
        ("glsa_wrong", 1, "create a service account token"),
        (VIEWER, 1, "role Editor"),
    ],
)
def test_a_refusal_says_what_to_do(push, capsys, token: str, code: int, message: str) -> None:  # type: ignore[no-untyped-def]
    assert push(token) == code
    err = capsys.readouterr().err
    assert "Error: " in err
    assert "Try: " in err
    assert message in err
    assert not token or token not in err


def test_grafanas_own_reason_is_shown(grafana: GrafanaDouble, push, capsys) -> None:  # type: ignore[no-untyped-def]
    grafana.provisioned.add("posthub-celery")
    assert push() == 1
    assert "400 Cannot save provisioned dashboard" in capsys.readouterr().err


def test_a_broken_grafana_is_named(grafana: GrafanaDouble, push, capsys) -> None:  # type: ignore[no-untyped-def]
    grafana.fail_with = 500
    assert push() == 1
    assert f"Grafana at {grafana.url} refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://127.0.0.1:9", 1), ("http://admin:hidden@127.0.0.1:9", 1), ("grafana.example.org", 2)],
)
def test_an_address_without_grafana(monkeypatch: pytest.MonkeyPatch, capsys, url: str, code: int) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GRAFANA_TOKEN", EDITOR)
    assert run(main, ["push", "--url", url], prog="python -m dashboards") == code
    message = capsys.readouterr().err
    assert "Try: " in message
    assert "hidden" not in message
