"""The service: runs what is due until it is stopped."""

import logging
import signal
from collections.abc import Mapping
from http import HTTPStatus

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from backup.physical.service import UPKEEP_SECONDS
from backup.service import metrics, pages
from backup.service.jobs import Jobs
from backup.service.scheduler import Scheduler
from backup.service.state import State, new_state
from backup.targets import ServerTarget
from backup.wiring import Wiring
from sidecar.logs import fields
from sidecar.page_server import configured
from sidecar.web import Request, Response, Route

log = logging.getLogger(__name__)

# Each read lists all of the stored WAL, which takes some seconds for a month of it.
WAL_POLL_SECONDS = 300.0


def serve(wiring: Wiring) -> None:
    """Run the service until SIGTERM or SIGINT. A run in progress is ended cleanly."""
    state = new_state(wiring)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wiring.stop.request())
    schedules = scheduled(state, Jobs(state))
    settings = wiring.settings
    with configured(settings.host, settings.port, routes(state), settings.web_config_file_path) as server:
        state.refresh()
        schedules.start()
        log.info("serving %s", fields(port=server.port, store=wiring.store.url, schedule=settings.schedule))
        if not wiring.packing.recipients:
            log.warning("backups are NOT encrypted: BACKUP_AGE_RECIPIENTS is not set")
        wiring.stop.wait_for_request()
        log.info("stopping")
        schedules.stop()


def routes(state: State) -> Mapping[str, Route]:
    """The handler of each path."""
    registry = metrics.registry(state)

    def show_metrics(_: Request) -> Response:
        return Response(generate_latest(registry), CONTENT_TYPE_LATEST)

    def healthz(_: Request) -> Response:
        return Response(b"ok\n")

    def readyz(_: Request) -> Response:
        problem = state.trouble
        if problem is None:
            return Response(b"ok\n")
        return Response(f"not ready: {problem}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)

    return {**pages.routes(state), "/metrics": show_metrics, "/healthz": healthz, "/readyz": readyz}


def scheduled(state: State, work: Jobs) -> Scheduler:
    """All schedules of the service, not yet started."""
    settings = state.wiring.settings
    schedules = Scheduler(state)
    schedules.add("backup", settings.schedule, work.back_up)
    schedules.add("verify", settings.verify_schedule, work.verify_some)
    schedules.add("prune", settings.prune_schedule, work.prune)
    if state.wiring.offsite is not None:
        schedules.add("offsite", settings.offsite_schedule, work.copy_offsite)
    schedules.every(settings.catalogue_refresh, state.refresh)
    if any(isinstance(target, ServerTarget) for target in state.wiring.everything):
        schedules.every(UPKEEP_SECONDS, work.renew_bases, queued=True)
        schedules.once("", state.read_wal)
        schedules.every(WAL_POLL_SECONDS, state.read_wal)
    if settings.notify_addresses:
        schedules.every(settings.catalogue_refresh, work.notify)
    if state.wiring.spool is not None:
        schedules.every(settings.catalogue_refresh, work.forward_spool, queued=True)
    if settings.catch_up:
        schedules.once("catch-up", work.catch_up)
    return schedules
