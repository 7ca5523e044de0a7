"""The manifest: the description of a backup, written last. Without a manifest there is no backup.

The format is documented in docs/backup-format.md. A reader rejects an unknown format.
"""

from collections import Counter
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
)

from backup.catalogue.document import Count, Document, Moment, Name, Part, Position, Seconds, decode, encode
from backup.catalogue.packed import Packed
from backup.catalogue.signatures import NO_KEYS, Keyring
from sidecar.humanize import counted

Role = Literal["archive", "globals", "rdb", "base", "tablespace", "base-manifest"]
"""What an object contains; the last three belong to a base backup."""
# By kind: the minimum and maximum number of objects of each role.
_ROLES: dict[str, dict[Role, tuple[int, int]]] = {
    "postgres": {"archive": (1, 1), "globals": (0, 1)},
    "redis": {"rdb": (1, 1)},
    "server": {"base": (1, 1), "base-manifest": (1, 1), "tablespace": (0, 1 << 16)},
}


def _segment_size(size: int) -> int:
    if not 1 << 20 <= size <= 1 << 30 or size & (size - 1):
        raise ValueError("not a size of WAL segments")
    return size


SegmentSize = Annotated[int, AfterValidator(_segment_size)]
Timeline = Annotated[int, Field(ge=1, le=2**32 - 1)]


class StoredObject(Part):
    """One object of a backup, as stored."""

    name: Name
    role: Role
    raw_bytes: Count
    stored_bytes: Count
    sha256: str = Field(description="of the stored bytes")
    compression: Literal["zstd"] = "zstd"
    encryption: Literal["age"] | None = None


class Table(Part):
    """A table and its exact number of rows in the snapshot."""

    schema_name: str = Field(alias="schema", serialization_alias="schema")
    name: str
    rows: Count

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    @property
    def label(self) -> str:
        return f"{self.schema_name}.{self.name}"


class Sequence(Part):
    """A sequence and its last value; None: never used. Sequences advance regardless of snapshots."""

    name: str
    last_value: Position | None


class Provided(Part):
    """An object of an extension, or a changed one of PostgreSQL's own. A dump has no definition of it."""

    provider: str = Field(description="the extension; empty: PostgreSQL itself")
    object: str
    digest: Position = Field(
        description="of its definition, its comments, and an owner who is not a superuser"
    )


class PackedTables(Packed[Table]):
    part = Table
    text_fields: ClassVar[dict[str, str]] = {"schema": "schema_name", "name": "name"}
    number_field = "rows"
    least = 0


class PackedSequences(Packed[Sequence]):
    part = Sequence
    text_fields: ClassVar[dict[str, str]] = {"name": "name"}
    number_field = "last_value"
    may_be_absent = True


class PackedProvided(Packed[Provided]):
    part = Provided
    text_fields: ClassVar[dict[str, str]] = {"provider": "provider", "object": "object"}
    number_field = "digest"


def _in_columns(kind: type[Packed[Any]]) -> tuple[WrapValidator, WrapSerializer]:
    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        found = kind.of(value)
        return handler(value) if found is None else found

    return WrapValidator(read), WrapSerializer(lambda value, handler: handler(tuple(value)))


if TYPE_CHECKING:
    Tables: TypeAlias = SequenceOf[Table]
    Sequences: TypeAlias = SequenceOf[Sequence]
    ProvidedObjects: TypeAlias = SequenceOf[Provided]
else:
    Tables = Annotated[tuple[Table, ...], *_in_columns(PackedTables)]
    Sequences = Annotated[tuple[Sequence, ...], *_in_columns(PackedSequences)]
    ProvidedObjects = Annotated[tuple[Provided, ...], *_in_columns(PackedProvided)]


class Extension(Part):
    name: str
    version: str


class Expression(Part):
    """An object whose expressions use operators of an extension or of the database's own.

    ``CASE a WHEN 'x'`` does not print its operator, so another one may be found when the text is read again.

    Attributes:
        times: how often each operator occurs; empty in older manifests.
    """

    object: str
    operators: tuple[str, ...]
    times: tuple[Count, ...] = ()


class Server(Part):
    """The server that the data came from."""

    product: str = Field(default="", description="for a Redis backup: redis or valkey")
    version: str
    version_number: Count
    encoding: str = "UTF8"
    roles_encoding: str = Field(
        default="UTF8", description="of the database through which the roles were dumped"
    )
    collate: str = "C"
    ctype: str = "C"
    locale_provider: str = "c"
    locale: str | None = None
    collation_version: str = Field(
        default="", description="of the library that sorts the database's texts; empty: it has none"
    )
    collation_rules: str | None = Field(
        default=None, description="of ICU, in addition to those of its locale"
    )
    system_identifier: str = Field(
        default="",
        description="of the PostgreSQL cluster, in decimal digits; for Redis the replication ID, as a note",
    )
    database_oid: Count = 0
    standby: bool = Field(default=False, description="it was a standby, which has no rows of unlogged tables")
    superuser: str = Field(
        default="postgres", description="the bootstrap superuser, who is the grantor of default grants"
    )


class Place(Part):
    """The position of a dump's snapshot in the WAL of its server."""

    snapshot: str = Field(description="as pg_current_snapshot() prints it")
    position: Count = Field(description="a position of the WAL that was read after the snapshot was taken")


class Tablespace(Part):
    """A tablespace of a base backup; its object is called ``{oid}.tar``."""

    oid: Count
    location: str = Field(description="the folder on the original host")


