"""The move of docs/migration.md, phases 1 to 3, from production's compose into a real cluster, outside ``./ops test``.

It needs the cluster of kube_lifecycle.py without the namespace ``posthub``, and a Docker engine on the same host without any
container or volume of PostHub; both are removed again on the engine. In this checkout, ``.env.production`` is a copy of the
example, and the images have the tag ``first``, as kube_lifecycle.py says::

    KUBE_LOAD="kind load docker-image" ./ops test tests/cluster/kube_move.py

The commands are those of the page, for the trial's files instead of production's. docs/kubernetes.md has the last result.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.deploy.cluster import NAMESPACE
from stack.deploy.kubernetes import FIRST, KubeRollout
from stack.deploy.runner import Runner
from stack.paths import ROOT
from stack.programs import find
from tests.cluster import kube_images as images
from tests.cluster.kube_lifecycle import (
    DELIVERY_SECONDS,
    HOST,
    OVERLAY,
    OWNERS,
    PRIMARY,
    Figure,
    edge,
    figure,
    make_cluster_secrets,
    node,
    overlay_in,
    pytestmark,
    start_move,
)
from tests.cluster.kubectl import job, kubectl, names, run, until
from tests.cluster.traffic import ACCOUNTS, Customers, Receiver, accounts, outcome

__all__ = ["figure", "pytestmark"]

PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
COMPOSE = ("docker", "compose", "-f", "docker-compose.prod.yml", "-f", "docker-compose.trial.yml")
# What moves, and the bucket; the monitoring is not started.
SERVICES = (
    "posthub_trial_s3",
    "posthub_backup",
    "posthub_api_prod",
    "posthub_celery_worker",
    "posthub_celery_worker_ai",
    "posthub_celery_beat",
    "posthub_caddy",
)
BUCKET = "posthub_trial_s3_data"
BUCKET_PORT = 9000
DEFINITIONS = """
dc() { if [ "$1" = exec ]; then shift; set -- exec -T "$@"; fi; COMPOSE "$@"; }
move() { kubectl -n posthub exec job/posthub-move -- "$@"; }
""".replace("COMPOSE", " ".join(COMPOSE))

# Run next to the edge of the server: posts until the edge is stopped, and prints when each was accepted.
WRITER = """
import http.client, json, os, socket, ssl, time
context = ssl._create_unverified_context()
headers = {"Host": os.environ["HOST"], "Authorization": "Token " + os.environ["TOKEN"], "Content-Type": "application/json"}
body = json.dumps({"channel": os.environ["CHANNEL"], "text": "moved"})
while True:
    connection = http.client.HTTPSConnection(os.environ["HOST"], timeout=30)
    connection.sock = context.wrap_socket(
        socket.create_connection(("127.0.0.1", 443), 30), server_hostname=os.environ["HOST"])
    connection.request("POST", "/api/v1/posts/", body, headers)
    if connection.getresponse().status == 201:
        print("ACCEPTED", time.time(), flush=True)
    time.sleep(0.25)
"""
# Statements that print a digest of each table's rows.
DIGESTS = """
SET timezone = 'UTC';
SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(md5(each::text), '''' ORDER BY md5(each::text) COLLATE "C"), '''')) FROM %s each',
  oid::regclass::text, oid::regclass)
FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace ORDER BY 1 \\gexec
SELECT schemaname || '.' || sequencename, 'sequence', last_value FROM pg_sequences;
"""


def _sh(script: str, *, seconds: float = 1200) -> str:
    """What a script that has to succeed prints. Commands of the page work in it."""
    given = {
        "POSTHUB_IMAGES": images.REGISTRY,
        "POSTHUB_TAG": images.FIRST,
        "REGISTRY": images.REGISTRY,
        "TAG": images.FIRST,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", DEFINITIONS + script],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{script}: {done.stderr[-3000:]}{done.stdout[-1000:]}"
    return done.stdout


def _of_page(start: str) -> str:
    """The command of the page that begins with these words."""
    lines = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    found = {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", lines)}
    found |= {
        line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
    }
    (command,) = (code for code in found if code.startswith(start))
    return command.removeprefix("time ")


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@pytest.fixture
def server() -> Iterator[None]:
    """Production by compose."""
    assert not _docker("ps", "--all", "--quiet", "--filter", "name=^posthub_"), "PostHub is on this engine"
    assert not _docker("volume", "ls", "--quiet", "--filter", "name=^posthub_"), "PostHub is on this engine"
    try:
        _sh(f"dc up --detach --wait {' '.join(SERVICES)}")
        yield
    finally:
        _sh("dc down --volumes --timeout 5")


@contextmanager
def _bucket() -> Iterator[None]:
    """The server's bucket, where pods reach it: another program that serves the same folder."""
    (keys,) = re.findall(r"--auth-key (\S+)", (ROOT / "docker-compose.trial.yml").read_text(encoding="utf-8"))
    folder = _docker("volume", "inspect", BUCKET, "--format", "{{.Mountpoint}}").strip()
    address = f"{node()}:{BUCKET_PORT}"
    command = [str(find("rclone")), "serve", "s3", "--addr", address, "--dir-cache-time", "1s", folder]
    given = {"RCLONE_AUTH_KEY": f'"{keys}"', "RCLONE_CONFIG": os.devnull}
    process = subprocess.Popen(command, env=os.environ | given, stderr=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, "the bucket is no longer served"
    finally:
        process.terminate()
        process.wait(30)


def _checkout(folder: Path) -> Path:
    """A checkout whose overlay uses the server's bucket, and whose pods may call this host."""
    overlay = overlay_in(folder)
    names_of_it = overlay / "names.yaml"
    text = names_of_it.read_text(encoding="utf-8")
    for old, new in (
        ("http://posthub-trial-s3:9000", f"http://{node()}:{BUCKET_PORT}"),
        (f"posthub-backups/{OVERLAY}", "posthub-backups/kubernetes"),
    ):
        assert old in text
        text = text.replace(old, new)
    names_of_it.write_text(text, encoding="utf-8")
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "to-this-host", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"posthub.work/uses": "data-and-internet"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": f"{node()}/32"}}]}],
        },
    }
    (overlay / "to-this-host.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    kustomization = overlay / "kustomization.yaml"
    content = yaml.safe_load(kustomization.read_text(encoding="utf-8"))
    content["resources"].append("to-this-host.yaml")
    kustomization.write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


class _Writer:
    """Posts through the server's edge until it is stopped."""

    def __init__(self, account: dict[str, str]) -> None:
        given = {"HOST": HOST, "TOKEN": account["token"], "CHANNEL": account["channel"]}
        variables = [word for name in given for word in ("--env", name)]
        image = f"{images.REGISTRY}/api:{images.FIRST}"
        self._process = subprocess.Popen(
            [
                "docker",
                "run",
                "--rm",
                "--network",
                "host",
                *variables,
                "--entrypoint",
                "python",
                image,
                "-c",
                WRITER,
            ],
            env=os.environ | given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def accepted(self) -> list[float]:
        """When posts were accepted, after the edge has been stopped."""
        printed, _ = self._process.communicate(timeout=60)
        return [float(line.split()[1]) for line in printed.splitlines() if line.startswith("ACCEPTED")]


def _digests(psql: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Table → its number of rows and a digest of them; sequence → its last value."""
    lines = (line.split("|") for line in psql(DIGESTS).splitlines() if "|" in line)
    return {name: (count, digest) for name, count, digest in lines}


def _on_the_server(statements: str) -> str:
    done = subprocess.run(
        [
            "docker",
            "exec",
            "-i",
            "posthub_postgres_prod",
            "psql",
            "-XAtq",
            "-U",
            "posthub_admin",
            "-d",
            "posthub",
        ],
        input=statements,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _in_the_cluster(statements: str) -> str:
    (primary,) = names("pods", "-l", PRIMARY)
    command = ("psql", "-XAtq", "-d", "posthub")
    return kubectl("exec", "-i", primary, "-c", "postgres", "--", *command, given=statements)


def _queues_are_empty() -> bool:
    printed = _sh(_of_page("dc exec posthub_redis_prod sh -c"))
    lengths = [line.split()[1] for line in printed.splitlines() if line]
    assert len(lengths) == 5
    return set(lengths) == {"0"}


def _accepted_in_the_cluster(account: dict[str, str]) -> bool:
    connection = edge()()
    headers = {"Host": HOST, "Authorization": f"Token {account['token']}", "Content-Type": "application/json"}
    body = json.dumps({"channel": account["channel"], "text": "moved"})
    connection.request("POST", "/api/v1/posts/", body, headers)
    return connection.getresponse().status == 201


def _restore_and_promote() -> None:
    _sh(_of_page("time move python -m backup restore latest"))
    _sh(_of_page("move python -m backup promote"))


def _prepare(rollout: KubeRollout) -> None:
    """Phase 1, and the data tier of phase 2."""
    _sh(
        "dc exec posthub_backup python -m backup run; dc exec posthub_backup python -m backup verify --all-unverified"
    )
    make_cluster_secrets(ROOT)
    manifests = yaml.safe_load_all(rollout.render(f"k8s/overlays/{OVERLAY}"))
    data: list[Any] = [document for document in manifests if document["kind"] in FIRST]
    done = run("apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(data))
    assert done.returncode == 0, done.stderr
    _sh(_of_page("kubectl -n posthub wait --for=condition=Ready cluster"))
    _sh(_of_page("kubectl -n posthub rollout status statefulset/posthub-redis"))


def _stop_writing(writer: _Writer) -> float:
    """The steps of the migration day up to the last backup; when the last post was accepted."""
    _sh(_of_page("dc stop posthub_caddy"))
    accepted = writer.accepted()
    assert len(accepted) > 20
    until("the queues are empty", _queues_are_empty, 300)
    _sh(_of_page("dc stop posthub_celery_worker"))
    return accepted[-1]


@pytest.mark.usefixtures("server")
def test_the_move(tmp_path: Path, figure: Figure) -> None:
    images.provide()
    rollout = KubeRollout(
        _checkout(tmp_path), Runner(tmp_path), print, images.FIRST, images.REGISTRY, OVERLAY
    )
    with _bucket(), Receiver(node()) as receiver:
        script = ACCOUNTS.format(number=OWNERS, url=receiver.url)
        signed_in = accounts(
            _docker("exec", "posthub_api_prod", "python", "manage.py", "shell", "-c", script)
        )
        _prepare(rollout)
        start_move("production")
        _restore_and_promote()
        assert _digests(_in_the_cluster).keys() == _digests(_on_the_server).keys()
        _sh(_of_page("move python -m backup rollback"))
        figure("rehearsed")

        writer = _Writer(signed_in[0])
        time.sleep(15)
        began = time.monotonic()
        last = _stop_writing(writer)
        figure(f"writing stopped, queues empty, workers stopped after {time.monotonic() - began:.0f} s")
        _sh(_of_page("dc exec posthub_backup python -m backup run --database posthub"))
        _sh(_of_page("dc exec posthub_backup python -m backup verify latest --database posthub"))
        figure(f"last backup taken and proven after {time.monotonic() - began:.0f} s")
        _restore_and_promote()
        figure(f"restored and promoted after {time.monotonic() - began:.0f} s")
        here, there = _digests(_on_the_server), _digests(_in_the_cluster)
        assert there == here
        _sh(_of_page("kubectl -n posthub delete job/posthub-move"))
        _sh(
            _of_page(
                """kubectl -n posthub patch cluster posthub-postgres --type merge -p '{"spec": {"enableSuperuserAccess": f"""
            )
        )
        rollout.deploy()
        until("a post is accepted", lambda: _accepted_in_the_cluster(signed_in[0]), 120)
        away = time.time() - last
        tables = [count for count, _ in there.values() if count != "sequence"]
        figure(
            f"{len(tables)} tables with {sum(map(int, tables))} rows and {len(there) - len(tables)} sequences equal; "
            f"{away:.0f} s without writes"
        )

        with Customers(edge(), HOST, signed_in) as customers:
            time.sleep(15)
        found = outcome(customers, receiver, DELIVERY_SECONDS)
        figure(f"in the cluster: {found}")
        assert (customers.failures, found.missing, found.twice) == ([], set(), [])
        job("first", "posthub-backup")
        job("first-verify", "posthub-backup-verify")

        _sh(f"dc up --detach --wait {' '.join(SERVICES)}")
        assert _digests(_on_the_server)["posts_post"] == here["posts_post"]
        figure("the server still has everything")
