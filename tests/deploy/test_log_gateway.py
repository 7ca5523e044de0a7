"""deploy/log_gateway.py: what becomes of a line, and the whole way of a line with the real vlagent and VictoriaLogs."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
import yaml

from sidecar.http import session
from stack.paths import PROGRAMS, ROOT
from stack.ports import HOST, choose
from stack.programs import built_by_go
from stack.servers import Service
from stack.wait import wait_for

VERSION = "v1.52.2"
ID = "a" * 64
PASSWORD = "open sesame"
SECONDS = 60.0


def _load() -> ModuleType:
    """It runs in a container, so it does not belong to a package."""
    spec = importlib.util.spec_from_file_location("log_gateway", ROOT / "deploy" / "log_gateway.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["log_gateway"] = module
    spec.loader.exec_module(module)
    return module


gateway = _load()


def _of_vlagent(line: str, **more: Any) -> bytes:
    return json.dumps(
        {"_msg": f"{line}\n", "_time": "2026-11-29T21:00:00Z", "stream": "stderr", **more}
    ).encode()


def test_a_structured_line_becomes_fields() -> None:
    line = json.dumps(
        {
            "time": "2026",
            "level": "ERROR",
            "logger": "posts",
            "message": "no",
            "task_id": "t-1",
            "_stream": "x",
        }
    )
    assert gateway.unpack(_of_vlagent(line, **{"attrs.tag": "posthub_celery_worker"})) == {
        "_msg": "no",
        "_time": "2026-11-29T21:00:00Z",
        "level": "ERROR",
        "logger": "posts",
        "task_id": "t-1",
        "stream": "stderr",
        "service": "posthub_celery_worker",
    }


@pytest.mark.parametrize(
    "line",
    ["panic: x", '{"half": ', "[1, 2]", '"text"', "", '{"message": {"nested": 1}}', '{"level": "INFO"}'],
)
def test_any_line_is_kept(line: str) -> None:
    record = gateway.unpack(_of_vlagent(line, file=f"/var/lib/docker/containers/{ID}/{ID}-json.log"))
    assert record["_msg"] == line
    # Without the engine's option `tag`, the container's ID.
    assert record["service"] == "a" * 12


def test_a_line_names_neither_another_service_nor_another_time() -> None:
    forged = json.dumps({"service": "posthub_backup", "_time": "1999", "stream": "stdout", "message": "x"})
    record = gateway.unpack(_of_vlagent(forged, **{"attrs.tag": "posthub_api_prod"}))
    assert (record["service"], record["stream"]) == ("posthub_api_prod", "stderr")
    assert record["_time"] == "2026-11-29T21:00:00Z"


def test_what_is_not_from_vlagent_is_kept_as_a_message() -> None:
    packed = gateway.repacked(b"[1]\n\nnot json\n" + _of_vlagent("x"))
    records = [json.loads(line) for line in packed.splitlines()]
    assert [record["_msg"] for record in records] == ["[1]", "not json", "x"]


class _Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refused() -> Iterator[str]:
    """The address of a gateway whose store refuses everything."""
    with ThreadingHTTPServer((HOST, 0), _Refusing) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        known = gateway.Store(f"http://{HOST}:{store.server_address[1]}", "", "", "service")
        with gateway.Gateway(known, 0, HOST) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://{HOST}:{server.server_address[1]}"
            server.shutdown()
        store.shutdown()


def test_a_store_that_fails_is_tried_again_and_its_target_is_down(refused: str) -> None:
    with session() as client:
        assert client.post(f"{refused}/insert", data=_of_vlagent("x"), timeout=5).status_code == 503
        assert client.get(f"{refused}/metrics", timeout=5).status_code == 503
        assert client.get(f"{refused}/healthz", timeout=5).status_code == 200
        bad = {"Content-Encoding": "zstd"}
        assert client.post(f"{refused}/insert", data=b"not zstd", headers=bad, timeout=5).status_code == 400
        assert client.post(f"{refused}/other", data=b"x", timeout=5).status_code == 404


# --- The whole way, with the real programs ------------------------------------------------------------------------


def _program(name: str) -> str:
    found = built_by_go(name)
    if found is None:
        module = "github.com/VictoriaMetrics/VictoriaLogs/app"
        pytest.skip(
            f"{name} is not here; with Go, this builds it in some minutes: GOBIN={PROGRAMS}/bin go install "
            f"{module}/victoria-logs@{VERSION} {module}/vlagent@{VERSION}"
        )
    return str(found)


@dataclass
class Pipeline:
    """Shipper, gateway and store with the flags of production, other addresses and a shorter pace."""

    containers: Path
    store: Service
    gateway: Service
    shipper: Service

    def write(self, name: str, *lines: str) -> None:
        """Lines of a container, as the Docker engine's driver json-file writes them."""
        place = self.containers / f"{name[0] * 64}"
        place.mkdir(exist_ok=True)
        with (place / f"{place.name}-json.log").open("a") as file:
            for line in lines:
                now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
                wrapped = {"log": f"{line}\n", "stream": "stderr", "attrs": {"tag": name}, "time": now}
                file.write(json.dumps(wrapped) + "\n")

    def found(self, query: str) -> list[dict[str, Any]]:
        with session() as client:
            answer = client.post(
                f"{self.store.url}/logs/select/logsql/query",
                {"query": query},
                auth=("logs", PASSWORD),
                timeout=5,
            )
        answer.raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def await_lines(self, query: str, number: int) -> list[dict[str, Any]]:
        def enough() -> list[dict[str, Any]] | None:
            try:
                found = self.found(query)
            except requests.RequestException:
                return None
            return found if len(found) >= number else None

        return wait_for(
            enough, timeout=SECONDS, what=f"{number} lines of {query}", hint="read the programs' logs"
        )


