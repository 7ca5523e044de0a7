"""Prometheus."""

from stack.servers.monitor import Monitor


class Prometheus(Monitor):
    """Prometheus with a configuration file."""

    name = "prometheus"
    storage = "--storage.tsdb.path"
    options = ("--web.enable-lifecycle",)
