"""The doctor finds faults, and reports none on a healthy host."""

import json
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar import UsageError
from stack.doctor import billing, cli, envfile, machine, outside, providers, secrets, services, settings
from stack.doctor.check import Case, Check
from stack.doctor.host import Done, Host
from stack.paths import ROOT
from stack.standins import GeminiStandIn, PerplexityStandIn
from stack.standins.gemini import KEY
from stack.standins.perplexity import KEY as PERPLEXITY_KEY
from stack.standins.stripe import StripeStandIn
from tests.deploy.envexample import example_variables
from tests.deploy.hostkit import FakeHost, as_json

GOOD = {
    "ALERTMANAGER_SLACK_URL": "https://hooks.slack.com/services/x",
    "ALERTMANAGER_HEARTBEAT_URL": "https://hc-ping.com/x",
    "BACKUP_S3_ACCESS_KEY_ID": "key",
    "BACKUP_S3_SECRET_ACCESS_KEY": "secret",
}


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    for name in ("prometheus.yml", "targets/blackbox.yml"):
        (tmp_path / "alerts" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "alerts" / name, tmp_path / "alerts" / name)
    return FakeHost(
        tmp_path, {"docker compose version": Done(0, "2.26.1-4\n"), "docker version": Done(0, "20.10\n")}
    )


def _case(host: FakeHost, **changed: str) -> Case:
    return Case(host.root, host, {**example_variables(), **GOOD, **changed})


def _wrong(checks: Any) -> dict[str, Check]:
    return {check.name: check for check in checks if check.ok is False}


def test_the_example_with_its_secrets_is_well(host: FakeHost) -> None:
    assert _wrong(settings.examine(_case(host))) == {}
    assert _wrong(machine.examine(_case(host))) == {}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"API_DOMAIN": ""}, "settings"),
        ({"SECRET_KEY": "<production-secret>"}, "settings"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"DEBUG": "True"}, "DEBUG"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": "posthub.work"}, "ALLOWED_HOSTS"),
        ({"BACKUP_SCHEDULE": "at noon"}, "backup settings"),
        (
            {"BACKUP_AGE_RECIPIENTS": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"},
            "encryption",
        ),
        ({"ALERTMANAGER_SLACK_URL": ""}, "receivers"),
        ({"ALERTMANAGER_SMTP_SMARTHOST": "mail:587"}, "receivers"),
    ],
)
def test_a_wrong_setting_is_named_with_its_fix(host: FakeHost, changed: dict[str, str], name: str) -> None:
    found = _wrong(settings.examine(_case(host, **changed)))
    assert name in found
    assert found[name].fix


def test_another_name_has_to_be_everywhere(host: FakeHost) -> None:
    names = {"SITE_DOMAIN": "example.org", "API_DOMAIN": "api.example.org"}
    hosts = {"ALLOWED_HOSTS": "api.example.org,example.org"}
    found = _wrong(settings.examine(_case(host, **names, **hosts)))
    assert found["alerts/targets/blackbox.yml"].detail == (
        "lacks https://example.org/, https://api.example.org/"
    )
    assert set(found) == {
        "CORS_ALLOWED_ORIGINS",
        "GF_SERVER_ROOT_URL",
        "alerts/targets/blackbox.yml",
        "alerts/prometheus.yml",
    }


def test_no_secret_is_shown(host: FakeHost) -> None:
    case = _case(host, SECRET_KEY="hunter2", BACKUP_S3_SECRET_ACCESS_KEY="hunter3")
    text = str(list(settings.examine(case)))
    assert "hunter" not in text


def test_an_unknown_time_is_not_a_verdict_and_a_wrong_one_is(host: FakeHost) -> None:
    clock = {check.name: check.ok for check in machine.examine(_case(host))}["clock"]
    assert clock is None
    host.clock = time.time() - 60
    assert "clock" in _wrong(machine.examine(_case(host)))


def test_a_full_disk_a_taken_port_a_missing_name_and_no_engine(host: FakeHost) -> None:
    host.room = 1024**3
    host.free = {80: False}
    host.names = {"posthub.work": []}
    host.answers["docker version"] = Done(127, "", "docker: no such program")
    assert set(_wrong(machine.examine(_case(host)))) == {
        "disk",
        "port 80",
        "DNS posthub.work",
        "Docker engine",
    }


