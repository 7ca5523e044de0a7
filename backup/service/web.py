"""What the service answers over HTTP."""

from collections.abc import Mapping
from http import HTTPStatus

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from backup.service import metrics, page
from backup.service.state import State
from sidecar.web import HTML, Request, Response, Route


def routes(state: State) -> Mapping[str, Route]:
    """Path → handler."""
    registry = metrics.registry(state)

    def show_metrics(_: Request) -> Response:
        return Response(generate_latest(registry), CONTENT_TYPE_LATEST)

    def show_page(_: Request) -> Response:
        return Response(page.render(state).encode(), HTML)

    def healthz(_: Request) -> Response:
        return Response(b"ok\n")

    def readyz(_: Request) -> Response:
        problem = state.problems["main"]
        if problem is None:
            return Response(b"ok\n")
        return Response(f"not ready: {problem}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)

    return {"/": show_page, "/metrics": show_metrics, "/healthz": healthz, "/readyz": readyz}
