"""Every ✖ that ``./ops doctor`` can give has a case here; one that is added to the code without a case fails."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from stack.doctor import billing, machine, outside, providers, secrets, services, settings, versions
from stack.doctor.check import Case, Check
from stack.doctor.cli import AFTER, BEFORE
from stack.doctor.host import Done
from stack.standins import GeminiStandIn
from stack.standins.gemini import KEY
from stack.standins.stripe import KEY as STRIPE_KEY
from stack.standins.stripe import PRICE, StripeStandIn
from tests.deploy.envexample import example_variables
from tests.deploy.hostkit import FakeHost, as_json
from tests.verdictsites import Sites, failing

MODULES = (billing, machine, outside, providers, secrets, services, settings, versions)
ASK = "exec -T posthub_prometheus wget -qO- http://127.0.0.1:9090/api/v1/"
SIDECAR = "exec -T posthub_backup python -m backup doctor"
CONFIG = json.dumps({"services": {"posthub_init": {"image": "x:1"}, "posthub_redis": {"image": "redis:7"}}})
INIT = {
    "Service": "posthub_init",
    "Image": "x:1",
    "State": "exited",
    "Health": "",
    "Status": "",
    "ExitCode": 0,
}
REDIS = {
    "Service": "posthub_redis",
    "Image": "redis:7",
    "State": "running",
    "Health": "healthy",
    "Status": "",
}


def proof(taken: float) -> Done:
    return as_json({"data": {"result": [{"metric": {"database": "posthub"}, "value": [0, str(taken)]}]}})


# The host's answers, and the check that fails with them.
HOSTS: dict[str, dict[str, Any]] = {
    "Docker engine": {"docker version": Done(1, "", "no daemon")},
    "Docker compose": {"docker compose version": Done(1, "", "no plug-in")},
    "Docker compose, old": {"docker compose version": Done(0, "2.3.9")},
    "secrets in git": {"git ls-files": Done(0, "secrets/key\n")},
    "secrets in git, once": {"git log": Done(0, "abc1234 https://hooks.slack.com/services/x\n")},
    "secrets in git, soon": {"git check-ignore": Done(1, "")},
}
# The running containers, and the check that fails with them.
SERVICES: dict[str, dict[str, Any]] = {
    "compose file": {"config": Done(15, "", "no such file")},
    "posthub_redis": {"ps --all": as_json(INIT)},
    "posthub_redis, ended": {"ps --all": [INIT, {**REDIS, "State": "exited"}]},
    "posthub_redis, unhealthy": {"ps --all": [INIT, {**REDIS, "Health": "unhealthy"}]},
    "posthub_init": {"ps --all": [{**INIT, "ExitCode": 2}, REDIS]},
    "posthub_init, runs": {"ps --all": [{**INIT, "State": "running"}, REDIS]},
    "image versions": {"ps --all": [INIT, {**REDIS, "Image": "redis:6"}]},
    "targets": {f"{ASK}targets": Done(1, "")},
    "targets, one of two": {
        f"{ASK}targets": as_json(
            {
                "data": {
                    "activeTargets": [
                        {"labels": {"job": job}, "health": health}
                        for job, health in (("a", "up"), ("b", "down"))
                    ]
                }
            }
        )
    },
    "targets, none": {f"{ASK}targets": as_json({"data": {"activeTargets": []}})},
    "last verified backup": {f"{ASK}query": as_json({"data": {"result": []}})},
    "last verified backup of posthub": {f"{ASK}query": proof(0)},
    "last verified backup of posthub, old": {f"{ASK}query": proof(time.time() - 37 * 3600)},
    "backup sidecar": {SIDECAR: Done(1, "", "no such container")},
    "backup sidecar, nothing": {SIDECAR: as_json([])},
    "backup sidecar, one": {
        SIDECAR: as_json([{"name": "store", "ok": True}, {"name": "clock", "ok": False}])
    },
}
SETTINGS: dict[str, dict[str, str]] = {
    "settings": {"ACME_EMAIL": ""},
    "settings, placeholder": {"SECRET_KEY": f"<{'x' * 50}>"},
    "ALLOWED_HOSTS": {"ALLOWED_HOSTS": "*.posthub.work"},
    "ALLOWED_HOSTS, one of two": {"ALLOWED_HOSTS": "posthub.work"},
    "DEBUG": {"DEBUG": "True"},
    "SECRET_KEY": {"SECRET_KEY": "x" * 49},
    "CORS_ALLOWED_ORIGINS": {"CORS_ALLOWED_ORIGINS": "https://elsewhere.example"},
    "GF_SERVER_ROOT_URL": {"GF_SERVER_ROOT_URL": "https://elsewhere.example/grafana/"},
    "backup settings": {"BACKUP_SCHEDULE": "at noon"},
    "encryption": {"BACKUP_AGE_RECIPIENTS": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"},
    "receivers": {"ALERTMANAGER_SMTP_SMARTHOST": "mail.example:587"},
    "receivers, none": {"ALERTMANAGER_SLACK_URL": ""},
}


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """One on which everything is well."""
    return FakeHost(
        tmp_path,
        {
            "docker compose version": Done(0, "2.40.0"),
            "ps --all": _listed([INIT, REDIS]),
            "config": Done(0, CONFIG),
            f"{ASK}targets": as_json({"data": {"activeTargets": [{"labels": {"job": "a"}, "health": "up"}]}}),
            f"{ASK}query": proof(time.time() - 3600),
            SIDECAR: as_json([{"name": "store", "ok": True}]),
        },
    )


def _listed(containers: list[dict[str, Any]]) -> Done:
    return Done(0, "\n".join(json.dumps(one) for one in containers))


def case(host: FakeHost, **changed: str) -> Case:
    well = {**example_variables(), "ALERTMANAGER_SLACK_URL": "https://hooks.slack.com/services/x"}
    return Case(host.root, host, {**well, **changed})


def failed(name: str, checks: Iterator[Check]) -> Check:
    """The one check of this name that fails; nothing else may."""
    wrong = [check for check in checks if check.ok is False]
    assert {check.name for check in wrong} == {name.partition(",")[0]}, wrong
    return wrong[0]


def test_every_failure_has_a_case(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = Sites()
    sites.watch(Check, monkeypatch)
    found = [
        *_of_hosts(host),
        *_of_machines(host),
        *_of_services(host),
        *_of_settings(host, monkeypatch),
        *_of_what_is_outside(host, monkeypatch),
        *_of_versions(host),
        *_of_providers(host),
        *_of_billing(host, monkeypatch),
    ]
    assert [check for check in found if not check.fix] == []
    wanted = set().union(*(failing(module) for module in MODULES))
    assert sites.seen == wanted, "a ✖ without a case in this file"


def test_every_examiner_takes_part() -> None:
    assert {examiner.__module__ for examiner in (*BEFORE, *AFTER)} == {module.__name__ for module in MODULES}


def _of_hosts(host: FakeHost) -> Iterator[Check]:
    for name, answers in HOSTS.items():
        before = dict(host.answers)
        host.answers |= answers
        examiner = secrets.examine if "git" in name else machine.examine
        yield failed(name, examiner(case(host)))
        host.answers = before
    (host.root / ".env.production").touch(mode=0o644)
    yield failed(".env.production", secrets.examine(case(host)))
    (host.root / ".env.production").chmod(0o600)
    (host.root / "secrets").mkdir(mode=0o750)
    yield failed("secrets", secrets.examine(case(host)))


def _of_machines(host: FakeHost) -> Iterator[Check]:
    host.room = machine.ENOUGH_BYTES - 1
    yield failed("disk", machine.examine(case(host)))
    host.room = machine.ENOUGH_BYTES
    for off in (10, -10):
        host.clock = time.time() + off
        yield failed("clock", machine.examine(case(host)))
    host.clock = None
    for port in (80, 443):
        host.free = {port: False}
        yield failed(f"port {port}", machine.examine(case(host)))
    host.free = {}
    host.names = {"api.posthub.work": []}
    yield failed("DNS api.posthub.work", machine.examine(case(host)))
    host.names = {}


def _of_services(host: FakeHost) -> Iterator[Check]:
    assert [check for check in services.examine(case(host)) if check.ok is False] == []
    for name, answers in SERVICES.items():
        before = dict(host.answers)
        host.answers |= {
            key: _listed(answer) if isinstance(answer, list) else answer for key, answer in answers.items()
        }
        yield failed(name, services.examine(case(host)))
        host.answers = before


def _of_settings(host: FakeHost, patch: pytest.MonkeyPatch) -> Iterator[Check]:
    patch.setattr(
        settings,
        "_text",
        lambda path: "https://posthub.work/ https://api.posthub.work/grafana https://api.posthub.work/",
    )
    assert [check for check in settings.examine(case(host)) if check.ok is False] == []
    for name, changed in SETTINGS.items():
        yield failed(name, settings.examine(case(host, **changed)))
    patch.setattr(
        settings,
        "_text",
        lambda path: "https://posthub.work/ https://api.posthub.work/" * (path.name == "blackbox.yml"),
    )
    yield failed("alerts/prometheus.yml", settings.examine(case(host)))


def _of_what_is_outside(host: FakeHost, patch: pytest.MonkeyPatch) -> Iterator[Check]:
    errors = (
        ClientError({"Error": {"Code": "403"}}, "HeadBucket"),
        EndpointConnectionError(endpoint_url="https://s3.example"),
    )
    for error in errors:

        class Client:
            def head_bucket(self, error: Exception = error, **_: str) -> None:
                raise error

        patch.setattr(outside, "_client", lambda *_: Client())
        yield failed("bucket", outside.examine(case(host, BACKUP_STORE_URL="s3://elsewhere/x")))
    here = {"BACKUP_STORE_URL": "file:///backups", "ALERTMANAGER_SLACK_URL": ""}
    yield failed("BACKUP_PING_URL", outside.examine(case(host, **here, BACKUP_PING_URL="nowhere")))
    host.reachable = False
    for variable, (name, port) in outside.FIXED.items():
        yield failed(f"{name}:{port}", outside.examine(case(host, **here, **{variable: "x"})))
    host.reachable = True


def _of_providers(host: FakeHost) -> Iterator[Check]:
    near = {"VEO_API_KEY": KEY, "GEMINI_API_URL": "http://127.0.0.1:1"}
    yield failed("VEO_API_KEY", providers.examine(case(host, **near)))
    with GeminiStandIn().running() as google:
        near["GEMINI_API_URL"] = google.url
        assert [check.ok for check in providers.examine(case(host, **near))] == [True]
        for answer in ((404, "NOT_FOUND"), (403, "PERMISSION_DENIED"), (500, "INTERNAL")):
            google.failures["models"] = answer
            yield failed("VEO_API_KEY", providers.examine(case(host, **near)))


def _of_billing(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    """A setting is missing, a price does not exist, and nobody answers."""
    given = {
        "STRIPE_SECRET_KEY": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRET": "whsec_x",
        "STRIPE_PRICE_PRO": "price_gone",
    }
    yield failed("stripe", billing.examine(case(host, **given | {"STRIPE_WEBHOOK_SECRET": ""})))
    with StripeStandIn(prices=[PRICE]) as stripe:
        monkeypatch.setattr(billing, "API", stripe.url)
        yield failed("stripe", billing.examine(case(host, **given)))
    yield failed("stripe", billing.examine(case(host, **given)))


def _of_versions(host: FakeHost) -> Iterator[Check]:
    """A version with a known fault, and one of a series without fixes, for every program."""
    for program in versions.PROGRAMS:
        before = dict(host.answers)
        for version in (f"{min(program.good)}.0", "1.0"):
            host.answers |= {f"exec -T {program.service} {program.command[0]}": Done(0, f"v{version}\n")}
            yield failed(f"version of {program.name}", versions.examine(case(host)))
            host.answers = dict(before)


def test_the_oldest_supported_compose_passes_and_the_one_before_does_not(host: FakeHost) -> None:
    major, minor = machine.OLDEST_COMPOSE
    for version, passes in ((f"v{major}.{minor}.0", True), (f"{major}.{minor - 1}.9", False)):
        host.answers["docker compose version"] = Done(0, version)
        [check] = [one for one in machine.examine(case(host)) if one.name == "Docker compose"]
        assert check.ok is passes


def test_a_port_may_be_used_by_our_proxy_and_by_nothing_else(host: FakeHost) -> None:
    host.free[80] = False
    for user, passes in (("posthub_caddy", True), ("another_proxy", False), ("", False)):
        host.answers["docker ps"] = Done(0, f"{user}\n")
        [check] = [one for one in machine.examine(case(host)) if one.name == "port 80"]
        assert check.ok is passes
        assert (user or "another program") in check.detail
