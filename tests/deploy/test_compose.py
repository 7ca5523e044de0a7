"""The compose files: open ports, privileges, pinned versions, and who sees which secret."""

import base64
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bcrypt
import pytest
import yaml

from backup.hooks import HURRIED_SECONDS
from stack.deploy.compose import JOBS, ROLLING
from stack.deploy.edge import NEXT, SERVING
from stack.deploy.services import DATA
from stack.paths import ROOT
from tests.deploy.app_names import app_variables
from tests.deploy.envexample import example_variables

SEED = [
    "posthub_api_prod",
    "posthub_frontend_prod",
    "posthub_postgres_prod",
    "posthub_redis_prod",
    "posthub_celery_worker",
    "posthub_celery_worker_ai",
    "posthub_celery_beat",
    "posthub_flower",
    "posthub_caddy",
]
ONCE = {"posthub_init", "posthub_migrate", "posthub_db_roles", "posthub_alertmanager_config"}
OWN = ("${POSTHUB_IMAGES:-posthub}/",)
# Networks with access to the Internet: one for each group of containers, because containers on one network reach each other.
OUTSIDE = {
    "edge": {"posthub_caddy"},
    "app_out": {"posthub_api_prod", "posthub_celery_worker", "posthub_celery_worker_ai"},
    "backup_out": {"posthub_backup", "posthub_backup_wal"},
    "alerting_out": {"posthub_alertmanager", "posthub_alert_watch"},
    "probes_out": {"posthub_blackbox_exporter"},
}


def test_production_has_the_original_services_and_the_sidecars(production: dict[str, Any]) -> None:
    services = production["services"]
    sidecars = (
        "celery_exporter backup backup_wal prometheus alertmanager grafana redis_exporter postgres_exporter node_exporter "
        "cadvisor blackbox_exporter alert_watch log_store log_gateway log_shipper"
    )
    assert {*SEED, *(f"posthub_{name}" for name in sidecars.split())} <= set(services)
    assert all(service["container_name"] == name for name, service in services.items())


def test_workers_serve_the_queues_of_production(production: dict[str, Any]) -> None:
    def queues(name: str) -> str:
        command = production["services"][name]["command"]
        return str(command[command.index("-Q") + 1])

    assert queues("posthub_celery_worker") == "default,quick,scheduled"
    assert queues("posthub_celery_worker_ai") == "ai_jobs,ai_priority"


def test_only_the_web_is_published(production: dict[str, Any]) -> None:
    published = {
        name: service["ports"] for name, service in production["services"].items() if "ports" in service
    }
    assert published == {"posthub_caddy": ["80:80", "443:443", "443:443/udp"]}


def _members(compose: dict[str, Any], network: str) -> set[str]:
    return {name for name, service in compose["services"].items() if network in service.get("networks", [])}


def _neighbours(compose: dict[str, Any], name: str) -> set[str]:
    """The containers that share a network with this one."""
    networks = compose["services"][name].get("networks", [])
    return set().union(*(_members(compose, network) for network in networks)) - {name}


def test_only_those_that_call_outside_services_have_a_way_to_the_internet(production: dict[str, Any]) -> None:
    open_ones = {
        name for name, network in production["networks"].items() if not (network or {}).get("internal")
    }
    assert {name: _members(production, name) for name in open_ones} == OUTSIDE
    for name in ("posthub_postgres_prod", "posthub_redis_prod"):
        assert production["services"][name]["networks"] == ["data", "sidecar_data"]


def test_only_prometheus_reaches_alertmanager_and_the_alert_watch(production: dict[str, Any]) -> None:
    """Anyone who reaches them could silence every alert, or keep the dead man's switch quiet."""
    pair = {"posthub_alertmanager", "posthub_alert_watch"}
    for name in pair:
        assert _neighbours(production, name) - pair == {"posthub_prometheus"}, name


