"""The life of production in a real cluster, from the first rollout to a restore, outside ``./ops test``.

It needs an empty cluster that nobody uses, with CloudNativePG, Traefik in the namespace ``traefik``, a network plugin that
enforces policies and the kinds of KEDA and the Prometheus operator, and a local Docker engine. Run it on a node: it asks the
services themselves, and pods call its server. ``KUBE_LOAD`` is described in kube_images.py::

    POSTHUB_IMAGES=posthub-trial POSTHUB_TAG=first docker compose -f docker-compose.prod.yml build
    KUBE_LOAD="kind load docker-image" ./ops test tests/cluster/kube_lifecycle.py

Each test is a step, which ``-k`` chooses. docs/kubernetes.md has the last result.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
import yaml

from sidecar import OpsError
from stack.deploy.cluster import NAMESPACE
from stack.deploy.kubernetes import DEPLOYED, ROLLED, KubeRollout
from stack.deploy.runner import Runner
from stack.paths import ROOT
from tests.cluster import kube_images as images
from tests.cluster.kubectl import (
    all_available,
    evict,
    inside,
    job,
    kubectl,
    names,
    objects,
    reachable,
    ready,
    run,
    until,
)
from tests.cluster.traffic import ACCOUNTS, Customers, Receiver, accounts, outcome, over_tls

HOST = "api.posthub.work"
OVERLAY = "trial"
OWNERS = 10
CALM_SECONDS = 15
DELIVERY_SECONDS = 180
ABSENT_SECONDS = 15
API, BACKUP = "deployment/posthub-api", "deployment/posthub-backup"
WORKERS, BEAT = "app=posthub-celery-worker", "app=posthub-celery-beat"
PRIMARY = "cnpg.io/cluster=posthub-postgres,cnpg.io/instanceRole=primary"
COUNT = "from posts.models import Post; print('POSTS', Post.objects.count())"
ADD = """
from accounts.models import User
from posts.models import Channel, Post
user, _ = User.objects.get_or_create(username="lifecycle", defaults={"email": "l@example.com"})
channel, _ = Channel.objects.get_or_create(owner=user, name="lifecycle", defaults={"publisher": "sandbox"})
Post.objects.create(owner=user, channel=channel, text="lifecycle")
"""

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not reachable(), reason="no cluster: kubectl version fails"),
    pytest.mark.skipif(
        "KUBE_LOAD" not in os.environ, reason="KUBE_LOAD is not set: tests/cluster/kube_images.py"
    ),
]

Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Figure:
    """Prints what a step measured."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n    {request.node.name.removeprefix('test_')}: {text}", end="")

    return say


def _deploy(tag: str, root: Path = ROOT) -> float:
    """Seconds that the deployment took."""
    began = time.monotonic()
    KubeRollout(root, Runner(root), print, tag, images.REGISTRY, OVERLAY).deploy()
    return time.monotonic() - began


def _undo() -> None:
    KubeRollout(ROOT, Runner(ROOT), print, images.FIRST, images.REGISTRY, OVERLAY).undo()


def _deployed() -> list[str]:
    """The tags that the namespace remembers."""
    found = run("get", "namespace", NAMESPACE, "-o", "yaml")
    annotations = yaml.safe_load(found.stdout or "{}").get("metadata", {}).get("annotations", {})
    return str(annotations.get(DEPLOYED, "")).split()


def _tags() -> set[str]:
    """The tags of the images that run, without pods that are only finishing what they began."""
    found = {
        container["image"]
        for pod in objects("pods", "--field-selector=status.phase=Running")
        if "deletionTimestamp" not in pod["metadata"]
        for container in pod["spec"]["containers"]
    }
    return {image.rpartition(":")[2] for image in found if image.startswith(f"{images.REGISTRY}/")}


