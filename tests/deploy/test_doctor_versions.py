"""The doctor's table of known-bad minor versions, and whether production's own images pass it."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from stack.doctor import cli, versions
from stack.doctor.check import Case
from stack.doctor.host import Done
from stack.doctor.versions import CHECKED, PROGRAMS, TOO_OLD_DAYS, judge
from stack.paths import ROOT
from tests.deploy.hostkit import FakeHost

BY_NAME = {program.name: program for program in PROGRAMS}


@pytest.mark.parametrize(
    ("name", "version", "ok"),
    [
        ("PostgreSQL", "16.8", False),
        ("PostgreSQL", "16.15", False),
        ("PostgreSQL", "16.16", True),
        ("PostgreSQL", "16.17", True),
        ("PostgreSQL", "19.0", True),
        ("PostgreSQL", "13.23", False),
        ("pg_restore", "17.11", False),
        ("pg_restore", "18.7", True),
        ("Redis", "7.4.6", False),
        ("Redis", "7.4.10", True),
        ("Redis", "7.2.4", False),
        ("Redis", "8.0.3", False),
        ("Redis", "8.10.0", True),
        ("Caddy", "2.10.2", False),
        ("Caddy", "2.11.3", False),
        ("Caddy", "2.11.9", True),
        ("Caddy", "2.12.0", True),
    ],
)
def test_versions_are_compared_as_numbers(name: str, version: str, ok: bool) -> None:
    check = judge(BY_NAME[name], version)
    assert check.ok is ok
    assert version in check.detail
    assert bool(check.fix) is not ok


@pytest.mark.parametrize(
    ("output", "name", "ok"),
    [
        ("postgres (PostgreSQL) 16.8 (Debian 16.8-1.pgdg120+1)\n", "PostgreSQL", False),
        ("pg_restore (PostgreSQL) 16.16 (Debian 16.16-1.pgdg12+1)\n", "pg_restore", True),
        ("Redis server v=7.4.10 sha=00000000:0 malloc=libc bits=64 build=1\n", "Redis", True),
        ("v2.10.2 h1:g/gTYjGMD0dec+UgMw8SnfmJ3I9+M2TdvoRL/Ovu6U8=\n", "Caddy", False),
    ],
)
def test_what_each_program_prints_is_understood(tmp_path: Path, output: str, name: str, ok: bool) -> None:
    program = BY_NAME[name]
    host = FakeHost(tmp_path, {f"exec -T {program.service} {' '.join(program.command)}": Done(0, output)})
    found = {check.name: check for check in versions.examine(Case(tmp_path, host))}
    assert found[f"version of {name}"].ok is ok


def test_a_program_that_does_not_answer_is_not_a_verdict(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"exec": Done(1, "", "no such container")})
    assert {check.ok for check in versions.examine(Case(tmp_path, host), CHECKED)} == {None}


def test_a_table_that_is_old_says_so(tmp_path: Path) -> None:
    case = Case(tmp_path, FakeHost(tmp_path))

    def names(today: date) -> set[str]:
        return {check.name for check in versions.examine(case, today)}

    assert "known-bad versions" not in names(CHECKED + timedelta(days=TOO_OLD_DAYS))
    assert "known-bad versions" in names(CHECKED + timedelta(days=TOO_OLD_DAYS + 1))


def test_the_doctor_runs_it() -> None:
    assert versions.examine in cli.AFTER


def test_productions_own_images_pass(production: dict[str, Any]) -> None:
    for service, name in {
        "posthub_postgres_prod": "PostgreSQL",
        "posthub_redis_prod": "Redis",
        "posthub_caddy": "Caddy",
    }.items():
        found = re.search(r":v?(\d+(?:\.\d+)+)", production["services"][service]["image"])
        assert found is not None
        check = judge(BY_NAME[name], found[1])
        assert check.ok, check.detail


def test_the_database_and_the_backup_have_the_same_minor_version(production: dict[str, Any]) -> None:
    tag = production["services"]["posthub_postgres_prod"]["image"].rpartition(":")[2]
    assert production["services"]["posthub_db_roles"]["image"].rpartition(":")[2] == tag
    for path in ("deploy/postgres/image/Dockerfile", "backup/Dockerfile"):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"ARG OLDEST={tag}\n" in text, path
    bases = {
        re.findall(
            r"^ARG (?:BASE|POSTGRES_IMAGE)=(\S+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
        )[0]
        for path in ("deploy/postgres/image/Dockerfile", "backup/Dockerfile")
    }
    assert len(bases) == 1


def test_the_cluster_runs_the_same_minor_version(production: dict[str, Any]) -> None:
    """The example of a recovery too: a cluster that it creates is there to stay."""
    tag = production["services"]["posthub_postgres_prod"]["image"].rpartition(":")[2]
    for path in ("k8s/base/postgres/cluster.yaml", "docs/kubernetes.md"):
        found = re.findall(r"imageName: \S+:([\d.]+)-", (ROOT / path).read_text(encoding="utf-8"))
        assert found == [tag], path
