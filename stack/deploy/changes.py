"""Which services of a compose file differ from their running containers.

``docker compose up`` uses its own hash to decide that. Up to compose 2.28, this hash includes ``depends_on``, so a service
started with and without ``--no-deps`` has two hashes, and whatever depends on a recreated service is recreated too. A
rollout that leaves PostgreSQL and Redis alone needs a decision that does not depend on how a container was started.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# Compose's own bookkeeping. How a service is built, and what it waits for, does not change a container.
IGNORED = ("build", "depends_on")


PROJECT = "com.docker.compose.project"


@dataclass(frozen=True)
class Container:
    """A running container: its ID, its image as requested, its environment.

    Attributes:
        command: what it runs. This and the following are None if they are not known.
        networks: the compose file's names of its networks.
        places: where files or volumes are mounted.
        started: its start time.
    """

    id: str
    image: str
    environment: Mapping[str, str]
    command: Sequence[str] | None = None
    networks: Collection[str] | None = None
    places: Collection[str] | None = None
    started: datetime | None = None

    @classmethod
    def parse(cls, inspected: str) -> "Container | None":
        """Read the output of ``docker inspect``; None if there is no container."""
        try:
            found = json.loads(inspected)[0]
        except (ValueError, IndexError):
            return None
        config = found["Config"]
        pairs = (entry.partition("=") for entry in config["Env"] or ())
        project = (config.get("Labels") or {}).get(PROJECT)
        networks = found.get("NetworkSettings", {}).get("Networks")
        mounts, started = found.get("Mounts"), found.get("State", {}).get("StartedAt")
        return cls(
            found["Id"],
            config["Image"],
            {name: value for name, _, value in pairs},
            config.get("Cmd"),
            None
            if project is None or networks is None
            else {name.removeprefix(f"{project}_") for name in networks},
            None if mounts is None else {mount["Destination"] for mount in mounts},
            datetime.fromisoformat(started) if started else None,
        )

    def agrees(self, definition: Mapping[str, Any]) -> bool:
        """Whether everything that an inspection shows matches the definition."""
        wanted = {
            name: value for name, value in (definition.get("environment") or {}).items() if value is not None
        }
        # Compose prints `$` as `$$`, the escape that it also reads.
        command = [word.replace("$$", "$") for word in definition.get("command") or ()]
        networks = definition.get("networks")
        places = {mount["target"] for mount in definition.get("volumes") or ()}
        return (
            self.image == definition.get("image")
            and all(self.environment.get(name) == value for name, value in wanted.items())
            and (not command or self.command is None or list(self.command) == command)
            and (not networks or self.networks is None or set(self.networks) == set(networks))
            and (self.places is None or places <= set(self.places))
        )


def has_old_files(definition: Mapping[str, Any], container: Container | None) -> bool:
    """Whether a file that is mounted has changed since the container started.

    The container still sees the old file: git and most editors replace files, and the mount keeps the old one.
    """
    if container is None or container.started is None:
        return False
    sources = (
        Path(mount["source"])
        for mount in definition.get("volumes") or ()
        if mount.get("type") == "bind" and "source" in mount
    )
    since = container.started.timestamp()
    return any(source.is_file() and source.stat().st_mtime > since for source in sources)


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

        A container that no deployment started is compared by what an inspection shows.
        """
        if container is None:
            return True
        known = self._read().get(container.id)
        if known is not None:
            return known != fingerprint(definition)
        return not container.agrees(definition)

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
