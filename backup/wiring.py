"""Builds the objects that do the work from the settings, once."""

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from backup.cancellation import Stop
from backup.catalogue.journal import Backlog, Journal
from backup.catalogue.reader import Reader
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.pipeline import PackingOptions
from backup.pipeline.encrypt import Identity, parse_identities, parse_recipients
from backup.policy.anomaly import Limits
from backup.policy.retention import Policy
from backup.postgres.dsn import Address, parse
from backup.postgres.exclusion import Exclusion
from backup.programs import Programs
from backup.progress import Meter
from backup.rounds import Round
from backup.settings import BackupSettings
from backup.store import LocalStore, NoDeleteStore, PartSizes, RetryingStore, RetryPolicy, S3Options, Store
from backup.store.urls import HINT, open_store, refuse_login
from backup.targets import Database, PostgresTarget, ServerTarget, Target, servers, targets
from sidecar import UsageError

if TYPE_CHECKING:
    from backup.discovery import Discovery

Clock = Callable[[], datetime]
DISCOVERY_SECONDS = 300.0


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Wiring:
    """The objects that backups, verifications and the service need.

    Attributes:
        configured: the databases that are named one by one.
        discovery: finds all databases of a server; None if that is not configured.
        meters: the bytes of each run in progress, by the name of its database.
        proving: those of each verification in progress.
        readers: see :meth:`reader`.
        round: what a round of verifications keeps.
        servers: the servers whose WAL is streamed, and that base backups are taken of; not among the targets.
    """

    settings: BackupSettings
    store: RetryingStore
    configured: tuple[Database, ...]
    programs: Programs
    redis_programs: Programs
    packing: PackingOptions
    servers: tuple[ServerTarget, ...] = ()
    spool: RetryingStore | None = None
    offsite: RetryingStore | None = None
    identities: tuple[Identity, ...] = ()
    limits: Limits = field(default_factory=Limits)
    policy: Policy = field(default_factory=Policy)
    stop: Stop = field(default_factory=Stop)
    backlog: Backlog = field(default_factory=Backlog)
    clock: Clock = utc_now
    keys: Keyring = NO_KEYS
    discovery: "Discovery | None" = None
    meters: dict[str, Meter] = field(default_factory=dict, repr=False, compare=False)
    proving: dict[str, Meter] = field(default_factory=dict, repr=False, compare=False)
    round: Round = field(default_factory=Round, repr=False, compare=False)
    readers: dict[tuple[int, tuple[bytes, ...]], Reader] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def targets(self) -> tuple[Database, ...]:
        """The databases that are known so far; see :meth:`discover`."""
        return (*self.configured, *(self.discovery.targets if self.discovery else ()))

    def discover(self) -> None:
        """Look for databases that are new on the server, if that is configured.

        Raises:
            PreflightError, StoreError: the server or the store cannot be reached; the known databases remain.
        """
        if self.discovery is not None:
            reader = self.reader()
            with self.stop.limit(DISCOVERY_SECONDS):
                self.discovery.refresh(
                    reader.named(), lambda name: next(iter(reader.recent_manifests(name, 1)), None)
                )

    @property
    def secrets(self) -> list[str]:
        """Secrets that must never be printed, in addition to the settings' own: the passwords in URLs."""
        urls = (self.settings.restore_url, self.settings.verify_url)
        given = [parse(url.get_secret_value()).password for url in urls if url is not None]
        given += [self.discovery.address.password] if self.discovery else []
        keys = [key.decode() for key in self.keys.keys]
        return [
            *(secret for target in (*self.targets, *self.servers) for secret in target.secrets),
            *filter(None, given),
            *keys,
            *self.settings.notify_addresses,
        ]

    @property
    def exclusion(self) -> Exclusion:
        """The tables that backups exclude."""
        return Exclusion(self.settings.exclude_tables, self.settings.exclude_rows)

    @property
    def stores(self) -> list[RetryingStore]:
        """All configured stores."""
        return [store for store in (self.store, self.spool, self.offsite) if store is not None]

    def store_named(self, name: str) -> RetryingStore:
        """The store of a catalogue entry."""
        return next(store for store in self.stores if store.name == name)

    @property
    def lock_folder(self) -> Path:
        """The folder of this host's locks."""
        own = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        return Path(own) / f"posthub-backup-{os.getuid()}"

    @property
    def restore_jobs(self) -> int:
        """Number of processes that restore at the same time."""
        return self.settings.restore_jobs or os.cpu_count() or 1

    def production(self, target: PostgresTarget) -> Address:
        """The address of production's database for a restore, with a role that may create and rename databases."""
        given = self.settings.restore_url
        if given is None:
            return target.address
        address = parse(given.get_secret_value(), "BACKUP_RESTORE_URL")
        several = self.discovery or sum(isinstance(each, PostgresTarget) for each in self.targets) > 1
        # One URL cannot name several databases, and a database must not be replaced by another one's data.
        return address.named(target.address.database) if several else address

    def journal(self, database: str, store: Store | None = None) -> Journal:
        """The journal of one database, in the main store unless another one is given."""
        store = store or self.store
        backlog = self.backlog if store is self.store else None
        return Journal(
            store,
            database,
            keys=self.keys,
            watched=self.stores,
            backlog=backlog,
            clock=self.clock,
            reader=self.reader(store),
        )

    def reader(self, store: Store | None = None) -> Reader:
        """The reader of the catalogue, of the main store unless another one is given; it trusts our keys.

        There is one for each store, so that each unchanged object is read only once.
        """
        wanted = store or self.store
        return self.readers.setdefault((id(wanted), self.keys.keys), Reader(wanted, self.keys))

    def retain_until(self, started: datetime) -> datetime | None:
        """The time until which the store locks a backup; None: no lock."""
        days = self.settings.s3_object_lock_days
        return started + timedelta(days=days) if days else None

    @property
    def everything(self) -> tuple[Target, ...]:
        """Everything that is backed up: servers first, so that their base backups cover the dumps of the same night."""
        return (*self.servers, *self.targets)

    def target(self, name: str | None) -> Target:
        """The database or server with this name; without a name, the only database."""
        if name is None and len(self.targets) == 1:
            return self.targets[0]
        for target in self.everything:
            if target.name == name:
                return target
        known = ", ".join(target.name for target in self.everything)
        raise UsageError(
            f"{name} is not a configured database"
            if name
            else f"{len(self.targets)} databases are configured",
            hint=f"choose one with --database: {known}",
        )

    def server(self, name: str | None) -> ServerTarget:
        """The server with this name; without a name, the only one.

        Raises:
            UsageError: there is none, or there are several.
        """
        if name is None and len(self.servers) == 1:
            return self.servers[0]
        for server in self.servers:
            if server.name == name:
                return server
        if not self.servers:
            raise UsageError("no server is configured", hint="set BACKUP_SERVERS; see docs/configuration.md")
        known = ", ".join(server.name for server in self.servers)
        raise UsageError(
            f"{name} is not a configured server" if name else f"{len(self.servers)} servers are configured",
            hint=f"choose one: {known}",
        )


