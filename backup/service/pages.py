"""The routes of the pages, and of the same facts as JSON."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from backup.service import backup_page, status_page
from backup.service.state import State
from backup.service.summary import document
from sidecar import html
from sidecar.web import Request, Response, Route

REFRESH_SECONDS = 30
JSON_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def routes(state: State) -> Mapping[str, Route]:
    """The handler of each path."""

    def show_page(_: Request) -> Response:
        return html.respond("Backups", status_page.render(state), refresh=REFRESH_SECONDS)

    def show_database(request: Request) -> Response:
        name = request.path.rpartition("/")[2]
        found = status_page.render_database(state, name)
        return _missing(f"there is no database {name} here") if found is None else html.respond(name, found)

    def show_backup(request: Request) -> Response:
        backup_id = request.path.rpartition("/")[2]
        found = backup_page.find(state, backup_id)
        if found is None:
            return _missing(f"there is no backup {backup_id}; it may have been pruned")
        return html.respond(f"Backup {backup_id}", backup_page.render(state, *found))

    def show_status(_: Request) -> Response:
        body = json.dumps(document(state), indent=1).encode()
        return Response(body, "application/json", headers=JSON_HEADERS)

    return {
        "/": show_page,
        "/database/*": show_database,
        "/backup/*": show_backup,
        "/api/status": show_status,
    }


def _missing(sentence: str) -> Response:
    back = f"<p>{html.link('/', 'all databases')}</p>"
    return html.respond("Not found", html.notice("bad", sentence) + back, status=HTTPStatus.NOT_FOUND)