def test_the_port_may_be_our_own(host: FakeHost) -> None:
    host.free = {443: False}
    host.answers["docker ps --filter publish=443"] = Done(0, "posthub_caddy\n")
    assert _wrong(machine.examine(_case(host))) == {}


def test_an_old_compose_is_refused(host: FakeHost) -> None:
    host.answers["docker compose version"] = Done(0, "v2.3.3\n")
    assert "Docker compose" in _wrong(machine.examine(_case(host)))


def test_a_compose_of_unknown_version_is_not_a_verdict(host: FakeHost) -> None:
    host.answers["docker compose version"] = Done(0, "dev\n")
    assert {check.name: check.ok for check in machine.examine(_case(host))}["Docker compose"] is None


def test_the_oldest_compose_is_the_documented_one() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert f"compose {'.'.join(map(str, machine.OLDEST_COMPOSE))} or newer" in page


def test_a_name_of_another_machine_is_reported(host: FakeHost) -> None:
    host.names = {"posthub.work": ["198.51.100.7"]}
    found = {check.name: check for check in machine.examine(_case(host))}
    assert found["DNS posthub.work"].ok is None
    assert found["DNS posthub.work"].detail == "198.51.100.7 is not an address of this machine"
    assert found["DNS api.posthub.work"].ok is True


def test_the_addresses_of_this_machine_are_known(tmp_path: Path) -> None:
    class Machine(Host):
        def run(self, *command: str) -> Done:
            assert command == ("ip", "-json", "address")
            return as_json([{"addr_info": [{"local": "203.0.113.10"}, {"local": "2001:db8::1"}]}, {}])

    assert Machine(tmp_path).own_addresses() == ["203.0.113.10", "2001:db8::1"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALERTMANAGER_SMTP_SMARTHOST", "mail:smtp"),
        ("ALERTMANAGER_WEBHOOK_URL", "http://x:abc/"),
        ("ALERTMANAGER_WEBHOOK_URL", "nowhere"),
    ],
)
def test_an_invalid_address_is_named(host: FakeHost, variable: str, value: str) -> None:
    case = _case(host, BACKUP_STORE_URL="file:///backups", **{variable: value})
    assert set(_wrong(outside.examine(case))) == {variable}


def test_receivers_that_do_not_answer(host: FakeHost) -> None:
    case = _case(host, BACKUP_STORE_URL="file:///backups", ALERTMANAGER_SMTP_SMARTHOST="mail.example:587")
    assert _wrong(outside.examine(case)) == {}
    host.reachable = False
    assert set(_wrong(outside.examine(case))) == {
        "hooks.slack.com:443",
        "hc-ping.com:443",
        "mail.example:587",
    }


def test_a_bucket_that_is_there_and_one_that_is_not(host: FakeHost, object_store: Any) -> None:
    object_store.bucket("there")
    store = {
        "BACKUP_S3_ENDPOINT_URL": object_store.endpoint,
        "BACKUP_S3_ACCESS_KEY_ID": object_store.access_key,
        "BACKUP_S3_SECRET_ACCESS_KEY": object_store.secret_key,
    }
    assert _wrong(outside.examine(_case(host, BACKUP_STORE_URL="s3://there/x", **store))) == {}
    assert "bucket" in _wrong(outside.examine(_case(host, BACKUP_STORE_URL="s3://elsewhere/x", **store)))


def test_each_provider_is_called_with_its_own_key(host: FakeHost) -> None:
    """The stand-in knows one key. No call makes anything, and no result shows a key."""
    with GeminiStandIn().running() as google:
        asked = {
            "GEMINI_API_URL": google.url,
            "GEMINI_API_KEY": KEY,
            "NANOBANA_API_KEY": "canary-key",
            "PERPLEXITY_API_KEY": "canary-key",
            "PERPLEXITY_API_URL": "http://127.0.0.1:1",
        }
        checks = {check.name: check for check in providers.examine(_case(host, **asked))}
        assert {name: check.ok for name, check in checks.items()} == {
            "GEMINI_API_KEY": True,
            "NANOBANA_API_KEY": False,
            "PERPLEXITY_API_KEY": False,
        }
        assert "does not accept the key (400)" in checks["NANOBANA_API_KEY"].detail
        assert "canary" not in str(checks)
        google.failures["models"] = (429, "RESOURCE_EXHAUSTED")
        [limited] = providers.examine(_case(host, GEMINI_API_URL=google.url, VEO_API_KEY=KEY))
        assert (limited.ok, google.operations) == (None, [])


