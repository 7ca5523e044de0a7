"""``./ops test --mutate``: breaks the code in plausible ways, one at a time, and reports which change no test notices.

The changes are in ``tests/mutations/*.yml``, each file with the tests that guard it. They run in a copy of the checkout.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click
import yaml

from sidecar import UsageError
from stack.paths import ROOT

MUTATIONS = ROOT / "tests" / "mutations"
# Not copied; the programs and packages are linked.
LEFT_OUT = (
    ".git",
    ".venv",
    ".ops",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
)
LINKED = (".venv", ".ops")
SECONDS = 600
# Loaded once; each change is tried in a fork, which then loads only our own code. No plug-ins of pytest, which must
# be loaded by pytest itself.
SERVER = """
import importlib, json, os, sys
for name in ("pytest", "yaml", "click", "rich.console", "pydantic", "requests", "psycopg", "psycopg.sql", "boto3", "redis",
             "prometheus_client", "zstandard", "pyrage", "kombu", "celery", "django", "rest_framework"):
    try:
        importlib.import_module(name)
    except ImportError:
        pass
sys.path.insert(0, os.getcwd())
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        os._exit(int(sys.modules["pytest"].main(json.loads(line))))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Mutation:
    """One plausible fault.

    Args:
        group: the file in ``tests/mutations/`` that names it, without ending.
        file: what is changed, from the root of the checkout.
        change: a text in this file; its first occurrence is replaced.
        tests: arguments for pytest.
    """

    group: str
    file: str
    change: str
    to: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.group}: {self.file}: {self.change.strip()!r} → {self.to.strip()!r}"

    def applied(self, text: str) -> str | None:
        """The file's text with the change; None if the text to be changed is not there any more."""
        return text.replace(self.change, self.to, 1) if self.change in text else None


def mutations(folder: Path = MUTATIONS) -> list[Mutation]:
    """All changes, in the order of their files."""
    return [one for path in sorted(folder.glob("*.yml")) for one in _read(path)]


def _read(path: Path) -> Iterator[Mutation]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for one in document["mutations"]:
        yield Mutation(path.stem, one["file"], one["change"], one["to"], tuple(document["tests"]))


def run(groups: tuple[str, ...], root: Path = ROOT) -> int:
    """Try the changes of these groups (all by default) in a copy of a checkout. Returns 1 if one was not noticed or no longer applies.

    Raises:
        UsageError: there is no such group.
    """
    found = mutations(root / "tests" / "mutations")
    known = {one.group for one in found}
    if unknown := set(groups) - known:
        raise UsageError(
            f"no group of mutations {', '.join(sorted(unknown))}", hint=f"one of {', '.join(sorted(known))}"
        )
    chosen = [one for one in found if not groups or one.group in groups]
    with tempfile.TemporaryDirectory(prefix="ops-mutate-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        for name in LINKED:
            (copy / name).symlink_to(root / name)
        with _Tests(copy) as tests:
            outcomes = [_try(one, copy, tests) for one in chosen]
    caught = outcomes.count("caught")
    click.echo(f"caught {caught} of {len(chosen)}")
    return int(caught < len(chosen))


class _Tests:
    """Runs pytest in forks of one process.

    Args:
        folder: the copy of the checkout.
    """

    def __init__(self, folder: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def fail(self, tests: tuple[str, ...]) -> bool:
        """Whether a test fails; so does one that does not end."""
        with tempfile.TemporaryDirectory(prefix="ops-") as scratch:
            asked = [f"--basetemp={scratch}/t", "-x", "-q", "-p", "no:cacheprovider", *tests]
            return self._exit_code(asked) == 1

    def _exit_code(self, arguments: list[str]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{json.dumps(arguments)}\n")
        self._server.stdin.flush()
        pid = int(self._server.stdout.readline())
        ended, _, _ = select.select([self._server.stdout], [], [], SECONDS)
        if not ended:
            os.killpg(pid, signal.SIGKILL)
        code = int(self._server.stdout.readline())
        return code if ended else 1


def _try(mutation: Mutation, copy: Path, tests: _Tests) -> str:
    path = copy / mutation.file
    before = path.read_text(encoding="utf-8")
    after = mutation.applied(before)
    outcome = "stale"
    if after is not None:
        path.write_text(after, encoding="utf-8")
        try:
            outcome = "caught" if tests.fail(mutation.tests) else "NOT CAUGHT"
        finally:
            path.write_text(before, encoding="utf-8")
    click.echo(f"{outcome:10} {mutation}")
    return outcome
