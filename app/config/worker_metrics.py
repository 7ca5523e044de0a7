"""The worker's own /metrics, with metrics of its tasks (AI providers, publishing, queries).

The pool's processes write to files in one folder (prometheus_client's multi-process mode), and the parent serves
their sum on WORKER_METRICS_PORT. On the same port, /healthz says whether the worker answers a ping through the broker.
Without that variable, no port is opened.
"""

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# A page of the port: it gets the request and the function that starts the response, as WSGI says.
Page = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# A check during the start waits for its end: the next check would be some seconds later.
READY_SECONDS = 4.0
ready = threading.Event()
_temporary: list[Path] = []


def _port() -> int:
    from config import env

    return env.whole("WORKER_METRICS_PORT", 0)


def choose_folder() -> None:
    if not _port():
        return
    # Always a new folder: the environment may name the folder of another process.
    folder = tempfile.mkdtemp(prefix="posthub-worker-metrics-")
    os.environ[FOLDER] = folder
    _temporary.append(Path(folder))
    _choose_storage_again()


def _choose_storage_again() -> None:
    """Make prometheus_client choose its storage again: it did so at import, and Flower's plug-in has already imported it."""
    from prometheus_client import values

    values.ValueClass = values.get_value_class()


def serve(worker: str) -> None:
    """Serve the metrics and the health of the worker with this node name."""
    port = _port()
    if not port:
        return
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    server, _ = start_http_server(port, registry=registry)
    server.set_app(_with_health(worker, server.get_app()))


def _with_health(worker: str, metrics: Any) -> Page:
    def page(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if request["PATH_INFO"] != "/healthz":
            pages: Iterable[bytes] = metrics(request, start)
            return pages
        well = ready.wait(READY_SECONDS) and _answers(worker)
        start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok\n" if well else b"the worker does not answer a ping through the broker\n"]

    return page


def _answers(worker: str) -> bool:
    from config import worker_ping

    try:
        return worker_ping.answers(worker)
    except Exception as error:  # the broker's client decides which
        log.warning("health: broker", extra={"reason": type(error).__name__})
        return False


def clean() -> None:
    for folder in _temporary:
        shutil.rmtree(folder, ignore_errors=True)
