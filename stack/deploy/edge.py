"""Caddy during a rollout: which container of a service gets the requests, and whether one still answers any."""

import time
from dataclasses import dataclass

from stack.deploy.runner import Runner

# Customers reach everything through it, so it is the last one to be replaced.
EDGE = "posthub_caddy"
CONFIG = "/etc/caddy/Caddyfile"
RELOAD = ("caddy", "reload", "--config", CONFIG, "--address", "unix//tmp/caddy.sock")
# Longer than Caddy waits for an answer of the API.
DRAIN_SECONDS = 70
# A request may still be on its way to a container that has none.
LOOKS = 2
BUSY = "busy"


@dataclass(frozen=True)
class Upstream:
    """Where Caddy sends the requests for a service.

    Attributes:
        variable: the environment variable that the Caddyfile reads.
        port: the port that every container of the service listens on.
    """

    variable: str
    port: int


# Each is replaced while a second container answers.
SERVING = {
    "posthub_api_prod": Upstream("API_UPSTREAM", 8000),
    "posthub_frontend_prod": Upstream("FRONTEND_UPSTREAM", 8080),
}


@dataclass(frozen=True)
class Edge:
    """Sets where Caddy sends requests.

    Args:
        compose: the command line of compose.
        pause: seconds between two looks at a container.
    """

    runner: Runner
    compose: tuple[str, ...]
    pause: float

    def can_move(self, service: str) -> bool:
        """Whether Caddy runs with a Caddyfile that reads the variable. An earlier version's does not."""
        read = ("grep", "-qF", f"{{${SERVING[service].variable}:", CONFIG)
        return self.runner.run(*self.compose, "exec", "-T", EDGE, *read).code == 0

    def send(self, service: str, container: str) -> None:
        """Send new requests to this container. A request that another container is answering ends there.

        Raises:
            OpsError: Caddy refused the change; requests go where they went before.
        """
        upstream = SERVING[service]
        setting = f"{upstream.variable}={container}:{upstream.port}"
        self.runner.must(*self.compose, "exec", "-T", "--env", setting, EDGE, *RELOAD)

    def drain(self, service: str, container: str) -> bool:
        """Wait until nobody waits for an answer of a container that gets no new requests. False: some still do."""
        look = ("docker", "exec", container, "sh", "-c", _says_busy(SERVING[service].port))
        until = time.monotonic() + DRAIN_SECONDS
        for _ in range(LOOKS):
            while BUSY in self.runner.run(*look).output:
                if time.monotonic() > until:
                    return False
                time.sleep(self.pause)
            if not self.runner.dry:
                time.sleep(self.pause)
        return True


def _says_busy(port: int) -> str:
    """A shell command that reports open connections from other machines to a port, also those not yet accepted."""
    opened = f"^ *[0-9]+: [0-9A-F]+:{port:04X} [0-9A-F]+:[0-9A-F]+ 01 "
    itself = f"^ *[0-9]+: [0-9A-F]*0100007F:{port:04X} "
    return (
        f"cat /proc/net/tcp /proc/net/tcp6 | grep -E '{opened}' | grep -vqE '{itself}' && echo {BUSY} || true"
    )