def test_perplexity_is_asked_for_a_list(host: FakeHost) -> None:
    with PerplexityStandIn().running() as perplexity:

        def check(key: str) -> Any:
            given = {"PERPLEXITY_API_URL": perplexity.url, "PERPLEXITY_API_KEY": key}
            [found] = providers.examine(_case(host, **given))
            return found

        assert check(PERPLEXITY_KEY).ok
        assert perplexity.requests == [("GET", "/async/chat/completions")]
        wrong = check("canary-key")
        assert wrong.ok is False
        assert "canary" not in str(wrong)
        assert "does not accept the key (401)" in wrong.detail
        perplexity.failure = (404, b"")
        assert check(PERPLEXITY_KEY).fix == "correct PERPLEXITY_API_URL"


def test_without_keys_no_provider_is_called(host: FakeHost) -> None:
    assert list(providers.examine(_case(host))) == []


def test_the_media_bucket_is_looked_for(host: FakeHost, object_store: Any) -> None:
    object_store.bucket("media-there")
    store = {
        "MEDIA_S3_ENDPOINT_URL": object_store.endpoint,
        "MEDIA_S3_ACCESS_KEY_ID": object_store.access_key,
        "MEDIA_S3_SECRET_ACCESS_KEY": object_store.secret_key,
    }
    assert _wrong(providers.examine(_case(host, MEDIA_STORE_URL="s3://media-there/x", **store))) == {}
    case = _case(host, MEDIA_STORE_URL="s3://media-elsewhere/x", **store)
    assert set(_wrong(providers.examine(case))) == {"media bucket"}


def test_files_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / ".env.production").write_text("")
    (tmp_path / ".env.production").chmod(0o644)
    found = _wrong(secrets.examine(Case(tmp_path, FakeHost(tmp_path))))
    assert found[".env.production"].fix == "chmod go= .env.production"


