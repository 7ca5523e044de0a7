"""A fault that begins while an earlier cause still fires, although it is over: only the symptoms of the cause may be muted.

Each of the ten faults of the live test, within the tail of each cause.
"""

import pytest

from alerts.rules import Alert, alert
from tests.alerts.durations import LEAD, earliest, length
from tests.alerts.inhibitions import Rule, inhibitions
from tests.e2e.test_live_stack import FAULTS

# Causes that fire after their end: kept, or because they look back.
LASTING = sorted(
    {
        cause.name
        for rule in inhibitions()
        for cause in rule.causes()
        if cause.kept or "RecentlyDown" in cause.name
    }
)
# Muted on purpose, with the reason.
MAY_BE_MUTED = {
    **{
        (
            cause,
            "HighErrorRate",
        ): "its window of 5 minutes still contains the outage: new errors cannot be distinguished from old ones"
        for cause in ("RedisRecentlyDown", "PostgresRecentlyDown")
    },
    **{
        (
            "HostDown",
            fault.alert,
        ): "for 5 minutes a host that is up again starts its services; then it is notified"
        for fault in FAULTS
        if fault.alert not in ("HostDown", "CeleryQueueBacklog")
    },
}


def tail(cause: Alert) -> float:
    """The seconds for which it fires after its end."""
    return length(cause.kept)


def muting(cause: Alert, fault: Alert) -> list[Rule]:
    """The rules by which this cause mutes this fault, where the labels that only the scrape sets are equal."""
    return [
        rule
        for rule in inhibitions()
        if cause in rule.causes() and fault in rule.symptoms()
        if all(cause.labels.get(label) == fault.labels.get(label) for label in rule.equal)
    ]


@pytest.mark.parametrize("cause", LASTING)
@pytest.mark.parametrize("fault", [fault.alert for fault in FAULTS])
def test_a_fault_in_the_tail_of_a_cause_is_notified(cause: str, fault: str) -> None:
    rules = [] if cause == fault else muting(alert(cause), alert(fault))
    delays = rules and (cause.endswith("RecentlyDown") or earliest(alert(fault)) < tail(alert(cause)) - LEAD)
    assert bool(delays) == ((cause, fault) in MAY_BE_MUTED and cause != fault and bool(rules)), (
        f"{cause} mutes {fault} by rule {', '.join(map(str, rules))}"
    )


def test_there_are_ten_faults_and_every_long_tail() -> None:
    assert len(FAULTS) == 10
    assert {
        "HostDown",
        "RedisDown",
        "RedisRecentlyDown",
        "PostgresDown",
        "PostgresRecentlyDown",
        "HighErrorRate",
    } <= set(LASTING)
