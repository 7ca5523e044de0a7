"""Alertmanager's configuration, rendered from the given secrets."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from alerts.cli import main
from alerts.receivers import ReceiverSettings, with_folder
from alerts.render import CHANNELS, configuration, on_and_off, read_by_alertmanager, write
from sidecar import UsageError
from sidecar.cli import run
from tests.alerts.programs import PROGRAMS

EVERYTHING = {
    "ALERTMANAGER_SLACK_URL": "https://hooks.slack.test/T/B/secret-slack",
    "ALERTMANAGER_PAGERDUTY_ROUTING_KEY": "secret-pagerduty",
    "ALERTMANAGER_TELEGRAM_BOT_TOKEN": "12:secret-telegram",
    "ALERTMANAGER_TELEGRAM_CHAT_ID": "-100",
    "ALERTMANAGER_SMTP_SMARTHOST": "mail.test:587",
    "ALERTMANAGER_SMTP_USERNAME": "alerts@posthub.test",
    "ALERTMANAGER_SMTP_PASSWORD": "secret-mail",
    "ALERTMANAGER_EMAIL_TO": "oncall@posthub.test",
    "ALERTMANAGER_WEBHOOK_URL": "https://hook.test/secret-hook",
    "ALERTMANAGER_HEARTBEAT_URL": "https://hc.test/secret-heartbeat",
}
KEYS = {channel.key for channel in CHANNELS}


def rendered(environ: dict[str, str]) -> dict[str, Any]:
    return configuration(ReceiverSettings.load(environ), read_by_alertmanager(environ))


def integrations(document: dict[str, Any]) -> dict[str, set[str]]:
    return {one["name"]: set(one) - {"name"} for one in document["receivers"]}


@pytest.mark.parametrize("only", [None, *(channel.switch for channel in CHANNELS)])
def test_alertmanager_accepts_what_is_made(only: str | None, tmp_path: Path) -> None:
    environ = dict(EVERYTHING)
    for channel in CHANNELS:
        if only is not None and channel.switch != only:
            environ.pop(channel.switch)
    write(tmp_path / "alertmanager.yml", rendered(environ))
    outcome = PROGRAMS.amtool("check-config", "alertmanager.yml", folder=tmp_path)
    assert outcome.ok, outcome.output
    assert "1 templates" in outcome.output


def test_with_everything_given_every_channel_is_on() -> None:
    found = integrations(rendered(EVERYTHING))
    assert found["pager"] == found["canary"] == KEYS
    assert found["chat"] == KEYS - {"pagerduty_configs"}
    assert found["heartbeat"] == {"webhook_configs"}


def test_without_secrets_every_channel_is_off_and_the_routes_stay() -> None:
    document = rendered({})
    assert all(keys == set() for keys in integrations(document).values())
    assert document["route"]["routes"][0]["receiver"] == "heartbeat"


def test_what_is_off_is_reported_with_its_switch() -> None:
    on, off = on_and_off(ReceiverSettings.load({"ALERTMANAGER_SLACK_URL": "https://hooks.slack.test/x"}))
    assert on == ["Slack"]
    assert ("PagerDuty", "ALERTMANAGER_PAGERDUTY_ROUTING_KEY") in off
    assert ("dead man's switch", "ALERTMANAGER_HEARTBEAT_URL") in off


def test_a_secret_file_stays_a_file_where_alertmanager_can_read_it(tmp_path: Path) -> None:
    (tmp_path / "alertmanager_slack_url").write_text("https://hooks.slack.test/x\n")
    (tmp_path / "alertmanager_webhook_url").write_text("https://hook.test/x\n")
    environ = with_folder({}, tmp_path)
    (pager,) = (one for one in rendered(environ)["receivers"] if one["name"] == "pager")
    slack, webhook = pager["slack_configs"][0], pager["webhook_configs"][0]
    assert slack["api_url_file"] == str(tmp_path / "alertmanager_slack_url")
    assert "api_url" not in slack
    # Alertmanager 0.25 has no url_file for webhooks.
    assert webhook["url"] == "https://hook.test/x"


def test_a_variable_wins_over_the_folder(tmp_path: Path) -> None:
    (tmp_path / "alertmanager_webhook_url").write_text("https://folder.test")
    environ = with_folder({"ALERTMANAGER_WEBHOOK_URL": "https://variable.test"}, tmp_path)
    assert ReceiverSettings.load(environ).webhook_url.get_secret_value() == "https://variable.test"  # type: ignore[union-attr]


def test_only_the_owner_reads_the_result_and_nothing_secret_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in EVERYTHING.items():
        monkeypatch.setenv(name, value)
    target = tmp_path / "made" / "alertmanager.yml"
    done = CliRunner().invoke(main, ["render", "--output", str(target), "--secrets", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert target.stat().st_mode & 0o777 == 0o600
    assert "secret" not in done.output
    assert "off:" not in done.output
    assert yaml.safe_load(target.read_text())["templates"] == ["templates/*.tmpl"]
    assert (target.parent / "templates" / "posthub.tmpl").is_file()


@pytest.mark.parametrize(
    ("given", "is_reported"),
    [
        ({}, True),
        ({"ALERTMANAGER_HEARTBEAT_URL": "https://ping.test/x"}, True),
        ({"ALERTMANAGER_WEBHOOK_URL": "https://hook.test/x"}, False),
    ],
    ids=["none", "the dead man's switch", "a webhook"],
)
def test_no_receiver_at_all_is_reported_loudly(
    tmp_path: Path, given: dict[str, str], *, is_reported: bool
) -> None:
    """The dead man's switch notifies nobody of an alert."""
    done = CliRunner(env=given).invoke(
        main, ["render", "--output", str(tmp_path / "a.yml"), "--secrets", str(tmp_path)]
    )
    assert done.exit_code == 0
    assert ("no one is notified" in done.output) == is_reported


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ALERTMANAGER_TELEGRAM_CHAT_ID": ""}, "ALERTMANAGER_TELEGRAM_CHAT_ID is not"),
        ({"ALERTMANAGER_EMAIL_TO": ""}, "ALERTMANAGER_EMAIL_TO is not"),
        ({"ALERTMANAGER_SMTP_USERNAME": ""}, "no sender"),
        ({"ALERTMANAGER_SMTP_SMARTHOST": "mail"}, "ALERTMANAGER_SMTP_SMARTHOST=mail: must be host:port"),
        ({"ALERTMANAGER_SMTP_SMARTHOST": "mail:smtp"}, "ALERTMANAGER_SMTP_SMARTHOST"),
        ({"ALERTMANAGER_WEBHOOK_URL": "nonsense"}, "ALERTMANAGER_WEBHOOK_URL.*must be an address"),
        (
            {"ALERTMANAGER_SLACK_URL": "ftp://hooks.slack.test/x"},
            "ALERTMANAGER_SLACK_URL.*must be an address",
        ),
        ({"ALERTMANAGER_HEARTBEAT_URL": "https://"}, "ALERTMANAGER_HEARTBEAT_URL.*must be an address"),
        ({"ALERTS_WATCH_URL": "posthub_alert_watch:9810"}, "ALERTS_WATCH_URL.*must be an address"),
        ({"ALERTMANAGER_TIMEZONE": "Europe/Atlantis"}, "ALERTMANAGER_TIMEZONE=Europe/Atlantis"),
        ({"ALERTMANAGER_QUIET_HOURS": "late"}, "ALERTMANAGER_QUIET_HOURS=late"),
        ({"ALERTMANAGER_QUIET_HOURS": "22:00-22:00"}, "ALERTMANAGER_QUIET_HOURS"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rendered({**EVERYTHING, **changes})


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("22:00-07:00", [("22:00", "24:00"), ("00:00", "07:00")]),
        ("13:00-15:30", [("13:00", "15:30")]),
        ("23:00-00:00", [("23:00", "24:00")]),
    ],
)
def test_quiet_hours_may_cross_midnight(text: str, times: list[tuple[str, str]], tmp_path: Path) -> None:
    document = rendered({"ALERTMANAGER_QUIET_HOURS": text, "ALERTMANAGER_TIMEZONE": "UTC"})
    (interval,) = document["time_intervals"][0]["time_intervals"]
    assert [(one["start_time"], one["end_time"]) for one in interval["times"]] == times
    write(tmp_path / "alertmanager.yml", document)
    assert PROGRAMS.amtool("check-config", "alertmanager.yml", folder=tmp_path).ok