def _make_secrets(folder: Path) -> None:
    """Of a new server, in this folder, and of the cluster."""
    given = {"BACKUP_S3_ACCESS_KEY_ID": "lifecycle", "BACKUP_S3_SECRET_ACCESS_KEY": "lifecycle-key"}
    writer = [sys.executable, str(ROOT / "deploy" / "init_secrets.py"), "secrets", "volumes"]
    done = subprocess.run(
        writer, cwd=folder, env=os.environ | given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    make_cluster_secrets(folder)


def make_cluster_secrets(server: Path) -> None:
    """By the script of docs/kubernetes.md, run as it stands, in the folder of a server."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    script = page.partition("\n## Secrets\n")[2].partition("```sh\n")[2].partition("```")[0]
    done = subprocess.run(["sh", "-euc", script], cwd=server, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, bool]:
    """A cluster with one of the two good versions: seconds that the deployment took, and whether it was the first."""
    images.provide()
    known = _deployed()
    if not known:
        if run("get", "namespace", NAMESPACE).returncode != 0:
            _make_secrets(tmp_path_factory.mktemp("server"))
        return _deploy(images.FIRST), True
    if known[-1] not in (images.FIRST, images.SECOND) or not all_available():
        return _deploy(images.FIRST), False
    return 0.0, False


def shell(script: str) -> str:
    return inside(API, "python", "manage.py", "shell", "-c", script)


def _posts() -> int:
    return int(re.findall(r"POSTS (\d+)", shell(COUNT))[-1])


def edge() -> Callable[[], http.client.HTTPConnection]:
    address = run("-n", "traefik", "get", "service", "traefik", "-o", "jsonpath={.spec.clusterIP}").stdout
    return over_tls(address, HOST)


def node() -> str:
    form = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}'
    return run("get", "nodes", "-o", form).stdout.split()[0]


def signed_in(url: str) -> list[dict[str, str]]:
    return accounts(shell(ACCOUNTS.format(number=OWNERS, url=url)))


class Watched:
    """The health page through the edge, asked five times a second: how long it was away."""

    def __init__(self) -> None:
        self.asked = self.bad = 0
        self.longest = 0.0
        self._connect = edge()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        away_since: float | None = None
        while not self._stopping.wait(0.2):
            now = time.monotonic()
            self.asked += 1
            if self._is_fine():
                away_since = None
                continue
            self.bad += 1
            away_since = now if away_since is None else away_since
            self.longest = max(self.longest, time.monotonic() - away_since)

    def _is_fine(self) -> bool:
        try:
            connection = self._connect()
            connection.request("GET", "/health/", headers={"Host": HOST})
            answer = connection.getresponse()
            answer.read()
            connection.close()
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200

    def __str__(self) -> str:
        return f"{self.bad} of {self.asked} health pages bad, away for {self.longest:.1f} s at most"


def test_first_rollout(running: tuple[float, bool], figure: Figure) -> None:
    seconds, first = running
    assert set(ROLLED) <= names("deployments")
    # The rollout does not wait for what has another version: PostgreSQL's exporter, and the bucket of the trial.
    until("everything is available", all_available, 120)
    assert _tags() == {_deployed()[-1]}
    assert "ok" in _answer("/health/")
    figure(f"{seconds:.0f} s" if first else "done earlier")


def _answer(path: str) -> str:
    connection = edge()()
    connection.request("GET", path, headers={"Host": HOST})
    return connection.getresponse().read().decode()


@pytest.mark.usefixtures("running")
def test_a_backup_is_proven(figure: Figure) -> None:
    shell(ADD)
    took, _ = job("lifecycle-backup", "posthub-backup")
    proven, printed = job("lifecycle-verify", "posthub-backup-verify")
    assert "not verified" not in printed
    listed = json.loads(inside(BACKUP, "python", "-m", "backup", "list", "--json"))
    newest = {each["database"]: each["verified"] for each in reversed(listed)}
    assert newest == {"posthub": True, "posthub_redis": True}
    figure(f"backup {took:.0f} s, proof {proven:.0f} s, verified: {', '.join(sorted(newest))}")


@pytest.mark.usefixtures("running")
def test_a_drill(figure: Figure) -> None:
    words = ("drill", "latest", "--database", "posthub", "--json")
    result = json.loads(inside(BACKUP, "python", "-m", "backup", *words))
    figure(f"RTO {result['rto_seconds']} s, RPO {result['rpo_seconds']} s, {result['rows']} rows")
    assert result["ok"], result["differences"]


@pytest.mark.usefixtures("running")
def test_a_restore_and_the_way_back(figure: Figure) -> None:
    """With the pod of docs/migration.md, phase 2, made as that page says."""
    job("lifecycle-backup", "posthub-backup")
    before = _posts()
    shell(ADD)
    start_move()
    try:
        began = time.monotonic()
        move("restore", "latest", "--database", "posthub", "--into", "posthub_moved")
        took = time.monotonic() - began
        move("promote", "posthub_moved", "--database", "posthub", "--yes-i-mean", "posthub")
        until("the app uses the restored database", lambda: _posts() == before, 120)
        move("rollback", "--database", "posthub", "--yes-i-mean", "posthub")
        until("the app uses its own database again", lambda: _posts() == before + 1, 120)
    finally:
        kubectl("delete", "job/posthub-move", "secret/posthub-move", "--ignore-not-found")
        superuser = '{"spec": {"enableSuperuserAccess": false}}'
        kubectl("patch", "cluster", "posthub-postgres", "--type", "merge", "-p", superuser)
    figure(f"restored and proven in {took:.0f} s; {before} posts there, {before + 1} after the rollback")


def start_move(backups: str = OVERLAY) -> None:
    """Start the pod of docs/migration.md, phase 2, as that page says.

    Args:
        backups: folder of the backups in the bucket.
    """
    kubectl("delete", "job/posthub-move", "secret/posthub-move", "--ignore-not-found")
    page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    (script,) = (each for each in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "k8s/move" in each)
    script = script.replace('sed "s#image:', f'sed "s#/production#/{backups}#;s#image:')
    given = {"REGISTRY": images.REGISTRY, "TAG": images.FIRST}
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def move(*command: str) -> str:
    return inside("job/posthub-move", "python", "-m", "backup", *command)


@pytest.mark.usefixtures("running")
def test_nobody_notices_a_rolling_update(tmp_path: Path, figure: Figure) -> None:
    """Without network policies, because pods call a server outside of the cluster here."""
    _deploy(images.FIRST)
    kubectl("delete", "networkpolicies", "--all")
    root = _without_policies(tmp_path)
    _notice_nothing(lambda: _deploy(images.SECOND, root), figure)


@pytest.mark.usefixtures("running")
def test_nobody_notices_an_undo(figure: Figure) -> None:
    """Without network policies, as the rolling update."""
    if _deployed()[-2:] != [images.FIRST, images.SECOND]:
        _deploy(images.FIRST)
        _deploy(images.SECOND)
    kubectl("delete", "networkpolicies", "--all")
    _notice_nothing(_undo, figure)
    assert _tags() == {images.FIRST}


def _notice_nothing(roll: Callable[[], object], figure: Figure) -> None:
    with Receiver(node()) as receiver:
        with Customers(edge(), HOST, signed_in(receiver.url)) as customers:
            time.sleep(CALM_SECONDS)
            roll()
            time.sleep(CALM_SECONDS)
        found = outcome(customers, receiver, DELIVERY_SECONDS)
    figure(str(found))
    assert customers.failures == []
    assert found.missing == set()
    assert found.twice == []


def overlay_in(folder: Path) -> Path:
    """The folder of the overlay in a copy of the manifests, and of what they include."""
    for part in ("k8s", "dashboards"):
        shutil.copytree(ROOT / part, folder / part)
    return folder / "k8s" / "overlays" / OVERLAY


def _without_policies(folder: Path) -> Path:
    """A checkout whose overlay has no network policies, so that a deployment does not bring them back."""
    kustomization = overlay_in(folder) / "kustomization.yaml"
    content = yaml.safe_load(kustomization.read_text(encoding="utf-8"))
    deletion = {
        "$patch": "delete",
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "every"},
    }
    content["patches"].append({"target": {"kind": "NetworkPolicy"}, "patch": yaml.safe_dump(deletion)})
    kustomization.write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.usefixtures("running")
def test_a_changed_setting_reaches_the_pods(tmp_path: Path, figure: Figure) -> None:
    """With the same tag; the pods of an earlier revision keep theirs."""
    patch = overlay_in(tmp_path) / "names.yaml"
    url = f"https://grafana-{int(time.time())}.example.com"
    text = patch.read_text(encoding="utf-8")
    patch.write_text(text.replace("\ndata:\n", f"\ndata:\n  GRAFANA_URL: {url}\n", 1), encoding="utf-8")
    tag = _deployed()[-1]
    took = _deploy(tag, tmp_path)
    assert inside(API, "printenv", "GRAFANA_URL").strip() == url
    _deploy(tag)
    assert inside(API, "printenv", "GRAFANA_URL").strip() != url
    figure(f"arrived in {took:.0f} s")


@pytest.mark.usefixtures("running")
def test_a_version_whose_beat_ends_is_rolled_back(tmp_path: Path, figure: Figure) -> None:
    """Without network policies, as the rolling update."""
    kubectl("delete", "networkpolicies", "--all")
    root = _without_policies(tmp_path)
    good, began = _deployed(), time.monotonic()
    with (
        Watched() as watched,
        pytest.raises(OpsError, match="the previous revision is running again") as error,
    ):
        _deploy(images.BAD_BEAT, root)
    figure(f"back after {time.monotonic() - began:.0f} s: {error.value}; {watched}")
    assert _tags() == {good[-1]}
    assert _deployed() == good
    assert all_available()
    assert watched.bad == 0


@pytest.mark.usefixtures("running")
def test_an_unknown_image_ends_the_deployment_soon(figure: Figure) -> None:
    good, began = _deployed(), time.monotonic()
    with pytest.raises(OpsError, match="cannot start") as error:
        _deploy(images.UNKNOWN)
    took = time.monotonic() - began
    figure(f"{took:.0f} s: {error.value}")
    assert took <= 90
    assert "posthub-backup-before-migrations" not in str(error.value)
    assert _deployed() == good
    assert _tags() == {good[-1]}


@pytest.mark.usefixtures("running")
def test_undo_never_leads_to_what_failed(figure: Figure) -> None:
    for tag in (images.FIRST, images.SECOND):
        _deploy(tag)
    with pytest.raises(OpsError, match="the previous revision is running again"):
        _deploy(images.BAD_BEAT)
    _undo()
    assert _tags() == {images.FIRST}
    # As far back as the cluster remembers.
    for _ in _deployed()[1:]:
        _undo()
    with pytest.raises(OpsError, match="no earlier deployment is known"):
        _undo()
    figure(f"runs {', '.join(_tags())}")


@contextmanager
def reached_from_pods() -> Iterator[None]:
    """The workers may call a server of this machine."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "lifecycle"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "posthub-celery-worker"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": f"{node()}/32"}}]}],
        },
    }
    kubectl("apply", "--server-side", "-f", "-", given=yaml.safe_dump(policy))
    try:
        yield
    finally:
        kubectl("delete", "networkpolicy", "lifecycle")