class ServerDatabase(Part):
    """A database of a base backup."""

    name: str
    oid: Count
    collation_version: str = Field(
        default="", description="of the library that sorted its indexes; empty: it has none"
    )


class Physical(Part):
    """What the recovery of a base backup needs to know. Positions are in bytes of the WAL."""

    timeline: Timeline
    start: Count = Field(description="the position from which its recovery reads the WAL")
    end: Count = Field(description="the position at which it becomes consistent: the earliest target")
    segment_size: SegmentSize
    tablespaces: tuple[Tablespace, ...] = ()
    settings: dict[str, str] = Field(
        default_factory=dict, description="settings of the server that matter to a recovery"
    )
    databases: tuple[ServerDatabase, ...] = ()


class Keyspace(Part):
    """One database of a Redis server."""

    number: Count
    keys: Count
    keys_after: Count = Field(
        description="at the end of the transfer, since a busy server changes in the meantime"
    )
    expiring: Count = Field(default=0, description="number of keys with an expiry")
    fields_expiring: Count = Field(default=0, description="keys with fields that have their own expiry")


class Manifest(Document):
    """The description of one backup."""

    kind_of_document: ClassVar[str] = "manifest"
    max_bytes: ClassVar[int] = 64 << 20
    always_sealed: ClassVar[bool] = True

    id: str
    database: str
    kind: Literal["postgres", "redis", "server"]
    taken: Moment = Field(description="the moment of the data")
    started: Moment
    finished: Moment
    tool: str
    client: str = Field(description="version of the program that made the archive")
    server: Server
    objects: tuple[StoredObject, ...]
    recipients: tuple[str, ...] = ()
    tables: Tables = ()
    sequences: Sequences = ()
    extensions: tuple[Extension, ...] = ()
    expressions: tuple[Expression, ...] = ()
    provided: ProvidedObjects = ()
    roles: tuple[str, ...] = ()
    keyspaces: tuple[Keyspace, ...] = ()
    keys_changed: Count = Field(
        default=0, description="of Redis: at most this number of changes to keys happened during the transfer"
    )
    physical: Physical | None = Field(default=None, description="for a base backup")
    place: Place | None = Field(
        default=None, description="for a dump: where its snapshot is in the server's WAL"
    )
    stages: dict[str, Seconds] = Field(default_factory=dict, description="seconds by stage")
    anomalies: tuple[str, ...] = ()
    notes: tuple[str, ...] = Field(
        default=(), description="what it does not contain, or a restore does not bring back"
    )
    excluded_tables: tuple[str, ...] = Field(default=(), description="left out on purpose, as schema.table")
    excluded_rows: tuple[str, ...] = Field(default=(), description="tables without their rows, on purpose")
    adopted: tuple[str, ...] = Field(
        default=(),
        description="system identifiers of earlier clusters whose backups are ours too, newest first",
    )

    @property
    def rows(self) -> int:
        """Number of rows in all tables; for Redis, number of keys."""
        tables = self.tables
        rows = tables.total if isinstance(tables, Packed) else sum(table.rows for table in tables)
        return rows + sum(space.keys for space in self.keyspaces)

    @property
    def raw_bytes(self) -> int:
        return sum(stored.raw_bytes for stored in self.objects)

    @property
    def stored_bytes(self) -> int:
        return sum(stored.stored_bytes for stored in self.objects)

    @property
    def seconds(self) -> float:
        return max(0.0, (self.finished - self.started).total_seconds())

    @property
    def encrypted(self) -> bool:
        return bool(self.objects) and all(stored.encryption for stored in self.objects)

    @property
    def oddity(self) -> str | None:
        """A description of what no run would have written: readers rely on the objects' roles and names."""
        found = Counter(stored.role for stored in self.objects)
        wanted = _ROLES[self.kind]
        for role in sorted({*found, *wanted}):
            least, most = wanted.get(role, (0, 0))
            if not least <= found[role] <= most:
                return f"a backup of kind {self.kind} with {found[role]} objects of role {role}"
        if len({stored.name for stored in self.objects}) < len(self.objects):
            return "two objects of one name"
        if (self.physical is not None) != (self.kind == "server"):
            return f"a backup of kind {self.kind} {'with' if self.physical else 'without'} positions"
        if self.physical is not None and not self.physical.start <= self.physical.end:
            return "a base backup that ends before it starts"
        spaces = {f"{each.oid}.tar" for each in self.physical.tablespaces} if self.physical else set()
        if {_plain_name(each) for each in self.objects if each.role == "tablespace"} != spaces:
            return "tablespaces without their objects, or objects without their tablespaces"
        return None

    def encode(self, keys: Keyring = NO_KEYS) -> bytes:
        """The bytes that are stored, with their own digest and, if there is a key, signed."""
        return encode(self, keys)

    @classmethod
    def decode(cls, data: bytes, where: str, keys: Keyring = NO_KEYS) -> Self:
        """Read stored bytes, without judging who signed them.

        Raises:
            CatalogueError: they are damaged, or this version does not know their format.
        """
        return decode(cls, data, where, keys)[0]


def content(kind: str, tables: int, rows: int) -> str:
    """What was counted in a backup of a kind, in words; the rows of Redis are its keys."""
    if kind == "redis":
        return counted(rows, "key")
    return f"{counted(tables, 'table')}, {counted(rows, 'row')}"


def _plain_name(stored: StoredObject) -> str:
    """The name of an object without what packing has added."""
    return stored.name.removesuffix(".age").removesuffix(".zst")
