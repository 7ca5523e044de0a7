"""The metrics of the WAL stream. Values that are not known are absent."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from backup.physical.measures import Measures

Value = Callable[[Measures], float | None]


def _moment(value: datetime | None) -> float | None:
    return value.timestamp() if value is not None else None


GAUGES: dict[str, tuple[str, Value]] = {
    "backup_wal_streaming": ("1 while the WAL of the server arrives", lambda m: float(m.streaming)),
    "backup_wal_unstored_seconds": (
        "Age of the oldest WAL that is not stored: what would be lost now",
        lambda m: m.unstored_seconds(time.monotonic()),
    ),
    "backup_wal_lag_bytes": ("WAL that was written and is not stored", lambda m: m.lag_bytes()),
    "backup_wal_last_heartbeat_stored_timestamp_seconds": (
        "Time of the newest heartbeat that is stored",
        lambda m: m.beat_stored.moment.timestamp() if m.beat_stored else None,
    ),
    "backup_wal_slot_safe_bytes": (
        "WAL that can be written before the slot may be lost",
        lambda m: m.slot.safe_bytes if m.slot else None,
    ),
    "backup_wal_slot_retained_bytes": (
        "WAL that the server keeps for the slot",
        lambda m: m.slot.retained_bytes if m.slot else None,
    ),
    "backup_wal_slot_cap_bytes": ("Maximum WAL that the server lets a slot keep", lambda m: m.cap),
    "backup_wal_slot_uncapped": (
        "1 if the server does not limit what a slot keeps",
        lambda m: None if m.uncapped is None else float(m.uncapped),
    ),
    "backup_wal_synchronous": (
        "1 if commits on the server wait for the sidecar",
        lambda m: None if m.synchronous is None else float(m.synchronous),
    ),
    "backup_wal_timeline": ("Timeline that is streamed", lambda m: m.timeline),
    "backup_wal_clock_skew_seconds": (
        "Seconds by which the server's clock is ahead of ours",
        lambda m: m.clock_skew,
    ),
    "backup_wal_last_gap_timestamp_seconds": (
        "Time at which the last gap in the stored WAL was found",
        lambda m: m.gap_noticed.timestamp() if m.gap_noticed else None,
    ),
    "backup_wal_base_timestamp_seconds": (
        "Time of the newest base backup",
        lambda m: m.base_taken.timestamp() if m.base_taken else None,
    ),
    "backup_wal_base_proven_timestamp_seconds": (
        "Time of the newest base backup that was proven",
        lambda m: m.base_proven.timestamp() if m.base_proven else None,
    ),
    "backup_pitr_earliest_timestamp_seconds": (
        "First moment of the newest period that can be recovered",
        lambda m: _moment(m.recoverable.earliest),
    ),
    "backup_pitr_latest_timestamp_seconds": (
        "Last moment that can be recovered, when the store was last read",
        lambda m: _moment(m.recoverable.latest),
    ),
    "backup_pitr_proven_timestamp_seconds": (
        "Time of the last commit that the newest proof recovered",
        lambda m: _moment(m.recoverable.proven),
    ),
    "backup_pitr_rpo_seconds": (
        "Seconds between the last commit that the newest proof recovered and the newest WAL that was stored then",
        lambda m: m.recoverable.rpo,
    ),
    "backup_pitr_rto_seconds": (
        "Seconds from the store to a server that answers, in the newest proof",
        lambda m: m.recoverable.rto,
    ),
    "backup_pitr_replay_bytes_per_second": (
        "Bytes of WAL replayed per second in the newest proof",
        lambda m: m.recoverable.replay,
    ),
}
COUNTERS: dict[str, tuple[str, Value]] = {
    "backup_wal_received_bytes": ("Bytes of WAL received", lambda m: m.received_bytes),
    "backup_wal_stored_bytes": ("Bytes stored, compressed and encrypted", lambda m: m.stored_bytes),
    "backup_wal_objects": ("Objects stored", lambda m: m.objects),
    "backup_wal_gaps": ("Gaps recorded: WAL that is lost forever", lambda m: m.gaps),
}
STATUS = "backup_wal_slot_status"


class WalCollector(Collector):
    """Collects the metrics of all servers.

    Args:
        measures: by the name of the server.
    """

    def __init__(self, measures: Mapping[str, Measures]) -> None:
        self._measures = measures

    def collect(self) -> Iterable[Metric]:
        for name, (text, value) in GAUGES.items():
            yield self._filled(GaugeMetricFamily(name, text, labels=["server"]), value)
        for name, (text, value) in COUNTERS.items():
            yield self._filled(CounterMetricFamily(name, text, labels=["server"]), value)
        states = GaugeMetricFamily(
            STATUS, "1 for the state of the slot that the server reports", labels=["server", "status"]
        )
        for server, each in self._measures.items():
            if each.slot is not None:
                states.add_metric([server, each.slot.state], 1.0)
        yield states

    def _filled(self, family: Metric, value: Value) -> Metric:
        assert isinstance(family, GaugeMetricFamily | CounterMetricFamily)
        for server, each in self._measures.items():
            if (known := value(each)) is not None:
                family.add_metric([server], known)
        return family


def registry(measures: Mapping[str, Measures]) -> CollectorRegistry:
    """A registry with the metrics of the WAL stream."""
    made = CollectorRegistry()
    made.register(WalCollector(measures))
    return made
