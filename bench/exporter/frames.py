"""Event frames in the wire format of real Celery workers, generated fast.

Each template is what Celery 5 with kombu publishes over Redis, member for member; tests/exporters compares them
with frames captured from a real worker.
"""

import json
import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

COMMON = '"hostname": "%s", "utcoffset": 0.0, "pid": %d, "clock": %d'
SENT = (
    "{"
    + COMMON
    + ', "uuid": "%s", "root_id": "%s", "parent_id": %s, "name": "%s", "args": "(1, 2)", "kwargs": "{}", '
    '"retries": 0, "eta": null, "expires": null, "queue": "%s", "exchange": "", "routing_key": "%s", '
    '"timestamp": %.7f, "type": "task-sent"}'
)
RECEIVED = (
    "{"
    + COMMON
    + ', "uuid": "%s", "name": "%s", "args": "(1, 2)", "kwargs": "{}", "root_id": "%s", "parent_id": %s, '
    '"retries": 0, "eta": null, "expires": null, "timestamp": %.7f, "type": "task-received"}'
)
STARTED = "{" + COMMON + ', "uuid": "%s", "timestamp": %.7f, "type": "task-started"}'
SUCCEEDED = (
    "{"
    + COMMON
    + ', "uuid": "%s", "result": "3", "runtime": %.17f, "timestamp": %.7f, "type": "task-succeeded"}'
)
HEARTBEAT = (
    "{" + COMMON + ', "freq": 2.0, "active": %d, "processed": %d, "loadavg": [0.83, 0.5, 0.28], '
    '"sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux", "timestamp": %.7f, "type": "worker-heartbeat"}'
)
ENVELOPE = (
    '{"body": "%s", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"hostname": "%s"}, '
    '"properties": {"delivery_mode": 1, "delivery_info": {"exchange": "celeryev", "routing_key": "%s"}, '
    '"priority": 0, "body_encoding": "base64", "delivery_tag": "%s"}}'
)
TAG = "716cd963-1ced-442d-ba26-1f33b8dc2e74"
CLIENT = "gen8843@web-1"


def frame(body: str, hostname: str, routing_key: str, tag: str = TAG) -> bytes:
    """The envelope around a body of JSON."""
    return (ENVELOPE % (b64encode(body.encode()).decode(), hostname, routing_key, tag)).encode()


def publish(payload: bytes, routing_key: str) -> bytes:
    """The Redis command that publishes a frame."""
    channel = b"/0.celeryev/" + routing_key.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(channel),
        channel,
        len(payload),
        payload,
    )


@dataclass(frozen=True)
class Shape:
    """The shape of the simulated traffic.

    Attributes:
        names: distinct task names.
        workers: distinct nodes.
        queues: distinct queues.
        orphans: number of tasks out of ten that are sent and never received.
        parents: whether each task names an unknown parent.
    """

    names: int = 20
    workers: int = 4
    queues: int = 5
    orphans: int = 0
    parents: bool = True


class Traffic:
    """Task life cycles, as the Redis commands that publish their events.

    Attributes:
        events: task events made so far.
        starts: of each worker.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.nodes = [f"worker-{n}@host-{n}" for n in range(shape.workers)]
        self.client = CLIENT
        self.names = [f"shop.tasks.job_{n:03d}" for n in range(shape.names)]
        self.events = 0
        self.starts = [0] * shape.workers
        self._made = 0
        self._salt = uuid.uuid4().hex[:20]

    def task(self, now: float) -> Iterator[tuple[bytes, int]]:
        """One task's life: (command, events in it) in order. Some worker events share a frame, as those of real workers do."""
        n = self._made
        self._made += 1
        shape, salt = self.shape, self._salt
        uid = f"{salt[:8]}-{salt[8:12]}-{salt[12:16]}-{salt[16:20]}-{n:012x}"
        parent = f'"{salt[8:16]}-0000-4000-8000-{n:012x}"' if shape.parents else "null"
        kind, at = n % shape.names, (n // shape.names) % shape.workers
        name, queue, node = self.names[kind], f"queue_{kind % shape.queues}", self.nodes[at]
        yield self._sent(uid, parent, name, queue, now), 1
        if n % 10 < shape.orphans:
            self.events += 1
            return
        yield from self._worked(uid, parent, name, node, now, together=n % 2 == 0)
        self.starts[at] += 1
        self.events += 4

    def _sent(self, uid: str, parent: str, name: str, queue: str, now: float) -> bytes:
        body = SENT % (self.client, 8843, 1, uid, uid, parent, name, queue, queue, now)
        return publish(frame(body, self.client, "task.sent"), "task.sent")

    def _worked(
        self, uid: str, parent: str, name: str, node: str, now: float, *, together: bool
    ) -> Iterator[tuple[bytes, int]]:
        received = RECEIVED % (node, 8838, 4, uid, name, uid, parent, now + 0.001)
        started = STARTED % (node, 8838, 6, uid, now + 0.002)
        succeeded = SUCCEEDED % (node, 8838, 8, uid, 0.0123, now + 0.015)
        if together:
            yield _multi([received, started], node), 2
        else:
            yield _multi([received], node), 1
            yield _multi([started], node), 1
        yield _multi([succeeded], node), 1

    def heartbeats(self, now: float) -> bytes:
        """One heartbeat of each worker."""
        commands = []
        for node, processed in zip(self.nodes, self.starts, strict=True):
            body = HEARTBEAT % (node, 8838, 60, 1, processed, now)
            commands.append(publish(frame(body, node, "worker.heartbeat"), "worker.heartbeat"))
        return b"".join(commands)


def _multi(bodies: Sequence[str], node: str) -> bytes:
    return publish(frame(f"[{', '.join(bodies)}]", node, "task.multi"), "task.multi")


def event_bodies(traffic: Traffic) -> Iterator[tuple[str, str]]:
    """The task events one by one as AMQP carries them: routing key and body, without an end."""
    while True:
        for command, _ in traffic.task(time.time()):
            body = b64decode(json.loads(command.split(b"\r\n", 6)[6].removesuffix(b"\r\n"))["body"])
            events = json.loads(body)
            for event in events if isinstance(events, list) else [events]:
                yield event["type"].replace("-", "."), json.dumps(event)
