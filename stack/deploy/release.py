"""One release as Kubernetes manifests: its images, and copies of the settings. Nothing is applied here."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from stack.deploy.settings_copies import note_secrets, with_copies

IMAGES = ("posthub/api", "posthub/frontend", "posthub/celery-exporter", "posthub/backup")


@dataclass(frozen=True)
class Release:
    """The images of one tag.

    Args:
        registry: of the images, such as ``ghcr.io/posthub``.
        digests: name of an image → the digest that it must have.
    """

    tag: str
    registry: str
    digests: Mapping[str, str] = field(default_factory=dict)

    def manifests(self, text: str, secret_versions: dict[str, str]) -> str:
        """Manifests with the images of this release, and with copies of their settings."""
        documents = list(yaml.safe_load_all(text))
        for container in _containers(documents):
            container["image"] = self._image(container["image"])
        documents = with_copies(documents)
        note_secrets(documents, secret_versions)
        return yaml.safe_dump_all(documents, sort_keys=False)

    def _image(self, image: str) -> str:
        name = image.rpartition(":")[0] or image
        ours = next((own for own in IMAGES if name.endswith(own.removeprefix("posthub"))), None)
        if ours is None:
            return image
        short = ours.partition("/")[2]
        # The digest decides; the tag is for people.
        digest = f"@{self.digests[short]}" if short in self.digests else ""
        return f"{self.registry}/{short}:{self.tag}{digest}"


def check_job(migrate: str, name: str) -> str:
    """The migration job, changed to only check for unapplied migrations."""
    documents = list(yaml.safe_load_all(migrate))
    for job in (doc for doc in documents if doc["kind"] == "Job"):
        job["metadata"]["name"] = name
        job["spec"]["backoffLimit"] = 0
        for container in _containers([job]):
            container["args"] = ["python manage.py migrate --check"]
    return yaml.safe_dump_all(documents, sort_keys=False)


def without(kinds: Collection[str], documents: Iterable[Any]) -> list[Any]:
    return [doc for doc in documents if doc["kind"] not in kinds]


def _containers(documents: list[Any]) -> Iterator[dict[str, Any]]:
    """Every container of every pod template in a manifest."""
    for found in _walk(documents):
        for kind in ("containers", "initContainers"):
            yield from (
                image for image in found.get(kind) or [] if isinstance(image, dict) and "image" in image
            )


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _walk(item)
