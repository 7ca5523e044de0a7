"""Finds Alertmanager and the watch: on this machine, or in a container of the compose project."""

import subprocess

from sidecar import http

TIMEOUT = 10


def find_url(given: str | None, *, port: int, container: str, page: str) -> str:
    """The given address, else this machine's, else the container's.

    Args:
        page: a path that answers 2xx there.
    """
    here = f"http://127.0.0.1:{port}"
    if given or http.answers(f"{here}{page}"):
        return given or here
    address = _address(container)
    return f"http://{address}:{port}" if address else here


def _address(container: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    try:
        done = subprocess.run(
            ["docker", "inspect", "-f", form, container],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.split()), "") if done.returncode == 0 else ""
