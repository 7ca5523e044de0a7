"""The exporter as a service: pipelines, their pages, and the web server in front."""

import gc
import logging
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Self

from exporters import overview
from exporters.beat.collector import BeatCollector
from exporters.beat.schedules import Schedule
from exporters.exposition.families import Family, counter, gauge, label_text
from exporters.exposition.page import Page, merged, with_label
from exporters.pipeline import Pipeline
from exporters.settings import ExporterSettings
from exporters.supervise import Periodic, Supervised
from exporters.tables.state import EventState
from sidecar import html
from sidecar.logs import fields
from sidecar.page_server import configured
from sidecar.version import __version__
from sidecar.web import Request, Response, Route

log = logging.getLogger(__name__)

# A scrape may have to wait for the event thread; a shorter switch interval keeps the wait short at a small cost.
SWITCH_SECONDS = 0.002
# Tasks in flight are many small objects without cycles, so frequent garbage collection is wasted.
COLLECT_AFTER = (50_000, 20, 100)
GUIDE_SECONDS = 10.0
# Seconds after which a browser reloads the status page.
REFRESH_SECONDS = 10
# Maximum number of node names in a piece of advice.
MAX_NAMED = 5
# Seconds between two checks whether a scrape is due.
RENDER_TICK = 0.25
# Up to this number of malformed events, no advice is given.
ODD_EVENTS = 5
UNDECODABLE = (
    "most events cannot be decoded: set Celery's event_serializer to json in workers and in everything that sends "
    "tasks (pickled events are never loaded)"
)
GUIDE = (
    "workers run tasks but send no task events: start them with -E, or set worker_send_task_events = True "
    "(and task_send_sent_event = True in the senders, for queue names and waiting times)"
)


