"""The manifest: the description of a backup, written last. Without a manifest there is no backup.

The format is documented in docs/backup-format.md. A reader rejects an unknown format.
"""

import hashlib
import json
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backup.errors import CatalogueError

FORMAT = 1


class Part(BaseModel):
    """Base of everything in a manifest: values are immutable, and unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredObject(Part):
    """One object of a backup, as stored."""

    name: str
    role: Literal["archive", "globals", "rdb"]
    raw_bytes: int
    stored_bytes: int
    sha256: str = Field(description="of the stored bytes")
    compression: Literal["zstd"] = "zstd"
    encryption: Literal["age"] | None = None


class Table(Part):
    """A table and its exact number of rows in the snapshot."""

    schema_name: str = Field(alias="schema", serialization_alias="schema")
    name: str
    rows: int

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    @property
    def label(self) -> str:
        return f"{self.schema_name}.{self.name}"


class Sequence(Part):
    """A sequence and its last value; None: never used. Sequences advance regardless of snapshots."""

    name: str
    last_value: int | None


class Extension(Part):
    name: str
    version: str


class Server(Part):
    """The server that the data came from."""

    version: str
    version_number: int
    encoding: str = "UTF8"
    collate: str = "C"
    ctype: str = "C"
    locale_provider: str = "c"
    locale: str | None = None
    superuser: str = Field(
        default="postgres", description="the bootstrap superuser, who is the grantor of default grants"
    )


class Keyspace(Part):
    """One database of a Redis server."""

    number: int
    keys: int
    keys_after: int = Field(
        description="at the end of the transfer, since a busy server changes in the meantime"
    )
    expiring: int = Field(default=0, description="number of keys with an expiry")


class Manifest(Part):
    """The description of one backup."""

    format: int = FORMAT
    id: str
    database: str
    kind: Literal["postgres", "redis"]
    taken: datetime = Field(description="the moment of the data")
    started: datetime
    finished: datetime
    tool: str
    client: str = Field(description="version of the program that made the archive")
    server: Server
    objects: tuple[StoredObject, ...]
    recipients: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    extensions: tuple[Extension, ...] = ()
    roles: tuple[str, ...] = ()
    keyspaces: tuple[Keyspace, ...] = ()
    stages: dict[str, float] = Field(default_factory=dict, description="seconds by stage")
    anomalies: tuple[str, ...] = ()
    digest: str = Field(default="", description="SHA-256 of this manifest without this field")

    @property
    def rows(self) -> int:
        """Number of rows in all tables; for Redis, number of keys."""
        return sum(table.rows for table in self.tables) + sum(space.keys for space in self.keyspaces)

    @property
    def raw_bytes(self) -> int:
        return sum(stored.raw_bytes for stored in self.objects)

    @property
    def stored_bytes(self) -> int:
        return sum(stored.stored_bytes for stored in self.objects)

    @property
    def seconds(self) -> float:
        return (self.finished - self.started).total_seconds()

    @property
    def encrypted(self) -> bool:
        return any(stored.encryption for stored in self.objects)

    def encode(self) -> bytes:
        """The bytes that are stored, with their own digest."""
        value = self.model_dump(mode="json", by_alias=True, exclude={"digest"})
        return _json({**value, "digest": _digest(value)})

    @classmethod
    def decode(cls, data: bytes, where: str) -> Self:
        """Read stored bytes.

        Raises:
            CatalogueError: they are damaged, or this version does not know their format.
        """
        try:
            value = json.loads(data)
            known = value.get("format")
        except (ValueError, AttributeError):
            raise damaged(where, "it is not a JSON object") from None
        if known != FORMAT:
            raise CatalogueError(
                f"{where} has format {known}; this version knows {FORMAT}",
                hint="use the version that wrote it",
            )
        digest = value.pop("digest", None)
        if digest != _digest(value):
            raise damaged(where, f"its digest is {_digest(value)}, but it states {digest}")
        try:
            return cls.model_validate({**value, "digest": digest})
        except ValidationError as error:
            raise damaged(where, str(error.errors()[0]["msg"])) from None


def damaged(where: str, how: str) -> CatalogueError:
    return CatalogueError(
        f"{where} is damaged: {how}",
        hint="restore from another backup; take a new one with: python -m backup run",
    )


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()


def _digest(value: object) -> str:
    return hashlib.sha256(_json(value)).hexdigest()