def wire(settings: BackupSettings) -> Wiring:
    """Build everything. Nothing is contacted yet, but the work folder is created.

    Raises:
        UsageError: the settings contradict each other.
    """
    _make_work_folder(settings)
    stop, configured = Stop(), targets(settings)
    retries = RetryPolicy(attempts=settings.store_attempts)
    return Wiring(
        settings=settings,
        store=RetryingStore(main_store(settings), retries, stop.sleep),
        spool=_spool(settings, stop),
        offsite=_offsite(settings, retries, stop),
        configured=tuple(configured),
        discovery=_discovery(settings, [*configured, *servers(settings)]),
        servers=tuple(servers(settings)),
        programs=Programs(settings.postgres_bin),
        redis_programs=Programs(settings.redis_bin, "BACKUP_REDIS_BIN", "Redis"),
        packing=PackingOptions(
            level=settings.zstd_level,
            threads=settings.threads,
            recipients=tuple(parse_recipients(settings.age_recipients)),
            sizes=PartSizes(limit=settings.s3_max_parts),
            spill=(settings.work_dir, settings.work_dir_floor) if settings.work_dir else None,
            upload_threads=settings.upload_threads,
        ),
        identities=_identities(settings),
        keys=Keyring.parse(_plain(settings.manifest_key) or ""),
        limits=Limits(drop=settings.anomaly_drop, growth=settings.anomaly_growth),
        policy=settings.policy(),
        stop=stop,
    )