class Exporter:
    """Watches brokers and serves their metrics.

    Args:
        settings: see :class:`exporters.settings.ExporterSettings`.
    """

    def __init__(self, settings: ExporterSettings) -> None:
        self.pipelines = [Pipeline(broker, settings) for broker in settings.brokers()]
        self._guide = Periodic("guide", self._advise, GUIDE_SECONDS)
        self._advised: set[tuple[str, str]] = set()
        self.page = Page(self.families, oldest=settings.render_interval)
        self._pages = {
            pipeline.broker.name: Page(partial(self._listed, pipeline), oldest=settings.render_interval)
            for pipeline in self.pipelines
        }
        self._render = Periodic("render", self._renew, RENDER_TICK)
        self._render_ahead = settings.render_interval > 0
        # Seconds that the last rendering took; None before the first.
        self._rendered_in: float | None = None
        self._beat = _beat(settings, [pipeline.state for pipeline in self.pipelines])
        self._beat_round = Periodic("beat", self._beat.update, settings.beat_interval)
        self._server = configured(settings.host, settings.port, self._routes(), settings.web_config_file_path)

    @property
    def port(self) -> int:
        return self._server.port

    def start(self) -> Self:
        sys.setswitchinterval(SWITCH_SECONDS)
        # What is loaded by now stays, so the garbage collector need not examine it repeatedly.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        for pipeline in self.pipelines:
            pipeline.start()
            log.info("watching broker %s", fields(name=pipeline.broker.name, url=pipeline.broker.shown))
        self._guide.thread.start()
        self._beat_round.thread.start()
        if self._render_ahead:
            self._render.thread.start()
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop()
        self._guide.thread.stop()
        self._render.thread.stop()
        self._beat_round.thread.stop()
        for pipeline in self.pipelines:
            pipeline.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def families(self) -> list[Family]:
        """All families, with a ``broker`` label if there are several brokers."""
        if len(self.pipelines) == 1:
            return self._listed(self.pipelines[0])
        parts = [
            family
            for pipeline in self.pipelines
            for family in with_label(pipeline.families(), label_text(broker=pipeline.broker.name))
        ]
        return merged([*parts, *self._own()])

    def _listed(self, pipeline: Pipeline) -> list[Family]:
        return list(self._of_one(pipeline))

    def _of_one(self, pipeline: Pipeline) -> Iterable[Family]:
        yield from pipeline.families()
        yield from self._own()

    def _own(self) -> Iterable[Family]:
        jobs = [
            *(job for pipeline in self.pipelines for job in pipeline.periodic),
            self._beat_round,
            self._render,
        ]
        threads: list[Supervised | Periodic] = [*jobs, *(pipeline.reader for pipeline in self.pipelines)]
        errors: dict[str, int] = {}
        for thread in threads:
            name = thread.name.partition(" ")[0]
            errors[name] = errors.get(name, 0) + thread.errors
        durations: dict[str, float] = {}
        for job in jobs:
            duration = self._rendered_in if job is self._render else job.duration
            if duration is not None:
                durations[job.name] = max(duration, durations.get(job.name, 0.0))
        yield from self._beat.collect()
        yield counter(
            "celery_exporter_collect_errors",
            "Failed rounds by collector.",
            [(label_text(collector=name), count) for name, count in errors.items()],
        )
        yield gauge(
            "celery_exporter_collect_duration_seconds",
            "Duration of the newest round by collector; with several brokers, the longest.",
            [(label_text(collector=name), seconds) for name, seconds in durations.items()],
        )
        yield gauge(
            "celery_exporter_build_info", "The exporter's version.", [(label_text(version=__version__), 1)]
        )

    def _renew(self) -> None:
        started = time.monotonic()
        rendered = [page.renew() for page in (self.page, *self._pages.values())]
        if any(rendered):
            self._rendered_in = time.monotonic() - started

    def _advise(self) -> None:
        for pipeline in self.pipelines:
            name = pipeline.broker.name
            for advice in worker_advice(pipeline):
                if (name, advice) not in self._advised:
                    log.warning("broker %s: %s", name, advice)
            self._advised = {known for known in self._advised if known[0] != name}
            self._advised |= {(name, advice) for advice in worker_advice(pipeline)}

    # Pages

    def _routes(self) -> dict[str, Route]:
        return {
            "/": self._index,
            "/metrics": self.page,
            "/probe": self._probe,
            "/healthz": self._healthz,
            "/health": self._healthz,
            "/readyz": self._readyz,
        }

    def _probe(self, request: Request) -> Response:
        page = self._pages.get(request.query.get("target", ""))
        if page is None:
            names = ", ".join(sorted(self._pages))
            return Response(
                f"unknown target; ?target= must be one of: {names}\n".encode(), status=HTTPStatus.BAD_REQUEST
            )
        return page(request)

    def _healthz(self, _: Request) -> Response:
        return _verdict([pipeline.hung() for pipeline in self.pipelines])

    def _readyz(self, _: Request) -> Response:
        return _verdict([pipeline.ready() for pipeline in self.pipelines])

    def _index(self, _: Request) -> Response:
        found = [(pipeline, worker_advice(pipeline)) for pipeline in self.pipelines]
        body = overview.render(found, self._beat.current(), time.time())
        return html.respond(f"Celery exporter {__version__}", body, refresh=REFRESH_SECONDS)


def worker_advice(pipeline: Pipeline) -> list[str]:
    """Problems of a broker's workers and advice about them, for people."""
    found = [GUIDE] if pipeline.events_missing() else []
    shared = pipeline.shared_names()
    if shared:
        names = ", ".join(shared[:MAX_NAMED])
        found.append(f"several workers use the same node name ({names}): give each its own with -n NAME@%h")
    state = pipeline.state
    if state.undecodable > max(ODD_EVENTS, sum(state.types.values())):
        found.append(UNDECODABLE)
    return found


def _beat(settings: ExporterSettings, states: list[EventState]) -> BeatCollector:
    return BeatCollector(
        states,
        read=_schedules_reader(settings),
        names=settings.beat_tasks,
        grace=settings.beat_grace,
    )


def _schedules_reader(settings: ExporterSettings) -> Callable[[], list[Schedule]] | None:
    url = settings.schedules_url()
    if url is None:
        return None
    # Imported only if used, because it costs memory.
    from exporters.beat.database import read_schedules

    return partial(read_schedules, url)


def _verdict(problems: list[str]) -> Response:
    found = [problem for problem in problems if problem]
    if found:
        return Response(("\n".join(found) + "\n").encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
    return Response(b"ok\n")
