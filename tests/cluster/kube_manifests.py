"""A real Kubernetes API accepts every overlay, outside ``./ops test``. It changes nothing in the cluster.

It needs a kubectl that leads to a cluster with the operators' kinds and the namespace ``posthub``::

    ./ops test tests/cluster/kube_manifests.py

docs/kubernetes.md has the last result.
"""

import shutil
import subprocess

import pytest

from stack.paths import ROOT
from tests.deploy.kubekit import BUILDABLE


def _kubectl(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False)


def _reachable() -> bool:
    if shutil.which("kubectl") is None:
        return False
    return _kubectl("get", "namespace", "posthub", "--request-timeout=5s").returncode == 0


pytestmark = pytest.mark.skipif(
    not _reachable(), reason="no cluster with the namespace posthub: kubectl create namespace posthub"
)


@pytest.mark.parametrize("name", BUILDABLE)
def test_the_api_accepts_every_object(name: str) -> None:
    built = _kubectl("kustomize", str(ROOT / "k8s" / name))
    assert built.returncode == 0, built.stderr
    options = ("--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    done = _kubectl("apply", *options, given=built.stdout)
    assert done.returncode == 0, done.stderr
    # Warnings are Pod Security's and those of deprecated versions.
    assert done.stderr == ""
    assert done.stdout.count("serverside-applied") == built.stdout.count(
        "\nkind: "
    ) + built.stdout.startswith("kind: ")
