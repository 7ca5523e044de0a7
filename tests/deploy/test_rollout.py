"""Roll-outs: their order, and the way back."""

import json
import shutil
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from sidecar import OpsError, UsageError
from stack.deploy import cli, cluster, compose, edge, kubernetes
from stack.deploy.annotate import annotate, annotate_own
from stack.deploy.compose import ROLLING, Rollout
from stack.deploy.history import History
from stack.deploy.kubernetes import KubeRollout
from stack.deploy.pods import trouble
from stack.deploy.runner import Runner
from stack.deploy.settings_copies import note_secrets, with_copies
from stack.doctor.host import Done
from stack.paths import ROOT


class FakeRunner(Runner):
    """Records the commands that it should run; some of them fail.

    Args:
        failing: (tag or "", part of a command line) that ends with exit code 1.
    """

    def __init__(self, root: Path, *failing: tuple[str, str]) -> None:
        super().__init__(root)
        self.failing = failing
        # Part of a command line → what it prints.
        self.answers: dict[str, str] = {}
        self.failing_once = ""
        # The tag and the registry that compose is given.
        self.registries: set[tuple[str, str]] = set()
        self.lines: list[str] = []
        self.given: list[str] = []

    def query(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Done:
        return self.run(*command, environment=environment, stdin=stdin)

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Done:
        tag = (environment or {}).get("POSTHUB_TAG", "")
        if environment is not None:
            self.registries.add((tag, environment.get("POSTHUB_IMAGES", "")))
        line = f"{tag} {' '.join(command)}".replace("docker compose -f docker-compose.prod.yml ", "")
        self.lines.append(line)
        self.given.append(stdin or "")
        if any(tag.startswith(wanted) and part in line for wanted, part in self.failing):
            return Done(1, "", "it broke")
        if self.failing_once and self.failing_once in line:
            self.failing_once = ""
            return Done(1, "", "it broke")
        if command[:2] == ("kubectl", "kustomize"):
            return Done(0, yaml.safe_dump_all(_manifests(command[2])))
        return Done(0, next((text for part, text in self.answers.items() if part in line), ""))


def _manifests(folder: str) -> list[dict[str, object]]:
    pod = {"spec": {"containers": [{"image": "ghcr.io/x/api:latest"}, {"image": "redis:7.4.10-alpine"}]}}
    if folder == "k8s/migrate":
        job = {"template": pod}
        return [{"kind": "Job", "metadata": {"name": "posthub-migrate"}, "spec": job}]
    return [
        {"kind": "Namespace", "metadata": {"name": "posthub"}},
        {"kind": "Cluster", "metadata": {"name": "posthub-postgres"}},
        {"kind": "StatefulSet", "metadata": {"name": "posthub-redis"}, "spec": {"template": pod}},
        {"kind": "Deployment", "metadata": {"name": "posthub-api"}, "spec": {"template": pod}},
        {"kind": "CronJob", "metadata": {"name": "posthub-backup"}, "spec": {"jobTemplate": {"spec": pod}}},
    ]


def _rollout(root: Path, runner: FakeRunner, tag: str = "new") -> tuple[Rollout, list[str]]:
    lines: list[str] = []
    return Rollout(root, runner, lines.append, tag, pause=0), lines


def _position(lines: list[str], part: str) -> int:
    return next(number for number, line in enumerate(lines) if part in line)


def test_a_version_is_rolled_out_service_by_service(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    rollout, lines = _rollout(tmp_path, runner)
    rollout.deploy()
    # The first line with the migrations only looks whether some are missing.
    order = [_position(runner.lines, "pull"), runner.lines.index("new run --rm --no-deps -T posthub_migrate")]
    order.append(_position(runner.lines, "-T posthub_db_roles"))
    order += [_position(runner.lines, f"--force-recreate {service}") for service in ROLLING]
    assert order == sorted(order)
    assert all(line.startswith("new ") for line in runner.lines if "docker inspect" not in line)
    assert lines[-1] == "✔ new is deployed"
    assert (tmp_path / ".env").read_text() == "POSTHUB_TAG=new\n"


DEFINED = json.dumps({"services": {"posthub_api_prod": {"image": "posthub/api:new"}}})


def _in_state(status: str, health: str, restarts: int = 0) -> str:
    state = {"Status": status, "Health": {"Status": health}}
    container = {"Id": "1", "RestartCount": restarts, "State": state}
    return json.dumps([container | {"Config": {"Image": "posthub/api:old", "Env": []}}])


def _with_a_running_api(root: Path, second: str) -> FakeRunner:
    (root / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "Caddyfile", root / "deploy")
    runner = FakeRunner(root)
    runner.answers = {
        "docker inspect posthub_api_prod_next": second,
        "docker inspect posthub_api_prod": _in_state("running", "healthy"),
        "config --format json": DEFINED,
    }
    History(root).add("old")
    return runner


def test_the_api_is_replaced_while_a_second_container_answers(tmp_path: Path) -> None:
    runner = _with_a_running_api(tmp_path, _in_state("running", "healthy"))
    _rollout(tmp_path, runner)[0].deploy()
    steps = (
        "exec -T posthub_caddy caddy validate",
        "exec -T posthub_caddy caddy reload",
        "exec -T posthub_caddy rm -f /tmp/posthub_api_prod_next",
        "docker stop posthub_api_prod_next",
        "new run --detach --no-deps --name posthub_api_prod_next posthub_api_prod",
        "docker inspect posthub_api_prod_next",
        "exec -T posthub_caddy touch /tmp/posthub_api_prod_next",
        "docker exec posthub_api_prod sh",
        "--force-recreate posthub_api_prod",
        "exec -T posthub_caddy rm -f /tmp/posthub_api_prod_next",
        "docker exec posthub_api_prod_next sh",
        "docker stop posthub_api_prod_next",
        "docker rm --force posthub_api_prod_next",
    )
    assert _in_order(runner.lines, steps)
    # With any other file, Caddy would reload.
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    loaded = [text for line, text in zip(runner.lines, runner.given, strict=True) if "caddy reload" in line]
    assert set(loaded) == {caddyfile}


def test_what_an_interrupted_rollout_left_is_removed(tmp_path: Path) -> None:
    """It ended after the first container was replaced: the requests still go to the second one."""
    runner = _with_a_running_api(tmp_path, _in_state("running", "healthy"))
    runner.answers["config --format json"] = DEFINED.replace("api:new", "api:old")
    _rollout(tmp_path, runner)[0].deploy()
    steps = (
        "--no-recreate posthub_api_prod",
        "exec -T posthub_caddy rm -f /tmp/posthub_api_prod_next",
        "docker exec posthub_api_prod_next sh",
        "docker stop posthub_api_prod_next",
        "docker rm --force posthub_api_prod_next",
    )
    assert _in_order(runner.lines, steps)
    assert not [line for line in runner.lines if "run --detach" in line]


def test_requests_return_even_if_the_second_container_was_removed_by_hand(tmp_path: Path) -> None:
    runner = _with_a_running_api(tmp_path, "")
    same: dict[str, object] = {"image": "posthub/api:old"}
    runner.answers["config --format json"] = _config(posthub_api_prod=same, posthub_caddy=same)
    runner.answers["docker inspect posthub_caddy"] = _in_state("running", "healthy")
    _rollout(tmp_path, runner)[0].deploy()
    both = "exec -T posthub_caddy rm -f /tmp/posthub_api_prod_next /tmp/posthub_frontend_prod_next"
    assert _in_order(runner.lines, ("--no-recreate posthub_api_prod", both))


def _in_order(lines: list[str], parts: Sequence[str]) -> bool:
    """Whether lines with these parts follow one another, with any others between them."""
    rest = iter(lines)
    return all(any(part in line for line in rest) for part in parts)


def test_a_caddy_that_refuses_the_new_file_finds_both_containers_by_name(tmp_path: Path) -> None:
    """It may be of an earlier version, and is replaced last. Here, it is replaced by compose."""
    runner = _with_a_running_api(tmp_path, _in_state("running", "healthy"))
    runner.failing = (("", "exec -T posthub_caddy caddy validate"),)
    _rollout(tmp_path, runner)[0].deploy()
    steps = (
        "run --detach --no-deps --use-aliases --name posthub_api_prod_next posthub_api_prod",
        "--force-recreate posthub_api_prod",
        "docker stop posthub_api_prod_next",
    )
    assert _in_order(runner.lines, steps)
    assert not [line for line in runner.lines if "caddy reload" in line]


def test_a_request_that_never_ends_is_reported_and_does_not_stop_the_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "DRAIN_SECONDS", 0)
    runner = _with_a_running_api(tmp_path, _in_state("running", "healthy"))
    runner.answers = {"docker exec posthub_api_prod sh": "busy\n"} | runner.answers
    rollout, lines = _rollout(tmp_path, runner)
    rollout.deploy()
    assert "! posthub_api_prod still answers requests, and is stopped" in lines
    assert lines[-1] == "✔ new is deployed"


@pytest.mark.parametrize("restarts", [0, 3], ids=["ends", "restarts repeatedly"])
def test_an_api_that_does_not_start_leaves_the_earlier_container_alone(tmp_path: Path, restarts: int) -> None:
    second = _in_state("restarting" if restarts else "exited", "unhealthy", restarts)
    runner = _with_a_running_api(tmp_path, second)
    runner.answers["docker logs"] = "ImportError: no module\n"
    with pytest.raises(OpsError, match=r"posthub_api_prod_next is \w+: ImportError"):
        _rollout(tmp_path, runner)[0].deploy()
    recreated = [
        line for line in runner.lines if line.startswith("new") and "recreate posthub_api_prod" in line
    ]
    assert not recreated
    assert [line for line in runner.lines if "docker rm --force posthub_api_prod_next" in line]


def test_requests_return_before_the_second_container_goes_even_if_the_first_does_not_start(
    tmp_path: Path,
) -> None:
    runner = _with_a_running_api(tmp_path, _in_state("running", "healthy"))
    runner.answers["docker inspect posthub_api_prod"] = _in_state("exited", "")
    runner.failing = (("new", "--force-recreate posthub_api_prod"),)
    with pytest.raises(OpsError, match="it broke"):
        _rollout(tmp_path, runner)[0].deploy()
    steps = (
        "exec -T posthub_caddy touch /tmp/posthub_api_prod_next",
        "--force-recreate posthub_api_prod",
        "exec -T posthub_caddy rm -f /tmp/posthub_api_prod_next",
        "docker stop posthub_api_prod_next",
    )
    until = next(number for number, line in enumerate(runner.lines) if line.startswith("old "))
    assert _in_order(runner.lines[:until], steps)


def test_a_container_that_compose_gave_up_may_still_become_healthy(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "--force-recreate posthub_celery_beat"))
    runner.answers = {"docker inspect posthub_celery_beat": _in_state("running", "healthy")}
    rollout, lines = _rollout(tmp_path, runner)
    rollout.deploy()
    assert "✔ posthub_celery_beat, after a longer wait" in lines


