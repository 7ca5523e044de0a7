"""Another project adopts the monitoring: a Django site, a Celery app and a database that have nothing to do with PostHub."""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import yaml
from click.testing import CliRunner

from adopt.cli import init
from adopt.commands import STACKS, TABLE, for_stack
from adopt.output import write
from adopt.parts import Used, origin
from sidecar import UsageError
from sidecar.http import session
from sidecar.prometheus import Prometheus as Client
from sidecar.promql import selectors
from stack import ports
from stack.paths import ROOT
from stack.process import Process
from stack.programs import find, postgres_bin
from stack.servers import Alertmanager, Postgres, Prometheus, Redis
from stack.suite.environments import machine
from stack.suite.monitoring import patient
from stack.timefactor import compress
from stack.wait import wait_for

FACTOR = 60.0
MINUTES = 15.0
TASKS = """
from celery import Celery
app = Celery("shop", broker="{broker}")
app.conf.update(worker_send_task_events=True, task_send_sent_event=True, broker_connection_retry_on_startup=True)
@app.task(name="shop.order")
def order(): return 1
"""


SITE = """
from django.conf import settings
settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="site_of_the_shop",
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
)
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path
urlpatterns = [path("orders/", lambda request: HttpResponse("1000"), name="orders"), path("", include("django_prometheus.urls"))]
application = get_wsgi_application()
"""


