"""A rollout on a real Docker engine, outside ``./ops test``: which containers are replaced, and which are left alone.

It needs an engine with compose, and the image ``busybox:1.37``::

    ./ops test tests/cluster/compose_rollout.py

The compose file is a small one with the names of production's services. docs/deployment.md has the last result.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stack.deploy.compose import JOBS, ROLLING, Rollout
from stack.deploy.edge import EDGE, NEXT, SERVING
from stack.deploy.history import History
from stack.deploy.runner import Runner
from stack.doctor.host import COMPOSE

IMAGE = "busybox:1.37"
PROJECT = "posthub-rollout-test"
REST = ("posthub_prometheus", "posthub_alertmanager", "posthub_grafana")
DATA = ("posthub_postgres_prod", "posthub_redis_prod")
TAGS = ("one", "two", "bad")

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("docker") is None, reason="docker is not on PATH: apt-get install docker.io"
    ),
]


def _docker(*arguments: str, root: Path | None = None) -> str:
    done = subprocess.run(["docker", *arguments], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _compose(database: str = "one") -> str:
    def service(name: str, image: str, command: str, **more: object) -> dict[str, object]:
        return {
            "image": image,
            "container_name": name,
            "command": ["sh", "-c", command],
            "init": True,
            **more,
        }

    forever, ours = "sleep 1000", "${POSTHUB_IMAGES:-posthub-test}/api:${POSTHUB_TAG:-one}"
    done = {"posthub_init": {"condition": "service_completed_successfully"}}
    started = {name: {"condition": "service_started"} for name in DATA}
    services = {name: service(name, ours, "true") for name in JOBS}
    services |= {
        name: service(name, IMAGE, forever, depends_on=done, environment={"DATABASE": database})
        for name in DATA
    }
    services |= {
        name: service(name, ours, forever, depends_on=started, env_file=[".env.production"])
        for name in ROLLING
    }
    for name in SERVING:
        services[name] |= {
            "command": ["sh", "-c", "echo fine > /tmp/index.html && exec busybox httpd -f -p 8000 -h /tmp"],
            "healthcheck": {"test": ["CMD", "wget", "-qO", "-", "http://127.0.0.1:8000/"], "interval": "1s"},
        }
    services |= {
        name: service(name, IMAGE, forever, depends_on=done, env_file=[".env.production"])
        for name in (*REST, EDGE)
    }
    return yaml.safe_dump({"name": PROJECT, "services": services})


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    for tag in TAGS:
        _docker("tag", IMAGE, f"posthub-test/api:{tag}")
    (tmp_path / ".env.production").write_text("SETTING=one\n")
    (tmp_path / "docker-compose.prod.yml").write_text(_compose())
    _docker(*COMPOSE[1:], "up", "--detach", "--wait", *DATA, *ROLLING, *REST, EDGE, root=tmp_path)
    yield tmp_path
    _docker(*COMPOSE[1:], "down", "--timeout", "0", root=tmp_path)


class _Quiet(Rollout):
    """The images are local, and have neither health nor migrations to check."""

    def _fetch(self) -> None:
        pass

    def _save_before_migrating(self, before: tuple[str, str] | None) -> None:
        pass

    def _check(self) -> None:
        pass


def _deploy(root: Path, tag: str) -> None:
    _Quiet(root, Runner(root), print, tag).deploy()


def _ids() -> dict[str, str]:
    found = json.loads(_docker("inspect", *DATA, *ROLLING, *REST, EDGE))
    return {container["Name"].lstrip("/"): container["Id"] for container in found}


def _replaced(before: dict[str, str]) -> set[str]:
    return {name for name, identity in _ids().items() if before[name] != identity}


def test_a_new_tag_replaces_only_what_carries_it(root: Path) -> None:
    before = _ids()
    _deploy(root, "two")
    assert _replaced(before) == set(ROLLING)
    before = _ids()
    _deploy(root, "two")
    assert _replaced(before) == set()


def test_changed_settings_and_definitions_replace_what_they_concern(root: Path) -> None:
    _deploy(root, "two")
    before = _ids()
    (root / ".env.production").write_text("SETTING=two\n")
    _deploy(root, "two")
    assert _replaced(before) == {*ROLLING, *REST, EDGE}
    before = _ids()
    (root / "docker-compose.prod.yml").write_text(_compose("two"))
    _deploy(root, "two")
    assert _replaced(before) == set(DATA)


def test_a_second_up_succeeds_and_a_rollback_leads_to_the_first_version(root: Path) -> None:
    _deploy(root, "two")
    _docker(*COMPOSE[1:], "up", "--detach", "--wait", *DATA, *ROLLING, *REST, EDGE, root=root)
    previous = History(root).previous()
    assert previous == "one"
    before = _ids()
    _Quiet(root, Runner(root), print, previous).roll_back()
    assert not _replaced(before) & set(DATA)
    images = _docker("inspect", "--format", "{{.Config.Image}}", *ROLLING).split()
    assert set(images) == {"posthub-test/api:one"}


# As a proxy does, it tries again for a moment before it counts a failure.
VISITS = """
while [ ! -e /tmp/enough ]; do
  for attempt in 1 2 3 4; do
    if wget -q -T 5 -O /dev/null http://posthub_api_prod:8000/; then echo fine; continue 2; fi
    sleep 0.25
  done
  echo failed
done
"""


def test_the_api_answers_at_every_moment_of_a_rollout(root: Path) -> None:
    visitor = subprocess.Popen(
        ["docker", "exec", EDGE, "sh", "-c", VISITS], stdout=subprocess.PIPE, text=True
    )
    try:
        _deploy(root, "two")
    finally:
        _docker("exec", EDGE, "touch", "/tmp/enough")
        printed = visitor.communicate(timeout=60)[0].split()
    assert set(printed) == {"fine"}
    assert len(printed) > 20
    assert f"posthub_api_prod{NEXT}" not in _docker("ps", "--all", "--format", "{{.Names}}").split()
