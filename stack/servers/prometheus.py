"""Prometheus."""

from sidecar.http import answers
from stack.servers.monitor import Monitor


class Prometheus(Monitor):
    """Prometheus with a configuration file."""

    name = "prometheus"
    storage = "--storage.tsdb.path"
    options = ("--web.enable-lifecycle",)

    @property
    def browser_url(self) -> str:
        """The page for queries. Debian's packages lack the newer one; that of Debian 13 shows a note in its place."""
        older = f"{self.url}/classic/graph"
        return older if answers(older) else f"{self.url}/graph"