def test_alertmanager_and_the_alert_watch_require_a_password(
    production: dict[str, Any], init_secrets: Any
) -> None:
    values = dict.fromkeys(init_secrets.SECRETS, "") | {"ALERTS_PASSWORD": "open sesame"}
    written = init_secrets.files(values)
    services = production["services"]
    assert "--web.config.file=/run/secrets/web.yml" in services["posthub_alertmanager"]["command"]
    watch = services["posthub_alert_watch"]["environment"]
    assert watch["ALERTS_WATCH_WEB_CONFIG_FILE_PATH"] == "/run/secrets/web.yml"
    for group in ("alertmanager", "alert_watch"):
        users = yaml.safe_load(written[group]["web.yml"])["basic_auth_users"]
        assert bcrypt.checkpw(b"open sesame", users["alerts"].encode())
    # Those that sign in: Prometheus to send alerts and to scrape both, amtool, and the two to each other.
    config = yaml.safe_load((ROOT / "alerts" / "prometheus.yml").read_text(encoding="utf-8"))
    login = {"username": "alerts", "password_file": "/run/secrets/alerts_password"}
    assert config["alerting"]["alertmanagers"][0]["basic_auth"] == login
    asked = {job["job_name"]: job.get("basic_auth") for job in config["scrape_configs"]}
    assert {name for name, found in asked.items() if found == login} == {"alertmanager", "watch"}
    for name in ("posthub_alert_watch", "posthub_alertmanager_config"):
        environment = services[name]["environment"]
        assert environment["ALERTS_USERNAME"] == "alerts"
        assert environment["ALERTS_PASSWORD_FILE"] == "/run/secrets/alerts_password"
    assert yaml.safe_load((ROOT / "deploy/amtool/http.yml").read_text())["basic_auth"] == login


def test_each_container_reaches_every_address_that_it_is_given(
    production: dict[str, Any], init_secrets: Any
) -> None:
    """In its environment, its command, its secrets, and the configuration that it reads."""
    values = {
        name: "" if name.endswith(("_URL", "_URLS")) else "main" if name.endswith("_SERVERS") else "x"
        for name in init_secrets.SECRETS
    }
    written = init_secrets.files(values)
    read = {
        "posthub_prometheus": [
            ROOT / "alerts" / "prometheus.yml",
            *(ROOT / "alerts" / "targets").glob("*.yml"),
        ],
        "posthub_caddy": [ROOT / "deploy" / "Caddyfile"],
        "posthub_grafana": sorted((ROOT / "dashboards" / "provisioning" / "datasources").iterdir()),
    }
    reached = 0
    for name, service in production["services"].items():
        # It writes a configuration for another one.
        if service.get("network_mode") == "none":
            continue
        folders = [
            volume.split(":")[0].removeprefix("./secrets/")
            for volume in service.get("volumes", [])
            if volume.startswith("./secrets/")
        ]
        texts = [str(service.get("environment", "")), str(service.get("command", ""))]
        texts += [text for folder in folders for text in written[folder].values()]
        texts += [path.read_text(encoding="utf-8") for path in read.get(name, ())]
        named = re.findall(r"\b(posthub_\w+):\d+", " ".join(texts))
        # The second container of a rollout is on the networks of its service.
        found = {other.removesuffix(NEXT) for other in named} - {name}
        assert found <= _neighbours(production, name), name
        reached += len(found)
    # Prometheus, Caddy, the databases' users, Alertmanager, the log store.
    assert reached > 40


def test_the_servers_start_with_their_users(production: dict[str, Any], init_secrets: Any) -> None:
    """Without the file, Redis has one user, who may do everything, without a password. The app's role owns no server."""
    redis, postgres = (production["services"][f"posthub_{name}_prod"] for name in ("redis", "postgres"))
    assert redis["command"][:2] == ["sh", "/srv/redis/start.sh"]
    assert {"./deploy/redis:/srv/redis:ro", "./secrets/redis:/run/secrets:ro"} <= set(redis["volumes"])
    values = {name: f"0{name}0" for name in init_secrets.SECRETS} | {"DATABASE_URL": "", "REDIS_URL": ""}
    values |= {"CELERY_BROKER_URL": ""}
    written = init_secrets.files(values)
    assert written["redis"]["users.acl"] == init_secrets.redis_users(values)
    owner = postgres["environment"]["POSTGRES_USER"]
    assert owner == init_secrets.ADMIN
    file = postgres["environment"]["POSTGRES_PASSWORD_FILE"].removeprefix("/run/secrets/")
    assert written["postgres"][file] == values["POSTGRES_ADMIN_PASSWORD"]
    for group in ("api", "worker", "worker_ai", "beat", "migrate"):
        assert urlsplit(written[group]["database_url"]).username not in (None, owner), group
        assert urlsplit(written[group]["celery_broker_url"]).username == "app", group


