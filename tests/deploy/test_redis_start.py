"""How Redis and Sentinel start in a cluster: k8s/base/redis, with programs that only record that they were started."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.kubekit import K8S

SCRIPTS = K8S / "base" / "redis"
# DNS knows the pod at the third question. A Sentinel answers only if it runs.
PROGRAMS = {
    "getent": 'echo asked >> "$HOME/dns"; [ "$(wc -l < "$HOME/dns")" -ge 3 ]',
    "redis-cli": '[ -s "$HOME/dns" ] && cat "$HOME/answer"',
    "redis-server": 'echo "after $(wc -l < "$HOME/dns") questions: $*" > "$HOME/started"',
    "sleep": ":",
    "timeout": 'shift; exec "$@"',
}
STORED = "sentinel monitor posthub posthub-redis-2.posthub-redis 6379 2\n"


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A folder with the programs, the password and the volume of a pod."""
    for name, script in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    (tmp_path / "password").write_text("secret")
    (tmp_path / "answer").touch()
    (tmp_path / "dns").touch()
    return tmp_path


def _start(pod: Path, script: str, number: int = 2) -> str:
    """What the started server was called with."""
    variables = {
        "HOME": str(pod),
        "PATH": f"{pod / 'bin'}:/usr/bin:/bin",
        "NAME_OF_POD": f"posthub-redis-{number}",
        "PASSWORD_FILE": str(pod / "password"),
        "REDIS_CONFIG": str(pod / "redis.conf"),
        "SENTINEL_CONFIG": str(pod / "data" / "sentinel.conf"),
    }
    done = subprocess.run(
        ["sh", SCRIPTS / script], env=variables, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return (pod / "started").read_text()


def _store(pod: Path) -> None:
    (pod / "data").mkdir()
    (pod / "data" / "sentinel.conf").write_text(STORED)


@pytest.mark.parametrize("script", ["redis.sh", "sentinel.sh"])
def test_a_server_starts_when_names_resolve(pod: Path, script: str) -> None:
    """Sentinel would answer nothing while it resolves names, and then do nothing for 30 s."""
    _store(pod)
    assert _start(pod, script).startswith("after 3 questions:")


@pytest.mark.parametrize(
    ("stored", "answer", "number", "master"),
    [
        (True, "", 2, None),
        (True, "", 0, "posthub-redis-2.posthub-redis"),
        (True, "posthub-redis-1.posthub-redis\n6379\n", 2, "posthub-redis-1.posthub-redis"),
        (False, "", 0, None),
        (False, "", 1, "posthub-redis-0.posthub-redis"),
    ],
    ids=[
        "last master after an outage",
        "replica after an outage",
        "master that others know",
        "new",
        "new replica",
    ],
)
def test_the_master_is_the_one_that_was_known_last(
    pod: Path, stored: bool, answer: str, number: int, master: str | None
) -> None:
    """After a power cut no Sentinel answers, and the first pod may have older data than the master had."""
    if stored:
        _store(pod)
    (pod / "answer").write_text(answer)
    _start(pod, "redis.sh", number)
    settings = dict(line.split(" ", 1) for line in (pod / "redis.conf").read_text().splitlines())
    assert settings.get("replicaof") == (master and f"{master} 6379")
