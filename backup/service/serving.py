"""The service: runs what is due until it is told to stop."""

import logging
import signal

from backup.service import web
from backup.service.scheduling import Schedules
from backup.service.state import State, new_state
from backup.service.work import Work
from backup.wiring import Wiring
from sidecar.logs import fields
from sidecar.web import WebServer

log = logging.getLogger(__name__)


def serve(wiring: Wiring) -> None:
    """Run the service until SIGTERM or SIGINT; a run that is on is ended cleanly."""
    state = new_state(wiring)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wiring.stop.request())
    schedules = scheduled(state, Work(state))
    with WebServer(wiring.settings.host, wiring.settings.port, web.routes(state)) as server:
        state.refresh()
        schedules.start()
        log.info(
            "serving %s", fields(port=server.port, store=wiring.store.url, schedule=wiring.settings.schedule)
        )
        if not wiring.packing.recipients:
            log.warning("backups are NOT encrypted: BACKUP_AGE_RECIPIENTS is not set")
        wiring.stop.wait_for_request()
        log.info("stopping")
        schedules.stop()


def scheduled(state: State, work: Work) -> Schedules:
    """All schedules of the service, not yet started."""
    settings = state.wiring.settings
    schedules = Schedules(state)
    schedules.add("backup", settings.schedule, work.back_up)
    schedules.add("verify", settings.verify_schedule, work.verify_some)
    schedules.add("prune", settings.prune_schedule, work.prune)
    if state.wiring.offsite is not None:
        schedules.add("offsite", settings.offsite_schedule, work.copy_offsite)
    schedules.every(settings.catalogue_refresh, state.refresh)
    if state.wiring.spool is not None:
        schedules.every(settings.catalogue_refresh, work.forward_spool, queued=True)
    if settings.catch_up:
        schedules.once("catch-up", work.catch_up)
    return schedules
