"""Checks that no program has a minor version with a known, serious fault that a later one fixes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from stack.doctor.check import Case, Check

Version = tuple[int, ...]

# When the table below was last compared with the projects' announcements. After this number of days, it is due again.
CHECKED = date(2026, 11, 29)
TOO_OLD_DAYS = 120


@dataclass(frozen=True)
class Program:
    """A program, and the first good minor version of each series that is still maintained.

    Args:
        name: its name in messages.
        service: the service that has it.
        command: prints the version.
        good: series → first version without a fault that is known to be serious.
        why: what is wrong with earlier ones.
    """

    name: str
    service: str
    command: tuple[str, ...]
    good: Mapping[str, str]
    why: str


_POSTGRES = {"14": "14.25", "15": "15.20", "16": "16.16", "17": "17.12", "18": "18.7"}
PROGRAMS = (
    Program(
        "PostgreSQL",
        "posthub_postgres_prod",
        ("postgres", "--version"),
        _POSTGRES,
        "users of the database can run code as the server (CVE-2026-2004, -2005, -2006)",
    ),
    Program(
        "pg_restore",
        "posthub_backup",
        ("pg_restore", "--version"),
        _POSTGRES,
        "an archive can run code where it is restored (CVE-2026-116314)",
    ),
    Program(
        "Redis",
        "posthub_redis_prod",
        ("redis-server", "--version"),
        {"7.4": "7.4.10", "8.2": "8.2.8", "8.4": "8.4.5", "8.6": "8.6.5", "8.8": "8.8.1"},
        "RESTORE can run code (CVE-2026-25243 and a stream's use after free)",
    ),
    Program(
        "Caddy",
        "posthub_caddy",
        ("caddy", "version"),
        {"2.11": "2.11.4"},
        "several faults of 2026 in the handling of requests",
    ),
)


def examine(case: Case, today: date | None = None) -> Iterator[Check]:
    for program in PROGRAMS:
        yield _program(case, program)
    age = ((today or datetime.now(UTC).date()) - CHECKED).days
    if age > TOO_OLD_DAYS:
        yield Check(
            "known-bad versions",
            None,
            f"this table is from {CHECKED:%Y-%m-%d}",
            "deploy a newer version of PostHub's sidecars",
        )


def _program(case: Case, program: Program) -> Check:
    name = f"version of {program.name}"
    done = case.host.compose("exec", "-T", program.service, *program.command)
    found = re.search(r"\d+(?:\.\d+)+", done.output) if done.code == 0 else None
    if found is None:
        return Check(name, None, f"not known: {done.last_line}", f"read the log of {program.service}")
    return judge(program, found[0])


def judge(program: Program, version: str) -> Check:
    """The result for a version. A series newer than the table counts as good, an older one as without fixes."""
    name, parts = f"version of {program.name}", _parts(version)
    series = next((known for known in program.good if parts[: len(_parts(known))] == _parts(known)), None)
    if series is None:
        if parts > max(map(_parts, program.good.values())):
            return Check(name, True, version)
        fix = f"use {', '.join(program.good.values())}, or newer"
        return Check(
            name,
            False,
            f"{version}: this series is not known to get fixes",
            fix,
        )
    good = program.good[series]
    if parts < _parts(good):
        return Check(
            name,
            False,
            f"{version}: {program.why}",
            f"use {good} or newer of this series: docs/deployment.md, Images",
        )
    return Check(name, True, version)


def _parts(version: str) -> Version:
    return tuple(int(part) for part in version.split("."))
