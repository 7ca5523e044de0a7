"""The wheel, in an environment that has nothing else: its commands work, and its names are its own."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
import requests
from click.testing import CliRunner

from posthub_ops.commands import COMMANDS
from sidecar.version import __version__
from stack.paths import ROOT, VENV_BIN
from stack.ports import choose
from stack.process import Process
from stack.programs import postgres_bin
from stack.servers import Postgres, Redis
from stack.wait import wait_for
from tests.ended import ended

# Programs must not find the checkout.
ENVIRON = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, folder: Path | str | None = None, **more: str) -> str:
    done = subprocess.run(
        [str(each) for each in command], cwd=folder, env={**ENVIRON, **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a tagged commit of the files that Git tracks."""
    source = tmp_path_factory.mktemp("source")
    for name in run("git", "ls-files", "-z", folder=ROOT).split("\0"):
        if name and not name.startswith("app/") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run("git", "init", "-q", folder=source)
    run("git", "add", "-A", folder=source)
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    run("git", *who, "commit", "-qm", "Everything", folder=source)
    run("git", *who, "tag", "-a", "-m", "9.8.7", "v9.8.7", folder=source)
    run(
        VENV_BIN / "uv",
        "build",
        "--wheel",
        "--no-build-isolation",
        "--python",
        VENV_BIN / "python",
        "-o",
        source / "dist",
        source,
    )
    (found,) = (source / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands, of an environment with the wheel and what its extra "backup" needs."""
    environment = tmp_path_factory.mktemp("empty") / "venv"
    run(VENV_BIN / "uv", "venv", "-q", "--python", sys.executable, environment)
    add(environment, "--require-hashes", "-r", ROOT / "locks" / "backup.txt")
    add(environment, wheel)
    return environment / "bin"


def add(environment: Path, *what: str | Path) -> None:
    run(
        VENV_BIN / "uv",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--python",
        environment / "bin" / "python",
        *what,
    )


def packages(commands: Path) -> Path:
    (found,) = (commands.parent / "lib").glob("python*/site-packages")
    return found


def test_the_version_is_the_tag(wheel: Path, installed: Path) -> None:
    assert wheel.name == "posthub_ops-9.8.7-py3-none-any.whl"
    assert run(installed / "ops-backup", "--version") == "ops-backup, version 9.8.7\n"
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'fallback_version = "{__version__}"' in pyproject


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_version_under_its_own_name(name: str) -> None:
    module, attribute, _ = COMMANDS[name]
    done = CliRunner().invoke(getattr(import_module(module), attribute), ["--version"], prog_name=name)
    assert done.output == f"{name}, version {__version__}\n"


def test_without_tags_the_version_follows_that_of_the_checkout(tmp_path: Path) -> None:
    """A shallow clone, such as CI's, has no tags; a version before 0.2.0 would be older than the release."""
    clone = tmp_path / "clone"
    for name in ("pyproject.toml", "sidecar/version.py"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    run("git", "init", "-q", folder=clone)
    run("git", "add", "-A", folder=clone)
    run(
        "git",
        "-c",
        "user.name=Test",
        "-c",
        "user.email=test@example.org",
        "commit",
        "-qm",
        "Begin",
        folder=clone,
    )
    found = run(VENV_BIN / "python", "-m", "setuptools_scm", folder=clone).strip()
    major, minor, patch = __version__.split(".")
    assert found.startswith(f"{major}.{minor}.{int(patch) + 1}.dev1+g"), found


def test_no_name_belongs_to_another_project(wheel: Path, installed: Path, tmp_path: Path) -> None:
    ours = [
        name
        for name in run(installed / "python", "-m", "zipfile", "-l", wheel).split()
        if "/" in name and not name.startswith("posthub_ops")
    ]
    assert ours == []
    # Other packages of the same names, and a folder of scripts to run in.
    for name in ("backup", "sidecar", "alerts"):
        (packages(installed) / f"{name}.py").write_text("OTHERS = True\n")
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is a script of another project')\n")
    assert "release" in run(installed / "ops-backup", "--help", folder=tmp_path)
    other = run(installed / "python", "-c", "import backup; print(backup.OTHERS)", folder=packages(installed))
    assert other.strip() == "True"


def test_it_says_what_its_commands_are_called(installed: Path) -> None:
    assert "ops-backup verify latest" in run(installed / "ops-backup", "verify", "--help")
    library = packages(installed) / "posthub_ops" / "lib"
    texts = {path: path.read_text() for path in library.rglob("*.py")}
    wrong = [
        str(path) for path, text in texts.items() if re.search(r"python -m (backup|exporters|alerts)\b", text)
    ]
    assert wrong == []
    done = subprocess.run(
        [installed / "ops-backup", "list"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    ended(done, 2, "BACKUP_STORE_URL is not set")


@pytest.fixture
def database(postgres: Postgres) -> str:
    name = f"wheel_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 100) n")
    return name


def test_a_backup_is_proven_from_the_wheel(
    installed: Path, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    environ = {
        "DATABASE_URL": postgres.url_for(database),
        "BACKUP_STORE_URL": f"file://{tmp_path}",
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
    }
    command = installed / "ops-backup"
    assert "1 table, 100 rows" in run(command, "run", "--verify", **environ)
    assert f"{database}: 1 backup, 1 verified" in run(command, "list", **environ)
    assert "✖" not in run(command, "doctor", **environ)
    assert "1 backup" in run(installed / "python", "-m", "posthub_ops", "backup", "list", **environ)


def test_a_missing_extra_is_named_and_then_works(
    installed: Path, redis_server: Redis, tmp_path: Path
) -> None:
    done = subprocess.run([installed / "ops-exporter", "--help"], env=ENVIRON, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Try: pip install 'posthub-ops[exporter]'" in done.stderr
    add(installed.parent, "--require-hashes", "-r", ROOT / "locks" / "exporters.txt")
    port = choose()
    broker = {"CELERY_EXPORTER_BROKER_URL": redis_server.url}
    exporter = Process(
        "exporter",
        [str(installed / "ops-exporter"), "serve", "--port", str(port)],
        log=tmp_path / "log",
        env={**ENVIRON, **broker},
        cwd=tmp_path,
    )
    try:
        page = wait_for(lambda: metrics(port), timeout=150, what="a scrape", hint=str(tmp_path / "log"))
    finally:
        exporter.stop()
    assert 'celery_exporter_build_info{version="9.8.7"}' in page


def metrics(port: int) -> str | None:
    try:
        return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    except requests.ConnectionError:
        return None


def test_rules_dashboards_and_runbooks_are_in_it(installed: Path) -> None:
    library = packages(installed) / "posthub_ops" / "lib"
    assert "RedisDown" in run(installed / "ops-alerts", "list", "RedisDown")
    assert "RedisDown" in run(installed / "ops-alerts", "show", "RedisDown")
    for name in (
        "alerts/prometheus.yml",
        "alerts/rules/thresholds.yml",
        "dashboards/json/posthub-celery.json",
        "runbooks/restore.sh",
        "deploy/systemd/ops-backup.service",
    ):
        assert (library / name).is_file(), name


def test_completion_and_manual_pages(installed: Path) -> None:
    # The requests of the shells after "ops-backup re" and the tab key.
    for shell, word in (("bash", "1"), ("zsh", "1"), ("fish", "re")):
        asked = {
            "COMP_WORDS": "ops-backup re",
            "COMP_CWORD": word,
            "_OPS_BACKUP_COMPLETE": f"{shell}_complete",
        }
        found = run(installed / "ops-backup", **asked)
        assert set(re.findall(r"^(?:plain,)?(re\w+)", found, re.MULTILINE)) == {"release", "restore"}, shell
    share = installed.parent / "share"
    assert "ops\\-backup restore" in (share / "man/man1/ops-backup.1").read_text()
    for name in (
        "bash-completion/completions/ops-backup.bash",
        "zsh/site-functions/_ops-backup",
        "fish/vendor_completions.d/ops-backup.fish",
    ):
        assert "ops-backup" in (share / name).read_text()


def test_another_project_is_set_up_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    add(installed.parent, "pyyaml")
    printed = run(
        installed / "ops-init", tmp_path / "out", "--app", "shop", "--part", "celery=localhost:9808"
    )
    assert "ops-alerts render" in printed
    assert (tmp_path / "out" / "dashboards" / "celery.json").is_file()
    assert (tmp_path / "out" / "runbooks" / "CeleryEventsLost.md").is_file()
