"""The system page: staff only, with data from Prometheus, and a clear error without it."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from rest_framework.test import APIClient

PATH = "/api/v1/system/"
SERIES = {
    "celery_queue_length": {"quick": "3", "default": "0"},
    "celery_queue_oldest_message_age_seconds": {"quick": "12.5", "default": "NaN"},
    "celery_queue_consumers": {"quick": "1"},
    "backup_last_verified_timestamp_seconds": {"posthub": "1795416600.5", "shop": "0"},
    "backup_last_verified_backup_timestamp_seconds": {"posthub": "1795416571"},
    "backup_rto_seconds": {"posthub": "4.8"},
    "backup_rto_target_seconds": {"posthub": "3600", "shop": "3600"},
    "backup_anomalous": {"posthub": "1"},
}


@pytest.fixture
def prometheus(settings: Any) -> Iterator[Any]:
    """A mock of Prometheus that answers the queries of this page."""
    answers = {"status": "success"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)["query"][0]
            label = query.split("(")[1].split(")")[0]
            series = SERIES[query.split("(")[-1].rstrip(")")]
            result = [
                {"metric": {label: name}, "value": [1795416700, value]} for name, value in series.items()
            ]
            body = json.dumps({**answers, "data": {"result": result}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    settings.PROMETHEUS_URL = f"http://127.0.0.1:{server.server_port}/"
    settings.GRAFANA_URL = "https://api.posthub.work/grafana/"
    yield answers
    server.shutdown()
    server.server_close()


@pytest.fixture
def boss(make_user: Callable[..., Any], client_of: Callable[[Any], APIClient]) -> APIClient:
    return client_of(make_user("boss", is_staff=True))


def test_staff_see_queues_and_the_verified_backup(boss: Any, prometheus: Any) -> None:
    document = boss.get(PATH).json()
    assert document["queues"] == [
        {"name": "default", "length": 0, "oldest_age_seconds": None, "consumers": None},
        {"name": "quick", "length": 3, "oldest_age_seconds": 12.5, "consumers": 1},
    ]
    assert document["backups"][0] == {
        "database": "posthub",
        "verified_at": "2026-11-23T06:50:00.500000Z",
        "taken_at": "2026-11-23T06:49:31Z",
        "rto_seconds": 4.8,
        "rto_target_seconds": 3600.0,
        "unlike": True,
    }
    assert document["grafana_url"] == "https://api.posthub.work/grafana/"


def test_a_database_without_a_verified_backup_is_shown(boss: Any, prometheus: Any) -> None:
    unproven = boss.get(PATH).json()["backups"][1]
    assert (unproven["database"], unproven["verified_at"], unproven["rto_seconds"]) == ("shop", None, None)
    assert unproven["unlike"] is None


def test_customers_and_anonymous_users_are_refused(api: APIClient, client: Client, prometheus: Any) -> None:
    assert api.get(PATH).status_code == 403
    assert client.get(PATH).status_code == 401


def test_a_missing_prometheus_address_is_reported(boss: Any, settings: Any) -> None:
    settings.PROMETHEUS_URL = ""
    answer = boss.get(PATH)
    assert (answer.status_code, answer.json()["code"]) == (503, "no_prometheus")


@pytest.mark.parametrize("broken", ["nobody", "refuses"])
def test_an_unreachable_prometheus_is_reported_without_its_address(
    boss: Any, settings: Any, prometheus: Any, broken: str
) -> None:
    if broken == "nobody":
        settings.PROMETHEUS_URL = "http://127.0.0.1:1"
    prometheus["status"] = "error"
    answer = boss.get(PATH)
    assert (answer.status_code, answer.json()["code"]) == (503, "prometheus_silent")
    assert "127.0.0.1" not in answer.content.decode()
