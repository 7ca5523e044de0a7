"""Where a part of the alerting answers: here, or in its container of the compose project."""

import subprocess

from sidecar import http

TIMEOUT = 10


def find_url(given: str | None, *, port: int, container: str, page: str) -> str:
    """The address given, else this machine's, else that of the container.

    Args:
        page: a path that answers well there.
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
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.split()), "") if done.returncode == 0 else ""
