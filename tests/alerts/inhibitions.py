"""The inhibition rules as data, and one case for each of them."""

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from alerts.paths import ALERTMANAGER
from alerts.rules import Alert, alerts

_MATCHER = re.compile(r'(?P<label>\w+)(?P<sign>=~|!~|!=|=)"?(?P<value>.*?)"?')


@dataclass(frozen=True)
class Rule:
    """An inhibition rule.

    Args:
        place: its position in alertmanager.yml, from 1.
    """

    place: int
    source: tuple[str, ...]
    target: tuple[str, ...]
    equal: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.source[:1])}"

    def causes(self) -> list[Alert]:
        """The alerts that can be its source."""
        return [alert for alert in alerts() if _can_match(self.source, alert)]

    def symptoms(self) -> list[Alert]:
        """The alerts that can be its target."""
        causes = {alert.name for alert in self.causes()}
        return [alert for alert in alerts() if _can_match(self.target, alert) and alert.name not in causes]


@dataclass(frozen=True)
class Case:
    """A cause and a symptom that it inhibits.

    Args:
        also: labels that both have, in addition to those of the rule's ``equal``.
        heard: similar symptoms that the rule must not inhibit: alert name and labels.
    """

    cause: str
    symptom: str
    cause_labels: dict[str, str] = field(default_factory=dict)
    symptom_labels: dict[str, str] = field(default_factory=dict)
    heard: tuple[tuple[str, dict[str, str]], ...] = ()


@cache
def inhibitions() -> tuple[Rule, ...]:
    """The rules in alertmanager.yml."""
    document = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    return tuple(_rule(place, rule) for place, rule in enumerate(document["inhibit_rules"], 1))


def matches(matchers: tuple[str, ...], labels: dict[str, str]) -> bool:
    """Whether labels match all matchers."""
    return all(_matches(matcher, labels) for matcher in matchers)


def _can_match(matchers: tuple[str, ...], alert: Alert) -> bool:
    """Whether an alert matches as far as its rule sets the labels."""
    labels = {**alert.labels, "alertname": alert.name}
    static = ("alertname", "component", "severity", "subject")
    return matches(tuple(one for one in matchers if _parts(one)[0] in static), labels)


def _matches(matcher: str, labels: dict[str, str]) -> bool:
    label, sign, value = _parts(matcher)
    given = labels.get(label, "")
    if sign in ("=", "!="):
        return (given == value) == (sign == "=")
    return bool(re.fullmatch(value, given)) == (sign == "=~")


def _parts(matcher: str) -> tuple[str, str, str]:
    found = _MATCHER.fullmatch(matcher)
    assert found is not None, matcher
    return found["label"], found["sign"], found["value"]


def _rule(place: int, document: dict[str, Any]) -> Rule:
    return Rule(
        place,
        tuple(document["source_matchers"]),
        tuple(document["target_matchers"]),
        tuple(document["equal"]),
    )


_MAIN = {"server": "main"}

