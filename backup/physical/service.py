"""``wal serve``: streams every server until it is stopped, with metrics and a health check."""

import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from backup.cancellation import StoppedError
from backup.catalogue.history import History
from backup.catalogue.reader import Reader
from backup.physical.archive import Archive, Listing
from backup.physical.coverage import coverage, periods
from backup.physical.known import KnownWal
from backup.physical.measures import Measures, Recoverable
from backup.physical.metrics import registry
from backup.physical.offsite import OffsiteCopy
from backup.physical.pulse import Pulse
from backup.physical.storage import Outlet
from backup.physical.stream import Streamer
from backup.physical.upkeep import Cluster, apply, clusters, decide, listings, retained_bases, with_gaps
from backup.store import Store
from backup.targets import ServerTarget
from backup.wiring import Wiring
from sidecar import OpsError, UsageError
from sidecar.logs import fields
from sidecar.malloc import return_large_blocks
from sidecar.page_server import configured
from sidecar.web import Request, Response, Route

log = logging.getLogger(__name__)

UPKEEP_SECONDS = 60.0
# Number of rounds of the upkeep between two deletions.
PRUNE_ROUNDS = 60


@dataclass(frozen=True)
class Watched:
    """A server, and the state of its streamer."""

    target: ServerTarget
    measures: Measures


def serve(wiring: Wiring) -> None:
    """Stream until SIGTERM or SIGINT; what was received is stored before it ends.

    Raises:
        UsageError: no server is configured.
    """
    if not wiring.servers:
        raise UsageError("no server is configured", hint="set BACKUP_SERVERS; see docs/pitr.md")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wiring.stop.request())
    return_large_blocks()  # several copies of a segment, 16 MiB each, are in memory
    watched = [Watched(target, Measures()) for target in wiring.servers]
    threads = [
        threading.Thread(target=work, name=f"{name} {each.target.name}", daemon=True)
        for each in watched
        for name, work in _work(wiring, each)
    ]
    settings = wiring.settings
    with configured(settings.host, settings.wal_port, routes(watched), settings.web_config_file_path) as web:
        log.info("serving %s", fields(port=web.port, store=wiring.store.url, servers=len(watched)))
        for thread in threads:
            thread.start()
        wiring.stop.wait_for_request()
        log.info("stopping")
        for thread in threads:
            thread.join()


def _work(wiring: Wiring, each: Watched) -> list[tuple[str, Callable[[], None]]]:
    settings = wiring.settings
    outlet = Outlet(
        wiring.store, wiring.keys, wiring.packing, settings.wal_interval, wiring.clock, wiring.retain_until
    )
    return [
        ("stream", Streamer(each.target, outlet, wiring.stop, each.measures).run),
        ("pulse", Pulse(each.target, wiring.stop, each.measures).run),
        ("upkeep", Upkeep(wiring, each).run),
    ]


def routes(watched: list[Watched]) -> Mapping[str, Route]:
    """The handler of each path."""
    known = registry({each.target.name: each.measures for each in watched})

    def show_metrics(_: Request) -> Response:
        return Response(generate_latest(known), CONTENT_TYPE_LATEST)

    def healthz(_: Request) -> Response:
        return Response(b"ok\n")

    def readyz(_: Request) -> Response:
        problems = [
            f"{each.target.name}: {each.measures.problem or 'no WAL arrives'}"
            for each in watched
            if each.measures.problem or not each.measures.streaming
        ]
        if not problems:
            return Response(b"ok\n")
        return Response(f"not ready: {'; '.join(problems)}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)

    return {"/metrics": show_metrics, "/healthz": healthz, "/readyz": readyz}


class Upkeep:
    """Checks the base backups, copies the WAL off-site and deletes what is not needed. Its failures never stop the stream."""

    def __init__(self, wiring: Wiring, watched: Watched) -> None:
        self._wiring = wiring
        self._server = watched.target.name
        self._measures = watched.measures
        self._reader: Reader = wiring.reader()
        self._offsite = OffsiteCopy(wiring.store, wiring.offsite) if wiring.offsite is not None else None
        self._known = KnownWal(wiring.store, self._server, self._listed)
        self._round = 0

    def run(self) -> None:
        """Repeat the round until a stop is requested."""
        while not self._wiring.stop.requested:
            try:
                with self._wiring.stop.limit(self._wiring.settings.timeout):
                    self.once(prune=self._round % PRUNE_ROUNDS == 0)
            except StoppedError:
                return
            except OpsError as error:
                log.warning("%s: %s", self._server, error.message)
            except Exception:
                log.exception("the upkeep of the WAL of %s failed", self._server)
            self._round += 1
            self._wiring.stop.pause(UPKEEP_SECONDS)

    def once(self, *, prune: bool) -> None:
        """Do one round.

        Args:
            prune: delete what nothing needs.

        Raises:
            StoreError: a store does not answer.
        """
        wiring = self._wiring
        if prune:
            # First, so that a store that fails in this round postpones the whole listing by one round only.
            self._known.forget()
        history = self._reader.read(wiring.clock(), [self._server]).history(self._server)
        bases = retained_bases(history.backups)
        self._measures.base_taken = max((retained.taken for retained in bases), default=None)
        self._measures.base_proven = max(
            (retained.taken for retained in bases if retained.proven), default=None
        )
        if self._measures.segment_size is None:
            return  # the server was not reached yet, so the names cannot be interpreted
        found = with_gaps(wiring, wiring.store, self._known.read(self._measures.timeline))
        self._measures.recoverable = _recoverable(wiring, history, found)
        for cluster in found:
            self._measures.gap_noticed = cluster.last_gap or self._measures.gap_noticed
            if self._offsite is not None:
                copied = self._offsite.copy(cluster.archive, cluster.listing)
                log.debug("%s: %d objects were copied off-site", self._server, copied)
        if prune and self._offsite is not None:
            self._offsite.forget()
        if prune and wiring.settings.delete != "never":
            self._prune(wiring.store, history)
            if wiring.offsite is not None:
                # The base backups that are there decide: the WAL of one that is not copied yet is useless.
                there = wiring.reader(wiring.offsite).read(wiring.clock(), [self._server])
                self._prune(wiring.offsite, there.history(self._server))

    def _listed(self) -> list[tuple[Archive, Listing]]:
        assert self._measures.segment_size is not None
        return listings(self._wiring, self._wiring.store, self._server, self._measures.segment_size)

    def _prune(self, store: Store, history: History) -> None:
        problems = [f"the manifest of {broken.id} is damaged" for broken in history.broken]
        bases = retained_bases(history.backups)
        assert self._measures.segment_size is not None
        if bases:
            for cluster in clusters(self._wiring, store, self._server, self._measures.segment_size):
                own = [retained for retained in bases if retained.system == cluster.archive.system]
                for refusal in apply(store, decide(self._wiring, cluster, own, problems))[:1]:
                    log.warning("WAL was not deleted: %s: %s", refusal.key, refusal.reason)


def _recoverable(wiring: Wiring, history: History, found: Sequence[Cluster]) -> Recoverable:
    if not retained_bases(history.backups):
        return Recoverable()
    known = periods(coverage(wiring, history, found).candidates)
    proofs = [report for report in history.reports if report.ok]
    measured = proofs[-1].measures if proofs else {}
    reached = measured.get("reached")
    return Recoverable(
        earliest=known[-1].earliest if known else None,
        latest=known[-1].latest if known else None,
        proven=datetime.fromtimestamp(reached, UTC) if reached is not None else None,
        rpo=measured.get("rpo"),
        rto=measured.get("rto"),
        replay=measured.get("replay"),
    )
