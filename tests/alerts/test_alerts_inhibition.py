"""What inhibits what, on a real Alertmanager: each rule inhibits its symptom and nothing next to it."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from alerts.alertmanager import Alertmanager as Api
from alerts.example import labels_of
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from alerts.rules import alert, alerts
from stack.servers import Alertmanager
from tests.alerts.inhibitions import CASES, MAY_COME_FIRST, Case, Rule, inhibitions, matches, seconds

PAIRS = list(zip(inhibitions(), CASES, strict=False))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    write(config, configuration(ReceiverSettings.load({})))
    with Alertmanager(folder, config=config) as server:
        yield Api(server.url)


def post(api: Api, name: str, labels: dict[str, str]) -> dict[str, str]:
    """Post an alert with exactly these labels in addition to those of its rule."""
    complete = {"alertname": name, **alert(name).labels, **labels}
    api.post_alert(complete, {}, lasts=timedelta(minutes=5))
    return complete


def shared(rule: Rule, case: Case, environment: str) -> dict[str, str]:
    """A value for each label that cause and symptom must share."""
    own = alert(case.cause).labels
    values = {label: "same" for label in rule.equal if label not in own}
    return {**values, **case.cause_labels, "environment": environment}


def inhibitors(api: Api, environment: str) -> dict[frozenset[tuple[str, str]], set[str]]:
    """The names of the inhibiting alerts, by the labels of the inhibited one."""
    found = [one for one in api.alerts() if one["labels"]["environment"].startswith(environment)]
    names = {one["fingerprint"]: one["labels"]["alertname"] for one in found}
    return {
        frozenset(one["labels"].items()): {names[cause] for cause in one["status"]["inhibitedBy"]}
        for one in found
    }


def test_every_rule_has_a_case() -> None:
    assert len(CASES) == len(inhibitions()), (
        "add a case to tests/alerts/inhibitions.py, in the order of the rules"
    )


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=str)
def test_a_rule_inhibits_its_symptom(api: Api, rule: Rule, case: Case) -> None:
    where = shared(rule, case, f"rule-{rule.place}")
    assert matches(rule.source, post(api, case.cause, where)), "the case's cause is not a source of the rule"
    common = {label: value for label, value in where.items() if label in rule.equal}
    symptom = post(api, case.symptom, {**common, **case.symptom_labels})
    assert matches(rule.target, symptom), "the case's symptom is not a target of the rule"
    assert case.cause in inhibitors(api, where["environment"])[frozenset(symptom.items())]


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=str)
def test_with_any_other_host_queue_database_or_server_it_does_not(api: Api, rule: Rule, case: Case) -> None:
    where = shared(rule, case, f"other-{rule.place}")
    post(api, case.cause, where)
    own = alert(case.symptom).labels
    common = {label: value for label, value in where.items() if label in rule.equal}
    for label in rule.equal:
        if label in own:
            continue
        changed = {**common, **case.symptom_labels, label: f"{where['environment']}-another-{label}"}
        symptom = post(api, case.symptom, changed)
        found = inhibitors(api, where["environment"])[frozenset(symptom.items())]
        assert found == set(), f"{case.symptom} with another {label} is inhibited by {found}"


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=str)
def test_what_is_next_to_the_symptom_is_heard(api: Api, rule: Rule, case: Case) -> None:
    where = shared(rule, case, f"heard-{rule.place}")
    post(api, case.cause, where)
    assert case.heard, "name at least one alert that the rule must not inhibit"
    for name, labels in case.heard:
        other = post(api, name, {**labels, "environment": where["environment"]})
        found = inhibitors(api, where["environment"])[frozenset(other.items())]
        assert case.cause not in found, f"{name} {labels} is inhibited by {case.cause}"


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=str)
def test_a_drill_inhibits_nothing(api: Api, rule: Rule, case: Case) -> None:
    where = shared(rule, case, f"drill-{rule.place}")
    post(api, case.cause, {**where, "drill": "true"})
    common = {label: value for label, value in where.items() if label in rule.equal}
    symptom = post(api, case.symptom, {**common, **case.symptom_labels})
    assert inhibitors(api, where["environment"])[frozenset(symptom.items())] == set()


@pytest.mark.parametrize("rule", inhibitions(), ids=str)
def test_the_symptom_takes_longer_than_the_cause(rule: Rule) -> None:
    """Else both are notified: inhibition only helps if the cause is there first."""
    by_subject = any("subject" in matcher for matcher in rule.source)
    early = [
        f"{symptom.name} ({symptom.duration or '0s'}) before {cause.name} ({cause.duration or '0s'})"
        for cause in rule.causes()
        for symptom in rule.symptoms()
        if seconds(symptom.duration) <= seconds(cause.duration)
        and not (by_subject and symptom.labels["subject"] != cause.labels["subject"])
        and (cause.name, symptom.name) not in MAY_COME_FIRST
    ]
    assert early == []


@pytest.mark.parametrize("rule", inhibitions(), ids=str)
def test_cause_and_symptom_keep_the_labels_that_must_be_equal(rule: Rule) -> None:
    """A label that one of them drops in an aggregation is never equal, and the rule inhibits nothing."""
    if any("subject" in matcher or "HostDown" in matcher for matcher in rule.source):
        return  # both alerts on a subject have the same labels; HostDown also inhibits what has no host
    for one in (*rule.causes(), *rule.symptoms()):
        for kept in re.findall(r"^(?:sum|max|min|count) by \(([^)]*)\)", one.expr):
            lost = set(rule.equal) - {"environment"} - set(kept.split(", "))
            assert lost == set(), f"{one.name} drops {lost}"


@pytest.mark.parametrize("rule", inhibitions(), ids=str)
def test_every_name_in_a_rule_is_an_alert(rule: Rule) -> None:
    names = [one.name for one in alerts()]
    for matcher in (*rule.source, *rule.target):
        if matcher.startswith("alertname=") and not matcher.startswith("alertname!"):
            patterns = matcher.split("=", 1)[1].removeprefix("~").strip('"').split("|")
            for pattern in patterns:
                assert any(matches((f'alertname=~"{pattern}"',), {"alertname": name}) for name in names), (
                    pattern
                )


@pytest.mark.parametrize(
    "alertname", ["BackupMissing", "BackupUnverified", "BackupVerificationFailed", "BackupNeverReported"]
)
def test_nothing_inhibits_a_missing_or_unverified_backup(alertname: str) -> None:
    one = alert(alertname)
    labels = labels_of(one, {"host": "same"})
    inhibiting = [rule for rule in inhibitions() if matches(rule.target, labels)]
    assert [str(rule) for rule in inhibiting] == []
