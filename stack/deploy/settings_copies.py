"""Changed settings reach the pods: a Deployment reads a copy of each ConfigMap whose name contains a digest of the contents.

A changed setting is then a changed Deployment, so its pods are replaced, and the pods of an earlier revision keep the
settings that they had.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

DIGITS = 10
# The annotation with the versions of a pod's secrets: a changed secret replaces the pods too.
SECRETS = "posthub.work/secrets"


def with_copies(documents: list[Any]) -> list[Any]:
    """The manifests, with a copy of each ConfigMap that Deployments read, and with Deployments that read the copies."""
    maps = {
        document["metadata"]["name"]: document for document in documents if document["kind"] == "ConfigMap"
    }
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    used = {
        found["name"]
        for deployment in deployments
        for found in _references(deployment)
        if found["name"] in maps
    }
    names = {name: f"{name}-{_digest(maps[name].get('data', {}))}" for name in used}
    copies = []
    for name in sorted(used):
        made = copy.deepcopy(maps[name])
        made["metadata"]["name"] = names[name]
        copies.append(made)
    for deployment in deployments:
        for found in _references(deployment):
            found["name"] = names.get(found["name"], found["name"])
    return [*documents, *copies]


def note_secrets(documents: list[Any], versions: dict[str, str]) -> None:
    """Annotate each Deployment's pods with the versions of the secrets that they mount."""
    for document in documents:
        if document["kind"] != "Deployment":
            continue
        template = document["spec"]["template"]
        mounted = {name: versions[name] for name in sorted(_secrets(template)) if name in versions}
        if mounted:
            annotations = template.setdefault("metadata", {}).setdefault("annotations", {})
            annotations[SECRETS] = _digest(mounted)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]


def _references(document: Any) -> Iterator[dict[str, Any]]:
    """Every reference to a ConfigMap in a pod template."""
    for value in _walk(document):
        for key in ("configMapRef", "configMapKeyRef"):
            if key in value:
                yield value[key]
        if isinstance(value.get("configMap"), dict) and "name" in value["configMap"]:
            yield value["configMap"]


def _secrets(template: Any) -> Iterator[str]:
    for value in _walk(template):
        for key, name in (
            ("secret", "secretName"),
            ("secret", "name"),
            ("secretRef", "name"),
            ("secretKeyRef", "name"),
        ):
            if isinstance(value.get(key), dict) and name in value[key]:
                yield value[key][name]


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _walk(item)
