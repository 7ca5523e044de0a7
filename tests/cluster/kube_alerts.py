"""Ten faults of production in a real cluster, each reported by its alert, outside ``./ops test``.

It needs the cluster of kube_lifecycle.py, without KEDA's operator, and starts Prometheus and Alertmanager in the namespace
``monitoring``. The images of both have to be in the cluster::

    KUBE_LOAD="kind load docker-image" ./ops test tests/cluster/kube_alerts.py

Durations of the monitoring are divided by FACTOR; those of the exporters are not. docs/kubernetes.md has the last result.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import pytest

from stack.inbox import Inbox
from tests.cluster import kube_monitoring, traffic
from tests.cluster.kube_lifecycle import (
    BACKUP,
    HOST,
    OVERLAY,
    PRIMARY,
    Figure,
    edge,
    figure,
    node,
    pytestmark,
    running,
    shell,
    signed_in,
)
from tests.cluster.kubectl import all_available, inside, job, kubectl, names, objects, ready, run, until
from tests.cluster.traffic import Customers, Receiver
from tests.e2e.livestack import HostDouble

__all__ = ["figure", "pytestmark", "running"]

FACTOR = 10.0
LONGEST_SECONDS = 420.0
REPAIR_SECONDS = 600.0
# The task that fills a queue, and which workers may run once a minute meanwhile.
TASK, FLOOD = "monitoring.tasks.housekeeping", 3_000
WORKERS = ("deployment/posthub-celery-worker", "deployment/posthub-celery-worker-ai")
FULL = 1e9


@dataclass
class Monitored:
    """A deployment under traffic whose monitoring sends to an inbox."""

    inbox: Inbox
    host: HostDouble

    def active(self) -> set[str]:
        """The alerts that Alertmanager has."""
        address = run(
            "-n",
            kube_monitoring.MONITORING,
            "get",
            "service",
            kube_monitoring.ALERTMANAGER,
            "-o",
            "jsonpath={.spec.clusterIP}",
        ).stdout
        with urlopen(f"http://{address}:9093/api/v2/alerts", timeout=10) as answer:
            return {one["labels"]["alertname"] for one in json.load(answer)}


@dataclass(frozen=True)
class Fault:
    """One fault: what reports it, what breaks it, and what repairs it."""

    name: str
    alert: str
    happen: Callable[[Monitored], Any]
    repair: Callable[[Monitored], Any]

    def __str__(self) -> str:
        return self.name


def _scale(number: int, *targets: str) -> Callable[[Monitored], None]:
    def scale(_: Monitored) -> None:
        kubectl("scale", f"--replicas={number}", *targets)

    return scale


def _select(app: str) -> Callable[[Monitored], None]:
    """Which pods the service of the bucket leads to. The server's end closes connections that would stay, not its data."""

    def select(_: Monitored) -> None:
        patch = json.dumps({"spec": {"selector": {"app": app}}})
        kubectl("patch", "service", "posthub-trial-s3", "--type", "merge", "-p", patch)
        kubectl("exec", "deployment/posthub-trial-s3", "--", "sh", "-c", "kill 1")

    return select


DAMAGE = """
set -eu
archive=$(find /data/posthub-backups/{overlay}/posthub -type f -size +1k ! -name '*.json' -printf '%T@ %p\\n' | sort -n | tail -1 | cut -d' ' -f2-)
printf 'damaged' | dd of="$archive" bs=1 seek=700 conv=notrunc 2>/dev/null
echo "$archive"
"""


def _damage(_: Monitored) -> None:
    job("alerts-backup", "posthub-backup")
    printed = inside("deployment/posthub-trial-s3", "sh", "-c", DAMAGE.format(overlay=OVERLAY))
    assert printed.strip()
    inside(BACKUP, "sh", "-c", "python -m backup verify latest --database posthub || true")


def _back_up_and_prove(_: Monitored) -> None:
    job("alerts-backup", "posthub-backup")
    job("alerts-verify", "posthub-backup-verify")


def _flood(_: Monitored) -> None:
    shell(
        "from config.celery import app\n"
        f"app.control.rate_limit('{TASK}', '1/m')\n"
        f"for _ in range({FLOOD}): app.send_task('{TASK}', queue='default')\n"
    )