@pytest.mark.usefixtures("running")
def test_evicted_workers_finish_their_tasks(figure: Figure) -> None:
    with reached_from_pods(), Receiver(node(), seconds=8) as receiver:
        customers = Customers(edge(), HOST, signed_in(receiver.url))
        with customers:
            until("tasks run", lambda: len(receiver.arrived) >= 4, 120)
            evicted = sorted(names("pods", "-l", WORKERS))
            logs = {pod: _follow(pod) for pod in evicted}
            for pod in evicted:
                until(f"{pod} may be evicted", lambda pod=pod: evict(pod), 300)  # type: ignore[misc]
            gone = until("they are gone", lambda: not set(evicted) & names("pods"), 400)
        found = outcome(customers, receiver, 2 * DELIVERY_SECONDS)
    warm = [pod for pod, log in logs.items() if "arm shutdown" in log.communicate(timeout=30)[0]]
    figure(f"{len(warm)} of {len(evicted)} ended warm, the last one after {gone:.0f} s; {found}")
    assert (found.missing, found.twice, warm) == (set(), [], evicted)


def _follow(pod: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["kubectl", "-n", NAMESPACE, "logs", "--follow", "--tail=1", pod],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.usefixtures("running")
def test_every_pod_can_be_evicted_one_after_the_other(figure: Figure) -> None:
    """As in a drain. CloudNativePG gives its primary away only when the node is cordoned: see the failover.

    Without network policies: an engine that applies them late refuses connections of new pods for a moment.
    """
    kubectl("delete", "networkpolicies", "--all")
    primary = names("pods", "-l", PRIMARY)
    pods = [
        pod["metadata"]["name"]
        for pod in objects("pods", "--field-selector=status.phase=Running")
        if pod["metadata"]["name"] not in primary and ready(pod)
    ]
    refused = 0
    with Watched() as watched:
        for pod in pods:
            while not evict(pod):
                refused += 1
                time.sleep(2)
        until("everything is back", lambda: all_available() and _all_ready(), 600)
    figure(f"{len(pods)} pods evicted, {refused} evictions had to wait; {watched}")
    assert refused > 0, "no budget ever protected anything"
    assert watched.bad == 0


def _all_ready() -> bool:
    return all(
        ready(pod)
        for pod in objects("pods")
        if "job-name" not in pod["metadata"]["labels"] and pod["status"]["phase"] != "Succeeded"
    )


@pytest.mark.usefixtures("running")
def test_the_primary_fails_over(figure: Figure) -> None:
    before = _posts()
    (old,) = names("pods", "-l", PRIMARY)
    with Watched() as watched:
        kubectl("delete", "pod", old, "--wait=false")
        took = until("another primary", lambda: names("pods", "-l", PRIMARY) not in (set(), {old}), 120)
        time.sleep(CALM_SECONDS)
    shell(ADD)
    assert _posts() == before + 1
    until(
        "the replica is back",
        lambda: (
            kubectl("get", "cluster", "posthub-postgres", "-o", "jsonpath={.status.readyInstances}") == "2"
        ),
        600,
    )
    figure(f"another primary after {took:.0f} s; {watched}")
    assert watched.longest <= ABSENT_SECONDS


PROBE = (
    "import socket, sys\n"
    "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 4).close()\n"
    "except OSError as error: print('closed', error)\n"
    "else: print('open')"
)
DATABASE, REDIS, BUCKET = (
    "posthub-postgres-rw:5432",
    "posthub-redis-0.posthub-redis:6379",
    "posthub-trial-s3:9000",
)
OPEN = [
    ("posthub-api", DATABASE),
    ("posthub-api", REDIS),
    ("posthub-api", "posthub-redis-1.posthub-redis:26379"),
    ("posthub-celery-worker", DATABASE),
    ("posthub-celery-worker-ai", REDIS),
    ("posthub-celery-beat", DATABASE),
    ("posthub-celery-beat", REDIS),
    ("posthub-flower", REDIS),
    ("posthub-celery-exporter", DATABASE),
    ("posthub-celery-exporter", REDIS),
    ("posthub-backup", DATABASE),
    ("posthub-backup", REDIS),
    ("posthub-backup", BUCKET),
    ("monitoring", "posthub-api.posthub:80"),
    ("monitoring", "posthub-celery-exporter.posthub:9808"),
    ("monitoring", "posthub-backup.posthub:9809"),
    ("monitoring", "posthub-postgres-exporter.posthub:9187"),
    ("monitoring", "posthub-redis-metrics.posthub:9121"),
]
CLOSED = [
    ("posthub-flower", DATABASE),
    ("posthub-alert-watch", DATABASE),
    ("posthub-alert-watch", REDIS),
    ("posthub-api", "posthub-celery-exporter:9808"),
    ("posthub-api", "posthub-flower:5555"),
    ("posthub-api", "kubernetes.default.svc:443"),
    ("posthub-celery-beat", BUCKET),
    ("posthub-celery-exporter", BUCKET),
    ("posthub-backup", "posthub-api:80"),
    ("monitoring", "posthub-postgres-rw.posthub:5432"),
    ("monitoring", "posthub-redis-0.posthub-redis.posthub:6379"),
    ("default", "posthub-api.posthub:80"),
    ("default", "posthub-redis-0.posthub-redis.posthub:6379"),
    ("default", "posthub-backup.posthub:9809"),
]


@pytest.fixture
def strangers() -> Iterator[None]:
    """A pod in each of two other namespaces."""
    run("create", "namespace", "monitoring")
    image = f"{images.REGISTRY}/api:{images.FIRST}"
    for namespace in ("monitoring", "default"):
        run("-n", namespace, "run", "lifecycle", f"--image={image}", "--restart=Never", "--", "sleep", "3600")
        run("-n", namespace, "wait", "--for=condition=Ready", "pod/lifecycle", "--timeout=120s")
    yield
    for namespace in ("monitoring", "default"):
        run("-n", namespace, "delete", "pod", "lifecycle", "--grace-period=1")


def _is_open(source: str, target: str) -> bool:
    address, _, port = target.rpartition(":")
    place = (
        (NAMESPACE, f"deployment/{source}") if source.startswith("posthub-") else (source, "pod/lifecycle")
    )
    done = run("-n", place[0], "exec", place[1], "--", "python", "-c", PROBE, address, port)
    assert done.returncode == 0, done.stderr
    return done.stdout.startswith("open")


@pytest.mark.usefixtures("running", "strangers")
def test_network_policies(figure: Figure) -> None:
    # A deployment brings back those that another step deleted.
    _deploy(_deployed()[-1])
    shut = [f"{source} → {target}" for source, target in OPEN if not _is_open(source, target)]
    leaking = [f"{source} → {target}" for source, target in CLOSED if _is_open(source, target)]
    figure(f"{len(OPEN) - len(shut)} of {len(OPEN)} needed ways open, {len(leaking)} of {len(CLOSED)} others")
    assert (shut, leaking) == ([], [])


# A job's volume goes with its pod, ten minutes after its end.
CLAIM_SECONDS = 660


@pytest.mark.usefixtures("running")
def test_jobs_leave_no_volume_claims_behind(figure: Figure) -> None:
    kept = {"posthub-backup", *(f"data-posthub-redis-{number}" for number in range(3))}

    def left() -> set[str]:
        return {name for name in names("pvc") - kept if not name.startswith("posthub-postgres-")}

    began = len(left())
    took = until("no claim is left", lambda: not left(), CLAIM_SECONDS)
    figure(f"{began} claims of jobs, gone after {took:.0f} s")