def test_a_tool_is_reached_by_caddy_alone(production: dict[str, Any]) -> None:
    assert _members(production, "flower") == {"posthub_caddy", "posthub_flower"}
    assert _members(production, "grafana") == {"posthub_caddy", "posthub_grafana"}
    assert _members(production, "grafana_data") == {"posthub_prometheus", "posthub_grafana"}
    assert _members(production, "app") == {"posthub_caddy", "posthub_api_prod", "posthub_frontend_prod"}


def test_the_logs_are_reached_by_their_own_parts_only(production: dict[str, Any]) -> None:
    """Anyone who reaches the gateway could add lines."""
    assert _neighbours(production, "posthub_log_shipper") == {"posthub_log_gateway"}
    gateway = {"posthub_log_shipper", "posthub_log_store", "posthub_prometheus"}
    assert _neighbours(production, "posthub_log_gateway") == gateway
    assert _neighbours(production, "posthub_log_store") == {"posthub_log_gateway", "posthub_caddy"}
    assert all(
        production["services"][f"posthub_log_{name}"]["profiles"] == ["logs"]
        for name in ("store", "gateway", "shipper")
    )


def test_the_log_store_requires_a_password_and_ends(production: dict[str, Any], init_secrets: Any) -> None:
    written = init_secrets.files(dict.fromkeys(init_secrets.SECRETS, "") | {"LOGS_PASSWORD": "open sesame"})
    command = production["services"]["posthub_log_store"]["command"]
    assert "-httpAuth.password=file:///run/secrets/logs_password" in command
    assert {written[name]["logs_password"] for name in ("log_store", "log_gateway")} == {"open sesame"}
    assert base64.b64decode(written["caddy"]["logs"]) == b"logs:open sesame"
    assert any(flag.startswith("-retentionPeriod=") for flag in command)
    assert any(flag.startswith("-retention.maxDiskSpaceUsageBytes=") for flag in command)


def test_every_service_writes_its_name_next_to_its_lines(production: dict[str, Any]) -> None:
    tags = {
        name: service["logging"]["options"].get("tag") for name, service in production["services"].items()
    }
    assert {name: tag for name, tag in tags.items() if tag != "{{.Name}}"} == {}
    json_services = {"posthub_celery_exporter", "posthub_backup", "posthub_alert_watch", "posthub_backup_wal"}
    formats = {name: production["services"][name]["environment"]["LOG_FORMAT"] for name in json_services}
    assert set(formats.values()) == {"json"}, formats


APP = (
    "posthub_migrate",
    "posthub_api_prod",
    "posthub_frontend_prod",
    "posthub_celery_worker",
    "posthub_celery_worker_ai",
    "posthub_celery_beat",
    "posthub_flower",
)


WITHOUT_METRICS = {"posthub_migrate", "posthub_frontend_prod", "posthub_celery_beat", "posthub_flower"}


@pytest.mark.parametrize("name", [*APP, "posthub_caddy", "posthub_grafana"])
def test_what_strangers_may_take_over_reaches_neither_sidecars_nor_exporters(
    production: dict[str, Any], name: str
) -> None:
    """By no network, neither by those of the metrics nor by that of the databases."""
    allowed = {*APP, "posthub_caddy", "posthub_postgres_prod", "posthub_redis_prod"}
    # Each has its own password.
    tools = {"posthub_grafana", "posthub_log_store"} if name == "posthub_caddy" else set()
    assert _neighbours(production, name) - allowed - tools == (
        set() if name in WITHOUT_METRICS else {"posthub_prometheus"}
    )


def test_metrics_have_separate_networks(production: dict[str, Any]) -> None:
    assert _members(production, "edge_metrics") == {"posthub_caddy", "posthub_prometheus"}
    assert _members(production, "app_metrics") == {
        "posthub_api_prod",
        "posthub_celery_worker",
        "posthub_celery_worker_ai",
        "posthub_prometheus",
    }