def _flags(production: dict[str, Any], service: str, changes: dict[str, str]) -> list[str]:
    """The flags of a service, each with the replacements that it needs here. Every replacement is used."""
    text = "\n".join(production["services"][service]["command"])
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text.splitlines()


@pytest.fixture(scope="module")
def pipeline(production: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    programs = {name: _program(name) for name in ("victoria-logs", "vlagent")}
    folder = tmp_path_factory.mktemp("logs")
    (folder / "logs_password").write_text(PASSWORD)
    containers = folder / "containers"
    containers.mkdir()
    ports = {name: choose() for name in ("store", "gateway", "shipper")}
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

    def service(name: str, command: Sequence[str], ready: str, **more: str) -> Service:
        return Service(
            name,
            command,
            folder=folder / name,
            env={**env, **more},
            port=ports[name],
            ready=ready,
            log=folder / f"{name}.log",
        )

    store = _flags(
        production,
        "posthub_log_store",
        {
            "-storageDataPath=/logs": f"-storageDataPath={folder}/store/data",
            "-httpListenAddr=:9428": f"-httpListenAddr={HOST}:{ports['store']}",
            "/run/secrets/": f"{folder}/",
            "${LOGS_RETENTION:-30d}": "30d",
            "${LOGS_MAX_SIZE:-20GiB}": "20GiB",
        },
    )
    shipper = _flags(
        production,
        "posthub_log_shipper",
        {
            "127.0.0.1:9429": f"{HOST}:{ports['shipper']}",
            "=/state": f"={folder}/shipper/state",
            "/var/lib/docker/containers": str(containers),
            "http://posthub_log_gateway:9813": f"http://{HOST}:{ports['gateway']}",
        },
    )
    paths = {
        "LOG_STORE_URL": f"http://{HOST}:{ports['store']}/logs",
        "LOG_STORE_USER": "logs",
        "LOG_STORE_PASSWORD_FILE": str(folder / "logs_password"),
        "LOG_GATEWAY_PORT": str(ports["gateway"]),
    }
    fast = (
        "-fileCollector.refreshInterval=200ms",
        "-remoteWrite.flushInterval=200ms",
        "-remoteWrite.retryMaxTime=1s",
    )
    made = Pipeline(
        containers,
        service("store", [programs["victoria-logs"], *store], "/logs/health"),
        service("gateway", [sys.executable, str(ROOT / "deploy/log_gateway.py")], "/healthz", **paths),
        service("shipper", [programs["vlagent"], *shipper, *fast], "/health"),
    )
    servers = (made.store, made.gateway, made.shipper)
    try:
        for server in servers:
            server.start()
        yield made
    finally:
        for server in reversed(servers):
            server.stop()


# The formatters of the app and of the sidecars, as their processes use them.
WRITE = """
import logging, sys
sys.path[:0] = ["app"]
from monitoring import logs
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logs.json_formatter())
handler.addFilter(logs.ContextFilter())
log = logging.getLogger("posts.tasks")
log.addHandler(handler)
logs.request_id.set("abc-12345678")
log.error("not published", extra={"task_id": "t-1", "post": "17"})
from sidecar import logs
logs.configure(stream=sys.stdout, form="json")
logging.getLogger("backup.run").info("backup taken")
"""


def test_lines_are_found_by_request_task_and_logger(pipeline: Pipeline) -> None:
    written = subprocess.run(
        [sys.executable, "-c", WRITE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    of_app, of_backup = written.stdout.splitlines()
    pipeline.write("posthub_celery_worker", of_app)
    pipeline.write("backup", of_backup)
    (line,) = pipeline.await_lines('request_id:="abc-12345678"', 1)
    assert (line["_msg"], line["level"], line["logger"]) == ("not published", "ERROR", "posts.tasks")
    assert (line["task_id"], line["post"], line["service"]) == ("t-1", "17", "posthub_celery_worker")
    assert pipeline.found('task_id:="t-1"') == [line]
    (line,) = pipeline.await_lines('logger:="backup.run"', 1)
    assert (line["_msg"], line["level"], line["service"]) == ("backup taken", "INFO", "backup")


def test_the_metrics_say_what_the_store_has(pipeline: Pipeline) -> None:
    """What the rules read: each panic of a real kind is counted, and a line that only mentions one is not."""
    bad = json.dumps({"level": "error", "logger": "http.log", "msg": "no upstream"})
    panics = [
        "panic: runtime error: index out of range",
        "fatal error: all goroutines are asleep - deadlock!",
        "Fatal Python error: Segmentation fault",
        "Traceback (most recent call last):",
        "2026-11-29 21:00:00.000 UTC [1] PANIC:  could not write to file",
    ]
    harmless = [
        "don't panic: all is well",
        "no Traceback (most recent call last): here",
        json.dumps({"message": "PANIC later"}),
    ]
    pipeline.write("caddy", bad, bad, *panics, *harmless)
    pipeline.await_lines('service:="caddy"', 10)

    def page() -> str | None:
        with session() as client:
            text = client.get(f"{pipeline.gateway.url}/metrics", timeout=10).text
        return text if 'logs_recent_lines{service="caddy"} 10.0' in text else None

    text = wait_for(page, timeout=SECONDS, what="fresh metrics", hint="read gateway.log")
    assert 'logs_recent_errors{logger="http.log",service="caddy"} 2.0' in text
    assert f'logs_recent_panics{{service="caddy"}} {float(len(panics))}' in text
    assert 'logs_regular_lines{service="caddy"} 10.0' in text
    (age,) = [
        line
        for line in text.splitlines()
        if line.startswith('logs_last_line_timestamp_seconds{service="caddy"}')
    ]
    assert abs(float(age.rpartition(" ")[2]) - datetime.now(UTC).timestamp()) < SECONDS


def test_the_cluster_names_services_by_a_label_of_the_pod(pipeline: Pipeline) -> None:
    """In Kubernetes, vlagent writes to the store itself, and the gateway counts by another field."""
    documents = yaml.safe_load_all((ROOT / "k8s/components/logs/gateway.yaml").read_text())
    (container,) = next(documents)["spec"]["template"]["spec"]["containers"]
    field = next(each["value"] for each in container["env"] if each["name"] == "LOG_SERVICE_FIELD")
    store = gateway.Store(f"{pipeline.store.url}/logs", "logs", PASSWORD, field)
    store.insert(json.dumps({"_msg": "panic: x", "kubernetes.pod_labels.app": "posthub-api"}).encode())
    pipeline.await_lines(f'{field}:="posthub-api"', 1)
    page = gateway.Measures(store).page().decode()
    assert 'logs_recent_panics{service="posthub-api"} 1.0' in page


def test_lines_wait_while_the_store_is_down(pipeline: Pipeline) -> None:
    pipeline.store.stop()
    pipeline.write("posthub_redis_prod", "written during the outage")
    pipeline.gateway.stop()
    pipeline.write("posthub_redis_prod", "written without the gateway")
    pipeline.gateway.start()
    pipeline.store.start()
    found = pipeline.await_lines('service:="posthub_redis_prod"', 2)
    assert {line["_msg"] for line in found} == {"written during the outage", "written without the gateway"}


def test_the_store_answers_nobody_without_the_password(pipeline: Pipeline) -> None:
    with session() as client:
        for path in ("select/logsql/query?query=*", "insert/jsonline", "select/vmui/", "metrics"):
            assert client.get(f"{pipeline.store.url}/logs/{path}", timeout=5).status_code == 401, path


def test_the_versions_are_those_of_production(production: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in production["services"].items()}
    assert images["posthub_log_store"] == f"victoriametrics/victoria-logs:{VERSION}"
    assert images["posthub_log_shipper"] == f"victoriametrics/vlagent:{VERSION}"
