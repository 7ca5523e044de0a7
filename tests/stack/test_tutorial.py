"""The tutorial's commands, in the order of the page and in one shell, as its reader runs them."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from stack.paths import ROOT
from stack.programs import postgres_bin
from stack.servers import Postgres, Redis

PAGE = ROOT / "docs" / "tutorial.md"
COMMANDS = {"ops-backup": "backup", "ops-exporter": "exporters", "ops-alerts": "alerts", "ops-init": "adopt"}


def blocks() -> list[str]:
    """The commands that are run; blocks that depend on the reader are marked as console, not as sh."""
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(240)
def test_the_tutorial_works(tmp_path: Path, postgres: Postgres, redis_server: Redis) -> None:
    name = f"shop_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 100) i")
    programs = tmp_path / "bin"
    programs.mkdir()
    for command, module in COMMANDS.items():
        program = programs / command
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    env = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "DATABASE_URL": postgres.url_for(name),
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
        "CELERY_EXPORTER_BROKER_URL": redis_server.url,
    }
    # A database of that name would be another test's too.
    text = "\n".join(blocks()).replace("shop_tutorial", f"{name}_tutorial")
    script = "set -eu\n" + text
    done = subprocess.run(
        ["bash", "-c", script], cwd=work, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\bverified\b", done.stdout), done.stdout
    assert f"{name}_tutorial was dropped" in done.stdout
    assert (work / "monitoring/systemd/shop-backup.service").is_file()
    rendered = (work / "monitoring/alertmanager.rendered.yml").read_text()
    assert "example.org/hook" in rendered
    assert "posthub" not in rendered


def test_the_tutorial_shows_every_command_of_a_sidecar() -> None:
    """The commands that it names exist: after a renaming, the page would be out of date."""
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(ops-(?:backup|exporter|alerts|init))\b", text))
    assert named == set(COMMANDS)


def test_the_readmes_summary_has_only_commands_of_the_tutorial() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Use it for your own project")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    named = re.findall(r"\b(ops-\w+ [\w-]+(?: --\w+)*)", block)
    assert len(named) >= 5
    tutorial = PAGE.read_text(encoding="utf-8")
    assert [command for command in named if command not in tutorial] == []
    installed = re.findall(r'pip install "(\S+)"', block)
    assert installed
    assert all(f'pip install "{what}"' in tutorial for what in installed)