def test_only_the_proxy_has_the_engines_socket(production: dict[str, Any]) -> None:
    """Anyone who may send any request to the engine is root on the host."""
    sources = {
        name: [volume.split(":")[0] for volume in service.get("volumes", [])]
        for name, service in production["services"].items()
    }
    run = ("/var/run", "/run")
    assert {name for name, found in sources.items() if any(path.startswith(run) for path in found)} == {
        "posthub_docker_proxy"
    }
    assert _neighbours(production, "posthub_docker_proxy") == {"posthub_cadvisor"}
    # The engine's log files, next to which is the environment of posthub_init: for the shipper only, which has no way out.
    engine = {
        name
        for name, found in sources.items()
        if any(path.startswith("/var/lib/docker/containers") for path in found)
    }
    assert engine == {"posthub_log_shipper"}
    # And only node_exporter, with its own user, sees the host's files.
    assert {name for name, found in sources.items() if "/" in found} == {"posthub_node_exporter"}


def test_cadvisor_sees_control_groups_and_nothing_of_the_containers_files(production: dict[str, Any]) -> None:
    cadvisor = production["services"]["posthub_cadvisor"]
    layers = "/var/lib/docker/image/overlay2/layerdb/mounts"
    assert cadvisor["volumes"] == ["/sys:/sys:ro", f"{layers}:{layers}:ro"]
    assert "--docker=tcp://posthub_docker_proxy:2375" in cadvisor["command"]
    assert _neighbours(production, "posthub_cadvisor") == {"posthub_docker_proxy", "posthub_prometheus"}


