"""Which services of a compose file differ from their running containers.

``docker compose up`` uses its own hash to decide that. Up to compose 2.28, this hash includes ``depends_on``, so a service
started with and without ``--no-deps`` has two hashes, and whatever depends on a recreated service is recreated too. A
rollout that leaves PostgreSQL and Redis alone needs a decision that does not depend on how a container was started.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Compose's own bookkeeping. How a service is built, and what it waits for, does not change a container.
IGNORED = ("build", "depends_on")


@dataclass(frozen=True)
class Container:
    """A running container: its ID, its image as it was requested, its environment."""

    id: str
    image: str
    environment: Mapping[str, str]

    @classmethod
    def parse(cls, inspected: str) -> "Container | None":
        """Read the output of ``docker inspect``; None if there is no container."""
        try:
            found = json.loads(inspected)[0]
        except (ValueError, IndexError):
            return None
        pairs = (entry.partition("=") for entry in found["Config"]["Env"] or ())
        return cls(found["Id"], found["Config"]["Image"], {name: value for name, _, value in pairs})


def definitions(config: str) -> dict[str, dict[str, Any]]:
    """The services of ``docker compose config --format json``, without what does not change a container."""
    services = json.loads(config)["services"] if config.strip() else {}
    return {
        name: {key: value for key, value in service.items() if key not in IGNORED}
        for name, service in services.items()
    }


def fingerprint(definition: Mapping[str, Any]) -> str:
    """A digest of a service's definition."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


class Fingerprints:
    """The fingerprint that each container was started with, kept between deployments.

    Args:
        path: a JSON file; it need not exist.
        dry: write nothing.
    """

    def __init__(self, path: Path, *, dry: bool = False) -> None:
        self._path = path
        self._dry = dry

    def changed(self, definition: Mapping[str, Any], container: Container | None) -> bool:
        """Whether a service must be recreated.

        A container that no deployment started is compared by its image and its environment.
        """
        if container is None:
            return True
        known = self._read().get(container.id)
        if known is not None:
            return known != fingerprint(definition)
        wanted = {
            name: value for name, value in (definition.get("environment") or {}).items() if value is not None
        }
        same = all(container.environment.get(name) == value for name, value in wanted.items())
        return container.image != definition.get("image") or not same

    def note(self, started: Iterable[tuple[Container, Mapping[str, Any]]]) -> None:
        """Keep the fingerprints of these containers, and forget all others."""
        if self._dry:
            return
        self._path.parent.mkdir(exist_ok=True)
        known = {container.id: fingerprint(definition) for container, definition in started}
        self._path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
