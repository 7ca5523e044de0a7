"""Inhibition on a real Alertmanager: each rule inhibits its symptom and nothing else.

After an intended change of the names in a rule: ``python -m tests.alerts.test_alerts_inhibition``, and read the difference
in inhibited.yml.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from alerts.alertmanager import Alertmanager as Api
from alerts.example import labels_of
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from alerts.rules import Alert, alert, alerts
from stack.servers import Alertmanager
from tests.alerts.durations import LEAD, PROMPT, earliest, end, latest, length
from tests.alerts.inhibitions import (
    CASES,
    MAY_COME_FIRST,
    MAY_OUTLAST,
    SHARED,
    Case,
    Rule,
    inhibitions,
    matches,
)

NAMED = Path(__file__).with_name("inhibited.yml")
PAIRS = list(zip(inhibitions(), CASES, strict=False))
APART = list(zip(inhibitions(), CASES, SHARED, strict=False))


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
    api.post_alert(complete, {}, duration=timedelta(minutes=5))
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
    assert len(CASES) == len(SHARED) == len(inhibitions()), (
        "add a case and its labels to tests/alerts/inhibitions.py, in the order of the rules"
    )


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=str)
def test_a_rule_inhibits_its_symptom(api: Api, rule: Rule, case: Case) -> None:
    where = shared(rule, case, f"rule-{rule.place}")
    assert matches(rule.source, post(api, case.cause, where)), "the case's cause is not a source of the rule"
    common = {label: value for label, value in where.items() if label in rule.equal}
    symptom = post(api, case.symptom, {**common, **case.symptom_labels})
    assert matches(rule.target, symptom), "the case's symptom is not a target of the rule"
    assert case.cause in inhibitors(api, where["environment"])[frozenset(symptom.items())]


@pytest.mark.parametrize(("rule", "case", "labels"), APART, ids=str)
def test_with_any_other_host_queue_database_or_server_it_does_not(
    api: Api, rule: Rule, case: Case, labels: tuple[str, ...]
) -> None:
    where = shared(rule, case, f"other-{rule.place}") | {
        label: "same"
        for label in labels
        if label not in {**alert(case.cause).labels, **case.cause_labels, "environment": ""}
    }
    post(api, case.cause, where)
    own = alert(case.symptom).labels
    common = {label: value for label, value in where.items() if label in labels}
    for label in labels:
        if label in own:
            continue
        changed = {**common, **case.symptom_labels, label: f"{where['environment']}-another-{label}"}
        symptom = post(api, case.symptom, changed)
        found = inhibitors(api, where["environment"])[frozenset(symptom.items())]
        assert found == set(), f"{case.symptom} with another {label} is inhibited by {found}"


# HostDown always has a host, and one rule reads it only of the symptom.
NARROWED = [
    (rule, case, label) for rule, case in PAIRS for label in case.cause_labels if case.cause != "HostDown"
]


@pytest.mark.parametrize(("rule", "case", "label"), NARROWED, ids=str)
def test_a_cause_of_another_store_upstream_or_job_does_not_inhibit(
    api: Api, rule: Rule, case: Case, label: str
) -> None:
    """A rule that loses the matcher of its source would inhibit too much."""
    where = shared(rule, case, f"narrow-{rule.place}-{label}")
    post(api, case.cause, {**where, label: "another"})
    common = {label: value for label, value in where.items() if label in rule.equal}
    symptom = post(api, case.symptom, {**common, **case.symptom_labels})
    assert inhibitors(api, where["environment"])[frozenset(symptom.items())] == set()


def named() -> dict[str, dict[str, list[str]]]:
    """The causes and symptoms of each rule that lists its symptoms by name."""
    return {
        f"{rule.place} {rule.causes()[0].name}": {
            "causes": sorted(one.name for one in rule.causes()),
            "symptoms": sorted(one.name for one in rule.symptoms()),
        }
        for rule in inhibitions()
        if any(matcher.startswith(("alertname=", "alertname=~")) for matcher in rule.target)
    }


def test_the_names_in_the_rules_are_the_intended_ones() -> None:
    """A name that is lost from a rule, or that a pattern matches in addition, is noticed only here."""
    expected = yaml.safe_load(NAMED.read_text(encoding="utf-8"))
    assert named() == expected, "run python -m tests.alerts.test_alerts_inhibition, and read the difference"


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


def of_other_alerts(rule: Rule) -> bool:
    """Whether cause and symptom are different faults, rather than two thresholds of the same measurement."""
    return not any("subject" in matcher for matcher in rule.source)


RULES_OF_CAUSES = [rule for rule in inhibitions() if of_other_alerts(rule)]


@pytest.mark.parametrize("rule", RULES_OF_CAUSES, ids=str)
def test_the_cause_fires_before_the_symptom(rule: Rule) -> None:
    """Otherwise both are notified: inhibition only works if the cause fires first."""
    early = [
        f"{symptom.name} ({earliest(symptom):g} s) less than {LEAD:g} s after {cause.name} ({latest(cause):g} s)"
        for cause in rule.causes()
        for symptom in rule.symptoms()
        if earliest(symptom) < latest(cause) + LEAD and (cause.name, symptom.name) not in MAY_COME_FIRST
    ]
    assert early == []


@pytest.mark.parametrize("rule", [rule for rule in inhibitions() if not of_other_alerts(rule)], ids=str)
def test_of_two_thresholds_the_higher_one_fires_first(rule: Rule) -> None:
    early = [
        f"{warning.name} ({warning.duration}) before {critical.name} ({critical.duration})"
        for critical in rule.causes()
        for warning in rule.symptoms()
        if warning.labels["subject"] == critical.labels["subject"]
        and length(warning.duration) <= length(critical.duration)
        and (critical.name, warning.name) != ("ApiAvailabilityBurnMedium", "ApiViewFailing")
    ]
    assert early == []


@pytest.mark.parametrize("rule", RULES_OF_CAUSES, ids=str)
def test_the_cause_ends_after_the_symptom(rule: Rule) -> None:
    """Otherwise the symptom of a fault that is over is notified."""
    late = [
        f"{symptom.name} ({end(symptom):g} s) outlasts {cause.name} ({tail(cause, symptom):g} s)"
        for cause in rule.causes()
        for symptom in rule.symptoms()
        if end(symptom) > tail(cause, symptom)
        and (cause.name, symptom.name) not in MAY_OUTLAST
        # A host that was down counted nothing, so rates start from zero when it is up.
        and not (cause.name == "HostDown" and end(symptom) > PROMPT)
    ]
    assert late == []


def tail(cause: Alert, symptom: Alert) -> float:
    """The seconds for which a symptom stays inhibited after its cause's end."""
    if cause.name.endswith("RecentlyDown"):
        return end(cause) + length(alert(cause.name.replace("Recently", "")).kept)
    recent = [
        rule.causes()[0]
        for rule in inhibitions()
        if f'alertname="{cause.name.removesuffix("Down")}RecentlyDown"' in rule.source
        and symptom in rule.symptoms()
    ]
    return max(length(cause.kept), *(tail(one, symptom) for one in recent), 0.0)