def test_a_backup_is_taken_before_migrations(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "migrate --check"))
    _rollout(tmp_path, runner)[0].deploy()
    backup = _position(runner.lines, "backup run --database posthub")
    migrate = next(n for n, line in enumerate(runner.lines) if line.endswith("-T posthub_migrate"))
    assert _position(runner.lines, "migrate --check") < backup < migrate


def test_a_backup_is_taken_even_when_its_sidecar_does_not_run(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "migrate --check"), ("new", "exec -T posthub_backup"))
    History(tmp_path).add("old")
    _rollout(tmp_path, runner)[0].deploy()
    assert _position(runner.lines, "run --rm --no-deps -T posthub_backup run --database posthub") > 0


def test_a_backup_that_fails_stops_the_migrations(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "migrate --check"), ("new", "posthub_backup"))
    History(tmp_path).add("old")
    with pytest.raises(OpsError, match="it broke"):
        _rollout(tmp_path, runner)[0].deploy()
    assert not [line for line in runner.lines if line.endswith("-T posthub_migrate")]


def test_an_empty_host_has_nothing_to_back_up(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "migrate --check"), ("new", "exec -T posthub_backup"))
    rollout, lines = _rollout(tmp_path, runner)
    rollout.deploy()
    assert "! no backup before the migrations: no service is running yet" in lines


