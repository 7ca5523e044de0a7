"""The commands around a restore, run as a person on call runs them, in this process or in one that can be killed."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from backup.cli import backup
from sidecar import cli
from stack.servers import Postgres
from tests.ended import ended


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def passes(self, *texts: str) -> None:
        """Assert that it succeeded and printed this."""
        ended(self, 0, *texts)

    def fails(self, status: int, *texts: str) -> None:
        """Assert that it ended with this exit code and printed this."""
        ended(self, status, *texts)


# Arguments that any user of the host could read in the list of processes.
_SECRET = re.compile(r"\bpassword=|://[^/@\s]*:[^/@\s]*@")


def _watched(patch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of every program that is started from now on."""
    started: list[list[str]] = []

    class Watched(subprocess.Popen[Any]):
        def __init__(self, args: Any, *more: Any, **options: Any) -> None:
            started.append([args] if isinstance(args, str) else [str(word) for word in args])
            super().__init__(args, *more, **options)

    patch.setattr(subprocess, "Popen", Watched)
    return started


class Command:
    """``python -m backup`` with the settings of one test."""

    def __init__(
        self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.environ = environ
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, **more: str) -> Done:
        self._capsys.readouterr()
        with self._monkeypatch.context() as patch:
            for name, value in {**self.environ, **more}.items():
                patch.setenv(name, value)
            started = _watched(patch)
            status = cli.run(backup, arguments)
        assert [words for words in started if _SECRET.search(" ".join(words))] == [], (
            "a password among arguments"
        )
        return Done(status, *self._capsys.readouterr())

    def passed(self, *arguments: str, **more: str) -> Any:
        """Run a command that must succeed; returns its JSON."""
        done = self(*arguments, "--json", **more)
        done.passes()
        return done.json

    def typed(self, text: str, *arguments: str) -> tuple[int, str]:
        """Run on a terminal with typed input; returns the exit code and everything that was shown."""
        terminal, ours = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "backup", *arguments],
            env={**os.environ, **self.environ},
            stdin=ours,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            os.write(terminal, f"{text}\n".encode())
            assert process.stdout is not None
            seen = process.stdout.read()
        os.close(terminal)
        os.close(ours)
        return process.returncode, seen

    def killed_at(self, text: str, *arguments: str, then: Callable[[], object] = lambda: None) -> bool:
        """Run until it prints something, then kill -9; returns whether it got that far."""
        with subprocess.Popen(
            [sys.executable, "-m", "backup", *arguments],
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if text in line:
                    then()
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    return True
        return False


def names(postgres: Postgres, part: str) -> list[str]:
    """Databases whose names contain a text, except the one with exactly this name."""
    with psycopg.connect(postgres.url_for("postgres")) as connection:
        found = connection.execute(
            "SELECT datname FROM pg_database WHERE strpos(datname, %s) > 0 AND datname <> %s ORDER BY 1",
            [part, part],
        )
        return [row[0] for row in found]


def value(postgres: Postgres, database: str, query: str) -> Any:
    """The first value of a query."""
    with psycopg.connect(postgres.url_for(database)) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]
