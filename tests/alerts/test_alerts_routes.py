"""Who is notified: the route of every alert by amtool, the receivers, and silences on a real Alertmanager."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from alerts import rules
from alerts.alertmanager import Alertmanager as Api
from alerts.cli import main
from alerts.example import labels_of
from alerts.paths import ALERTMANAGER
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from alerts.rules import Alert
from stack.servers import Alertmanager
from tests.alerts.programs import PROGRAMS
from tests.alerts.test_alerts_render import EVERYTHING

BY_SEVERITY = {"critical": "pager", "warning": "chat", "info": "log"}
SPECIAL = {"Watchdog": "heartbeat", "RedisRecentlyDown": "nobody", "PostgresRecentlyDown": "nobody"}


def receiver_of(labels: dict[str, str]) -> str:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    outcome = PROGRAMS.amtool("config", "routes", "test", "--config.file", "alertmanager.yml", *pairs)
    assert outcome.ok, outcome.output
    return outcome.output.splitlines()[0]


def test_every_alert_goes_where_its_severity_says() -> None:
    def wrong(one: Alert) -> str | None:
        expected = SPECIAL.get(one.name, BY_SEVERITY[one.severity])
        found = receiver_of(labels_of(one, {}))
        return None if found == expected else f"{one.name}: {found} instead of {expected}"

    with ThreadPoolExecutor(4) as pool:
        assert [text for text in pool.map(wrong, rules.alerts()) if text] == []


def test_the_canary_goes_everywhere() -> None:
    assert receiver_of({"alertname": "AlertingCanary", "severity": "info", "nonce": "x"}) == "canary"


def test_the_dead_mans_switch_is_called_every_minute() -> None:
    routes = configuration(ReceiverSettings.load({}))["route"]["routes"]
    (route,) = (one for one in routes if one["receiver"] == "heartbeat")
    # Once per group_interval, Alertmanager checks whether the last notification is a repeat_interval ago. If the two are
    # equal, it is not quite that long ago every other time.
    assert route["group_interval"] == "1m"
    assert route["repeat_interval"] == "30s"


def test_an_alert_without_severity_still_reaches_someone() -> None:
    assert receiver_of({"alertname": "SomebodyElses"}) == "chat"


# Receivers that are not read by people.
UNREAD = ("heartbeat", "nobody")


def test_every_receiver_of_people_sends_the_end_of_an_alert() -> None:
    for receiver in configuration(ReceiverSettings.load(EVERYTHING))["receivers"]:
        if receiver["name"] in UNREAD:
            continue
        blocks = [block for key, blocks in receiver.items() if key != "name" for block in blocks]
        assert blocks, receiver["name"]
        assert all(block["send_resolved"] is True for block in blocks), receiver["name"]


# How soon each route repeats what still fires. A new route belongs here, and needs a case below for what it delays or mutes.
REPEATED = {
    "heartbeat": "30s",
    "canary": "12h",
    "nobody": "12h",
    "pager": "2h",
    "chat": "12h",
    # Alertmanager forgets what it has sent after this time.
    "log": "5d",
}


def test_every_route_repeats_what_still_fires() -> None:
    route = configuration(ReceiverSettings.load({}))["route"]
    found = {one["receiver"]: {**route, **one}["repeat_interval"] for one in route["routes"]}
    assert found == REPEATED
    assert len(route["routes"]) == len(REPEATED)
    assert route["receiver"] == "chat"


def test_quiet_hours_end_before_work_begins() -> None:
    found = configuration(ReceiverSettings.load({}))["time_intervals"]
    assert yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))["time_intervals"] == found
    (quiet,) = found
    (interval,) = quiet["time_intervals"]
    hours = [(one["start_time"], one["end_time"]) for one in interval["times"]]
    assert (quiet["name"], hours) == ("quiet-hours", [("22:00", "24:00"), ("00:00", "07:00")])
    assert set(interval) == {"times", "location"}, "they are the same on every day"


def own(severity: str) -> dict[str, Any]:
    """The route of a severity, with what it inherits."""
    route = configuration(ReceiverSettings.load({}))["route"]
    (found,) = (one for one in route["routes"] if one["matchers"] == [f'severity="{severity}"'])
    return {**route, **found}


@pytest.mark.parametrize(
    ("severity", "wait", "interval", "muted"),
    [
        ("critical", "10s", "1m", []),
        ("warning", "30s", "5m", ["quiet-hours"]),
        ("info", "5m", "5m", ["quiet-hours"]),
    ],
)
def test_a_person_waits_no_longer_than_the_severity_allows(
    severity: str, wait: str, interval: str, muted: list[str]
) -> None:
    route = own(severity)
    assert (route["group_wait"], route["group_interval"]) == (wait, interval)
    assert route.get("mute_time_intervals", []) == muted


def test_what_is_never_for_people_waits_for_nothing() -> None:
    routes = {one["receiver"]: one for one in configuration(ReceiverSettings.load({}))["route"]["routes"]}
    for receiver in ("heartbeat", "canary"):
        assert routes[receiver]["group_wait"] == "0s"
        assert "mute_time_intervals" not in routes[receiver]
    # Each test message is one notification, whichever came before it.
    assert routes["canary"]["group_by"] == ["alertname", "nonce"]


@pytest.mark.parametrize("severity", BY_SEVERITY)
def test_environments_and_drills_never_share_a_notification(severity: str) -> None:
    assert set(own(severity)["group_by"]) == {"alertname", "environment", "drill"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    write(config, configuration(ReceiverSettings.load({})))
    with Alertmanager(folder, config=config) as server:
        yield Api(server.url)


def test_a_silence_is_set_listed_and_ended(api: Api) -> None:
    made = api.silence(
        ["TargetDown", "job=~re.+"], duration=timedelta(hours=1), by="someone", comment="moving Redis"
    )
    (silence,) = api.silences()
    assert (silence.id, silence.by, silence.comment) == (made, "someone", "moving Redis")
    assert set(silence.matchers) == {"alertname=TargetDown", "job=~re.+"}
    api.expire(made)
    assert api.silences() == []


def test_one_silence_that_cannot_be_ended_keeps_none_of_the_others(api: Api) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    active = api.silence(["TargetDown"], duration=timedelta(hours=1), by="someone", comment="x")
    done = ops_alerts("silence", "end", unknown, active, "--url", api.url)
    assert unknown in str(done.exception)
    assert api.silences() == []


def ops_alerts(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_drill_shows_up_as_it_would_look(api: Api) -> None:
    done = ops_alerts("fire", "CeleryQueueBacklog", "--label", "queue_name=ai_jobs", "--url", api.url)
    assert done.exit_code == 0, done.output
    assert "receivers: chat" in done.output
    (found,) = [one for one in api.alerts() if one["labels"].get("queue_name") == "ai_jobs"]
    assert found["labels"]["drill"] == "true"
    assert found["annotations"]["summary"] == "42 tasks are waiting in queue ai_jobs"
    assert found["annotations"]["runbook_url"].endswith("/CeleryQueueBacklog.md")


def test_a_drill_that_is_held_back_says_so(api: Api) -> None:
    made = api.silence(["RedisRestarted"], duration=timedelta(hours=1), by="someone", comment="moving Redis")
    done = ops_alerts("fire", "RedisRestarted", "--url", api.url)
    api.expire(made)
    assert f"not sent: silenced by {made}" in done.output


def test_a_silence_for_an_unknown_alert_is_refused(api: Api) -> None:
    done = ops_alerts("silence", "add", "RedisDwon", "--for", "1h", "--comment", "x", "--url", api.url)
    assert "there is no alert RedisDwon" in str(done.exception)
    assert api.silences() == []


def test_tests_of_an_unknown_part_are_refused() -> None:
    done = ops_alerts("test", "nope", "redis")
    assert "no tests for nope" in str(done.exception)
