"""Checks that only their owner can read the secrets."""

import stat
from collections.abc import Iterator
from pathlib import Path

from stack.doctor.check import Case, Check

KEPT_OUT_OF_GIT = (".env.production", ".env", "secrets")
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
    if past:
        return Check(
            "secrets in git",
            False,
            f"in the history: {' '.join(past[:3])}",
            "change every secret that was in it",
        )
    bare = [name for name in KEPT_OUT_OF_GIT if not _is_ignored(case, name)]
    if bare:
        fix = f"add to .gitignore: {' '.join(bare)}"
        return Check("secrets in git", False, f"the next `git add` would add {', '.join(bare)}", fix)
    return Check("secrets in git", True, "ignored; neither tracked nor in the history")


def _is_ignored(case: Case, name: str) -> bool:
    # While the folder is missing, a pattern for folders does not match its bare name.
    path = f"{name}/values" if name == "secrets" else name
    return case.host.run("git", "check-ignore", "-q", path).code == 0
