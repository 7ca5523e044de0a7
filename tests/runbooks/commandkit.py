"""A stack for OPS_STACK=command: real servers, and an app whose units are files that exist while they run."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from stack.paths import ROOT
from stack.programs import postgres_bin
from stack.servers import Alertmanager, Postgres

UNITS = ("shop-api", "shop-worker", "shop-beat", "shop-postgres", "shop-redis")


class Stack:
    """The commands of one stack.

    Attributes:
        up: the folder with a file for each unit that runs.
        scripts: the folder of the scripts.
        env: the environment of a script.
    """

    def __init__(self, folder: Path, database: str, settings: dict[str, str], alertmanager: str) -> None:
        self.up = folder / "up"
        self.up.mkdir(parents=True)
        # A checkout has one lock for all its scripts.
        self.scripts = folder / "checkout" / "runbooks"
        shutil.copytree(ROOT / "runbooks", self.scripts)
        for unit in UNITS:
            (self.up / unit).touch()
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
        (folder / "backup.env").write_text(lines)
        url = settings["BACKUP_RESTORE_URL"].rpartition("/")[0]
        sql = (
            "import sys, psycopg; _, _, database, _, statement = sys.argv; "
            f"print(psycopg.connect('{url}/' + database).execute(statement).fetchone()[0])"
        )
        python = shlex.quote(sys.executable)
        commands = {
            "STOP": f"cd {self.up} && rm -f --",
            "START": f"cd {self.up} && touch --",
            "HEALTHY": f"test -e {self.up}/shop-api",
            "BACKUP": f". {folder}/backup.env; {python} -m backup",
            "MANAGE": "true",
            "ALERTS": f"{python} -m alerts",
            "PSQL": f"{python} -c {shlex.quote(sql)}",
            "DATABASE": database,
            "API": "shop-api",
            "WORKERS": "shop-worker",
            "BEAT": "shop-beat",
            "POSTGRES": "shop-postgres",
            "REDIS": "shop-redis",
            "POSTGRES_FOLDER": str(folder),
        }
        self.file = folder / "runbooks.env"
        self.file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in commands.items()))
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "TMPDIR": tempfile.gettempdir(),
            "PYTHONPATH": str(ROOT),
            "ALERTMANAGER_URL": alertmanager,
            "OPS_STACK": "command",
            "OPS_COMMANDS": str(self.file),
        }

    @property
    def running(self) -> set[str]:
        return {path.name for path in self.up.iterdir()}


@contextmanager
def stack(folder: Path, database: str, postgres: Postgres) -> Iterator[tuple[Stack, Alertmanager]]:
    """A stack whose database is on a server, with a store of its own and a real Alertmanager."""
    folder.mkdir(exist_ok=True)
    (folder / "store").mkdir()
    config = folder / "alertmanager.yml"
    config.write_text(yaml.safe_dump({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}))
    settings = {
        "BACKUP_DATABASE_URLS": f"{database}={postgres.url_for(database)}",
        "BACKUP_RESTORE_URL": postgres.url_for(database),
        "BACKUP_STORE_URL": f"file://{folder / 'store'}",
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
        "BACKUP_WORK_DIR": str(folder),
    }
    with Alertmanager(folder / "alertmanager", config=config) as alertmanager:
        yield Stack(folder, database, settings, alertmanager.url), alertmanager
