"""Workers that KEDA adds for long queues and removes again, in a real cluster, outside ``./ops test``.

It needs the cluster of kube_lifecycle.py with KEDA's operator, and starts Prometheus in the namespace ``monitoring``, as
kube_alerts.py does::

    KUBE_LOAD="kind load docker-image" ./ops test tests/cluster/kube_scaling.py

Only the pauses before a pod is removed are shorter than production's. docs/kubernetes.md has the last result.
"""

import json
from collections.abc import Iterator

import pytest

from tests.cluster import kube_monitoring
from tests.cluster.kube_lifecycle import (
    DELIVERY_SECONDS,
    HOST,
    WORKERS,
    Figure,
    edge,
    figure,
    node,
    pytestmark,
    reached_from_pods,
    running,
    shell,
    signed_in,
)
from tests.cluster.kubectl import kubectl, objects, ready, run, until
from tests.cluster.traffic import Customers, Receiver, outcome

pytestmark = [
    *pytestmark,
    pytest.mark.skipif(
        run("-n", "keda", "get", "deployment", "keda-operator").returncode != 0,
        reason="KEDA's operator is not in the cluster",
    ),
]

__all__ = ["figure", "running"]

SCALED = "posthub-celery-worker"
MIN_PODS = 2
# One pod for each 100 messages. As long as a worker may run one of these tasks a minute, they stay in the queue.
TASK, MESSAGES, WANTED_PODS = "monitoring.tasks.housekeeping", 450, 5
OUT_SECONDS, DRAINED_SECONDS, IN_SECONDS = 180.0, 300.0, 400.0
# Production's pauses, 600 s and 120 s, divided by 20.
SCALE_DOWN = {
    "stabilizationWindowSeconds": 30,
    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 6}],
}


def _pods() -> int:
    return len([pod for pod in objects("pods", "-l", WORKERS) if ready(pod)])


def _queued() -> int:
    printed = shell(
        "from config.celery import app\n"
        "with app.connection_for_read() as connection:\n"
        # Not passive: for kombu, an empty queue of Redis does not exist.
        "    print('QUEUED', connection.default_channel.queue_declare('default').message_count)\n"
    )
    return int(printed.rpartition("QUEUED ")[2].split()[0])


@pytest.fixture(scope="module")
def scaled(running: tuple[float, bool], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """KEDA reads its metrics, and removes pods soon."""
    kube_monitoring.install(1.0, "http://127.0.0.1:9/", tmp_path_factory.mktemp("monitoring"), {})
    before = json.loads(kubectl("get", "scaledobject", SCALED, "-o", "json"))["spec"]["advanced"]
    path = "/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown"
    change = [{"op": "replace", "path": path, "value": SCALE_DOWN}]
    kubectl("patch", "scaledobject", SCALED, "--type", "json", "-p", json.dumps(change))
    until("KEDA has metrics", _active, 300)
    yield
    change = [{"op": "replace", "path": "/spec/advanced", "value": before}]
    kubectl("patch", "scaledobject", SCALED, "--type", "json", "-p", json.dumps(change))


def _active() -> bool:
    return ("ScalingActive", "True") in [
        (condition["type"], condition["status"])
        for scaler in objects("hpa")
        if scaler["spec"]["scaleTargetRef"]["name"] == SCALED
        for condition in scaler["status"].get("conditions", ())
    ]


@pytest.mark.usefixtures("scaled")
def test_workers_come_with_a_long_queue_and_go_without_losing_a_task(figure: Figure) -> None:
    until("the fewest pods run", lambda: _pods() == MIN_PODS, IN_SECONDS)
    shell(
        "from config.celery import app\n"
        f"app.control.rate_limit('{TASK}', '1/m')\n"
        f"for _ in range({MESSAGES}): app.send_task('{TASK}', queue='default')\n"
    )
    try:
        out = until(f"{WANTED_PODS} pods run", lambda: _pods() >= WANTED_PODS, OUT_SECONDS)
    finally:
        shell(f"from config.celery import app\napp.control.rate_limit('{TASK}', '0')")
    most = _pods()
    drained = until("the queue is empty", lambda: _queued() == 0, DRAINED_SECONDS)
    with reached_from_pods(), Receiver(node()) as receiver:
        with Customers(edge(), HOST, signed_in(receiver.url)) as customers:
            back = until("the fewest pods run", lambda: _pods() == MIN_PODS, IN_SECONDS)
        found = outcome(customers, receiver, DELIVERY_SECONDS)
    figure(
        f"{MESSAGES} messages: {MIN_PODS} → {most} pods after {out:.0f} s, drained after {drained:.0f} s; "
        f"{most} → {MIN_PODS} after {back:.0f} s; {found}"
    )
    assert (found.missing, found.twice) == (set(), [])
