"""The worker's own /metrics, with metrics of its tasks (AI providers, publishing, queries).

The pool's processes write to files in one folder (prometheus_client's multi-process mode), and the parent serves
their sum on WORKER_METRICS_PORT. Without that variable, no port is opened.
"""

import os
import shutil
import tempfile
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
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


def serve() -> None:
    port = _port()
    if not port:
        return
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    start_http_server(port, registry=registry)


def clean() -> None:
    for folder in _temporary:
        shutil.rmtree(folder, ignore_errors=True)
