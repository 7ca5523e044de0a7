"""Caddy during a rollout: which container of a service gets the requests, and whether one still answers any."""

import time
from dataclasses import dataclass

from stack.deploy.runner import Runner
from stack.doctor.host import Done

# Customers reach everything through it, so it is the last one to be replaced.
EDGE = "posthub_caddy"
# In the checkout.
CADDYFILE = "deploy/Caddyfile"
SOCKET = "unix//tmp/caddy.sock"
# The new file is given on standard input: git replaces files, and a container that keeps running has the old one.
GIVEN = ("--config", "-", "--adapter", "caddyfile")
VALIDATE = ("caddy", "validate", *GIVEN)
LOAD = ("caddy", "reload", *GIVEN, "--address", SOCKET)
# Longer than Caddy waits for a response from the API.
DRAIN_SECONDS = 70
# A request may still be on its way to a container that has none.
LOOKS = 2
BUSY = "busy"


# Services that are replaced while a second container answers, each with the port that its containers listen on.
SERVING = {"posthub_api_prod": 8000, "posthub_frontend_prod": 8080}
# The end of the name of a service's second container, which exists during its replacement only.
NEXT = "_next"
# In Caddy's container. While a file with the second container's name is in it, that one gets the requests.
SWITCHES = "/tmp"  # noqa: S108 - in the container


@dataclass(frozen=True)
class Edge:
    """Sets where Caddy sends requests.

    Args:
        compose: the command line of compose.
        pause: seconds between two looks at a container.
        caddyfile: the text of the checkout's.
    """

    runner: Runner
    compose: tuple[str, ...]
    pause: float
    caddyfile: str

    def can_move(self, service: str) -> bool:
        """Whether Caddy runs, and has accepted the Caddyfile. A new one may need a newer Caddy, which comes last.

        Caddy reloads only if the file differs from what it has loaded.
        """
        if f"try_files /{service}{NEXT}" not in self.caddyfile:
            return False
        return all(self._give(command).code == 0 for command in (VALIDATE, LOAD))

    def send_to_second(self, service: str) -> None:
        """Send new requests to the second container. A request that the first one is answering ends there.

        Raises:
            OpsError: requests go where they went before.
        """
        self.runner.require(*self._inside("touch", _switch(service)))

    def send_back(self, *services: str) -> None:
        """Send new requests to the services' own containers.

        Raises:
            OpsError: requests go where they went before.
        """
        self.runner.require(*self._inside("rm", "-f", *map(_switch, services)))

    def load(self) -> None:
        """Give Caddy the Caddyfile. Without changes, it does not reload.

        Raises:
            OpsError: Caddy refused it, and keeps the earlier one.
        """
        self.runner.require(*self._inside(*LOAD), stdin=self.caddyfile)

    def _give(self, command: tuple[str, ...]) -> Done:
        return self.runner.run(*self._inside(*command), stdin=self.caddyfile)

    def _inside(self, *command: str) -> tuple[str, ...]:
        return (*self.compose, "exec", "-T", EDGE, *command)

    def drain(self, service: str, container: str) -> bool:
        """Wait until no one is waiting for a response from a container that gets no new requests. False: someone still is."""
        look = ("docker", "exec", container, "sh", "-c", _says_busy(SERVING[service]))
        until = time.monotonic() + DRAIN_SECONDS
        for _ in range(LOOKS):
            while BUSY in self.runner.run(*look).output:
                if time.monotonic() > until:
                    return False
                time.sleep(self.pause)
            if not self.runner.dry:
                time.sleep(self.pause)
        return True


def _switch(service: str) -> str:
    return f"{SWITCHES}/{service}{NEXT}"


def _says_busy(port: int) -> str:
    """A shell command that reports open connections from other machines to a port, also those not yet accepted."""
    opened = f"^ *[0-9]+: [0-9A-F]+:{port:04X} [0-9A-F]+:[0-9A-F]+ 01 "
    itself = f"^ *[0-9]+: [0-9A-F]*0100007F:{port:04X} "
    return (
        f"cat /proc/net/tcp /proc/net/tcp6 | grep -E '{opened}' | grep -vqE '{itself}' && echo {BUSY} || true"
    )
