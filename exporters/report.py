"""The reports of ``check`` and ``queues``: text and JSON from the same facts."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from exporters.inspect import apply, ask
from exporters.pipeline import Pipeline
from exporters.queues.collector import Consumers
from exporters.service import worker_advice
from sidecar.errors import OpsError

SETTLE_SECONDS = 0.1
# Celery's default worker_prefetch_multiplier.
PREFETCH_MULTIPLIER = 4


@dataclass
class QueueFacts:
    """One queue."""

    queue: str
    length: int | None
    unacked: int | None
    oldest_seconds: float | None
    consumers: int | None


@dataclass
class WorkerFacts:
    """One worker."""

    node: str
    up: bool
    active: int | None
    processed: int | None
    pool_size: int | None
    queues: list[str] | None


@dataclass
class Findings:
    """The result of listening to one broker for a short time."""

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
    """The queues in the newest round."""
    known = Consumers(pipeline.state)
    return [
        QueueFacts(
            name,
            queue.length,
            queue.unacked,
            queue.oldest_age if queue.age_is_known else None,
            queue.consumers if queue.consumers is not None else known.count(name),
        )
        for name, queue in sorted(pipeline.queues.snapshot.queues.items())
    ]


def refresh(pipeline: Pipeline) -> list[str]:
    """Run one inspect round and one round of queues; returns why the broker refused to answer about a queue.

    Raises:
        OpsError: the broker cannot be polled.
    """
    try:
        apply(ask(pipeline.inspector), pipeline.state)
        snapshot = pipeline.poller.poll()
    except OpsError:
        raise
    except Exception as error:  # each transport has its own exceptions
        raise OpsError(
            f"broker {pipeline.broker.shown} does not answer: {error}",
            hint="check the URL, the password and that the broker runs",
        ) from None
    pipeline.queues.update(snapshot)
    return snapshot.refused


def examine(pipeline: Pipeline, seconds: float) -> Findings:
    """Listen for a while, then report facts, problems and hints."""
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
    refused = refresh(pipeline)
    fill(findings, pipeline)
    if pipeline.blocked():
        findings.problems.append(pipeline.blocked())
        findings.hints.append(
            "free memory or disk space of RabbitMQ; `rabbitmq-diagnostics alarms` names the node"
        )
    for reason in refused:
        findings.problems.append(f"the broker refuses to answer about {reason}")
        findings.hints.append("give the exporter's user permission to read it")
    judge(findings, pipeline)
    return findings


def judge(findings: Findings, pipeline: Pipeline) -> None:
    """Add the problems that the facts show, and what to do about them."""
    _judge_workers(findings, pipeline)
    _judge_queues(findings, pipeline)


def fill(findings: Findings, pipeline: Pipeline) -> None:
    """Add the facts."""
    state = pipeline.state
    findings.events = dict(state.types)
    findings.undecodable = state.undecodable
    findings.queues = queue_facts(pipeline)
    alive = {worker.node for worker in state.roster.alive()}
    findings.workers = [
        WorkerFacts(
            worker.node,
            worker.node in alive,
            worker.active,
            worker.processed,
            worker.pool_size,
            list(worker.queues) if worker.queues_known else None,
        )
        for worker in state.roster.shown()
    ]


def _judge_workers(findings: Findings, pipeline: Pipeline) -> None:
    if not findings.workers:
        findings.problems.append("no worker replies and none sends heartbeats")
        findings.hints.append("start a worker, and check that workers use this broker and database number")
    elif not any(worker.up for worker in findings.workers):
        findings.problems.append("no worker is up")
        findings.hints.append(
            "start a worker, or raise CELERY_EXPORTER_WORKER_TIMEOUT if they are busy with long tasks"
        )
    elif not any(worker.queues is not None for worker in findings.workers):
        findings.hints.append(
            "no worker replied to inspect, so their queues and pools are not known: set "
            "CELERY_EXPORTER_CONTROL_EXCHANGE to Celery's control_exchange, switch Celery's "
            "worker_enable_remote_control on, or try again when they are less busy"
        )
    for advice in worker_advice(pipeline):
        findings.problems.append(advice.partition(": ")[0])
        findings.hints.append(advice)
    if pipeline.events_missing():
        return
    if not any(kind.startswith("task-") for kind in findings.events):
        findings.hints.append(
            f"no task ran in {findings.seconds:g} s; run one, or listen longer with --seconds"
        )
    elif not findings.events.get("task-sent"):
        findings.hints.append("no task-sent events: set task_send_sent_event = True in what sends tasks")


def _judge_queues(findings: Findings, pipeline: Pipeline) -> None:
    for queue in findings.queues:
        if queue.length and queue.consumers == 0:
            findings.problems.append(f"queue {queue.queue} has {queue.length} messages and no consumer")
            findings.hints.append(f"start a worker with -Q {queue.queue}")
    if _stalled_by_eta(findings, pipeline):
        findings.problems.append(
            "workers are idle and hold only tasks that wait for their eta, while queues are not empty"
        )
        findings.hints.append(
            "RabbitMQ 4 does not raise a worker's prefetch for eta and countdown: use quorum queues (native delayed "
            "delivery), or raise worker_prefetch_multiplier"
        )


def _stalled_by_eta(findings: Findings, pipeline: Pipeline) -> bool:
    """Whether workers have their whole prefetch filled with waiting eta tasks, and run nothing."""
    alive = pipeline.state.roster.alive()
    slots = sum(worker.pool_size or 0 for worker in alive)
    scheduled = len(pipeline.state.eta.entries)
    idle = alive and all(worker.active == 0 for worker in alive)
    waiting = any(queue.length and queue.consumers for queue in findings.queues)
    return bool(idle and waiting and slots and scheduled >= PREFETCH_MULTIPLIER * slots)
