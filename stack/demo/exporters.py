"""The exporters of PostgreSQL, Redis and this machine in the demo, fetched and started while its steps run."""

import threading
from collections.abc import Callable

from sidecar import OpsError
from stack.programs import fetch
from stack.programs.kits import EXPORTERS
from stack.servers import Service
from stack.suite import Suite, exporters, monitoring
from stack.wait import join

# A machine's alerts are about sustained load, full disks and its clock. At the demo's pace, a minute of load would fire one.
RULES_LEFT_OUT = ("host",)


class Starting:
    """Starts the exporters in the background; without them, their dashboards are not drawn, and a line says why.

    Args:
        suite: the running suite.
        say: called with that line, or with one for each exporter.
    """

    def __init__(self, suite: Suite, say: Callable[[str], None]) -> None:
        self._suite = suite
        self._say = say
        self._services: list[Service] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._start, name="exporters", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until they run, or have failed to start."""
        join(self._thread)

    def stop(self) -> None:
        """Stop those that run, and start no others."""
        with self._lock:
            self._stopping = True
            for service in self._services:
                service.stop()

    def _start(self) -> None:
        suite = self._suite
        try:
            fetch(list(EXPORTERS.values()))
            made = {
                "redis": exporters.redis(suite),
                "postgres": exporters.postgres(suite),
                "node": exporters.node(suite),
            }
            with self._lock:
                if self._stopping:
                    return
                for service in made.values():
                    self._services.append(service)
                    service.start()
                    self._say(f"started {service.name} on port {service.port}")
                exporters.scrape(
                    suite, {job: [monitoring.target(exporter.port)] for job, exporter in made.items()}
                )
        except OpsError as error:
            self._say(f"without some dashboards: {error.message.splitlines()[0]} ({error.hint})")
