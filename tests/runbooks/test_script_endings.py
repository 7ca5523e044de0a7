"""How the scripts end where nobody expects it: in the background, without a reader, between a stop and a start."""

import fcntl
import subprocess
from pathlib import Path

import pytest

from tests.ended import ended
from tests.runbooks.dockerkit import Host, order


@pytest.mark.parametrize("line", ["{} &", "nohup {} >out 2>&1 & wait; cat out", "{} | cat", "timeout 60 {}"])
@pytest.mark.parametrize("fails", ["no such thing", "-T posthub_db_roles"])
def test_a_script_in_the_background_of_a_terminal_ends(host: Host, line: str, fails: str) -> None:
    """A shell that asks for job control there is stopped: forever, with the lock, and with services that it has stopped."""
    last = "done in" if fails == "no such thing" else "exit code 1"
    seen = host.in_a_shell(line.format("runbooks/restore.sh --yes-i-mean posthub"), last, DOCKER_FAILS=fails)
    assert last in seen, seen
    order(
        host.calls(), "stop posthub_celery_beat", "--wait-timeout 240 posthub_celery_beat", "silence end id-1"
    )


@pytest.mark.parametrize("lines", [1, 3, 5])
def test_a_closed_pipe_leaves_everything_running(host: Host, lines: int) -> None:
    """As after `| head`: the timeline goes to the terminal instead."""
    command = f"set -o pipefail; runbooks/restore.sh --yes-i-mean posthub | head -n {lines}; echo status $?"
    host.clear()
    done = subprocess.run(
        ["bash", "-c", command],
        env=host.environment("restore.sh"),
        cwd=host.folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert "status 141" in done.stdout, done
    assert "Timeline (UTC)" in done.stderr
    calls = host.calls()
    if any(call.startswith("stop") for call in calls):
        order(calls, "stop posthub_celery_worker", "--wait-timeout 240 posthub_celery_worker")
    if any("silence add" in call for call in calls):
        order(calls, "silence add", "silence end id-1")


@pytest.mark.parametrize("key", ["\x03", "\x1c"])
def test_the_api_is_started_again_if_its_restart_is_interrupted(host: Host, key: str) -> None:
    seen = host.interrupted(
        "restore.sh", "--yes-i-mean", "posthub", hangs="restart posthub_api_prod", key=key
    )
    assert host.status == {"\x03": 130, "\x1c": 131}[key], seen
    for container in ("posthub_api_prod", "posthub_celery_worker", "posthub_celery_beat"):
        order(host.calls(), "restart posthub_api_prod", f"--wait-timeout 240 {container}")
    order(host.calls(), "restart posthub_api_prod", "silence end id-1")
    assert "FAILED after" in seen


def test_postgres_is_started_again_if_its_restart_is_interrupted(host: Host) -> None:
    seen = host.interrupted(
        "restore.sh",
        "--yes-i-mean",
        "posthub",
        hangs="restart posthub_postgres_prod",
        DOCKER_FAILS="SELECT 1",
    )
    assert host.status == 130, seen
    order(host.calls(), "restart posthub_postgres_prod", "--wait-timeout 240 posthub_postgres_prod")


@pytest.mark.parametrize(
    "problem",
    [
        'FATAL:  password authentication failed for user "posthub_admin"',
        "FATAL:  sorry, too many clients already",
        'FATAL:  role "posthub_admin" does not exist',
        "FATAL:  tut mir leid, schon zu viele Verbindungen",
        "ВАЖНО:  извините, уже слишком много клиентов",
        'FATALE:  il ruolo "posthub_admin" non esiste',
    ],
)
def test_a_server_that_only_refuses_us_is_not_restarted(host: Host, problem: str) -> None:
    """A wrong password of the scripts must not interrupt everyone else, nor advise to move the data away."""
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", fails="SELECT 1", DOCKER_SAYS=problem)
    ended(host, 1, f"PostgreSQL runs but refuses the connection: {problem}", "NOTHING was restored")
    assert not any("restart" in call for call in calls)


@pytest.mark.parametrize(
    "problem",
    [
        'FATAL:  could not open file "global/pg_filenode.map": No such file or directory',
        'FATAL:  konnte Datei "global/pg_filenode.map" nicht öffnen: Datei oder Verzeichnis nicht gefunden',
        "psql: error: connection to server failed: Connection refused",
    ],
)
def test_a_server_that_does_not_answer_is_restarted(host: Host, problem: str) -> None:
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", fails="SELECT 1", DOCKER_SAYS=problem)
    ended(host, 1, f"PostgreSQL does not answer: {problem}", "NOTHING was restored")
    order(calls, "restart posthub_postgres_prod")


@pytest.mark.parametrize("fails", ["silence list", "silence end"])
def test_a_silence_that_cannot_be_lifted_is_reported(host: Host, fails: str) -> None:
    host.run("restore.sh", "--yes-i-mean", "posthub", fails=fails)
    ended(host, 0, "the silence could NOT be lifted: it expires within 5m")


@pytest.mark.parametrize("script", ["restore.sh", "rollback.sh", "new-server.sh"])
def test_a_full_disk_prevents_no_script(host: Host, script: str) -> None:
    """It may be the reason for running one. Neither its lock nor its mark needs room."""
    lock = host.folder / ".ops" / "runbook.lock"
    lock.parent.mkdir()
    for name in ("runbook.lock", f"runbook.lock.{script.removesuffix('.sh')}"):
        lock.with_name(name).symlink_to("/dev/full")
    # That device is the same for all tests on this machine, and the script locks it: one at a time.
    with Path("/dev/zero").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        host.run(script, "--yes-i-mean", "posthub")
    ended(host, 0, "no mark could be left", "done in")


def test_a_lost_terminal_leaves_everything_running(host: Host) -> None:
    """As when an SSH connection breaks: nothing that it prints reaches anyone."""
    host.hung_up("restore.sh", "--yes-i-mean", "posthub", hangs="restore latest --continue --json")
    calls = host.calls()
    order(calls, "stop posthub_celery_worker", "--wait-timeout 240 posthub_celery_worker", "silence end id-1")
    order(calls, "stop posthub_celery_beat", "--wait-timeout 240 posthub_celery_beat", "silence end id-1")
