"""Gunicorn reads this file from its working folder; the command line sets the address and the number of workers.

Each worker process keeps its metrics in files in one folder, and /metrics adds them up (prometheus_client's
multi-process mode). Each folder belongs to one gunicorn.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
OURS = "posthub-metrics-"

timeout = 60
graceful_timeout = 25
keepalive = 5
# With the heartbeat file on a disk, a stalled disk would make gunicorn kill its workers.
MEMORY = "/dev/shm"  # noqa: S108 - gunicorn creates a private file in it
worker_tmp_dir = MEMORY if os.access(MEMORY, os.W_OK) else None
# The default is a socket in the home folder, which a read-only container does not have.
control_socket_disable = True
# The app logs requests itself, with request id and user.
accesslog = None
errorlog = "-"


def on_starting(server: Any) -> None:
    from config.startup import await_migrations, require_settings

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")
    require_settings()
    _configure_logging()
    # Set before any worker imports prometheus_client, which reads it at import.
    if FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix=OURS)
    # A re-executed master (USR2) shares the folder with the running workers of the old one.
    if "GUNICORN_PID" not in os.environ:
        _empty(Path(os.environ[FOLDER]))
    _load_app()
    # The socket is not open yet. What is still missing after the wait, the health page reports.
    await_migrations()


def _load_app() -> None:
    """Once, for all workers: they are forked from this process. A HUP restarts them with the same code, as in an image.

    Not with `preload_app`, which loads the app before on_starting.
    """
    from django.urls import get_resolver

    import config.wsgi  # noqa: F401 - importing it loads the app

    # Otherwise the first request of each worker loads the views.
    get_resolver().url_patterns  # noqa: B018 - the access loads them


def _configure_logging() -> None:
    import logging.config

    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


def _empty(folder: Path) -> None:
    """Delete the files of an earlier start: its process IDs may be used again, and the values would be added up."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def child_exit(server: Any, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    folder = Path(os.environ.get(FOLDER, ""))
    # After a re-execution (USR2) the folder belongs to the new master.
    if folder.name.startswith(OURS) and not server.reexec_pid:
        shutil.rmtree(folder, ignore_errors=True)
