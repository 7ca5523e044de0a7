"""The scripts and docker compose: the commands, their order, and the state after a failure."""

import fcntl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stack.paths import ROOT
from tests.ended import ended
from tests.runbooks.dockerkit import Host, order

SCRIPTS = sorted((ROOT / "runbooks").glob("*.sh"))


def ago(minutes: float) -> str:
    """A moment, as JSON."""
    return f'"{datetime.now(UTC) - timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S}+00:00"'


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_explains_itself_and_has_a_page(script: Path) -> None:
    done = subprocess.run([str(script), "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert f"runbooks/{script.name}" in done.stdout
    assert "--dry-run" in done.stdout
    done = subprocess.run(
        [str(script), "--no-such"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    message = f"Error: there is no option --no-such\nTry: runbooks/{script.name} --help\n"
    assert (done.returncode, done.stderr) == (2, message)
    page = (ROOT / "runbooks" / "README.md").read_text(encoding="utf-8")
    assert f"\n## {script.name}" in page
    assert script.stat().st_mode & 0o111


def test_restore(host: Host) -> None:
    calls = host.run("restore.sh", "latest", "--yes-i-mean", "posthub", MIGRATE_CHECK="1")
    assert host.status == 0, host.err
    order(
        calls,
        "posthub_postgres_prod",
        "silence add alertname!=Watchdog",
        "stop posthub_celery_worker posthub_celery_worker_ai",
        "stop posthub_celery_beat",
        "posthub_backup restore latest --continue --json",
        "posthub_backup promote posthub_restored_x --yes-i-mean posthub",
        "-T posthub_db_roles",
        "migrate --check",
        "migrate --noinput",
        "restart posthub_api_prod",
        "--wait-timeout 240 posthub_celery_worker",
        "--wait-timeout 240 posthub_celery_beat",
        "answers.py",
        "silence end id-1",
    )
    assert "-e BACKUP_RESTORE_URL " in "\n".join(calls)
    assert "Timeline (UTC)" in host.out
    assert "RPO" in host.out


def test_the_backup_that_was_planned_is_restored(host: Host) -> None:
    """A newer one may be finished meanwhile; and a person who was asked about an unlike one is not asked again."""
    chosen = "20261123T020000Z-ab12cd"
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", PLANNED=f' "id": "{chosen}",\n')
    assert host.status == 0, host.err
    order(calls, "restore latest --continue --dry-run --json", f"restore {chosen} --continue --json")
    assert not any("restore latest --continue --json" in call for call in calls)


def test_restore_as_of_a_time(host: Host) -> None:
    """A time contains spaces, but stays one argument."""
    at = "2026-11-28 14:03:00+01:00"
    words = f"posthub_backup restore main --at {at}"
    calls = host.run("restore.sh", "main", "--at", at, "-d", "posthub", "--yes-i-mean", "posthub")
    assert host.status == 0, host.err
    order(
        calls,
        f"{words} --dry-run --json --database posthub",
        "silence add",
        "stop posthub_celery_beat",
        f"{words} --json --database posthub",
        "promote posthub_restored_x",
        "answers.py",
        "silence end id-1",
    )
    assert not any("--continue" in call for call in calls)
    assert f'restore main --at "{at}" into a new database' in host.out
    calls = host.run("restore.sh", "--at", at, "--again", "--yes-i-mean", "posthub")
    order(calls, f"posthub_backup restore latest --at {at} --again --json")
    calls = host.run("restore.sh", "main", "--at", at, "--dry-run")
    assert next(call for call in calls if "posthub_backup" in call).endswith(f"main --at {at} --dry-run")


def test_a_time_that_cannot_be_reached_stops_nothing(host: Host) -> None:
    calls = host.run("restore.sh", "--at", "latest", "--yes-i-mean", "posthub", fails="--dry-run --json")
    ended(host, 1, "nothing was changed")
    assert not any(call.startswith("stop") or "silence add" in call for call in calls)
    calls = host.run("restore.sh", "--at", "latest", "--yes-i-mean", "posthub", fails="--at latest --json")
    assert host.status == 1
    assert "wal status" in host.err
    order(calls, "stop posthub_celery_beat", "--wait-timeout 240 posthub_celery_worker", "silence end id-1")
    host.run("restore.sh", "--at")
    ended(host, 2, "--at needs a time")
    host.run("drill.sh", "--at", "latest")
    ended(host, 2, "drill.sh does not take --at")


def test_an_interrupted_restore_as_of_a_time_continues_after_its_promotion(host: Host) -> None:
    at = "2026-11-28 14:03:00+01:00"
    promoted = datetime.now(UTC) - timedelta(minutes=5)
    arguments = ("restore.sh", "main", "--at", at, "--yes-i-mean", "posthub")
    stamp = f'"{promoted:%Y-%m-%d %H:%M:%S}+00:00"'
    host.run(*arguments, PROMOTED_AT=stamp)
    ended(host, 1, "nothing was changed")
    assert f'restore.sh main --at "{at}" --again' in host.err
    mark = host.folder / ".ops" / "runbook.lock.restore"
    mark.write_text(f"main  {at}\n{int((promoted - timedelta(minutes=1)).timestamp())}\n")
    calls = host.run(*arguments, PROMOTED_AT=stamp)
    assert host.status == 0, host.err
    order(calls, "promote posthub_restored_planned", "-T posthub_db_roles", "answers.py")
    assert not any(call.endswith(f"--at {at} --json") for call in calls)


@pytest.mark.parametrize(
    "fails",
    ["posthub_backup restore latest --continue --json", "posthub_backup promote", "-T posthub_db_roles"],
)
def test_a_restore_that_fails_leaves_everything_running(host: Host, fails: str) -> None:
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", fails=fails)
    assert host.status != 0
    order(
        calls,
        "stop posthub_celery_beat",
        fails,
        "--wait-timeout 240 posthub_celery_worker",
        "silence end id-1",
    )
    order(calls, fails, "--wait-timeout 240 posthub_celery_beat")
    if "restore" in fails:
        assert not any("promote" in call for call in calls)
        assert "the live database is unchanged" in host.err
    assert "FAILED" in host.out


@pytest.mark.parametrize(
    "step",
    [
        "silence add",
        "stop posthub_celery_worker",
        "stop posthub_celery_beat",
        "restore latest --continue --json",
        "posthub_backup promote",
        "-T posthub_db_roles",
        "migrate --check",
        "restart posthub_api_prod",
        "--wait-timeout 240 posthub_celery_beat",
    ],
)
def test_five_interruptions_at_any_step(host: Host, step: str) -> None:
    """Everything runs, nothing is silent, and the timeline is printed; a command that hung is not run again."""
    seen = host.interrupted("restore.sh", "--yes-i-mean", "posthub", hangs=step)
    assert host.status == 130, seen
    calls = host.calls()
    if "silence add" not in step:
        order(calls, step.split(" ", maxsplit=1)[0], "silence list", "silence end id-1")
    if any("stop posthub_celery_worker" in call for call in calls) and "--wait-timeout" not in step:
        order(calls, "stop posthub_celery_worker", "--wait-timeout 240 posthub_celery_worker")
        order(calls, "stop posthub_celery_worker", "--wait-timeout 240 posthub_celery_beat")
    assert "Timeline (UTC)" in seen, seen
    assert "FAILED after" in seen, seen
    begun = ("promote", "roles", "migrate", "restart", "--wait-timeout")
    assert ("NOTHING was restored" in seen) == (not any(word in step for word in begun)), seen
    assert ("It is not known whether posthub_restored_x was promoted" in seen) == ("promote" in step), seen


@pytest.mark.parametrize(
    ("script", "step"),
    [
        ("restore.sh", "--dry-run --json"),
        ("restore.sh", "--continue --json"),
        ("new-server.sh", "restore latest --json"),
    ],
)
@pytest.mark.parametrize("status", ["130", "143"])
def test_a_command_that_was_interrupted_has_not_failed(
    host: Host, script: str, step: str, status: str
) -> None:
    """The sidecar takes the signal itself, and ends with a status that says so."""
    host.run(script, "--yes-i-mean", "posthub", fails=step, DOCKER_STATUS=status)
    assert host.status == int(status), host.err
    assert "Error" not in host.err
    assert "NOTHING was" in host.out


@pytest.mark.parametrize(
    ("step", "last"),
    [
        ("stop posthub_celery_beat", "NOTHING was rolled back"),
        ("posthub_backup rollback --yes-i-mean", "It is not known whether the databases were swapped"),
        ("restart posthub_api_prod", ""),
    ],
)
def test_five_interruptions_of_a_rollback(host: Host, step: str, last: str) -> None:
    seen = host.interrupted("rollback.sh", "--yes-i-mean", "posthub", hangs=step)
    assert host.status == 130, seen
    calls = host.calls()
    order(calls, step, "silence list", "silence end id-1")
    order(calls, "stop posthub_celery_worker", "--wait-timeout 240 posthub_celery_worker")
    assert "FAILED after" in seen, seen
    for text in ("NOTHING was rolled back", "It is not known whether"):
        assert (text in seen) == last.startswith(text), seen


@pytest.mark.parametrize(
    ("step", "last"),
    [
        ("--to /restore/dump.rdb", "NOTHING was restored"),
        ("silence add", "NOTHING was restored"),
        ("stop posthub_redis_prod", "NOTHING was restored"),
        ("sh posthub_redis_prod -eu -s", "It is not known which files Redis has"),
        ("--wait-timeout 240 posthub_redis_prod", ""),
        ("--wait-timeout 240 posthub_celery_worker", ""),
    ],
)
def test_five_interruptions_of_a_restore_of_redis(host: Host, tmp_path: Path, step: str, last: str) -> None:
    seen = host.interrupted("restore-redis.sh", "-d", "cache", "--yes-i-mean", "cache", hangs=step)
    assert host.status == 130, seen
    calls = host.calls()
    if any("stop posthub_redis_prod" in call for call in calls):
        # Workers need Redis.
        order(calls, "stop posthub_redis_prod", "--wait-timeout 240 posthub_redis_prod")
        order(calls, "--wait-timeout 240 posthub_redis_prod", "--wait-timeout 240 posthub_celery_worker")
        order(calls, "stop posthub_celery_beat", "--wait-timeout 240 posthub_celery_beat", "silence end id-1")
    if "silence add" in step:
        order(calls, "silence add", "silence end id-1")
    assert "Timeline (UTC)" in seen, seen
    assert "FAILED after" in seen, seen
    for text in ("NOTHING was restored", "It is not known which files"):
        assert (text in seen) == last.startswith(text), seen
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("step", "last"),
    [
        ("build", ""),
        ("--wait-timeout 240 posthub_postgres_prod", ""),
        ("restore latest --json", "NOTHING was promoted"),
        ("posthub_backup promote", "It is not known whether posthub_restored_x was promoted"),
        ("run --adopt", ""),
        ("--wait-timeout 240", ""),
    ],
)
def test_five_interruptions_on_a_new_server(host: Host, step: str, last: str) -> None:
    """Nothing was running before, so nothing is stopped or silenced; running the script again continues."""
    seen = host.interrupted("new-server.sh", "--yes-i-mean", "posthub", hangs=step)
    assert host.status == 130, seen
    assert not any(call.startswith("stop") or " silence " in call for call in host.calls())
    assert "Timeline (UTC)" in seen, seen
    assert "FAILED after" in seen, seen
    for text in ("NOTHING was promoted", "It is not known whether"):
        assert (text in seen) == last.startswith(text), seen
    host.run("new-server.sh", "--yes-i-mean", "posthub")
    assert host.status == 0, host.err


def test_a_promotion_that_fails_on_a_new_server(host: Host) -> None:
    host.run("new-server.sh", "--yes-i-mean", "posthub", fails="--yes-i-mean posthub")
    assert host.status == 1, host.err
    assert host.out.splitlines()[-1].startswith("NOTHING was promoted")


def test_three_tries_to_type_the_name_of_a_redis(host: Host) -> None:
    arguments = ("restore-redis.sh", "latest", "-d", "cache")
    seen = host.typed(*arguments, answers=["chace", "", "cache"])
    assert host.status == 0, seen
    assert "tries left: 1" in seen
    seen = host.typed(*arguments, answers=["a", "b", "c", "cache"])
    assert host.status == 2, seen
    assert "c is not cache; nothing was changed" in seen
    assert "NOTHING was restored" in seen
    assert not any(call.startswith("stop") for call in host.calls())


def test_a_second_script_touches_nothing(host: Host, tmp_path: Path) -> None:
    lock = host.folder / ".ops" / "runbook.lock"
    lock.parent.mkdir()
    with lock.open("w+") as file:
        file.write("runbooks/restore.sh, process 7, started at 03:00:00 UTC by jana\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        for script, *more in (
            ["restore.sh"],
            ["rollback.sh"],
            ["drill.sh"],
            ["restore-redis.sh", "-d", "x"],
            ["new-server.sh"],
        ):
            calls = host.run(script, *more, "--yes-i-mean", "posthub")
            assert host.status == 1, host.err
            assert (
                "another script is at work: runbooks/restore.sh, process 7, started at 03:00:00 UTC by jana"
                in host.err
            )
            assert calls == ["config --quiet"]
    host.run("rollback.sh", "--yes-i-mean", "posthub")
    assert host.status == 0, host.err


def test_a_second_accident_is_not_a_success(host: Host) -> None:
    """A backup that is already in production is not restored again by the same command, and nothing is stopped."""
    promoted = datetime.now(UTC) - timedelta(minutes=5)
    calls = host.run(
        "restore.sh", "--yes-i-mean", "posthub", PROMOTED_AT=f'"{promoted:%Y-%m-%d %H:%M:%S}+00:00"'
    )
    assert host.status == 1, host.err
    assert "was promoted into production at" in host.err
    assert "restore.sh latest --again" in host.err
    assert host.out.splitlines()[-1].startswith("NOTHING was restored"), host.out
    assert not any(call.startswith("stop") or "silence add" in call or "promote" in call for call in calls)
    # The same run continues after an interruption that followed its promotion.
    mark = host.folder / ".ops" / "runbook.lock.restore"
    mark.write_text(f"latest \n{int((promoted - timedelta(minutes=1)).timestamp())}\n")
    calls = host.run(
        "restore.sh", "--yes-i-mean", "posthub", PROMOTED_AT=f'"{promoted:%Y-%m-%d %H:%M:%S}+00:00"'
    )
    assert host.status == 0, host.err
    assert any("promote" in call for call in calls)
    assert not mark.exists()


def test_a_promotion_by_hand_is_not_taken_for_that_of_an_interrupted_script(host: Host) -> None:
    """The script has ended, and says how to promote by hand; so a later accident is a second one."""
    host.run("restore.sh", "--yes-i-mean", "posthub", fails="--yes-i-mean posthub")
    ended(host, 1, "NOTHING was restored")
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", PROMOTED_AT=ago(-0.2))
    ended(host, 1, "was promoted into production at", "NOTHING was restored")
    assert not any(call.startswith("stop") for call in calls)


@pytest.mark.parametrize("script", ["restore.sh", "rollback.sh", "new-server.sh"])
@pytest.mark.parametrize(
    ("says", "last"),
    [("false", "NOTHING was "), ("true", "The databases WERE swapped"), ("", "It is not known whether")],
)
def test_after_a_failed_swap_the_server_is_asked(host: Host, script: str, says: str, last: str) -> None:
    """The connection may be lost after the server has committed, or production may not answer afterwards."""
    more = {"SWAPPED": says} if says else {"SWAPPED": "?"}
    host.run(script, "--yes-i-mean", "posthub", fails="--yes-i-mean posthub", **more)
    assert host.status == 1, host.err
    assert host.out.splitlines()[-1].startswith(last), host.out


def test_a_second_rollback_is_not_a_success(host: Host) -> None:
    calls = host.run("rollback.sh", "--yes-i-mean", "posthub", RETURNED_AT=ago(5))
    ended(host, 1, "was already undone at", "posthub_backup promote posthub_undone_x")
    assert host.out.splitlines()[-1].startswith("NOTHING was rolled back")
    assert not any(call.startswith("stop") or "silence add" in call for call in calls)
    # One that was interrupted after its swap continues.
    mark = host.folder / ".ops" / "runbook.lock.rollback"
    mark.write_text(f"\n{int((datetime.now(UTC) - timedelta(minutes=6)).timestamp())}\n\n")
    calls = host.run("rollback.sh", "--yes-i-mean", "posthub", RETURNED_AT=ago(5))
    assert host.status == 0, host.err
    order(calls, "stop posthub_celery_beat", "rollback --yes-i-mean", "restart posthub_api_prod")
    assert not mark.exists()


def test_a_wrong_name_is_found_before_anything_stops(host: Host) -> None:
    calls = host.run("restore.sh", "--yes-i-mean", "posthup")
    assert host.status == 2, host.err
    assert "posthup is not posthub; nothing was changed" in host.err
    assert not any(call.startswith("stop") for call in calls)


def test_silences_are_short_and_renewed(host: Host) -> None:
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", RENEW_SECONDS="0.01")
    added = [call for call in calls if "silence add" in call]
    assert len(added) > 1, calls
    assert all("--for 5m" in call for call in added)
    assert calls[-1].endswith("silence end id-1") or "silence" not in calls[-1]


def test_alertmanager_may_restart_while_a_script_works(host: Host) -> None:
    """A renewal that fails does not end the renewals, and a silence is lifted once Alertmanager answers again."""
    once = {"DOCKER_FAILS_ONCE": "silence add", "DOCKER_FAILS_AT": "2", "SILENCES": "4"}
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", RENEW_SECONDS="0.01", **once)
    assert host.status == 0, host.err
    assert len([call for call in calls if "silence add" in call]) >= 4, calls
    for step in ("silence list", "silence end"):
        calls = host.run("restore.sh", "--yes-i-mean", "posthub", DOCKER_FAILS_ONCE=step, LIFT_SECONDS="30")
        order(calls, step, "silence list", "silence end id-1")
        assert "could NOT be lifted" not in host.out


def test_what_does_not_start_again_keeps_no_alert_silent(host: Host) -> None:
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", fails="posthub_celery_beat")
    assert host.status != 0
    assert calls[-1].endswith("silence end id-1")
    assert "beat is NOT running" in host.out


def test_a_disk_without_room_for_a_second_database(host: Host) -> None:
    calls = host.run("restore.sh", "--yes-i-mean", "posthub", FREE_KIB="2000000")
    ended(host, 1, "nothing was changed")
    assert not any(call.startswith("stop") or " silence " in call for call in calls)


def test_arguments_of_other_scripts_are_refused(host: Host) -> None:
    assert host.run("rollback.sh", "20261123T020000Z-ab12cd", "--yes-i-mean", "posthub") == []
    ended(host, 2, "does not take 20261123T020000Z-ab12cd")
    assert host.run("drill.sh", "--again") == []
    calls = host.run("restore.sh", "--again", "--yes-i-mean", "posthub")
    order(calls, "posthub_backup restore latest --again --continue --json")


def test_alerts_that_cannot_be_silenced_delay_nothing(host: Host) -> None:
    host.run("restore.sh", "--yes-i-mean", "posthub", fails="silence add")
    assert host.status == 0
    assert "NOT silenced" in host.out


@pytest.mark.parametrize("script", [path.name for path in SCRIPTS])
def test_a_dry_run_changes_nothing(host: Host, script: str) -> None:
    which = [] if script == "rollback.sh" else ["latest"]
    calls = host.run(script, *which, "--database", "posthub", "--dry-run", fails="silence")
    assert host.status == 0, host.err
    assert "would: " in host.out
    changing = ("stop", "restart", "up ", "silence", "migrate", "roles", "build", "pull")
    assert [call for call in calls if call.startswith(changing) or " silence " in call] == []
    assert all("--dry-run" in call for call in calls if "posthub_backup" in call)


def test_a_new_server(host: Host) -> None:
    calls = host.run("new-server.sh", "--yes-i-mean", "posthub")
    assert host.status == 0, host.err
    order(
        calls,
        "build",
        "--wait-timeout 240 posthub_redis_prod",
        "--wait-timeout 240 posthub_postgres_prod",
        "posthub_backup list",
        "posthub_backup restore latest --json",
        "promote posthub_restored_x",
        "-T posthub_db_roles",
        "migrate --check",
        "up --detach --no-build --wait --wait-timeout 240",
        "answers.py",
    )
    host.settings.write_text(host.settings.read_text() + "POSTHUB_IMAGES=registry.example/posthub\n")
    calls = host.run("new-server.sh", "--yes-i-mean", "posthub")
    assert "pull --quiet" in calls
    assert "build" not in calls


def test_a_new_server_from_the_wal(host: Host) -> None:
    calls = host.run("new-server.sh", "main", "--at", "latest", "-d", "posthub", "--yes-i-mean", "posthub")
    ended(host, 2, "BACKUP_SERVERS is not in .env.production")
    assert calls == ["config --quiet"]
    host.settings.write_text(host.settings.read_text() + "BACKUP_SERVERS=main\n")
    calls = host.run("new-server.sh", "main", "--at", "latest", "-d", "posthub", "--yes-i-mean", "posthub")
    assert host.status == 0, host.err
    order(
        calls,
        "--wait-timeout 240 posthub_postgres_prod",
        "posthub_backup restore main --at latest --json --database posthub",
        "promote posthub_restored_x",
        "-T posthub_db_roles",
        "run --adopt",
        "answers.py",
    )
    assert "needs its own name" in host.out


def test_a_backup_that_fails_does_not_keep_a_new_server_down(host: Host) -> None:
    """Such as the base backup of a server whose WAL is not streamed yet."""
    calls = host.run("new-server.sh", "--yes-i-mean", "posthub", fails="run --adopt")
    assert host.status == 0, host.err
    order(calls, "run --adopt", "up --detach --no-build --wait --wait-timeout 240", "answers.py")
    assert "a backup FAILED" in host.out


def test_a_server_with_data_is_refused(host: Host) -> None:
    calls = host.run("new-server.sh", "--yes-i-mean", "posthub", TABLES="12")
    ended(host, 1, "nothing was changed")
    assert not any("restore" in call or "promote" in call for call in calls)
    # Even if the backup that it was restored from is the newest: it has been in use since.
    calls = host.run("new-server.sh", "--yes-i-mean", "posthub", TABLES="12", PROMOTED_AT=ago(5))
    ended(host, 1, "nothing was changed")
    assert not any("restore" in call or "promote" in call for call in calls)
    host.run("new-server.sh", "--yes-i-mean", "posthub", TABLES="12", DATABASES="0")
    assert host.status == 0, host.err


def test_a_server_whose_tables_cannot_be_counted_is_not_empty(host: Host) -> None:
    for fails in ("FROM pg_database", "FROM pg_class"):
        calls = host.run("new-server.sh", "--yes-i-mean", "posthub", fails=fails)
        ended(host, 1, "could not be counted; nothing was changed")
        assert not any("restore" in call or "promote" in call for call in calls)


def test_an_interrupted_run_on_a_new_server_continues_after_its_promotion(host: Host) -> None:
    """The tables are then its own, and a newer backup does not matter."""
    mark = host.folder / ".ops" / "runbook.lock.new-server"
    mark.parent.mkdir()
    began = datetime.now(UTC) - timedelta(minutes=20)
    lines = f"latest \n{int(began.timestamp())}\n20261123T020000Z-ab12cd\n"
    mark.write_text(lines)
    arguments = ("new-server.sh", "--yes-i-mean", "posthub")
    calls = host.run(*arguments, TABLES="12", PROMOTED_AT=ago(5))
    ended(host, 0, "it continues from there")
    order(
        calls,
        "restore 20261123T020000Z-ab12cd --continue --dry-run",
        "promote posthub_restored_planned",
        "-T posthub_db_roles",
        "--wait-timeout 240",
    )
    assert not mark.exists()
    # It was promoted by hand after the script had ended, and may be in use.
    mark.write_text(f"{lines}{int((began + timedelta(minutes=10)).timestamp())}\n")
    calls = host.run(*arguments, TABLES="12", PROMOTED_AT=ago(5))
    ended(
        host, 1, "this server already has a database with tables; nothing was changed", "NOTHING was promoted"
    )
    assert not any("promote" in call for call in calls)


def test_a_new_server_needs_the_bucket_and_the_key(host: Host) -> None:
    host.settings.write_text("BACKUP_STORE_URL=s3://b\n")
    calls = host.run("new-server.sh", "--yes-i-mean", "posthub")
    ended(host, 2, "BACKUP_AGE_IDENTITY is not in")
    assert calls == ["config --quiet"]


def test_rollback(host: Host) -> None:
    calls = host.run("rollback.sh", "--yes-i-mean", "posthub")
    assert host.status == 0, host.err
    order(
        calls,
        "silence add",
        "stop posthub_celery_beat",
        "posthub_backup rollback --yes-i-mean posthub",
        "restart posthub_api_prod",
        "--wait-timeout 240 posthub_celery_worker",
        "answers.py",
        "silence end",
    )


def test_nothing_is_stopped_if_there_is_nothing_to_roll_back(host: Host) -> None:
    calls = host.run("rollback.sh", "--yes-i-mean", "posthub", fails="rollback --dry-run")
    assert host.status == 1, host.err
    assert not any(call.startswith("stop") or "silence" in call for call in calls)
    assert host.out.splitlines()[-1].startswith("NOTHING was rolled back")


def test_restore_redis(host: Host) -> None:
    calls = host.run(
        "restore-redis.sh", "latest", "--database", "posthub_redis", "--yes-i-mean", "posthub_redis"
    )
    assert host.status == 0, host.err
    order(
        calls,
        "posthub_backup restore latest --to /restore/dump.rdb --database posthub_redis",
        "outer folder 700",
        "--entrypoint chmod posthub_backup 644 /restore/dump.rdb",
        "stop posthub_celery_worker",
        "stop posthub_celery_beat",
        "stop posthub_redis_prod",
        "sh /data/restored.rdb",
        "sh posthub_redis_prod -eu -s -- /data",
        "--wait-timeout 240 posthub_redis_prod",
        "--wait-timeout 240 posthub_celery_worker",
    )
    calls = host.run("restore-redis.sh", "--database", "posthub_redis", "--yes-i-mean", "posthub")
    assert host.status == 2
    assert not any(call.startswith("stop") for call in calls)
    host.run("restore-redis.sh", "--yes-i-mean", "x")
    ended(host, 2, "which Redis?")
    assert "docker compose -f docker-compose.prod.yml run --rm --no-deps posthub_backup list" in host.err


@pytest.mark.parametrize("script", ["restore.sh", "rollback.sh", "new-server.sh"])
def test_confirmation_needs_a_terminal_or_an_option(host: Host, script: str) -> None:
    calls = host.run(script)
    ended(host, 2, "cannot ask for confirmation")
    assert calls == ["config --quiet"]
