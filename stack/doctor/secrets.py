"""Checks that only their owner can read the secrets."""

import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from stack.doctor.check import Case, Check
from stack.paths import ROOT

KEPT_OUT_OF_GIT = (".env.production", ".env", "secrets")
COMPOSE_FILE = "docker-compose.prod.yml"
# Characters; a shorter value occurs by chance.
SHORTEST = 8
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def examine(case: Case) -> Iterator[Check]:
    for name in (".env.production", "secrets"):
        if (case.root / name).exists():
            yield _private(case.root / name)
    yield _git(case)


def _private(path: Path) -> Check:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        return Check(path.name, False, f"others can read it ({mode:o})", f"chmod go= {path.name}")
    return Check(path.name, True, f"only its owner can read it ({mode:o})")


def _git(case: Case) -> Check:
    if case.host.run("git", "rev-parse", "--git-dir").code != 0:
        return Check("secrets in git", None, "not a git checkout", "")
    tracked = case.host.run("git", "ls-files", "--", *KEPT_OUT_OF_GIT).output.split()
    if tracked:
        return Check(
            "secrets in git", False, f"tracked: {', '.join(tracked)}", f"git rm --cached {' '.join(tracked)}"
        )
    past = case.host.run("git", "log", "--all", "--format=%h", "--", *KEPT_OUT_OF_GIT).output.split()
    if past and (valid := _still_valid(case)):
        return Check(
            "secrets in git",
            False,
            f"in the history ({' '.join(past[:3])}) and still in use: {', '.join(valid)}",
            "change each of them: docs/deployment.md, Secrets",
        )
    bare = [name for name in KEPT_OUT_OF_GIT if not _is_ignored(case, name)]
    if bare:
        fix = f"add to .gitignore: {' '.join(bare)}"
        return Check("secrets in git", False, f"the next `git add` would add {', '.join(bare)}", fix)
    found = "those in the history have been changed" if past else "neither tracked nor in the history"
    return Check("secrets in git", True, f"ignored; {found}")


def _still_valid(case: Case) -> list[str]:
    """The secrets of today that the history contains. It cannot be emptied, so changing them has to be enough."""
    history = case.host.run("git", "log", "--all", "--patch", "--format=", "--", *KEPT_OUT_OF_GIT).output
    return sorted(
        name for name, value in _secrets(case).items() if len(value) >= SHORTEST and value in history
    )


def _secrets(case: Case) -> dict[str, str]:
    """What .env.production sets and what was generated."""
    compose = yaml.safe_load((ROOT / COMPOSE_FILE).read_text(encoding="utf-8"))
    given = {name: case.settings.get(name, "") for name in compose["x-no-secrets"]}
    values = case.root / "secrets" / "values"
    # Only root can read the folder.
    with suppress(OSError):
        given |= {path.name: path.read_text(encoding="utf-8").strip() for path in values.iterdir()}
    return given


def _is_ignored(case: Case, name: str) -> bool:
    # While the folder is missing, a pattern for folders does not match its bare name.
    path = f"{name}/values" if name == "secrets" else name
    return case.host.run("git", "check-ignore", "-q", path).code == 0