def test_everything_that_stays_up_is_watched_limited_and_restarted(production: dict[str, Any]) -> None:
    for name, service in production["services"].items():
        assert service["logging"]["options"]["max-size"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        if name not in ONCE:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
            assert service["cpu_quota"] > 0, name


def test_every_container_is_hardened(production: dict[str, Any]) -> None:
    for name, service in production["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"]["pids"] <= 1024, name
    added = {
        name: service["cap_add"] for name, service in production["services"].items() if "cap_add" in service
    }
    assert added == {
        "posthub_init": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
        "posthub_caddy": ["NET_BIND_SERVICE"],
        "posthub_cadvisor": ["SYSLOG"],
    }


@pytest.fixture(scope="session")
def trial(production: dict[str, Any]) -> dict[str, Any]:
    """The services that only a trial has, and its changes of the others."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.trial.yml").read_text(encoding="utf-8"))
    assert set(found["services"]) & set(production["services"])
    return found


def test_each_container_has_its_own_user(production: dict[str, Any], trial: dict[str, Any]) -> None:
    """Containers with the same user read each other's secrets as soon as one sees the other's processes."""
    users: dict[str, set[str]] = {}
    for name, service in (trial["services"] | production["services"]).items():
        users.setdefault(service.get("user", "0").partition(":")[0], set()).add(name)
    # Root, where nothing else works: to set owners, to query the engine, for the kernel's log, to read the engine's log
    # files, and in a trial. None of them has secrets of another container, and the first has no network.
    root = {
        "posthub_init",
        "posthub_docker_proxy",
        "posthub_cadvisor",
        "posthub_log_shipper",
        "posthub_trial_s3",
    }
    assert users.pop("0") == root
    shared = {user: names for user, names in users.items() if len(names) > 1}
    # The second one prepares the first one's configuration.
    assert shared == {"59104": {"posthub_alertmanager", "posthub_alertmanager_config"}}


def test_what_only_a_trial_has_is_limited_too(production: dict[str, Any], trial: dict[str, Any]) -> None:
    for name in set(trial["services"]) - set(production["services"]):
        service = trial["services"][name]
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] <= 1024, name


def test_the_probes_of_a_trial_find_its_sites(production: dict[str, Any], trial: dict[str, Any]) -> None:
    """Otherwise two critical alerts fire two minutes after its start: no DNS server leads to its Caddy."""
    targets = yaml.safe_load((ROOT / "alerts" / "targets" / "blackbox.yml").read_text(encoding="utf-8"))
    probed = {urlsplit(target).hostname for group in targets for target in group["targets"]}
    (network,) = trial["services"]["posthub_caddy"]["networks"]
    assert set(trial["services"]["posthub_caddy"]["networks"][network]["aliases"]) == probed
    assert network in production["services"]["posthub_blackbox_exporter"]["networks"]
    # The same modules, except that the certificates are Caddy's own.
    place = ":/etc/blackbox_exporter/config.yml:ro"
    (volume,) = trial["services"]["posthub_blackbox_exporter"]["volumes"]
    assert [volume.endswith(place), production["services"]["posthub_blackbox_exporter"]["volumes"]] == [
        True,
        [f"./deploy/blackbox.yml{place}"],
    ]
    ours = yaml.safe_load((ROOT / volume.removesuffix(place)).read_text(encoding="utf-8"))
    theirs = yaml.safe_load((ROOT / "deploy" / "blackbox.yml").read_text(encoding="utf-8"))
    for module in ours["modules"].values():
        if module["prober"] == "http":
            assert module["http"].pop("tls_config") == {"insecure_skip_verify": True}
    assert ours == theirs


# In development our own are built here and never pulled.
@pytest.mark.parametrize(("name", "own"), [("production", OWN), ("development", ("posthub/",))])
def test_foreign_images_are_pinned(name: str, own: tuple[str], request: pytest.FixtureRequest) -> None:
    services = request.getfixturevalue(name)["services"]
    foreign = {s["image"] for s in services.values() if "image" in s and not s["image"].startswith(own)}
    assert foreign
    for image in foreign:
        assert re.search(r":v?\d+\.\d+\.\d+", image), image


# They wait for the database themselves, and all but posthub_migrate for its migrations.
LOADS_DJANGO = (
    "posthub_migrate",
    "posthub_api_prod",
    "posthub_celery_worker",
    "posthub_celery_worker_ai",
    "posthub_celery_beat",
    "posthub_flower",
)


def test_what_depends_waits_for_health(production: dict[str, Any]) -> None:
    for name, service in production["services"].items():
        for other, how in (service.get("depends_on") or {}).items():
            expected = "service_completed_successfully" if other in ONCE else "service_healthy"
            if name in LOADS_DJANGO and other == "posthub_postgres_prod":
                expected = "service_started"  # Django loads while the database starts
            assert how["condition"] == expected, f"{name} → {other}"


def test_the_app_starts_after_its_servers_and_with_its_secrets(production: dict[str, Any]) -> None:
    needed = {"posthub_init", *DATA}
    for name in LOADS_DJANGO[1:]:
        assert needed <= set(production["services"][name]["depends_on"]), name


def test_what_does_not_need_the_app_starts_next_to_it(production: dict[str, Any]) -> None:
    """Otherwise its own start is added to the start of production."""
    for name in ("posthub_caddy", "posthub_grafana", "posthub_prometheus", "posthub_alertmanager_config"):
        assert set(production["services"][name].get("depends_on") or {}) <= {"posthub_init"}, name


def test_what_loads_django_starts_next_to_the_migrations(production: dict[str, Any]) -> None:
    for name in LOADS_DJANGO[1:]:
        assert "posthub_migrate" not in production["services"][name]["depends_on"], name


def test_a_wait_for_migrations_is_not_taken_for_a_fault(production: dict[str, Any]) -> None:
    startup = (ROOT / "app" / "config" / "startup.py").read_text(encoding="utf-8")
    (seconds,) = re.findall(r"^MIGRATION_SECONDS = (\d+)", startup, re.MULTILINE)
    for name in (
        "posthub_api_prod",
        "posthub_celery_worker",
        "posthub_celery_worker_ai",
        "posthub_celery_beat",
    ):
        assert production["services"][name]["healthcheck"]["start_period"] == f"{seconds}s", name


def test_nothing_waits_long_for_its_first_check(production: dict[str, Any]) -> None:
    """Docker checks for the first time after one interval, and everything that depends on the service waits for it."""
    for name, service in production["services"].items():
        interval = (service.get("healthcheck") or {}).get("interval", "0s")
        longest = 2 if name in DATA else 10
        assert int(interval.removesuffix("s")) <= longest, name


def test_services_that_read_the_settings_get_no_secret(production: dict[str, Any], init_secrets: Any) -> None:
    for name, service in production["services"].items():
        if "env_file" in service and name != "posthub_init":
            assert {key for key in init_secrets.SECRETS if service["environment"].get(key) != ""} == set(), (
                name
            )


def test_every_secret_setting_of_a_sidecar_is_a_secret(init_secrets: Any) -> None:
    from alerts.receivers import ReceiverSettings
    from alerts.watch.settings import WatchSettings
    from backup.settings import BackupSettings
    from sidecar.settings import variables

    secret = {
        variable.names[0]
        for settings in (BackupSettings, ReceiverSettings, WatchSettings)
        for variable in variables(settings)
        if variable.secret
    }
    assert secret - set(init_secrets.SECRETS) == set()


def test_pages_without_a_password_are_only_for_this_machine_outside_of_the_images() -> None:
    """In a container, the networks decide who reaches them."""
    from alerts.watch.settings import WatchSettings
    from backup.settings import BackupSettings
    from sidecar.settings import variables

    for settings, name, image in (
        (BackupSettings, "BACKUP_HOST", "backup"),
        (WatchSettings, "ALERTS_WATCH_HOST", "exporters"),
    ):
        (host,) = (variable for variable in variables(settings) if name in variable.names)
        assert host.default == "127.0.0.1", name
        assert f"{name}=0.0.0.0" in (ROOT / image / "Dockerfile").read_text(encoding="utf-8"), name


def test_a_secret_file_that_is_named_is_written(production: dict[str, Any], init_secrets: Any) -> None:
    values = dict.fromkeys(init_secrets.SECRETS, "x")
    written = init_secrets.files(values)
    for name, service in production["services"].items():
        folders = [v.split(":")[0] for v in service.get("volumes", []) if v.startswith("./secrets/")]
        named = [
            value.removeprefix("/run/secrets/")
            for key, value in (service.get("environment") or {}).items()
            if key.endswith(("_FILE", "PASS_FILE")) and value.startswith("/run/secrets/")
        ]
        assert len(folders) <= 1, name
        for file in named:
            assert file in written[Path(folders[0]).name], f"{name}: {file}"


def test_the_example_has_every_variable_that_it_should(init_secrets: Any) -> None:
    example = example_variables()
    assert set(init_secrets.SECRETS) - set(example) == set()
    assert {"SITE_DOMAIN", "API_DOMAIN", "ACME_EMAIL", "BACKUP_STORE_URL", "BACKUP_SCHEDULE"} <= set(example)
    assert all(not example[name] for name in init_secrets.SECRETS)


def test_the_example_names_only_variables_that_are_read(init_secrets: Any) -> None:
    from alerts.receivers import ReceiverSettings
    from alerts.watch.settings import WatchSettings
    from backup.settings import BackupSettings
    from sidecar.settings import variables

    sidecars = {
        name
        for settings in (BackupSettings, ReceiverSettings, WatchSettings)
        for variable in variables(settings)
        for name in variable.names
    }
    caddy = set(re.findall(r"\{\$(\w+)", (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")))
    known = {*init_secrets.SECRETS, *sidecars, *caddy, *app_variables(), "GF_SERVER_ROOT_URL"}
    assert set(example_variables()) - known == set()


def test_mounted_files_of_the_checkout_exist(production: dict[str, Any], development: dict[str, Any]) -> None:
    for compose in (production, development):
        for service in compose["services"].values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("./") and not source.startswith("./secrets"):
                    assert (ROOT / source).exists(), source


@pytest.mark.parametrize(
    "path",
    [ROOT / name for name in ("docker-compose.yml", "docker-compose.prod.yml", "docker-compose.trial.yml")]
    + sorted((ROOT / "k8s").rglob("*.yaml"))
    + [ROOT / folder / "Dockerfile" for folder in ("app", "exporters", "backup")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_health_checks_start_programs_that_exist(path: Path) -> None:
    named = re.findall(r"/srv/(health/[\w.-]+\.\w+)", path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / "deploy" / name).is_file()] == []


@pytest.mark.parametrize("name", [".env", ".env.production", "secrets/values/OPS_PASSWORD"])
def test_git_ignores_what_is_secret(name: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    done = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "-q", name])
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["production", "development"])
def test_what_a_service_names_is_there(name: str, request: pytest.FixtureRequest) -> None:
    compose = request.getfixturevalue(name)
    for service, definition in compose["services"].items():
        assert set(definition.get("depends_on") or {}) <= set(compose["services"]), service
        assert set(definition.get("networks") or []) <= set(compose.get("networks") or {}), service
        sources = {volume.split(":")[0] for volume in definition.get("volumes", [])}
        named = {source for source in sources if not source.startswith((".", "/"))}
        assert named <= set(compose["volumes"]), service


def test_development_keeps_to_this_machine(development: dict[str, Any]) -> None:
    ports = [port for service in development["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize(
    "files",
    [
        ["docker-compose.yml"],
        ["docker-compose.prod.yml"],
        ["docker-compose.prod.yml", "docker-compose.trial.yml"],
    ],
    ids=["development", "production", "trial"],
)
def test_compose_itself_accepts_them(files: list[str], tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("there is no docker compose; https://docs.docker.com/compose/install says how to get it")
    for name in {*files, "docker-compose.logs.yml"}:
        shutil.copy(ROOT / name, tmp_path)
    shutil.copy(ROOT / ".env.production.example", tmp_path / ".env.production")
    command = [
        docker,
        "compose",
        *(part for name in files for part in ("-f", name)),
        "--profile",
        "*",
        "config",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"]


def test_a_container_that_sees_every_process_shares_its_user_with_none(production: dict[str, Any]) -> None:
    """In the host's PID namespace, /proc/PID/root shows the secrets of every container of the same user."""
    users = {name: service.get("user", "") for name, service in production["services"].items()}
    watchers = [name for name, service in production["services"].items() if service.get("pid") == "host"]
    assert watchers == ["posthub_node_exporter"]
    for name in watchers:
        assert [other for other, user in users.items() if user == users[name]] == [name]


def test_exporters_give_up_before_prometheus_does(production: dict[str, Any]) -> None:
    """An exporter that waits longer than the scrape reports nothing, and an alert on its value stays silent."""
    config = yaml.safe_load((ROOT / "alerts" / "prometheus.yml").read_text(encoding="utf-8"))
    scrape = float(config["global"].get("scrape_timeout", "10s").removesuffix("s"))
    services = production["services"]
    postgres = services["posthub_postgres_exporter"]["environment"]["DATA_SOURCE_URI"]
    redis = services["posthub_redis_exporter"]["environment"]["REDIS_EXPORTER_CONNECTION_TIMEOUT"]
    found = re.search(r"connect_timeout=(\d+)", postgres)
    assert found is not None, postgres
    # One try for each address family.
    assert 2 * float(found[1]) < scrape
    assert 2 * float(redis.removesuffix("s")) < scrape


def test_grafanas_cookie_is_only_sent_over_https(production: dict[str, Any]) -> None:
    assert production["services"]["posthub_grafana"]["environment"]["GF_SECURITY_COOKIE_SECURE"] == "true"


def test_a_restart_of_alerting_notifies_nothing_false(production: dict[str, Any]) -> None:
    """docs/alerts.md, "Restarts": pending alerts continue, and causes arrive before their symptoms are notified."""
    flags = {
        name: production["services"][name]["command"]
        for name in ("posthub_prometheus", "posthub_alertmanager")
    }
    assert "--rules.alert.for-grace-period=1m" in flags["posthub_prometheus"]
    # Prometheus sends each alert again once a minute.
    assert "--dispatch.start-delay=90s" in flags["posthub_alertmanager"]


def test_what_the_workers_count_is_scraped(production: dict[str, Any]) -> None:
    workers = {
        name: service["environment"]["WORKER_METRICS_PORT"]
        for name, service in production["services"].items()
        if "-Q" in service.get("command", [])
    }
    assert set(workers) == {"posthub_celery_worker", "posthub_celery_worker_ai"}
    (group,) = yaml.safe_load((ROOT / "alerts" / "targets" / "workers.yml").read_text(encoding="utf-8"))
    assert group["targets"] == [f"{name}:{port}" for name, port in workers.items()]
    for name, port in workers.items():
        assert "posthub_prometheus" in _neighbours(production, name)
        check = production["services"][name]["healthcheck"]["test"]
        assert check[-1] == f"http://127.0.0.1:{port}/healthz", "a check that starts no Celery"


def test_the_second_container_of_a_rollout_has_only_its_own_name(production: dict[str, Any]) -> None:
    """Engines make the host name a name on the networks: Caddy would send requests to the container that is about to stop."""
    for name in SERVING:
        assert "hostname" not in production["services"][name], name


def test_a_rollout_starts_the_proxy_before_cadvisor(production: dict[str, Any]) -> None:
    """cAdvisor looks for the engine only when it starts."""
    assert "posthub_docker_proxy" in ROLLING
    assert "posthub_cadvisor" not in {*ROLLING, *DATA, *JOBS}
    assert "posthub_docker_proxy" in production["services"]["posthub_cadvisor"]["depends_on"]


def _flags(production: dict[str, Any], name: str) -> dict[str, str]:
    """The options of a service's command: those with = and those whose value is the next word."""
    words = production["services"][name]["command"]
    split = dict(word.split("=", 1) for word in words if "=" in word)
    return dict(zip(words, [*words[1:], ""], strict=True)) | split


def test_the_broker_keeps_every_task(production: dict[str, Any]) -> None:
    """A full broker that evicts keys loses tasks silently, and so does one without a file that is restarted."""
    flags = _flags(production, "posthub_redis_prod")
    assert flags["--maxmemory-policy"] == "noeviction"
    assert flags["--appendonly"] == "yes"
    limit = production["services"]["posthub_redis_prod"]["deploy"]["resources"]["limits"]["memory"]
    assert (flags["--maxmemory"], limit) == ("768mb", "1G"), "a rewrite of the file needs the rest"


def test_a_stopped_reader_of_the_wal_does_not_fill_the_disk(production: dict[str, Any]) -> None:
    size = _flags(production, "posthub_postgres_prod")["max_slot_wal_keep_size"]
    assert re.fullmatch(r"[1-9]\d*GB", size), size


def test_prometheus_keeps_what_panels_and_rules_look_back_on(production: dict[str, Any]) -> None:
    kept = _flags(production, "posthub_prometheus")["--storage.tsdb.retention.time"]
    files = [*(ROOT / "alerts" / "rules").glob("*.yml"), *(ROOT / "dashboards" / "json").glob("*.json")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert int(kept.removesuffix("d")) >= max(int(days) for days in re.findall(r"\[(\d+)d\]", text))


def test_what_works_has_time_to_stop(production: dict[str, Any]) -> None:
    """docker stop waits 10 seconds by default, which is less than a task or the end of a backup takes."""
    periods = {
        name: int(service["stop_grace_period"].removesuffix("s"))
        for name, service in production["services"].items()
        if "stop_grace_period" in service
    }
    assert periods["posthub_celery_worker"] == periods["posthub_celery_worker_ai"] >= 90
    # The user's command after a backup has this long, and then comes our own clean-up.
    assert periods["posthub_backup"] >= HURRIED_SECONDS + 20
    assert periods["posthub_postgres_prod"] >= 60
    assert periods["posthub_prometheus"] >= 60
    assert periods["posthub_api_prod"] >= 30
    assert periods["posthub_backup_wal"] >= 30


def test_the_exporter_watches_every_queue(production: dict[str, Any]) -> None:
    services = production["services"]
    served = [
        queue
        for service in services.values()
        if "-Q" in (words := service.get("command", []))
        for queue in words[words.index("-Q") + 1].split(",")
    ]
    watched = services["posthub_celery_exporter"]["environment"]["CELERY_EXPORTER_QUEUES"]
    assert watched.split(",") == served


def test_exporters_collect_what_rules_and_panels_read(production: dict[str, Any]) -> None:
    """These collectors are off by default."""
    assert {
        "--collector.long_running_transactions",
        "--collector.stat_activity_autovacuum",
        "--collector.database_wraparound",
    } == set(production["services"]["posthub_postgres_exporter"]["command"])


def test_file_systems_of_containers_are_not_disks_of_the_host(production: dict[str, Any]) -> None:
    excluded = _flags(production, "posthub_node_exporter")["--collector.filesystem.mount-points-exclude"]
    pattern = re.compile(excluded.replace("$$", "$"))
    for path in ("/var/lib/docker/overlay2/a/merged", "/run/user/0", "/sys/fs/bpf", "/dev/shm"):
        assert pattern.match(path), path
    for path in ("/", "/home", "/var/lib/docker", "/srv/data"):
        assert not pattern.match(path), path