def test_quiet_hours_mute_warnings_and_never_criticals() -> None:
    routes = {str(route["matchers"]): route for route in rendered(EVERYTHING)["route"]["routes"]}
    assert routes["['severity=\"warning\"']"]["mute_time_intervals"] == ["quiet-hours"]
    assert "mute_time_intervals" not in routes["['severity=\"critical\"']"]


def test_quiet_hours_can_be_off() -> None:
    document = rendered({"ALERTMANAGER_QUIET_HOURS": "off"})
    assert document["time_intervals"] == []
    assert not any("mute_time_intervals" in route for route in document["route"]["routes"])


def test_a_folder_that_cannot_be_written_is_an_error_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(main, ["render", "--output", str(tmp_path / "file" / "a.yml")]) == 1
    assert "Try:" in capsys.readouterr().err


@pytest.mark.parametrize("as_file", [True, False])
def test_alertmanager_signs_in_to_the_watch(tmp_path: Path, *, as_file: bool) -> None:
    (tmp_path / "alerts_password").write_text("open sesame")
    name, value = (
        ("ALERTS_PASSWORD_FILE", str(tmp_path / "alerts_password"))
        if as_file
        else ("ALERTS_PASSWORD", "open sesame")
    )
    environ = {
        "ALERTS_WATCH_URL": "http://watch:9810",
        "ALERTMANAGER_HEARTBEAT_URL": "https://hc-ping.com/x",
        name: value,
    }
    document = configuration(ReceiverSettings.load(environ), read_by_alertmanager(environ))
    (heartbeat,) = (one for one in document["receivers"] if one["name"] == "heartbeat")
    login = heartbeat["webhook_configs"][0]["http_config"]["basic_auth"]
    secret = {"password_file": value} if as_file else {"password": value}
    assert login == {"username": "alerts", **secret}
    # And to no one else.
    assert str(document).count("basic_auth") == 1
    write(tmp_path / "alertmanager.yml", document)
    assert PROGRAMS.amtool("check-config", "alertmanager.yml", folder=tmp_path).ok