def test_a_secret_that_git_once_had_is_found(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    case = Case(tmp_path, Host(tmp_path), {"SECRET_KEY": "x" * 50, "OPS_PASSWORD": "of-the-operators"})
    (tmp_path / ".env.production").write_text(f"SECRET_KEY={'x' * 50}\nSITE_DOMAIN=posthub.work\n")
    (tmp_path / ".env.production").chmod(0o600)
    git("commit", "-q", "--allow-empty", "-m", "Begin")
    found = _wrong(secrets.examine(case))["secrets in git"]
    assert found.detail == "the next `git add` would add .env.production, .env, secrets"
    (tmp_path / ".gitignore").write_text(".env\n.env.production\n/secrets/\n")
    assert _wrong(secrets.examine(case)) == {}
    git("add", "-f", ".env.production")
    assert "tracked" in _wrong(secrets.examine(case))["secrets in git"].detail
    git("commit", "-q", "-m", "Add it")
    git("rm", "-q", "--cached", ".env.production")
    git("commit", "-q", "-m", "Take it away")
    found = _wrong(secrets.examine(case))["secrets in git"]
    assert found.detail.endswith(" and still in use: SECRET_KEY")
    # The cure works: a history stays, but what it contains opens nothing.
    changed = replace(case, settings={**case.settings, "SECRET_KEY": "y" * 50})
    assert _wrong(secrets.examine(changed)) == {}
    # What was generated counts too.
    (tmp_path / "secrets" / "values").mkdir(parents=True)
    (tmp_path / "secrets").chmod(0o700)
    (tmp_path / "secrets" / "values" / "SECRET_KEY").write_text("x" * 50 + "\n")
    assert "SECRET_KEY" in _wrong(secrets.examine(changed))["secrets in git"].detail


def test_the_commands_that_it_advises_can_be_run_as_they_are(host: FakeHost) -> None:
    """On a server without the programs on PATH, from the checkout."""
    case = _running(host, Image="prom/prometheus:v2.53.5")
    assert _wrong(services.examine(case))["image versions"].fix.endswith(" up -d --wait")
    ask = "exec -T posthub_prometheus wget -qO- http://127.0.0.1:9090/api/v1/"
    host.answers[f"{ask}query"] = as_json(
        {"data": {"result": [{"metric": {"database": "posthub"}, "value": [0, "0"]}]}}
    )
    # A run alone proves nothing, and the finding would stay.
    proof = _wrong(services.examine(case))["last verified backup of posthub"]
    assert proof.fix.endswith(" exec posthub_backup python -m backup run --verify")
    (check,) = (check for check in settings.examine(_case(host)) if check.name == "encryption")
    command, _, rest = check.fix.partition(";")
    assert command.split()[:3] == [".venv/bin/python", "-m", "backup"]
    assert "BACKUP_AGE_RECIPIENTS" in rest


def _running(host: FakeHost, **changed: Any) -> Case:
    """Two healthy services."""
    services = {"posthub_init": "posthub/x:1", "posthub_prometheus": "prom/prometheus:v3.16.0"}
    up = {"State": "running", "Health": "healthy", "Status": "Up 3 minutes (healthy)", "ExitCode": 0}
    once = {"State": "exited", "Health": "", "Status": "Exited (0)", "ExitCode": 0}
    containers = [
        {"Service": "posthub_init", "Image": "posthub/x:1", **once},
        {"Service": "posthub_prometheus", "Image": "prom/prometheus:v3.16.0", **up, **changed},
    ]
    config = json.dumps({"services": {name: {"image": image} for name, image in services.items()}})
    targets = [{"labels": {"job": "celery"}, "health": "up"}]
    proof = [{"metric": {"database": "posthub"}, "value": [0, str(time.time() - 3600)]}]
    ask = "exec -T posthub_prometheus wget -qO- http://127.0.0.1:9090/api/v1/"
    host.answers |= {
        "ps --all": Done(0, "\n".join(json.dumps(container) for container in containers)),
        "config": Done(0, config),
        f"{ask}targets": as_json({"data": {"activeTargets": targets}}),
        f"{ask}query": as_json({"data": {"result": proof}}),
        "exec -T posthub_backup python -m backup doctor": as_json([{"name": "store", "ok": True}]),
    }
    return _case(host)


def test_what_runs_well_is_well(host: FakeHost) -> None:
    assert _wrong(services.examine(_running(host))) == {}


def test_an_unhealthy_container_and_an_old_image(host: FakeHost) -> None:
    case = _running(host, Health="unhealthy", Image="prom/prometheus:v2.53.5")
    assert set(_wrong(services.examine(case))) == {"posthub_prometheus", "image versions"}


def test_a_target_that_is_down_and_a_backup_that_is_not_proven(host: FakeHost) -> None:
    case = _running(host)
    ask = "exec -T posthub_prometheus wget -qO- http://127.0.0.1:9090/api/v1/"
    down = [{"labels": {"job": "celery"}, "health": "down"}]
    host.answers[f"{ask}targets"] = as_json({"data": {"activeTargets": down}})
    old = [{"metric": {"database": "posthub"}, "value": [0, str(time.time() - 3 * 86400)]}]
    host.answers[f"{ask}query"] = as_json({"data": {"result": old}})
    host.answers["exec -T posthub_backup python -m backup doctor"] = as_json([{"name": "clock", "ok": False}])
    found = _wrong(services.examine(case))
    assert found["targets"].detail == "down: celery"
    assert set(found) == {"targets", "last verified backup of posthub", "backup sidecar"}


@pytest.mark.parametrize("used", [False, True])
def test_a_target_of_a_profile_counts_only_if_the_profile_is_in_use(host: FakeHost, used: bool) -> None:
    case = _running(host)
    ask = "exec -T posthub_prometheus wget -qO- http://127.0.0.1:9090/api/v1/"
    targets = [{"labels": {"job": "celery"}, "health": "up"}, {"labels": {"job": "logs"}, "health": "down"}]
    host.answers[f"{ask}targets"] = as_json({"data": {"activeTargets": targets}})
    if used:
        config = json.loads(host.answers["config"].output)
        config["services"]["posthub_log_gateway"] = {"image": "posthub/backup:1"}
        host.answers["config"] = Done(0, json.dumps(config))
    found = next(check for check in services.examine(case) if check.name == "targets")
    assert found.ok is not used
    assert found.detail == ("down: logs" if used else "1 up")


def test_without_a_readable_compose_file_nothing_is_called_right(host: FakeHost) -> None:
    case = _running(host, State="exited", Status="Exited (137)")
    host.answers["config"] = Done(15, "", "no such file: .env.production\n")
    found = {check.name: check for check in services.examine(case)}
    assert found["compose file"].detail == "cannot be read: no such file: .env.production"
    assert found["posthub_prometheus"].ok is False
    assert "image versions" not in found


def test_an_unknown_proof_is_missing(host: FakeHost) -> None:
    case = _running(host)
    ask = "exec -T posthub_prometheus wget -qO- http://127.0.0.1:9090/api/v1/"
    host.answers[f"{ask}query"] = as_json({"data": {"result": []}})
    host.answers["exec -T posthub_backup python -m backup doctor"] = as_json([])
    assert set(_wrong(services.examine(case))) == {"last verified backup", "backup sidecar"}


def test_a_prometheus_that_sends_invalid_answers_does_not_end_the_examination(host: FakeHost) -> None:
    case = _running(host)
    ask = "exec -T posthub_prometheus wget -qO- http://127.0.0.1:9090/api/v1/"
    host.answers |= {f"{ask}targets": Done(0, "<html>"), f"{ask}query": Done(0, "<html>")}
    assert set(_wrong(services.examine(case))) == {"targets", "last verified backup"}


def test_nothing_deployed_yet_is_not_a_fault(host: FakeHost) -> None:
    assert not services.is_running(_case(host))


def test_the_settings_file_is_read_as_compose_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\nA=1\nexport B='x #y'\n\nC=two words # and why\nD=\nE='x' # why\n")
    assert envfile.read(file) == {"A": "1", "B": "x #y", "C": "two words", "D": "", "E": "x"}
    file.write_text("no assignment\n")
    with pytest.raises(UsageError, match="line 1"):
        envfile.read(file)
    with pytest.raises(UsageError, match="cannot be read"):
        envfile.read(tmp_path / "missing")


def test_findings_are_shown_with_signs(capsys: pytest.CaptureFixture[str]) -> None:
    cli.show(
        [Check("disk", True, "100 GiB free"), Check("clock", False, "60 s off", "timedatectl set-ntp true")]
    )
    text = capsys.readouterr().out
    assert "✔" in text
    assert "✖" in text
    assert "timedatectl set-ntp true" in text


BILLING = {
    "STRIPE_SECRET_KEY": "rk_live_x",
    "STRIPE_WEBHOOK_SECRET": "whsec_x",
    "STRIPE_PRICE_PRO": "price_new,price_old",
}


def test_stripe_is_asked_for_each_price(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    with StripeStandIn(key="rk_live_x", prices=["price_new", "price_old"]) as stripe:
        monkeypatch.setattr(billing, "API", stripe.url)

        def found(**changed: str) -> dict[str, str]:
            return {
                name: check.detail
                for name, check in _wrong(billing.examine(_case(host, **BILLING | changed))).items()
            }

        assert found() == {}
        assert {path for _, path in stripe.requests} == {"/v1/prices/price_new", "/v1/prices/price_old"}
        assert found(STRIPE_SECRET_KEY="rk_live_y") == {"stripe": "STRIPE_SECRET_KEY is not accepted"}
        assert found(STRIPE_PRICE_PRO="price_gone") == {"stripe": "price_gone does not exist"}
        assert found(STRIPE_WEBHOOK_SECRET="") == {"stripe": "STRIPE_WEBHOOK_SECRET missing"}
        stripe.failures[:] = [403]
        assert found(STRIPE_PRICE_PRO="price_new") == {"stripe": "STRIPE_SECRET_KEY may not read prices"}
        stripe.failures[:] = [500]
        assert found(STRIPE_PRICE_PRO="price_new") == {"stripe": "answered 500"}
        stripe.key = "sk_test_x"
        checks = list(billing.examine(_case(host, **BILLING | {"STRIPE_SECRET_KEY": "sk_test_x"})))
        assert [check.name for check in checks if check.ok is None] == ["stripe mode"]
    assert "does not answer" in found()["stripe"]


def test_without_stripe_nothing_is_checked(host: FakeHost) -> None:
    assert list(billing.examine(_case(host))) == []
