"""The runbook pages: one for each alert, all of one form, with commands that exist."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from stack.paths import ROOT, sources
from tests.alerts import runbookpages as book
from tests.composefile import merged

COMPOSE_FILE = book.ROOT / "docker-compose.prod.yml"
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")
MAX_LINES = 50
# The external switch reports it, on its own page.
OVER_ELSEWHERE = {"Watchdog"}

# Programs that an on-call engineer has on a Debian server, or can install under that name.
ON_THE_HOST = {
    "apt-get", "chmod", "chronyc", "curl", "date", "df", "dig", "dmesg", "docker", "du", "echo", "find", "findmnt",
    "free", "git", "grep", "head", "iotop", "journalctl", "last", "ls", "lsof", "mount", "openssl", "ping",
    "ps", "resolvectl", "sed", "smartctl", "sort", "ss", "ssh", "sysctl", "systemctl", "tail",
    "timedatectl", "top", "tr", "ufw", "umount", "uniq", "uptime", "vmstat", "wc",
}  # fmt: skip
DOCKER = {
    "builder", "container", "events", "image", "inspect", "logs", "network", "ps", "stats", "system", "top",
    "update", "volume",
}  # fmt: skip
COMPOSE_COMMANDS = {
    "cp", "exec", "kill", "logs", "ps", "restart", "rm", "run", "stop", "unpause", "up",
}  # fmt: skip
# Programs in the image of each service. BusyBox and coreutils programs are named where a page uses them.
APP = {"celery", "date", "python"}
IN_SERVICE = {
    "posthub_api_prod": APP,
    "posthub_celery_worker": APP,
    "posthub_celery_beat": APP,
    "posthub_postgres_prod": {"pg_dump", "pg_isready", "psql"},
    "posthub_redis_prod": {"chown", "cp", "echo", "ls", "redis-check-aof", "redis-cli", "sh"},
    "posthub_caddy": {"caddy", "wget"},
    "posthub_prometheus": {"ls", "promtool", "rm", "wget"},
    "posthub_alertmanager": {"amtool", "wget"},
    "posthub_alert_watch": {"python"},
    "posthub_celery_exporter": {"date", "python"},
    "posthub_backup": {"pg_dump", "python"},
    # `run` names a command of the backup sidecar, which its entry point expects.
    "posthub_backup_wal": {"python", "wal"},
}
MODULES = {
    "alerts": {"posthub_alert_watch"},
    "exporters": {"posthub_celery_exporter"},
    "backup": {"posthub_backup", "posthub_backup_wal"},
}
SUBCOMMANDS = {
    "promtool": {"check config", "query instant"},
    "amtool": {"alert add", "alert query", "check-config", "config routes", "silence add", "silence expire", "silence query"},
    "caddy": {"reload", "validate"},
}  # fmt: skip

# What rules read instead of a threshold that a queue may override.
BY_QUEUE = {
    "celery:queue_length:limit": "threshold:celery_queue_length:max",
    "celery:queue_age:limit": "threshold:celery_queue_age:seconds",
    "celery:queue_age_critical:limit": "threshold:celery_queue_age_critical:seconds",
}

ALERTS = book.alerts()
NAMES = sorted(ALERTS)
COMMANDS = book.commands()


def of(program: str) -> list[book.Command]:
    found = [command for command in COMMANDS if Path(command.program).name == program]
    assert found, f"no page uses {program}; is the parser right?"
    return found


@pytest.fixture(scope="session")
def services() -> dict[str, Any]:
    return merged(COMPOSE_FILE)["services"]


def test_there_are_alerts() -> None:
    assert len(NAMES) >= 65


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert sorted(book.pages()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_page_form(name: str) -> None:
    page = book.pages()[name]
    assert page.startswith(f"# {name}\n")
    assert tuple(heading for heading, _ in book.sections(page)) == book.HEADINGS
    assert all(text for _, text in book.sections(page)), "an empty part"
    assert {language for language, _ in book.fences(page)} == {"sh"}
    assert len([line for line in page.splitlines() if line.strip()]) <= MAX_LINES


@pytest.mark.parametrize("name", NAMES)
def test_page_has_commands_to_look_and_to_see_that_it_is_over(name: str) -> None:
    parts = dict(book.sections(book.pages()[name]))
    assert book.fences(parts["First look"] + "\n")
    if name not in OVER_ELSEWHERE:
        assert "`" in parts["Is it over?"], "nothing that can be checked"


@pytest.mark.parametrize("name", NAMES)
def test_page_names_the_thresholds_of_its_alert(name: str) -> None:
    page = book.pages()[name]
    asked = set(re.findall(r"threshold:\w+:\w+", str(ALERTS[name]["expr"])))
    for limit, threshold in BY_QUEUE.items():
        if limit in str(ALERTS[name]["expr"]):
            asked.add(threshold)
    named = set(re.findall(r"threshold:\w+:\w+", page))
    assert asked <= named
    assert named <= book.thresholds()


def test_first_paragraphs_differ() -> None:
    for heading in ("Meaning", "Impact", "Likely causes"):
        texts = [dict(book.sections(page))[heading] for page in book.pages().values()]
        assert len(set(texts)) == len(texts), heading


def test_index_lists_every_alert_with_its_severity_under_its_component() -> None:
    row = re.compile(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \| \S.* \|$", re.MULTILINE)
    listed: list[tuple[str, str, int]] = []
    for number, (_, table) in enumerate(book.sections(book.INDEX.read_text(encoding="utf-8"))):
        listed += [(name, severity, number) for name, severity in row.findall(table)]
    assert sorted((name, severity) for name, severity, _ in listed) == sorted(
        (name, rule["labels"]["severity"]) for name, rule in ALERTS.items()
    )
    components = {(number, ALERTS[name]["labels"]["component"]) for name, _, number in listed}
    assert len(components) == len({number for number, _ in components})


@pytest.mark.parametrize("path", sorted(book.PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_links_resolve(path: Path) -> None:
    broken = [
        link
        for link in book.links(path.read_text(encoding="utf-8"))
        if "://" not in link and not (path.parent / link.partition("#")[0]).is_file()
    ]
    assert not broken


def test_no_page_links_to_itself() -> None:
    assert not [name for name, page in book.pages().items() if f"({name}.md)" in page]


def test_programs_on_the_host_exist() -> None:
    unknown = [
        str(command)
        for command in COMMANDS
        if command.service is None
        and command.program not in ON_THE_HOST
        and not (ROOT / command.program).is_file()
    ]
    assert not unknown


def test_programs_in_containers_exist() -> None:
    unknown = [
        str(command)
        for command in COMMANDS
        if command.service and command.program not in IN_SERVICE.get(command.service, ())
    ]
    assert not unknown


def test_docker_commands_exist() -> None:
    plain = [command for command in of("docker") if command.words[1] != "compose"]
    assert not [str(command) for command in plain if command.words[1] not in DOCKER]
    through_compose = [command for command in of("docker") if command.words[1] == "compose"]
    assert not [str(command) for command in through_compose if command.words[:4] != book.COMPOSE]
    assert not [str(command) for command in through_compose if command.words[4] not in COMPOSE_COMMANDS]


def test_services_exist(services: dict[str, Any]) -> None:
    named = set()
    for command in of("docker"):
        if command.words[1] == "compose":
            named |= {(service, str(command)) for service in services_of(command)}
    assert not [
        where for service, where in named if service not in services and not PLACEHOLDER.fullmatch(service)
    ]


def services_of(command: book.Command) -> list[str]:
    verb, *rest = command.words[4:]
    left = book.arguments(rest)
    if verb in ("exec", "run"):
        return left[:1]
    if verb == "cp":
        return [left[0].partition(":")[0]]
    return left


def test_every_posthub_name_is_a_service_or_made_by_the_project(services: dict[str, Any]) -> None:
    document = merged(COMPOSE_FILE)
    made = {f"{document['name']}_{name}" for kind in ("volumes", "networks") for name in document[kind]}
    roles = {"posthub_admin", "posthub_backup", "posthub_exporter", "posthub_wal"}
    # The metadata of a customer in Stripe.
    known = {*services, *made, *roles, "posthub_user"}
    metric = re.compile(r"posthub_(ai|billing|media|video|webhook|publish|enqueue|stripe)_\w+")
    for name, page in book.pages().items():
        words = {
            word.rstrip("_") for word in re.findall(r"\bposthub_\w+", page) if not metric.fullmatch(word)
        }
        assert words <= known, name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_subcommands_of_the_sidecars_exist(module: str) -> None:
    group = sidecar(module)
    for command in of("python"):
        if command.words[1:3] == ["-m", module]:
            assert command.service in MODULES[module], str(command)
            found = group.get_command(click.Context(group), command.words[3])
            assert found is not None, str(command)
            options(found, command)


def sidecar(module: str) -> click.Group:
    commands = import_module(f"{module}.cli")
    group = getattr(commands, module, None) or commands.main
    assert isinstance(group, click.Group)
    return group


def options(subcommand: click.Command, command: book.Command) -> None:
    known = {
        option for parameter in subcommand.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {word for word in command.words[4:] if word.startswith("-")} <= known, str(command)


def test_python_runs_nothing_else_than_what_exists() -> None:
    for command in of("python"):
        first = command.words[1]
        assert first in ("-m", "-c", "manage.py") or health_script(first).is_file(), str(command)
        if first == "-m":
            assert command.words[2] in MODULES, str(command)


def health_script(path: str) -> Path:
    return book.ROOT / path.replace("/srv/health/", "deploy/health/")


def test_management_commands_exist() -> None:
    app = book.ROOT / "app"
    known = subprocess.run(
        [sys.executable, "manage.py", "help", "--commands"],
        cwd=app,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.development"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    used = {command.words[2] for command in of("python") if command.words[1] == "manage.py"}
    assert used
    assert used <= set(known)


def test_celery_commands_exist() -> None:
    from celery.bin.celery import celery
    from celery.worker.control import Panel

    for command in of("celery"):
        assert command.words[1:3] == ["-A", "config"], str(command)
        verb, *rest = command.words[3:]
        assert verb in celery.commands, str(command)
        if verb in ("inspect", "control"):
            assert Panel.meta[rest[0]].type == verb, str(command)


def test_tasks_and_queues_exist() -> None:
    known = (book.ROOT / "app/config/queues.py").read_text(encoding="utf-8")
    named = {
        word for command in of("celery") for word in command.words if re.fullmatch(r"\w+\.tasks\.\w+", word)
    }
    assert named
    assert not [name for name in named if f'"{name}"' not in known]
    queues = {
        command.words[5]
        for command in of("celery")
        if command.words[4:5][:1] and "consumer" in command.words[4]
    }
    assert not [name for name in queues if f'"{name}"' not in known]


@pytest.mark.parametrize("program", sorted(SUBCOMMANDS))
def test_subcommands_of_other_programs_are_known(program: str) -> None:
    for command in of(program):
        words = [word for word in command.words[1:] if not word.startswith("--")]
        assert words[0] in SUBCOMMANDS[program] or " ".join(words[:2]) in SUBCOMMANDS[program], str(command)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_search_in_a_log_of_ours_can_find_something(module: str) -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for folder in (module, "sidecar") for path in sources(ROOT / folder)
    )
    for service in MODULES[module]:
        searches = re.compile(rf"{service} \| grep (?:-i?E '([^']+)'|-i (\w+))")
        for page, line in book.lines():
            for several, single in searches.findall(line):
                for words in (several or single).split("|"):
                    # The traceback of a crash is Python's own.
                    assert words == "Traceback" or re.search(words, code, re.IGNORECASE), f"{page}: {words}"


def test_secrets_are_not_printed() -> None:
    """`grep` in the settings may show names and addresses, never keys."""
    for page, line in book.lines():
        if ".env.production" in line:
            assert re.search(r"grep -(oE|c) |\(STORE_URL\|", line), f"{page}: {line}"