def blocks(environ: dict[str, str], receiver: str, key: str) -> list[Any]:
    (found,) = (one for one in rendered(environ)["receivers"] if one["name"] == receiver)
    return list(found[key])


def test_addresses_and_senders_are_those_of_the_settings() -> None:
    (slack,) = blocks({**EVERYTHING, "ALERTMANAGER_SLACK_CHANNEL": "#night"}, "pager", "slack_configs")
    assert slack["channel"] == "#night"
    (mail,) = blocks(EVERYTHING, "pager", "email_configs")
    assert (mail["from"], mail["require_tls"]) == ("alerts@posthub.test", True)
    own = {**EVERYTHING, "ALERTMANAGER_EMAIL_FROM": "own@posthub.test", "ALERTMANAGER_SMTP_REQUIRE_TLS": "no"}
    (mail,) = blocks(own, "pager", "email_configs")
    assert (mail["from"], mail["require_tls"]) == ("own@posthub.test", False)


def test_the_password_of_the_watch_is_for_the_watch_alone() -> None:
    """Without a watch, Alertmanager calls the dead man's switch itself, which is someone else's server."""
    document = rendered({**EVERYTHING, "ALERTS_PASSWORD": "open sesame"})
    assert "open sesame" not in str(document)
    assert "basic_auth" not in str(document)


def test_quiet_hours_are_those_of_the_time_zone() -> None:
    (interval,) = rendered({**EVERYTHING, "ALERTMANAGER_TIMEZONE": "Europe/Prague"})["time_intervals"]
    assert [one["location"] for one in interval["time_intervals"]] == ["Europe/Prague"]


@pytest.mark.parametrize("port", ["65536", "99999"])
def test_a_port_that_does_not_exist_is_refused(port: str) -> None:
    with pytest.raises(UsageError, match="ALERTMANAGER_SMTP_SMARTHOST"):
        rendered({**EVERYTHING, "ALERTMANAGER_SMTP_SMARTHOST": f"mail.test:{port}"})