# One case per rule, in the order of alertmanager.yml.
CASES = (
    Case("HostDown", "HighMemoryUsage", heard=(("BackupMissing", {"host": "same"}), ("Watchdog", {}))),
    Case(
        "HostDown", "HighErrorRate", {"host": "a"},
        heard=(("RedisDown", {"host": "b"}), ("TargetDown", {"host": "b"}), ("PostgresDown", {"host": "b"})),
    ),
    Case(
        "RedisDown", "CeleryBrokerUnreachable",
        heard=(("BackupMissing", {}), ("HostDiskAlmostFull", {}), ("TargetDown", {}), ("BackupVerificationFailed", {})),
    ),
    Case(
        "RedisDown", "BackupFailed", {}, {"database": "redis"}, heard=(("BackupFailed", {"database": "posthub"}),),
    ),
    Case(
        "RedisRecentlyDown", "HighErrorRate",
        heard=(
            ("CeleryWorkerDown", {}), ("CeleryNoWorkers", {}), ("ApiProbeFailed", {}), ("BackupFailed", {"database": "redis"}),
            ("CeleryQueueNoConsumers", {}), ("CeleryBeatDown", {}), ("CeleryQueueBacklog", {}), ("EdgeProbeFailed", {}),
        ),
    ),
    Case(
        "PostgresDown", "DjangoDatabaseErrors",
        heard=(("BackupMissing", {}), ("CeleryNoWorkers", {}), ("TargetDown", {}), ("CeleryWorkerDown", {})),
    ),
    Case(
        "PostgresDown", "BackupFailed", {}, {"database": "posthub"}, heard=(("BackupFailed", {"database": "redis"}),),
    ),
    Case("PostgresDown", "WalArchiveStopped", {}, _MAIN, heard=(("WalSlotRunsOut", _MAIN), ("WalGap", _MAIN), ("BaseOverdue", _MAIN))),
    Case(
        "PostgresRecentlyDown", "HighErrorRate",
        heard=(
            ("BackupFailed", {"database": "posthub"}), ("CeleryBeatDown", {}), ("ApiProbeFailed", {}),
            ("CeleryQueueAgeCritical", {}), ("CeleryQueueStalled", {}), ("DjangoMigrationsUnapplied", {}),
        ),
    ),
    Case("HostDiskAlmostFull", "RedisPersistenceFailing", heard=(("HostMemoryLow", {"host": "same"}),)),
    Case(
        "CeleryNoWorkers", "CeleryQueueNoConsumers",
        heard=(("CeleryBeatDown", {"job": "same"}), ("CeleryTaskFailureRatioCritical", {})),
    ),
    Case("CeleryQueueNoConsumers", "CeleryQueueBacklog", heard=(("CeleryUnackedHigh", {"job": "same"}),)),
    Case("CeleryBeatDown", "CeleryScheduledTaskMissed", heard=(("CeleryWorkerDown", {"job": "same"}),)),
    Case(
        "BackupStoreUnreachable", "BackupFailed", {"store": "main"}, {"database": "posthub"},
        heard=(("BackupMissing", {"instance": "same"}), ("BackupUnverified", {"instance": "same"})),
    ),
    Case(
        "BackupStoreUnreachable", "BackupOffsiteLag", {"store": "offsite"},
        heard=(("BackupFailed", {"instance": "same", "database": "posthub"}), ("BackupSpoolInUse", {"instance": "same"})),
    ),
    Case("BackupStoreUnreachable", "BackupStoreErrors", heard=(("BackupMissing", {"instance": "same", "store": "same"}),)),
    Case(
        "BackupStoreUnreachable", "WalArchiveStopped", {"store": "main"}, _MAIN,
        heard=(("WalSlotRunsOut", _MAIN), ("WalGap", _MAIN), ("PitrUnproven", _MAIN), ("SlotOrphaned", {})),
    ),
    Case("SlotUncapped", "WalArchiveStopped", heard=(("WalHoldsUpCommits", {"server": "same"}), ("WalGap", {"server": "same"}))),
    Case(
        "TargetDown", "WalArchiveStopped", {"job": "backup_wal"}, _MAIN,
        heard=(("WalSlotRunsOut", _MAIN), ("WalGap", _MAIN), ("PostgresDown", {}), ("TargetFlapping", {"job": "other"})),
    ),
    Case("ApiProbeFailed", "EdgeHighErrorRate", heard=(("EdgeProbeFailed", {}), ("HighErrorRate", {}))),
    Case(
        "CaddyUpstreamUnhealthy", "EdgeHighErrorRate", {"upstream": "posthub_api_prod:8000"}, heard=(("EdgeProbeFailed", {}),),
    ),
    Case("HighErrorRate", "ApiViewFailing", heard=(("ApiLatencyBurnFast", {}),)),
    Case("TargetDown", "TargetFlapping", heard=(("JobMissing", {"job": "same", "instance": "same"}),)),
    Case("RedisMemoryCritical", "RedisMemoryHigh", heard=(("RedisEvictionPolicyUnsafe", {"instance": "same"}),)),
)  # fmt: skip

