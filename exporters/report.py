"""What ``check`` and ``queues`` tell: facts first, text and JSON from the same facts."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from exporters.inspect import apply
from exporters.pipeline import Pipeline
from exporters.service import GUIDE
from sidecar.errors import OpsError

SETTLE_SECONDS = 0.1


@dataclass
class QueueFacts:
    """One queue."""

    queue: str
    length: int
    unacked: int | None
    oldest_seconds: float | None
    consumers: int | None


@dataclass
class WorkerFacts:
    """One worker."""

    node: str
    up: bool
    active: int
    processed: int
    pool_size: int | None
    queues: list[str]


@dataclass
class Findings:
    """What a short look at one broker shows."""

    broker: str
    address: str
    subscribed: bool
    error: str
    seconds: float
    workers: list[WorkerFacts] = field(default_factory=list)
    queues: list[QueueFacts] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    undecodable: int = 0
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def queue_facts(pipeline: Pipeline) -> list[QueueFacts]:
    """The queues as the newest round saw them."""
    live = [worker for worker in pipeline.state.workers.values() if not worker.offline]
    asked = pipeline.state.inspected
    return [
        QueueFacts(
            name,
            queue.length,
            queue.unacked,
            queue.oldest_age if queue.age_is_known else None,
            queue.consumers
            if queue.consumers is not None
            else (sum(name in worker.queues for worker in live) if asked else None),
        )
        for name, queue in sorted(pipeline.queues.snapshot.queues.items())
    ]


def look(pipeline: Pipeline) -> None:
    """One round of queues and one question to the workers.

    Raises:
        OpsError: the broker cannot be asked.
    """
    try:
        answers = pipeline.inspector.ask()
        for node in answers:
            pipeline.state.worker(node)
        apply(answers, pipeline.state)
        pipeline.queues.update(pipeline.poller.poll())
    except Exception as error:  # every transport has errors of its own
        raise OpsError(
            f"broker {pipeline.broker.shown} does not answer: {error}",
            hint="check the URL, the password and that the broker runs",
        ) from None


def examine(pipeline: Pipeline, seconds: float) -> Findings:
    """Listen for a while and judge."""
    pipeline.reader.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(SETTLE_SECONDS)
    health = pipeline.receiver.health
    findings = Findings(pipeline.broker.name, pipeline.broker.shown, health.connected, health.error, seconds)
    if not health.connected:
        findings.problems.append(f"not subscribed to task events: {health.error}")
        findings.hints.append("check the URL, the password and that the broker runs")
        return findings
    look(pipeline)
    _fill(findings, pipeline)
    _judge(findings, pipeline)
    return findings


def _fill(findings: Findings, pipeline: Pipeline) -> None:
    state = pipeline.state
    findings.events = dict(state.types)
    findings.undecodable = state.undecodable
    findings.queues = queue_facts(pipeline)
    now = state.observed_at()
    findings.workers = [
        WorkerFacts(
            worker.node,
            worker.up(now, state.liveness.timeout),
            worker.active,
            worker.processed,
            worker.pool_size,
            list(worker.queues),
        )
        for worker in state.workers.values()
    ]


def _judge(findings: Findings, pipeline: Pipeline) -> None:
    if not findings.workers:
        findings.problems.append("no worker answers and none sends heartbeats")
        findings.hints.append("start a worker; is this the broker and the database number that workers use?")
    elif not any(worker.up for worker in findings.workers):
        findings.problems.append("workers answer but send no heartbeats")
        findings.hints.append("start workers without --without-heartbeat")
    if pipeline.events_missing():
        findings.problems.append("workers send no task events")
        findings.hints.append(GUIDE)
    elif not any(kind.startswith("task-") for kind in findings.events):
        findings.hints.append("no task ran meanwhile; run one, or listen longer with --seconds")
    elif not findings.events.get("task-sent"):
        findings.hints.append("no task-sent events: set task_send_sent_event = True in what sends tasks")
    for queue in findings.queues:
        if queue.length and queue.consumers == 0:
            findings.problems.append(f"queue {queue.queue} has {queue.length} messages and no consumer")
            findings.hints.append(f"start a worker with -Q {queue.queue}")