def test_without_migrations_there_is_no_backup(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    _rollout(tmp_path, runner)[0].deploy()
    assert not [line for line in runner.lines if "backup run" in line]


def test_a_migration_that_fails_restarts_nothing(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "run --rm --no-deps -T posthub_migrate"))
    History(tmp_path).add("old")
    with pytest.raises(OpsError, match="it broke"):
        _rollout(tmp_path, runner)[0].deploy()
    assert not [line for line in runner.lines if "posthub_api_prod" in line and " up " in line]
    assert History(tmp_path).current() == "old"


@pytest.mark.parametrize(
    "part", ["--force-recreate posthub_celery_worker_ai", "answers.py"], ids=["unhealthy", "edge"]
)
def test_an_unhealthy_version_is_rolled_back(tmp_path: Path, part: str) -> None:
    runner = FakeRunner(tmp_path, ("new", part))
    History(tmp_path).add("older", "ghcr.io/x")
    History(tmp_path).add("old")
    rollout, lines = _rollout(tmp_path, runner)
    with pytest.raises(OpsError, match="old is running again"):
        rollout.deploy()
    back = [line for line in runner.lines if line.startswith("old ")]
    assert [
        service for service in ROLLING if any(f"--force-recreate {service}" in line for line in back)
    ] == list(ROLLING)
    assert not [line for line in back if "migrate" in line]
    assert (History(tmp_path).current(), History(tmp_path).previous()) == ("old", "older")
    assert runner.registries == {("new", ""), ("old", "ghcr.io/x")}
    assert (tmp_path / ".env").read_text() == "POSTHUB_TAG=old\nPOSTHUB_IMAGES=ghcr.io/x\n"
    assert any(line.startswith("✖") for line in lines)


def test_what_compose_alone_started_comes_back(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "answers.py"))
    runner.answers = {"docker inspect": "posthub/api:latest\n"}
    with pytest.raises(OpsError, match="latest is running again"):
        _rollout(tmp_path, runner)[0].deploy()
    assert (tmp_path / ".env").read_text() == "POSTHUB_TAG=latest\nPOSTHUB_IMAGES=posthub\n"


def test_going_back_does_not_return_to_what_was_left_later(tmp_path: Path) -> None:
    for tag in ("one", "two", "three"):
        History(tmp_path).add(tag)
    _rollout(tmp_path, FakeRunner(tmp_path), "two")[0].roll_back()
    assert (History(tmp_path).current(), History(tmp_path).previous()) == ("two", "one")


def test_a_first_version_has_nothing_to_return_to(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "answers.py"))
    with pytest.raises(OpsError, match="no earlier tag"):
        _rollout(tmp_path, runner)[0].deploy()


def test_what_ran_before_is_known(tmp_path: Path) -> None:
    # The last line of a file written by hand may have no end.
    (tmp_path / ".env").write_text("POSTGRES_MEMORY=6G")
    history = History(tmp_path)
    assert history.current() is None
    for tag in ("one", "two", "two"):
        history.add(tag)
    assert (history.current(), history.previous()) == ("two", "one")
    assert (tmp_path / ".env").read_text() == "POSTGRES_MEMORY=6G\nPOSTHUB_TAG=two\n"


def test_a_comment_and_another_variable_are_not_the_tag(tmp_path: Path) -> None:
    text = "# POSTHUB_TAG=example\nMY_POSTHUB_TAG=mine\n"
    (tmp_path / ".env").write_text(text)
    history = History(tmp_path)
    assert history.current() is None
    history.add("one")
    assert (tmp_path / ".env").read_text() == f"{text}POSTHUB_TAG=one\n"


def test_going_back_twice_does_not_return_to_what_was_left(tmp_path: Path) -> None:
    history = History(tmp_path)
    for tag in ("one", "two", "three"):
        history.add(tag)
    history.add("two", back=True)
    assert history.previous() == "one"
    history.add("one", back=True)
    assert history.previous() is None


