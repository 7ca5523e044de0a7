"""The host as the checks see it: all access to the machine and the network is here."""

import json
import shutil
import socket
import subprocess
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests

from sidecar.http import outside_session

COMPOSE = ("docker", "compose", "-f", "docker-compose.prod.yml")
SECONDS = 60.0


@dataclass(frozen=True)
class Done:
    """A program that has ended; ``code`` is 127 when the program is missing."""

    code: int
    output: str
    errors: str = ""

    @property
    def last_line(self) -> str:
        lines = (self.errors or self.output).strip().splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


class Host:
    """This machine.

    Args:
        root: the checkout, where programs are started.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str) -> Done:
        try:
            done = subprocess.run(
                command,
                cwd=self.root,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            return Done(127, "", f"{command[0]}: program not found")
        except subprocess.TimeoutExpired:
            return Done(124, "", f"{command[0]}: no response within {SECONDS:g} s")
        return Done(done.returncode, done.stdout, done.stderr)

    def compose(self, *arguments: str) -> Done:
        return self.run(*COMPOSE, *arguments)

    def compose_json(self, *arguments: str) -> list[dict[str, Any]]:
        """Parse compose's JSON: one object per line, or one list, depending on its version."""
        text = self.compose(*arguments, "--format", "json").output.strip()
        if not text:
            return []
        if text.startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines()]

    def addresses(self, name: str) -> list[str]:
        """The addresses that a name resolves to, if any."""
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            return []
        return sorted({str(entry[4][0]) for entry in found})

    def own_addresses(self) -> list[str]:
        """The addresses of this machine's interfaces."""
        try:
            interfaces = json.loads(self.run("ip", "-json", "address").output or "[]")
        except ValueError:
            return []
        return [
            entry["local"]
            for interface in interfaces
            for entry in interface.get("addr_info", [])
            if "local" in entry
        ]

    def connects(self, name: str, port: int) -> bool:
        try:
            with socket.create_connection((name, port), timeout=5):
                return True
        except OSError:
            return False

    def is_free(self, port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - every address must be free
            except PermissionError:
                return not self.connects("127.0.0.1", port)
            except OSError:
                return False
        return True

    def time_of(self, url: str) -> float | None:
        """The time on another machine: the Date header of its response, in seconds since the epoch."""
        try:
            with outside_session() as client:
                date = client.head(url, timeout=5).headers.get("Date", "")
            return parsedate_to_datetime(date).timestamp()
        except (requests.RequestException, ValueError, TypeError):
            return None

    def free_bytes(self, path: Path) -> int:
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free
