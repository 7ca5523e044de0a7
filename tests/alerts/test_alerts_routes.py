"""Who is told: every alert's route, by amtool; and what silences what, by a real Alertmanager."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from alerts import rules
from alerts.alertmanager import Alertmanager as Api
from alerts.cli import main
from alerts.example import labels_of
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from alerts.rules import Alert, alert
from stack.servers import Alertmanager
from tests.alerts.programs import PROGRAMS

BY_SEVERITY = {"critical": "pager", "warning": "chat", "info": "log"}
SPECIAL = {"Watchdog": "heartbeat"}


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
    # Alertmanager looks once a group_interval whether the last time is a repeat_interval ago: equal ones are every
    # other time not quite.
    assert route["group_interval"] == "1m"
    assert route["repeat_interval"] == "30s"


def test_an_alert_without_severity_still_reaches_somebody() -> None:
    assert receiver_of({"alertname": "SomebodyElses"}) == "chat"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    write(config, configuration(ReceiverSettings.load({})))
    with Alertmanager(folder, config=config) as server:
        yield Api(server.url)


# Cause, symptoms that it silences, and those near by that it must not silence.
INHIBITIONS = [
    ("RedisDown", ["CeleryBrokerUnreachable", "CeleryNoWorkers", "HighErrorRate", "ApiProbeFailed", "BackupFailed"],
     ["BackupMissing", "HostDiskAlmostFull", "TargetDown", "BackupVerificationFailed"]),
    ("PostgresDown", ["HighErrorRate", "DjangoDatabaseErrors", "CeleryBeatDown", "ApiAvailabilityBurnFast", "BackupFailed"],
     ["BackupMissing", "CeleryNoWorkers", "TargetDown"]),
    ("HostDown", ["TargetDown", "CeleryNoWorkers", "ApiProbeFailed", "RedisDown", "EdgeProbeFailed"],
     ["BackupMissing", "BackupNeverReported", "BackupUnverified", "BackupVerificationFailed", "BackupScheduleStopped",
      "Watchdog"]),
    ("CeleryNoWorkers", ["CeleryWorkerDown", "CeleryQueueNoConsumers", "CeleryQueueBacklog", "CeleryQueueAgeCritical"],
     ["CeleryBeatDown", "CeleryTaskFailureRatioCritical"]),
    ("CeleryBeatDown", ["CeleryScheduledTaskMissed"], ["CeleryWorkerDown"]),
    ("BackupStoreUnreachable", ["BackupFailed", "BackupSpoolInUse", "BackupStoreErrors"],
     ["BackupMissing", "BackupUnverified"]),
    ("HighErrorRate", ["ApiAvailabilityBurnFast", "ApiViewFailing", "EdgeHighErrorRate"], ["ApiLatencyBurnFast"]),
    ("HostDiskAlmostFull", ["HostDiskFillingUp", "RedisPersistenceFailing"], ["HostMemoryLow"]),
    ("RedisMemoryCritical", ["RedisMemoryHigh"], ["RedisEvictionPolicyUnsafe"]),
    ("PostgresConnectionsExhausted", ["PostgresConnectionsHigh"], ["PostgresDeadlocks"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "silenced", "heard"), INHIBITIONS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_cause_silences_its_symptoms_only(
    api: Api, cause: str, silenced: list[str], heard: list[str]
) -> None:
    # An environment of its own keeps the cases apart.
    where = {"environment": f"case-{cause}", "host": "h", "mountpoint": "/", "instance": "i"}
    for name in (cause, *silenced, *heard):
        api.post_alert(labels_of(alert(name), where), {}, lasts=timedelta(minutes=5))
    mine = [found for found in api.alerts() if found["labels"]["environment"] == where["environment"]]
    quiet = {found["labels"]["alertname"] for found in mine if found["status"]["inhibitedBy"]}
    assert quiet == set(silenced)
    assert {found["labels"]["alertname"] for found in mine} - quiet == {cause, *heard}


@pytest.mark.parametrize("cause", [cause for cause, _, _ in INHIBITIONS])
def test_a_drill_silences_nothing_and_keeps_apart(api: Api, cause: str) -> None:
    (silenced,) = (names for name, names, _ in INHIBITIONS if name == cause)
    where = {"environment": f"drill-{cause}", "host": "h", "mountpoint": "/", "instance": "i"}
    drill = labels_of(alert(cause), {**where, "drill": "true"})
    for labels in (drill, *(labels_of(alert(name), where) for name in silenced)):
        api.post_alert(labels, {}, lasts=timedelta(minutes=5))
    mine = [found for found in api.alerts() if found["labels"]["environment"] == where["environment"]]
    causes = [found["status"]["inhibitedBy"] for found in mine]
    assert len(mine) == len(silenced) + 1
    # Some of the symptoms are causes of others.
    (fingerprint,) = (found["fingerprint"] for found in mine if found["labels"].get("drill"))
    assert all(fingerprint not in found for found in causes)


def test_another_environment_is_not_silenced(api: Api) -> None:
    api.post_alert(labels_of(alert("RedisDown"), {"environment": "one"}), {}, lasts=timedelta(minutes=5))
    api.post_alert(labels_of(alert("HighErrorRate"), {"environment": "two"}), {}, lasts=timedelta(minutes=5))
    other = [found for found in api.alerts() if found["labels"]["environment"] == "two"]
    assert [found["status"]["inhibitedBy"] for found in other] == [[]]


def test_a_silence_is_set_listed_and_ended(api: Api) -> None:
    made = api.silence(
        ["TargetDown", "job=~re.+"], lasts=timedelta(hours=1), by="someone", comment="moving Redis"
    )
    (silence,) = api.silences()
    assert (silence.id, silence.by, silence.comment) == (made, "someone", "moving Redis")
    assert set(silence.matchers) == {"alertname=TargetDown", "job=~re.+"}
    api.expire(made)
    assert api.silences() == []


def ops_alerts(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_drill_shows_up_as_it_would_look(api: Api) -> None:
    done = ops_alerts("fire", "CeleryQueueBacklog", "--label", "queue_name=ai_jobs", "--url", api.url)
    assert done.exit_code == 0, done.output
    assert "receivers: chat" in done.output
    (found,) = [one for one in api.alerts() if one["labels"].get("queue_name") == "ai_jobs"]
    assert found["labels"]["drill"] == "true"
    assert found["annotations"]["summary"] == "42 tasks wait in queue ai_jobs"
    assert found["annotations"]["runbook_url"].endswith("/CeleryQueueBacklog.md")


def test_a_drill_that_is_held_back_says_so(api: Api) -> None:
    made = api.silence(["RedisRestarted"], lasts=timedelta(hours=1), by="someone", comment="moving Redis")
    done = ops_alerts("fire", "RedisRestarted", "--url", api.url)
    api.expire(made)
    assert f"not sent: silenced by {made}" in done.output


def test_a_silence_for_a_name_that_is_no_alert_is_refused(api: Api) -> None:
    done = ops_alerts("silence", "add", "RedisDwon", "--for", "1h", "--comment", "x", "--url", api.url)
    assert "there is no alert RedisDwon" in str(done.exception)
    assert api.silences() == []


def test_tests_of_an_unknown_part_are_refused() -> None:
    done = ops_alerts("test", "nope", "redis")
    assert "no tests for nope" in str(done.exception)