# The labels that cause and symptom must share, in the order of alertmanager.yml. They are repeated here, so that a label
# that a rule loses is noticed.
SHARED: tuple[tuple[str, ...], ...] = (
    ("environment", "host"),  # 1 HostDown, HighMemoryUsage
    ("environment",),  # 2 HostDown, HighErrorRate
    ("environment",),  # 3 RedisDown, CeleryBrokerUnreachable
    ("environment",),  # 4 RedisDown, BackupFailed
    ("environment",),  # 5 RedisRecentlyDown, HighErrorRate
    ("environment",),  # 6 PostgresDown, DjangoDatabaseErrors
    ("environment",),  # 7 PostgresDown, BackupFailed
    ("environment",),  # 8 PostgresDown, WalArchiveStopped
    ("environment",),  # 9 PostgresRecentlyDown, HighErrorRate
    ("environment", "host"),  # 10 HostDiskAlmostFull, RedisPersistenceFailing
    ("environment", "job", "broker"),  # 11 CeleryNoWorkers, CeleryQueueNoConsumers
    ("environment", "job", "broker", "queue_name"),  # 12 CeleryQueueNoConsumers, CeleryQueueBacklog
    ("environment", "job"),  # 13 CeleryBeatDown, CeleryScheduledTaskMissed
    ("environment", "instance"),  # 14 BackupStoreUnreachable, BackupFailed
    ("environment", "instance"),  # 15 BackupStoreUnreachable, BackupOffsiteLag
    ("environment", "instance", "store"),  # 16 BackupStoreUnreachable, BackupStoreErrors
    ("environment",),  # 17 BackupStoreUnreachable, WalArchiveStopped
    ("environment", "server"),  # 18 SlotUncapped, WalArchiveStopped
    ("environment",),  # 19 TargetDown, WalArchiveStopped
    ("environment",),  # 20 ApiProbeFailed, EdgeHighErrorRate
    ("environment",),  # 21 CaddyUpstreamUnhealthy, EdgeHighErrorRate
    ("environment",),  # 22 HighErrorRate, ApiViewFailing
    ("environment", "job", "instance"),  # 23 TargetDown, TargetFlapping
    (
        "environment",
        "subject",
        "instance",
        "queue_name",
        "mountpoint",
        "datname",
    ),  # 24 RedisMemoryCritical, RedisMemoryHigh
)

# Symptoms that may be notified first, with the reason.
MAY_COME_FIRST = {
    ("HostDown", "RedisRecentlyDown"): "notifies no one",
    ("HostDown", "PostgresRecentlyDown"): "notifies no one",
    ("HostDown", "HeartbeatFailing"): "reads a time of the last 10 minutes",
    ("HostDown", "CanaryMissing"): "reads a time of the last 10 minutes",
    **{
        ("HostDown", one): "a host that is down reports nothing new"
        for one in (
            "ContainerRestarting",
            "ContainerOomKilled",
            "HostOomKill",
            "LogPanic",
            "VideoOutcomeUnknown",
        )
    },
    **{
        (cause, "WalArchiveStopped"): "the newest heartbeat must be two minutes old before it begins to count"
        for cause in ("BackupStoreUnreachable", "SlotUncapped", "TargetDown")
    },
}

# Symptoms that may be notified after the cause's end, with the reason.
_BUDGET = "the spent budget is a fact, and the runbook asks what spent it"
_QUEUE = "a queue that is not empty when it is served again is a fact"
_LOST = "work that was rejected is lost, even after the outage"
MAY_OUTLAST = {
    **{
        (cause, burn): _BUDGET
        for cause in ("RedisDown", "PostgresDown", "HighErrorRate")
        for burn in ("ApiAvailabilityBurnMedium", "ApiAvailabilityBurnSlow", "ApiAvailabilityBurnTrickle")
    },
    **{
        (cause, burn): _BUDGET
        for cause in ("RedisDown", "PostgresDown")
        for burn in ("ApiLatencyBurnMedium", "ApiLatencyBurnSlow")
    },
    **{(cause, "CeleryQueueGrowing"): _QUEUE for cause in ("RedisDown", "PostgresDown", "CeleryNoWorkers")},
    ("CeleryNoWorkers", "CeleryQueueStalled"): _QUEUE,
    **{
        ("CeleryQueueNoConsumers", queue): _QUEUE
        for queue in (
            "CeleryQueueBacklog",
            "CeleryQueueGrowing",
            "CeleryQueueAgeHigh",
            "CeleryQueueAgeCritical",
            "CeleryQueueStalled",
        )
    },
    ("RedisDown", "CeleryTasksRejected"): _LOST,
    ("PostgresDown", "CeleryTasksRejected"): _LOST,
    ("RedisDown", "CelerySeriesCapped"): "an outage creates no series",
    ("HighErrorRate", "ApiViewFailing"): "a warning about one view's last ten minutes, read during the day",
    ("BackupStoreUnreachable", "BackupStoreErrors"): "its rule leaves out the hour after an outage",
    **{
        (cause, "WalArchiveStopped"): "it ends with the next heartbeat that is stored, within a minute"
        for cause in ("PostgresDown", "BackupStoreUnreachable", "SlotUncapped", "TargetDown")
    },
    ("TargetDown", "TargetFlapping"): "a target that keeps going down is reported when it is up again",
}
