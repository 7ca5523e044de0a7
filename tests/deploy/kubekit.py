"""The manifests as a cluster would get them: overlays built, or the plain files if kustomize is not available."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stack.paths import ROOT

K8S = ROOT / "k8s"
BUILDABLE = ("base", "overlays/production", "overlays/staging", "overlays/trial", "migrate", "data", "move")
# Patches and kustomizations are not objects.
PARTS = {
    "settings.yaml",
    "names.yaml",
    "small.yaml",
    "probe.yaml",
    "ingress.yaml",
    "ingress-flower.yaml",
    "environment.yaml",
}
Document = dict[str, Any]


def builder() -> list[str] | None:
    """A program that builds kustomizations, if there is one."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


@cache
def built(name: str) -> list[Document]:
    command = builder()
    assert command is not None
    done = subprocess.run([*command, str(K8S / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return _documents(done.stdout)


@cache
def plain() -> list[Document]:
    """Every object of every file, unpatched."""
    found = (_documents(path.read_text(encoding="utf-8")) for path in plain_files())
    return [document for documents in found for document in documents]


def _documents(text: str) -> list[Document]:
    """The documents of a stream, by libyaml: the manifests have thousands of lines."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def plain_files() -> Iterator[Path]:
    for path in sorted(K8S.rglob("*.yaml")):
        if path.name != "kustomization.yaml" and path.name not in PARTS - {"ingress.yaml"}:
            if path.name == "ingress.yaml" and path.parent.name == "staging":
                continue
            yield path


def pod_specs(documents: list[Document]) -> Iterator[tuple[str, Document, Document]]:
    """Name, labels and specification of every pod that these objects make."""
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        spec = document.get("spec") or {}
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec and "spec" in spec["template"]:
            yield name, spec["template"]["metadata"]["labels"], spec["template"]["spec"]


def secret_files(container: Document, documents: list[Document]) -> set[str]:
    """The files that the environment of a container names, after its ConfigMaps."""
    maps = {one["metadata"]["name"]: one["data"] for one in documents if one["kind"] == "ConfigMap"}
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        environment |= maps[source["configMapRef"]["name"]]
    environment |= {one["name"]: one.get("value", "") for one in container.get("env", [])}
    return {value for name, value in environment.items() if name.endswith("_FILE") and value}