def _drain(_: Monitored) -> None:
    shell(
        "from config.celery import app\n"
        "with app.connection_for_write() as connection: connection.default_channel.queue_purge('default')\n"
        f"app.control.rate_limit('{TASK}', '0')\n"
    )


def _sql(statement: str) -> Callable[[Monitored], None]:
    def execute(_: Monitored) -> None:
        (primary,) = names("pods", "-l", PRIMARY)
        kubectl(
            "exec",
            primary,
            "-c",
            "postgres",
            "--",
            "psql",
            "-d",
            "posthub",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
        )

    return execute


def _hibernate(state: str) -> Callable[[Monitored], None]:
    def annotate(_: Monitored) -> None:
        kubectl("annotate", "cluster", "posthub-postgres", "--overwrite", f"cnpg.io/hibernation={state}")

    return annotate


FAULTS = [
    Fault("every worker stopped", "CeleryNoWorkers", _scale(0, *WORKERS), _scale(1, *WORKERS)),
    Fault(
        "beat stopped",
        "CeleryBeatDown",
        _scale(0, "deployment/posthub-celery-beat"),
        _scale(1, "deployment/posthub-celery-beat"),
    ),
    Fault("bucket unreachable", "BackupStoreUnreachable", _select("nothing"), _select("posthub-trial-s3")),
    Fault("object damaged", "BackupVerificationFailed", _damage, _back_up_and_prove),
    Fault(
        "disk full",
        "HostDiskAlmostFull",
        lambda monitored: monitored.host.set("node_filesystem_avail_bytes{", FULL),
        lambda monitored: monitored.host.reset(),
    ),
    Fault("queue flooded", "CeleryQueueBacklog", _flood, _drain),
    Fault(
        "exporter stopped",
        "JobMissing",
        _scale(0, "deployment/posthub-celery-exporter"),
        _scale(1, "deployment/posthub-celery-exporter"),
    ),
    Fault(
        "app returns 500",
        "HighErrorRate",
        _sql("ALTER TABLE posts_channel RENAME TO posts_channel_away"),
        _sql("ALTER TABLE posts_channel_away RENAME TO posts_channel"),
    ),
    Fault(
        "Redis stopped",
        "RedisDown",
        _scale(0, "statefulset/posthub-redis"),
        _scale(3, "statefulset/posthub-redis"),
    ),
    Fault("PostgreSQL stopped", "PostgresDown", _hibernate("on"), _hibernate("off")),
]


@pytest.fixture(scope="module")
def monitored(running: tuple[float, bool], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    folder, address = tmp_path_factory.mktemp("alerts"), node()
    host = HostDouble(address)
    _back_up_and_prove(Monitored(None, host))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch, Inbox(folder / "inbox.log", host=address) as inbox:
        patch.setattr(traffic, "REQUESTS_PER_SECOND", 4.0)
        kube_monitoring.install(FACTOR, inbox.url, folder, {"node": [f"{address}:{host.port}"]})
        with Receiver(address) as receiver, Customers(edge(), HOST, signed_in(receiver.url)):
            yield Monitored(inbox, host)
    host.stop()


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_reported_by_its_alert(monitored: Monitored, fault: Fault, figure: Figure) -> None:
    until(f"{fault.alert} is not there", lambda: fault.alert not in monitored.active(), LONGEST_SECONDS)
    began = time.time()
    try:
        fault.happen(monitored)
        arrived = monitored.inbox.wait_for(fault.alert, since=began, timeout=LONGEST_SECONDS)
        figure(f"{fault.alert} after {arrived.received - began:.0f} s")
    finally:
        fault.repair(monitored)
        until("everything is back", lambda: all_available() and _all_data_ready(), REPAIR_SECONDS)


def _all_data_ready() -> bool:
    pods = [
        *objects("pods", "-l", "app=posthub-redis"),
        *objects("pods", "-l", "cnpg.io/cluster=posthub-postgres"),
    ]
    return len([pod for pod in pods if ready(pod)]) == 5