def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Rollout(tmp_path, Runner(tmp_path, dry=True), print, "new").deploy()
    assert "$ POSTHUB_TAG=new docker compose" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# Port 9 is closed, so every request to it fails.
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["vps", "--url", "http://127.0.0.1:9/"], "migrate --check"),
        (["kubernetes"], "kubectl -n posthub create job posthub-backup-before-migrations"),
    ],
    ids=["vps", "kubernetes"],
)
def test_a_dry_run_only_says_what_it_would_do(
    command: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def query(_: Runner, *words: str, **__: object) -> Done:
        known = {"git": "abc123\n", "kubectl": yaml.safe_dump_all(_manifests(words[-1]))}
        return Done(0, known.get(words[0], ""))

    monkeypatch.setattr(Runner, "query", query)
    done = CliRunner().invoke(cli.deploy, [*command, "--dry-run", "--grafana", "http://127.0.0.1:9"])
    assert done.exit_code == 0, done.output
    assert expected in done.output
    assert "✔" not in done.output
    assert "no mark" not in done.output


def _kube(runner: FakeRunner) -> tuple[KubeRollout, list[str]]:
    lines: list[str] = []
    return KubeRollout(ROOT, runner, lines.append, "abc", "ghcr.io/acme", "production", pause=0), lines


CHECK, MIGRATE, BACKUP = (
    f"get job {name} " for name in (kubernetes.CHECK, kubernetes.MIGRATE, kubernetes.BACKUP)
)
# What a cluster that runs a version answers.
REVISIONS = {"get deployments -o": " ".join(f"{name}=1" for name in kubernetes.ROLLED)}
# A job's conditions at its end; Kubernetes has others before it.
WELL, BAD = "SuccessCriteriaMet Complete", "FailureTarget Failed"


def _pending(tmp_path: Path, *failing: tuple[str, str], **answers: str) -> FakeRunner:
    """A cluster whose version lacks migrations of this one."""
    runner = FakeRunner(tmp_path, *failing)
    runner.answers = {CHECK: BAD, BACKUP: WELL, MIGRATE: WELL, "get cronjob": "cronjob.batch/posthub-backup"}
    runner.answers |= answers
    return runner


def test_kubernetes_brings_data_up_backs_up_migrates_and_waits_for_everything(tmp_path: Path) -> None:
    runner = _pending(tmp_path)
    _kube(runner)[0].deploy()
    order = [
        "wait --for=condition=Ready clusters.postgresql.cnpg.io/posthub-postgres",
        "rollout status statefulset/posthub-redis",
        CHECK,
        f"create job {kubernetes.BACKUP} --from=cronjob/posthub-backup",
        BACKUP,
        MIGRATE,
        "rollout status deployment/",
    ]
    positions = [_position(runner.lines, part) for part in order]
    assert positions == sorted(positions)
    # Each of them twice: the first ones may have ended when the last one is ready.
    waits = [
        line.partition("deployment/")[2].split()[0] for line in runner.lines if "status deployment/" in line
    ]
    assert waits == [*kubernetes.ROLLED, *kubernetes.ROLLED]
    applied = [given for line, given in zip(runner.lines, runner.given, strict=True) if " apply " in line]
    assert "StatefulSet" in applied[0]
    assert "Deployment" not in applied[0]
    assert "migrate --check" in applied[1]
    assert "name: posthub-migrate\n" in applied[2]
    assert "ghcr.io/acme/api:abc" in applied[-2]
    assert "redis:7.4.10-alpine" in applied[-2]
    # After the last wait: a version that is rolled back leaves nothing in the nightly backup job.
    assert "kind: CronJob" in applied[-1]
    assert not [given for given in applied[:-1] if "CronJob" in given]
    last = max(number for number, line in enumerate(runner.lines) if "rollout status" in line)
    assert last < max(number for number, line in enumerate(runner.lines) if " apply " in line)


@pytest.mark.parametrize("kind", ["wait --for=condition=Ready clusters", "rollout status statefulset/"])
def test_a_wait_for_the_data_tier_is_reported(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new cluster may need minutes for it, and the screen showed nothing."""
    runner = _pending(tmp_path)
    runner.failing_once = kind
    rollout, lines = _kube(runner)
    rollout.deploy()
    name = "posthub-postgres" if "clusters" in kind else "posthub-redis"
    assert lines[0] == f"… waiting for {name}"
    monkeypatch.setattr(cluster, "READY_SECONDS", 0)
    runner.failing = (("", kind),)
    with pytest.raises(OpsError, match=f"^{name} was not ready within 0 s$"):
        rollout.deploy()


def test_kubernetes_without_migrations_needs_no_backup(tmp_path: Path) -> None:
    runner = _pending(tmp_path, **{CHECK: WELL})
    _kube(runner)[0].deploy()
    assert not [line for line in runner.lines if kubernetes.BACKUP in line or MIGRATE in line]


def test_a_new_cluster_has_nothing_to_back_up(tmp_path: Path) -> None:
    runner = _pending(tmp_path, **{"get cronjob": ""})
    rollout, lines = _kube(runner)
    rollout.deploy()
    assert not [line for line in runner.lines if kubernetes.BACKUP in line]
    assert "! no backup before the migrations: this is the first deployment here" in lines


@pytest.mark.parametrize("job", [BACKUP, MIGRATE], ids=["backup", "migrations"])
def test_kubernetes_restarts_nothing_when_a_job_fails(tmp_path: Path, job: str) -> None:
    runner = _pending(tmp_path, **{job: BAD})
    with pytest.raises(OpsError, match="nothing was restarted"):
        _kube(runner)[0].deploy()
    assert "Deployment" not in "".join(runner.given)


def test_staging_is_never_applied_over_production(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.answers = {"get namespace": "staging"}
    with pytest.raises(OpsError, match="this cluster runs the overlay staging"):
        _kube(runner)[0].deploy()
    assert not [line for line in runner.lines if " apply " in line]


def test_kubernetes_rolls_back_when_something_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "READY_SECONDS", 0)
    runner = _pending(tmp_path, **REVISIONS)
    runner.failing_once = "rollout status deployment/posthub-flower"
    with pytest.raises(
        OpsError, match=r"flower was not ready within 0 s; the previous revision is running again$"
    ):
        _kube(runner)[0].deploy()
    assert not [line for line in runner.lines if "annotate" in line]
    assert len([line for line in runner.lines if "rollout undo" in line]) == len(kubernetes.ROLLED)
    assert "CronJob" not in "".join(runner.given)


def test_a_deployment_returns_to_the_revision_that_it_had(tmp_path: Path) -> None:
    """`rollout undo` alone takes a Deployment that this version did not change to the version before the last one."""
    runner = _pending(
        tmp_path, **{"get deployments -o": "posthub-api=3 posthub-postgres-exporter=1 posthub-flower=7 "}
    )
    rollout, _ = _kube(runner)
    runner.failing_once = "rollout status deployment/posthub-celery-beat"
    runner.answers["get pods -o json"] = _pods("ImagePullBackOff")
    with pytest.raises(OpsError, match=r"the previous revision is running again$"):
        rollout.deploy()
    undone = [line.partition("undo ")[2] for line in runner.lines if "rollout undo" in line]
    assert undone == [
        "deployment/posthub-api --to-revision=3",
        "deployment/posthub-flower --to-revision=7",
    ]


def test_what_the_api_server_refuses_is_rolled_back_too(tmp_path: Path) -> None:
    """kubectl applies the other objects of the stream, so some Deployments are new already."""
    runner = _pending(tmp_path, **REVISIONS)
    applied = 0

    class Refusing(FakeRunner):
        def run(self, *command: str, **more: Any) -> Done:
            nonlocal applied
            done = super().run(*command, **more)
            applied += "apply" in command
            return Done(1, "", "denied") if "apply" in command and applied == 4 else done

    refusing = Refusing(tmp_path)
    refusing.answers = runner.answers
    with pytest.raises(OpsError, match=r"denied; the previous revision is running again$"):
        _kube(refusing)[0].deploy()
    assert len([line for line in refusing.lines if "rollout undo" in line]) == len(kubernetes.ROLLED)


def test_the_first_deployment_has_nothing_to_return_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "READY_SECONDS", 0)
    runner = _pending(tmp_path, ("", "rollout status deployment/posthub-flower"))
    with pytest.raises(OpsError, match=r"flower was not ready within 0 s; nothing ran here before$"):
        _kube(runner)[0].deploy()
    assert not [line for line in runner.lines if "rollout undo" in line]


def test_a_deployment_that_stays_at_the_new_revision_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "READY_SECONDS", 0)
    runner = _pending(
        tmp_path,
        ("", "rollout status deployment/posthub-flower"),
        ("", "undo deployment/posthub-api"),
        **REVISIONS,
    )
    with pytest.raises(OpsError, match=r"the rollback failed too: still at the new revision: posthub-api$"):
        _kube(runner)[0].deploy()
    assert len([line for line in runner.lines if "rollout undo" in line]) == len(kubernetes.ROLLED)


def test_kubernetes_reports_an_unhealthy_previous_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "READY_SECONDS", 0)
    runner = _pending(tmp_path, ("", "rollout status deployment/posthub-flower"), **REVISIONS)
    with pytest.raises(OpsError, match=r"0 s; the rollback failed too: posthub-flower was not ready"):
        _kube(runner)[0].deploy()


REMEMBERED = f"{kubernetes.DEPLOYED.replace('.', chr(92) + '.')}"


@pytest.mark.parametrize(
    ("known", "after"),
    [("", "abc"), ("t1", "t1 abc"), ("t1 abc", "t1 abc"), ("abc t2", "t2 abc")],
)
def test_the_cluster_remembers_what_was_deployed(tmp_path: Path, known: str, after: str) -> None:
    runner = _pending(tmp_path, **{REMEMBERED: known})
    _kube(runner)[0].deploy()
    (line,) = [line for line in runner.lines if "annotate" in line]
    assert line.endswith(f"{kubernetes.DEPLOYED}={after}")


def test_an_older_cluster_is_asked_for_its_tag(tmp_path: Path) -> None:
    runner = _pending(tmp_path, **{"get deployment posthub-api": "ghcr.io/acme/api:t1@sha256:1"})
    _kube(runner)[0].deploy()
    assert [line for line in runner.lines if line.endswith(f"{kubernetes.DEPLOYED}=t1 abc")]


def test_undo_goes_to_the_tag_before_and_never_to_one_that_failed(tmp_path: Path) -> None:
    """`rollout undo` swaps the last two revisions: after an automatic rollback, that is the broken one."""
    runner = FakeRunner(tmp_path)
    runner.answers = {REMEMBERED: "t1 t2"}
    rollout, lines = _kube(runner)
    rollout.undo()
    applied = "".join(runner.given)
    assert "ghcr.io/acme/api:t1" in applied
    assert "kind: CronJob" in applied
    assert "StatefulSet" not in applied
    assert not [line for line in runner.lines if "rollout undo" in line or "migrate" in line]
    assert [line for line in runner.lines if line.endswith(f"{kubernetes.DEPLOYED}=t1")]
    assert lines[0] == "returning from t2 to t1"
    assert lines[-1] == "✔ t1 is running again"


def test_undo_without_an_earlier_deployment_changes_nothing(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.answers = {REMEMBERED: "t1"}
    with pytest.raises(OpsError, match="no earlier deployment is known in this cluster"):
        _kube(runner)[0].undo()
    assert not [line for line in runner.lines if " apply " in line or "annotate" in line]


def _pods(
    reason: str, *, restarts: int = 0, image: str = "ghcr.io/acme/api:abc", code: int | None = None
) -> str:
    state = (
        {"waiting": {"reason": reason, "message": "not found"}}
        if code is None
        else {"terminated": {"exitCode": code}}
    )
    container = {"image": image, "restartCount": restarts, "state": state}
    return json.dumps(
        {"items": [{"metadata": {"name": "pod-1"}, "status": {"containerStatuses": [container]}}]}
    )


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError", "InvalidImageName"])
def test_a_job_that_can_never_start_ends_the_wait(tmp_path: Path, reason: str) -> None:
    runner = _pending(tmp_path, **{CHECK: "", "get pods -l job-name": _pods(reason)})
    with pytest.raises(OpsError, match=rf"^pod-1 cannot start: {reason}: ghcr.io/acme/api:abc: not found$"):
        _kube(runner)[0].deploy()
    assert not [line for line in runner.lines if kubernetes.BACKUP in line]


@pytest.mark.parametrize(
    ("reason", "restarts", "image", "final"),
    [
        ("ImagePullBackOff", 0, "ghcr.io/acme/api:abc", True),
        ("CrashLoopBackOff", 3, "ghcr.io/acme/api:abc@sha256:1", True),
        ("CrashLoopBackOff", 1, "ghcr.io/acme/api:abc", False),
        ("ContainerCreating", 0, "ghcr.io/acme/api:abc", False),
        # Of the revision before.
        ("ImagePullBackOff", 0, "ghcr.io/acme/api:old", False),
    ],
)
def test_what_waiting_does_not_mend(reason: str, restarts: int, image: str, final: bool) -> None:
    assert (trouble(_pods(reason, restarts=restarts, image=image), "abc") is not None) is final


def test_a_pod_that_is_being_deleted_stops_nothing() -> None:
    pods = json.loads(_pods("ImagePullBackOff"))
    pods["items"][0]["metadata"]["deletionTimestamp"] = "2026-11-30T12:00:00Z"
    assert trouble(json.dumps(pods), "abc") is None


def test_a_deployment_that_can_never_start_ends_the_wait(tmp_path: Path) -> None:
    runner = _pending(
        tmp_path,
        ("", "rollout status deployment/posthub-api"),
        **{"get pods -o json": _pods("ImagePullBackOff")},
    )
    with pytest.raises(OpsError, match=r"^pod-1 cannot start: ImagePullBackOff"):
        _kube(runner)[0].deploy()


@pytest.mark.parametrize(("code", "migrates"), [(1, True), (2, False), (137, False)])
def test_only_exit_code_1_of_the_check_means_migrations(tmp_path: Path, code: int, migrates: bool) -> None:
    runner = _pending(
        tmp_path, **{"get pods -l job-name": _pods("", code=code), "logs job/": "Error: no secret\nTry: …"}
    )
    if migrates:
        _kube(runner)[0].deploy()
    else:
        with pytest.raises(OpsError, match="failed; nothing was changed: Error: no secret / Try: …"):
            _kube(runner)[0].deploy()
    assert bool([line for line in runner.lines if kubernetes.BACKUP in line]) is migrates


SETTINGS = """
kind: ConfigMap
metadata: {name: posthub-config}
data: {GRAFANA_URL: VALUE}
---
kind: Deployment
metadata: {name: posthub-api}
spec: {template: {spec: {containers: [{image: x, envFrom: [{configMapRef: {name: posthub-config}}]}],
  volumes: [{secret: {secretName: posthub-app}}]}}}
---
kind: CronJob
metadata: {name: posthub-backup}
spec: {x: {envFrom: [{configMapRef: {name: posthub-config}}]}}
"""


def _settings(url: str, **versions: str) -> dict[str, dict[str, Any]]:
    documents = with_copies(list(yaml.safe_load_all(SETTINGS.replace("VALUE", url))))
    note_secrets(documents, versions)
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in documents}


def test_a_changed_setting_replaces_the_pods_and_the_old_ones_keep_theirs() -> None:
    first, again, second = _settings("a"), _settings("a"), _settings("b")
    assert first == again
    assert first["Deployment/posthub-api"] != second["Deployment/posthub-api"]
    for found, url in ((first, "a"), (second, "b")):
        container = found["Deployment/posthub-api"]["spec"]["template"]["spec"]["containers"][0]
        name = container["envFrom"][0]["configMapRef"]["name"]
        assert name.startswith("posthub-config-")
        assert found[f"ConfigMap/{name}"]["data"] == {"GRAFANA_URL": url}
        # Jobs that are started by hand, or on schedule, read the current settings.
        assert found["ConfigMap/posthub-config"]["data"] == {"GRAFANA_URL": url}
        assert (
            found["CronJob/posthub-backup"]["spec"]["x"]["envFrom"][0]["configMapRef"]["name"]
            == "posthub-config"
        )


def test_a_changed_secret_replaces_the_pods_that_mount_it() -> None:
    def template(**versions: str) -> Any:
        return _settings("a", **versions)["Deployment/posthub-api"]["spec"]["template"]

    assert template(**{"posthub-app": "1"}) != template(**{"posthub-app": "2"})
    assert template(**{"posthub-app": "1", "other": "1"}) == template(**{"posthub-app": "1", "other": "2"})
    assert "annotations" not in template().get("metadata", {})


@pytest.fixture
def grafana() -> Iterator[tuple[str, list[tuple[str, str, dict[str, object]]]]]:
    """A server that accepts annotations from its admin, and the list of those it received."""
    got: list[tuple[str, str, dict[str, object]]] = []

    class Grafana(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            who = b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, who, body))
            self.send_response(200 if who == "admin:pass'word" else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Grafana) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/grafana", got
        server.shutdown()


class Inside(Runner):
    """Runs a program here that is meant for a container."""

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Done:
        assert command[-4:] == ("-T", "posthub_api_prod", "python", "-")
        return super().run(sys.executable, "-", environment=environment, stdin=stdin)


def test_a_deployment_is_marked_from_within(
    tmp_path: Path, grafana: tuple[str, list[tuple[str, str, dict[str, object]]]]
) -> None:
    url, got = grafana
    (tmp_path / "secrets" / "values").mkdir(parents=True)
    password = tmp_path / "secrets" / "values" / "GRAFANA_ADMIN_PASSWORD"
    password.write_text("pass'word")
    assert annotate_own(tmp_path, Inside(tmp_path), "PostHub {abc}", url) is None
    ((path, who, body),) = got
    assert (path, who) == ("/grafana/api/annotations", "admin:pass'word")
    assert (body["text"], body["tags"]) == ("PostHub {abc}", ["deploy"])
    password.write_text("wrong")
    assert "401" in str(annotate_own(tmp_path, Inside(tmp_path), "x", url))


def test_a_failed_annotation_is_reported(tmp_path: Path) -> None:
    assert annotate("http://127.0.0.1:9", "x") == "ConnectionError"


def _config(**services: dict[str, object]) -> str:
    return json.dumps({"services": services})


def _inspected(identity: str, image: str, **environment: str) -> str:
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return json.dumps([{"Id": identity, "Config": {"Image": image, "Env": ["PATH=/bin", *pairs]}}])


def test_data_services_are_left_alone(tmp_path: Path) -> None:
    """Their definition is the same, so neither a deployment nor the way back recreates them."""
    runner = FakeRunner(tmp_path)
    runner.answers = {
        "config --format json": _config(
            posthub_postgres_prod={"image": "pg:1", "depends_on": {"posthub_init": {}}}
        ),
        "docker inspect posthub_postgres_prod": _inspected("a", "pg:1"),
    }
    _rollout(tmp_path, runner)[0].deploy()
    lines = [line for line in runner.lines if line.endswith("posthub_postgres_prod") and " up " in line]
    assert lines
    assert all("--no-recreate" in line for line in lines), lines


def test_a_data_service_with_another_definition_is_replaced(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.answers = {
        "config --format json": _config(posthub_postgres_prod={"image": "pg:2"}),
        "docker inspect posthub_postgres_prod": _inspected("a", "pg:1"),
    }
    _rollout(tmp_path, runner)[0].deploy()
    assert [line for line in runner.lines if "--force-recreate posthub_postgres_prod" in line]


# What `docker compose up` has started, and how this version defines it.
STARTED = {
    "Id": "a",
    "Config": {
        "Image": "pg:1",
        "Env": ["PATH=/bin", "A=1", "B=1"],
        "Cmd": ["postgres", "-c", "fsync=on", "^/run($|/)"],
        "Labels": {"com.docker.compose.project": "shop"},
    },
    "NetworkSettings": {"Networks": {"shop_data": {}, "shop_edge": {}}},
    "Mounts": [{"Destination": "/var/lib/postgresql/data"}, {"Destination": "/of/the/image"}],
}
SAME: dict[str, Any] = {
    "image": "pg:1",
    "environment": {"A": "1", "B": "1"},
    "command": ["postgres", "-c", "fsync=on", "^/run($$|/)"],
    "networks": {"data": None, "edge": None},
    "volumes": [{"type": "volume", "source": "data", "target": "/var/lib/postgresql/data"}],
}


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ({}, "--no-recreate"),
        ({"image": "pg:2"}, "--force-recreate"),
        ({"environment": {"A": "1", "B": "2"}}, "--force-recreate"),
        ({"command": ["postgres", "-c", "fsync=off"]}, "--force-recreate"),
        ({"command": None}, "--no-recreate"),
        ({"networks": {"data": None, "edge": None, "sidecar_data": None}}, "--force-recreate"),
        ({"networks": {"data": None}}, "--force-recreate"),
        ({"volumes": [{"target": "/etc/more"}]}, "--force-recreate"),
    ],
    ids=lambda value: next(iter(value), "same") if isinstance(value, dict) else "",
)
def test_what_compose_alone_started_gets_a_changed_definition(
    tmp_path: Path, change: dict[str, Any], how: str
) -> None:
    """After `up`, the first deployment: there is no fingerprint of the container yet."""
    runner = FakeRunner(tmp_path)
    runner.answers = {
        "config --format json": _config(posthub_postgres_prod=SAME | change),
        "docker inspect posthub_postgres_prod": json.dumps([STARTED]),
    }
    _rollout(tmp_path, runner)[0].deploy()
    assert [line for line in runner.lines if line.endswith(f"{how} posthub_postgres_prod")]


@pytest.mark.parametrize(
    ("service", "how"),
    [("grafana", "--force-recreate"), ("postgres_prod", "--no-recreate"), ("caddy", "--no-recreate")],
)
@pytest.mark.parametrize("started", ["2020-01-01T00:00:00.123456789Z", "2999-01-01T00:00:00Z"])
def test_a_changed_file_among_the_mounts_replaces_a_container(
    tmp_path: Path, service: str, how: str, started: str
) -> None:
    """Its mount leads to the file that git has replaced. The database reads its file once, Caddy is given its own."""
    name, file = f"posthub_{service}", tmp_path / "grafana.ini"
    file.touch()
    runner = FakeRunner(tmp_path)
    volumes = [
        {"type": "bind", "source": str(file), "target": "/etc/grafana/grafana.ini"},
        {"type": "bind", "source": str(tmp_path), "target": "/run/secrets"},
        {"type": "volume", "source": "data", "target": "/data"},
    ]
    runner.answers = {
        "config --format json": json.dumps({"services": {name: {"image": "g:1", "volumes": volumes}}}),
        f"docker inspect {name}": json.dumps(
            [{"Id": "a", "Config": {"Image": "g:1", "Env": []}, "State": {"StartedAt": started}}]
        ),
    }
    _rollout(tmp_path, runner)[0].deploy()
    expected = how if started < "2026" else "--no-recreate"
    assert [line for line in runner.lines if line.endswith(f"{expected} {name}")]


def test_a_folder_among_the_mounts_replaces_nothing(tmp_path: Path) -> None:
    """A mount of a folder shows what is in it now."""
    (tmp_path / "secrets").mkdir()
    runner = FakeRunner(tmp_path)
    volumes = [{"type": "bind", "source": str(tmp_path / "secrets"), "target": "/run/secrets"}]
    started = [
        {"Id": "a", "Config": {"Image": "g:1", "Env": []}, "State": {"StartedAt": "2020-01-01T00:00:00Z"}}
    ]
    runner.answers = {
        "config --format json": _config(posthub_grafana={"image": "g:1", "volumes": volumes}),
        "docker inspect posthub_grafana": json.dumps(started),
    }
    _rollout(tmp_path, runner)[0].deploy()
    assert [line for line in runner.lines if line.endswith("--no-recreate posthub_grafana")]


LOADED = "exec -T posthub_caddy caddy reload --config - --adapter caddyfile"


def _with_a_caddyfile(root: Path, image: str) -> FakeRunner:
    (root / "deploy").mkdir()
    (root / "deploy" / "Caddyfile").write_text("# new")
    runner = FakeRunner(root)
    runner.answers = {
        "config --format json": _config(posthub_caddy={"image": "c:1"}, posthub_grafana={"image": "g:1"}),
        "docker inspect posthub_caddy": _inspected("a", image),
    }
    History(root).add("old")
    return runner


@pytest.mark.parametrize(("image", "loaded"), [("c:1", True), ("c:0", False)])
def test_caddy_gets_its_file_by_a_reload_unless_it_is_replaced(
    tmp_path: Path, image: str, loaded: bool
) -> None:
    runner = _with_a_caddyfile(tmp_path, image)
    _rollout(tmp_path, runner)[0].deploy()
    found = [number for number, line in enumerate(runner.lines) if LOADED in line]
    assert bool(found) is loaded
    if loaded:
        assert runner.given[found[0]] == "# new"
        assert _position(runner.lines, "recreate posthub_grafana") < found[0]


def test_a_file_that_caddy_refuses_fails_the_deployment_and_not_the_return(tmp_path: Path) -> None:
    runner = _with_a_caddyfile(tmp_path, "c:1")
    runner.failing = (("", LOADED),)
    rollout, lines = _rollout(tmp_path, runner)
    with pytest.raises(OpsError, match=r"new failed: .*; old is running again"):
        rollout.deploy()
    assert [line for line in lines if line.startswith("! Caddy keeps its earlier configuration: ")]


def test_no_service_is_started_over_its_dependencies_and_caddy_is_the_last(tmp_path: Path) -> None:
    """Up to compose 2.28, ``up`` without ``--no-deps`` recreates whatever depends on a recreated service."""
    runner = FakeRunner(tmp_path)
    runner.answers = {
        "config --format json": _config(posthub_grafana={"image": "g:1"}, posthub_caddy={"image": "c:1"})
    }
    _rollout(tmp_path, runner)[0].deploy()
    started = [line for line in runner.lines if " up " in line]
    assert all("--no-deps" in line for line in started), started
    assert [line for line in started if line.endswith("posthub_caddy")] == started[-1:]
    assert {one for one in ("postgres", "redis") if f"posthub_{one}_prod" in " ".join(started[:2])} == {
        "postgres",
        "redis",
    }
    reloaded = [line.split()[-1] for line in runner.lines if "kill --signal HUP" in line]
    assert reloaded == ["posthub_prometheus", "posthub_alertmanager"]
    assert [line for line in started if line.endswith("posthub_grafana")]


def test_a_second_deployment_of_the_same_definition_replaces_nothing(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.answers = {
        "config --format json": _config(posthub_grafana={"image": "g:1", "command": ["a"]}),
        "docker inspect posthub_grafana": _inspected("id-1", "g:1"),
    }
    _rollout(tmp_path, runner)[0].deploy()
    runner.lines.clear()
    _rollout(tmp_path, runner)[0].deploy()
    assert [line for line in runner.lines if "--no-recreate posthub_grafana" in line]
    runner.answers["config --format json"] = _config(posthub_grafana={"image": "g:1", "command": ["b"]})
    _rollout(tmp_path, runner)[0].deploy()
    assert [line for line in runner.lines if "--force-recreate posthub_grafana" in line]


def test_the_first_deployment_can_be_rolled_back(tmp_path: Path) -> None:
    """``up`` has started the first version, and no deployment has noted it."""
    runner = FakeRunner(tmp_path)
    runner.answers = {"docker inspect --format": "posthub/api:latest\n"}
    _rollout(tmp_path, runner)[0].deploy()
    assert History(tmp_path).previous() == "latest"


def test_a_rollback_that_fails_reports_what_failed_and_what_was_started(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("", "answers.py"))
    History(tmp_path).add("old")
    with pytest.raises(
        OpsError, match=r"new failed: .*not healthy; old was started again, but: .*not healthy"
    ):
        _rollout(tmp_path, runner)[0].deploy()


def test_a_version_that_fails_again_does_not_return_to_itself(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, ("new", "answers.py"))
    History(tmp_path).add("new")
    with pytest.raises(OpsError, match="no earlier tag is known"):
        _rollout(tmp_path, runner)[0].deploy()
    assert sum("answers.py" in line for line in runner.lines) == compose.HEALTH_TRIES


DIGEST = "sha256:" + "a" * 64
CONFIG = json.dumps({"services": {"posthub_api_prod": {"image": "ghcr.io/x/api:new"}}})


def test_the_image_with_the_attested_digest_is_deployed(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.answers = {
        "config --format json": CONFIG,
        "image inspect": json.dumps([f"ghcr.io/x/api@{DIGEST}"]),
    }
    output: list[str] = []
    Rollout(tmp_path, runner, output.append, "new", pause=0, digests={"api": DIGEST}).deploy()
    assert _position(runner.lines, "ghcr.io/x/api:new") < _position(runner.lines, "-T posthub_migrate")
    assert "✔ digests of 1 images" in output


def test_each_image_has_its_own_digest(tmp_path: Path) -> None:
    other = "sha256:" + "b" * 64
    services: dict[str, dict[str, object]] = {
        "a": {"image": "ghcr.io/x/api:new"},
        "b": {"image": "ghcr.io/x/backup:new"},
    }
    runner = FakeRunner(tmp_path)
    runner.answers = {"config --format json": _config(**services), "image inspect": f"ghcr.io/x/api@{DIGEST}"}
    rollout = Rollout(
        tmp_path, runner, lambda _: None, "new", pause=0, digests={"api": DIGEST, "backup": other}
    )
    with pytest.raises(OpsError, match=r"ghcr\.io/x/backup:new is not the image with the digest"):
        rollout.deploy()


@pytest.mark.parametrize("found", [f"ghcr.io/x/api@{DIGEST[:-1]}b", ""])
def test_another_image_under_the_same_tag_changes_nothing(tmp_path: Path, found: str) -> None:
    runner = FakeRunner(tmp_path)
    runner.answers = {"config --format json": CONFIG, "image inspect": json.dumps([found])}
    History(tmp_path).add("old")
    with pytest.raises(OpsError, match=r"ghcr\.io/x/api:new is not the image with the digest"):
        Rollout(tmp_path, runner, lambda _: None, "new", pause=0, digests={"api": DIGEST}).deploy()
    assert not [
        line for line in runner.lines if "posthub_migrate" in line or " up " in line or "run --rm" in line
    ]
    assert History(tmp_path).current() == "old"


def test_the_cluster_runs_images_by_digest(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    kubernetes = KubeRollout(
        tmp_path, runner, lambda _: None, "new", "ghcr.io/y", "production", digests={"api": DIGEST}
    )
    rendered = kubernetes.render("k8s/overlays/production")
    assert f"ghcr.io/y/api:new@{DIGEST}" in rendered
    assert "image: redis:7.4.10-alpine\n" in rendered


@pytest.mark.parametrize("given", ["api", "api=latest", f"={DIGEST}", "api=sha256:1"])
def test_what_is_not_a_digest_is_refused(given: str) -> None:
    done = CliRunner().invoke(cli.deploy, ["vps", "--tag", "x", "--dry-run", "--digest", given])
    assert isinstance(done.exception, UsageError)
    assert "is not valid" in done.exception.message