def adopted(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(init, [str(folder), *words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def answered(folder: Path, replies: Sequence[str]) -> str:
    """The same, with a person's input."""
    typed = "".join(f"{reply}\n" for reply in replies)
    done = CliRunner().invoke(init, [str(folder)], input=typed, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def values(path: Path) -> dict[str, str]:
    """The variables that systemd, Compose and shells read from a file, whose values may be quoted."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {name: "".join(shlex.split(value)) for name, _, value in (line.partition("=") for line in lines)}


def fill_in(path: Path, settings: dict[str, str]) -> None:
    """Give variables of a file their values, as a person does with an editor."""
    lines = path.read_text().splitlines()
    assert set(settings) <= set(values(path))
    path.write_text(
        "".join(
            f"{name}={shlex.quote(settings[name])}\n" if name in settings else f"{line}\n"
            for line in lines
            for name in [line.partition("=")[0]]
        )
    )


TWO = ("--app", "shop", "--part", "celery=localhost:9808", "--part", "backup=localhost:9809", "--no-beat")


@pytest.mark.parametrize("stack", STACKS)
def test_only_the_parts_that_are_used_under_the_projects_name(tmp_path: Path, stack: str) -> None:
    adopted(tmp_path / "out", *TWO, "--stack", stack)
    found = texts(tmp_path / "out")
    assert [
        path for path, text in found.items() if "posthub" in text.lower() or "posthub" in path.lower()
    ] == []
    jobs = [job["job_name"] for job in yaml.safe_load(found["prometheus.yml"])["scrape_configs"]]
    assert jobs == ["prometheus", "alertmanager", "celery", "backup"]
    assert {path for path in found if path.startswith("rules/")} == {
        f"rules/{name}.yml" for name in ("backup", "celery", "monitoring", "thresholds")
    }
    rules = "".join(text for path, text in found.items() if path.startswith("rules/"))
    assert "CeleryBeat" not in rules
    assert 'absent(up{job="django"})' not in rules
    assert 'absent(up{job="celery"}) or absent(up{job="backup"})' in rules
    alerts = set(re.findall(r"alert: (\w+)", rules))
    assert alerts == {path[9:-3] for path in found if path.startswith("runbooks/")}
    assert not alerts & {"RedisExporterErrors", "PostgresExporterErrors", "NodeCollectorFailed", "ApiDown"}
    assert {path for path in found if path.startswith("dashboards/")} == {
        f"dashboards/{name}.json" for name in ("backup", "celery", "monitoring", "overview")
    }
    used = Used({"celery": "", "backup": ""}, beat=False)
    for path, text in found.items():
        if path.startswith("dashboards/"):
            board = json.loads(text)
            assert board["title"].startswith("Shop / ")
            assert board["uid"] == f"shop-{path[11:-5]}"
            for panel in board["panels"]:
                exprs = [target["expr"] for target in panel.get("targets", ()) if "expr" in target]
                assert not exprs or any(map(used.has, exprs)), panel["title"]
    pages = "".join(text for path, text in found.items() if path.startswith("runbooks/"))
    assert ("docker compose" in pages) == (stack == "compose")
    assert ("kubectl logs" in pages) == (stack == "kubernetes")
    done = subprocess.run(
        [find("promtool"), "check", "config", tmp_path / "out/prometheus.yml"], capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_the_rules_has_a_known_origin() -> None:
    """An alert with an unknown metric would be kept even if its part is not used."""
    free = {"up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"}
    unknown = set()
    for path in (ROOT / "alerts" / "rules").glob("*.yml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                unknown |= {
                    each.metric
                    for each in selectors(str(rule["expr"]))
                    if each.metric and not origin(each.metric)
                }
    strange = {
        name for name in unknown - free if not name.startswith(("threshold:", "prometheus_", "alertmanager_"))
    }
    assert strange == set()


def test_running_it_again_keeps_what_a_person_has_edited(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    adopted(folder, *TWO)
    before = texts(folder)
    assert "new:" not in adopted(folder, *TWO)
    assert texts(folder) == before
    edited = folder / "rules" / "celery.yml"
    edited.write_text(edited.read_text() + "# mine\n")
    (folder / "mine.yml").write_text("mine")
    printed = adopted(folder, "--app", "shop", "--part", "celery=otherhost:9808", "--no-beat")
    assert f"changed: {folder}/targets/celery.yml" in printed
    assert edited.read_text().endswith("# mine\n")
    assert not (folder / "rules/backup.yml").exists()
    assert (folder / "mine.yml").read_text() == "mine"
    adopted(folder, "--app", "other", "--part", "celery=otherhost:9808")
    assert edited.read_text().endswith("# mine\n")
    assert "/d/other-celery" in (folder / "rules" / "celery.yml.new").read_text()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("mine")
    with pytest.raises(UsageError, match="not written here"):
        adopted(tmp_path, *TWO)
    assert texts(tmp_path) == {"prometheus.yml": "mine"}
    (tmp_path / "prometheus.yml").unlink()
    (tmp_path / ".ops-init.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        write(tmp_path, {"x": "y"})


@pytest.mark.parametrize(
    "words",
    [
        ("--app", "Shop!"),
        ("--app", "shop"),
        ("--app", "shop", "--part", "celery=nowhere"),
        ("--app", "shop", "--part", "mongo=localhost:1"),
    ],
)
def test_wrong_words_write_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        adopted(tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_the_table_of_commands_is_complete() -> None:
    assert set(TABLE) == set(STACKS) - {"compose"}
    verbs = [set(forms) for forms in TABLE.values()]
    assert verbs[0] == verbs[1]
    text = "docker compose -f docker-compose.prod.yml exec -T posthub_backup python -m backup list"
    assert for_stack(text, "compose", "shop") == "docker compose exec -T shop_backup python -m backup list"
    assert for_stack(text, "kubernetes", "shop") == "kubectl exec deploy/shop-backup -- python -m backup list"
    pages = "".join(path.read_text() for path in (ROOT / "runbooks" / "alerts").glob("*.md"))
    for stack in TABLE:
        assert "docker compose -f docker-compose.prod.yml" not in for_stack(pages, stack, "shop")


@pytest.fixture
def shop(tmp_path: Path, postgres: Postgres, redis_server: Redis) -> Iterator[tuple[Client, Alertmanager]]:
    """A site, a worker, the two sidecars, and Prometheus and Alertmanager with the written files; a minute takes a second."""
    names = ("site", "exporter", "backup", "prometheus", "alertmanager")
    port = {name: ports.choose() for name in names}
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS orders")
        connection.execute("CREATE DATABASE orders")
    with psycopg.connect(postgres.url_for("orders"), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 1000) i")
    out = tmp_path / "monitoring"
    adopted(
        out,
        "--app",
        "shop",
        "--part",
        f"django=127.0.0.1:{port['site']}",
        "--part",
        f"celery=127.0.0.1:{port['exporter']}",
        "--no-beat",
        "--stack",
        "systemd",
        "--part",
        f"backup=127.0.0.1:{port['backup']}",
        "--alertmanager",
        f"127.0.0.1:{port['alertmanager']}",
    )
    broker = f"{redis_server.url.rpartition('/')[0]}/7"
    by_hand = {
        "env/celery-exporter.env": {"CELERY_EXPORTER_BROKER_URL": broker},
        "env/backup.env": {
            "DATABASE_URL": postgres.url_for("orders"),
            "BACKUP_STORE_URL": f"file://{tmp_path}/store",
            "BACKUP_POSTGRES_BIN": str(postgres_bin()),
        },
    }
    # The third file is the app's own: its settings send events (TASKS).
    assert len(by_hand) + 1 <= 3
    for name, settings in by_hand.items():
        fill_in(out / name, settings)
    # For the test: the port of Prometheus, and all durations, which are shorter.
    target = out / "targets" / "prometheus.yml"
    target.write_text(target.read_text().replace("localhost:9090", f"127.0.0.1:{port['prometheus']}"))
    for path in (out / "prometheus.yml", out / "alertmanager.yml", *(out / "rules").glob("*.yml")):
        path.write_text(yaml.safe_dump(patient(compress(yaml.safe_load(path.read_text()), FACTOR))))
    (tmp_path / "tasks.py").write_text(TASKS.format(broker=broker))
    (tmp_path / "site_of_the_shop.py").write_text(SITE)
    (tmp_path / "store").mkdir()
    env = {
        **machine(tmp_path),
        **{name: value for file in by_hand for name, value in values(out / file).items()},
        "BACKUP_CATALOGUE_REFRESH": "2",
        "BACKUP_HOST": "127.0.0.1",
        "BACKUP_PORT": str(port["backup"]),
        "CELERY_EXPORTER_QUEUE_INTERVAL": "1",
        "CELERY_EXPORTER_WORKER_TIMEOUT": "10",
        "CELERY_EXPORTER_HOST": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "backup", "run", "--verify"], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    commands = {
        "site": ["gunicorn", "--bind", f"127.0.0.1:{port['site']}", "site_of_the_shop:application"],
        "worker": ["celery", "-A", "tasks", "worker", "-c", "1", "-n", "shop@%h"],
        "exporter": ["exporters", "serve", "--port", str(port["exporter"])],
        "backup": ["backup", "serve"],
    }
    with ExitStack() as running:
        for name, words in commands.items():
            process = Process(
                name, [sys.executable, "-m", *words], log=tmp_path / f"{name}.log", env=env, cwd=tmp_path
            )
            running.callback(process.stop)
        call = "import tasks; tasks.order.delay()"
        subprocess.run([sys.executable, "-c", call], env=env, cwd=tmp_path, check=True)
        alertmanager = running.enter_context(
            Alertmanager(tmp_path / "am", config=out / "alertmanager.yml", port=port["alertmanager"])
        )
        wait_for(
            lambda: "celery_worker_up{" in page(f"http://127.0.0.1:{port['exporter']}"),
            timeout=60,
            what="the worker's first heartbeat",
            hint=str(tmp_path / "exporter.log"),
        )
        prometheus = running.enter_context(
            Prometheus(tmp_path / "prom", config=out / "prometheus.yml", port=port["prometheus"])
        )
        yield Client(prometheus.url), alertmanager


def page(url: str) -> str:
    import requests

    try:
        return requests.get(f"{url}/metrics", timeout=5).text
    except requests.RequestException:
        return ""


@pytest.mark.timeout(500)
def test_a_healthy_project_has_no_alert_in_fifteen_minutes(shop: tuple[Client, Alertmanager]) -> None:
    client, _ = shop
    wait_for(
        lambda: (
            {each.labels["job"] for each in client.instant("up == 1")}
            == {"prometheus", "alertmanager", "django", "celery", "backup"}
        ),
        timeout=240,
        what="a scrape of every job",
        hint="see /targets",
    )
    (target,) = {each.labels["instance"] for each in client.instant('up{job="django"}')}
    until = time.monotonic() + 2 * MINUTES * 60 / FACTOR  # time itself is tested
    while time.monotonic() < until:
        with session() as customer:
            assert customer.get(f"http://{target}/orders/", timeout=10).text == "1000"
        time.sleep(0.5)
    assert client.instant('sum(django_http_requests_total_by_view_transport_method_total{view="orders"}) > 0')
    fired = {
        each.labels["alertname"] for each in client.instant('max_over_time(ALERTS{alertstate="firing"}[15s])')
    }
    assert fired == {"Watchdog"}