@pytest.mark.parametrize("rule", RULES_OF_CAUSES, ids=str)
def test_no_fault_that_begins_after_the_cause_is_muted(rule: Rule) -> None:
    """A symptom that fires before the cause's tail has passed would be delayed."""
    delayed = [
        f"{symptom.name} after {earliest(symptom):g} s, {cause.name} kept for {cause.kept}"
        for cause in rule.causes()
        for symptom in rule.symptoms()
        # HighErrorRate reads windows, which end later than the errors. A host needs minutes to start everything.
        if earliest(symptom) < length(cause.kept) - LEAD and cause.name not in ("HighErrorRate", "HostDown")
    ]
    assert delayed == []


@pytest.mark.parametrize("pair", [*MAY_COME_FIRST, *MAY_OUTLAST], ids="-".join)
def test_an_exception_is_still_one(pair: tuple[str, str]) -> None:
    cause, symptom = alert(pair[0]), alert(pair[1])
    pairs = [rule for rule in RULES_OF_CAUSES if cause in rule.causes() and symptom in rule.symptoms()]
    assert pairs, "no rule inhibits it"
    early = earliest(symptom) < latest(cause) + LEAD
    assert (
        (pair in MAY_COME_FIRST and early)
        or (pair in MAY_OUTLAST and end(symptom) > tail(cause, symptom))
        or (pair == ("BackupStoreUnreachable", "BackupStoreErrors"))
    )


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


if __name__ == "__main__":
    NAMED.write_text(
        "# What inhibits what, by name; see test_alerts_inhibition.py.\n"
        + yaml.safe_dump(named(), sort_keys=False),
        encoding="utf-8",
    )
