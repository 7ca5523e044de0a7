"""PostgreSQL with pgvector."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import psycopg

from sidecar import OpsError
from sidecar.rootless import rootless
from stack.ports import HOST
from stack.process import STOP_SECONDS
from stack.programs import major, postgres_bin
from stack.servers.base import Server

USER = "posthub"
PASSWORD = "posthub"  # noqa: S105 - a throwaway server on the loopback address
DATABASE = "posthub"
BUILTIN = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
# Versions without the built-in provider.
LOCALE = dict.fromkeys((15, 16), ("--locale=C",))
# The usual 4096 rounds over a password that protects nothing here are most of what a connection costs its client.
# lib/pq, the client of postgres_exporter, accepts no number with fewer than four digits.
SCRAM_ROUNDS = ("--set=scram_iterations=1000",)
SCRAM_ROUNDS_SINCE = 16
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# A container has 64 MB of /dev/shm, too little for a parallel index build, so shared memory is in the data folder.
ANYWHERE = {"unix_socket_directories": "", "dynamic_shared_memory_type": "mmap"}


class Postgres(Server):
    """A server with an empty database ``posthub`` owned by the superuser ``posthub``.

    Args:
        durable: keep fsync on, for tests that kill the machine and not only the process.
        options: settings of postgresql.conf.
        programs: the folder of its programs; by default those of the embedded PostgreSQL.
    """

    name = "postgres"
    # A “fast” shutdown does not wait for clients to disconnect.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        log: Path | None = None,
        durable: bool = False,
        options: Mapping[str, str] | None = None,
        programs: Path | None = None,
    ) -> None:
        super().__init__(folder, port=port, log=log)
        self.programs = programs or postgres_bin()
        self.options = {**({} if durable else FAST), **ANYWHERE, **(options or {})}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return self.url_for(DATABASE)

    def url_for(self, database: str) -> str:
        """The address of another database of this server."""
        return f"postgresql://{USER}:{PASSWORD}@{HOST}:{self.port}/{database}"

    def kill(self) -> None:
        """Kill it, and wait for its backends, which use the shared memory until they end."""
        backends = psutil.Process(self.pid).children(recursive=True) if self.running else []
        super().kill()
        psutil.wait_procs(backends, timeout=STOP_SECONDS)

    def command(self) -> Sequence[str]:
        settings = {"listen_addresses": HOST, "port": str(self.port), **self.options}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return rootless([str(self.programs / "postgres"), "-D", str(self.data), *flags])

    def prepare(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()

    def environment(self) -> Mapping[str, str]:
        # Without the PG* variables of the caller's shell, and with messages in English.
        return {**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, "LC_ALL": "C", "TZ": "UTC"}

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url_for("postgres"), connect_timeout=2, autocommit=True) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if known.fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o600)
        version = major(self.programs)
        done = subprocess.run(
            rootless(
                [
                    str(self.programs / "initdb"),
                    "-D",
                    str(self.data),
                    "-U",
                    USER,
                    f"--pwfile={secret}",
                    "--no-sync",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    *LOCALE.get(version, BUILTIN),
                    *(SCRAM_ROUNDS if version >= SCRAM_ROUNDS_SINCE else ()),
                ]
            ),
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
        )
        secret.unlink()
        if done.returncode != 0:
            raise OpsError(f"initdb failed: {done.stderr.strip()[-500:]}", hint=f"look at {self.folder}")
