"""The web server of a sidecar, protected as configured."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from sidecar.web import Request, Response, Route, WebServer


def configured(
    host: str,
    port: int,
    routes: Mapping[str, Route],
    config: str | None,
    *,
    posts: Mapping[str, Route] | None = None,
) -> WebServer:
    """A server with TLS, basic auth and headers from a Prometheus web-config file.

    Args:
        config: path of the file; None: plain HTTP without authentication.

    Raises:
        UsageError: the file is missing or invalid.
        OpsError: the port cannot be bound.
    """
    if config is None:
        return WebServer(host, port, routes, posts=posts)
    from sidecar.webconfig import WebConfig  # imported only if used, because its libraries cost memory

    web = WebConfig(Path(config))
    decorated, taken = (
        {path: partial(_decorated, route, web.headers) for path, route in some.items()}
        for some in (routes, posts or {})
    )
    return WebServer(host, port, decorated, guard=web.guard, tls=web.tls, posts=taken)


def _decorated(route: Route, headers: Mapping[str, str], request: Request) -> Response:
    response = route(request)
    return replace(response, headers={**response.headers, **headers})