def _make_work_folder(settings: BackupSettings) -> None:
    """Create the work folder: an empty disk that is mounted around it hides the one of the image.

    What needs a folder that cannot be created reports it. Commands such as ``list`` do not need it.
    """
    if settings.work_dir is not None:
        with suppress(OSError):
            settings.work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def _discovery(settings: BackupSettings, named: Iterable[Target]) -> "Discovery | None":
    if settings.discover_url is None:
        return None
    from backup.discovery import Discovery  # most installations name their databases

    address = parse(settings.discover_url.get_secret_value(), "BACKUP_DISCOVER_URL")
    return Discovery(address, settings.discover_skip, {target.name for target in named})


def main_store(settings: BackupSettings) -> Store:
    """The store that backups go to."""
    if settings.store_url is None:
        raise UsageError("BACKUP_STORE_URL is not set", hint=HINT)
    return _kept(settings, open_store(settings.store_url, s3_options(settings)))


def _kept(settings: BackupSettings, store: Store) -> Store:
    return NoDeleteStore(store) if settings.delete == "never" else store


def _spool(settings: BackupSettings, stop: Stop) -> RetryingStore | None:
    if settings.spool_dir is None:
        return None
    # Retries do not help with a full disk.
    return RetryingStore(
        LocalStore(settings.spool_dir, "spool", made=True), RetryPolicy(attempts=1), stop.sleep
    )


def _offsite(settings: BackupSettings, retries: RetryPolicy, stop: Stop) -> RetryingStore | None:
    if settings.offsite_store_url is None:
        return None
    inner = open_store(settings.offsite_store_url, offsite_options(settings), "offsite")
    return RetryingStore(_kept(settings, inner), retries, stop.sleep)


def _identities(settings: BackupSettings) -> tuple[Identity, ...]:
    text = _plain(settings.age_identity)
    return tuple(parse_identities(text)) if text else ()


def offsite_options(settings: BackupSettings) -> S3Options:
    """The options of the main store, overridden by those of the off-site store."""
    main = s3_options(settings)
    return replace(
        main,
        endpoint_url=settings.offsite_s3_endpoint_url or main.endpoint_url,
        region=settings.offsite_s3_region or main.region,
        access_key_id=_plain(settings.offsite_s3_access_key_id) or main.access_key_id,
        secret_access_key=_plain(settings.offsite_s3_secret_access_key) or main.secret_access_key,
    )


def s3_options(settings: BackupSettings) -> S3Options:
    for url in (settings.s3_endpoint_url, settings.offsite_s3_endpoint_url):
        refuse_login(url or "", "the S3 endpoint's URL")
    return S3Options(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        access_key_id=_plain(settings.s3_access_key_id),
        secret_access_key=_plain(settings.s3_secret_access_key),
        checksum=settings.s3_checksum,
        path_style=settings.s3_path_style,
        storage_class=settings.s3_storage_class,
        sse=settings.s3_sse,
        sse_kms_key_id=settings.s3_sse_kms_key_id,
        object_lock=settings.s3_object_lock_days > 0,
        object_lock_mode=settings.s3_object_lock_mode,
        read_timeout=settings.store_timeout,
    )


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
