"""The measurements; each starts its own servers and subjects, and stops them."""

import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import redis
from amqp import Message

from bench.exporter.frames import Shape, Traffic, event_bodies
from bench.exporter.subjects import NOT_ANSWERED, ROOT, ScrapeError, Subject
from exporters.amqp import AmqpLink
from exporters.broker import parse_broker, redis_settings
from exporters.queues.redis import RedisPoller
from exporters.tables.state import EventState
from sidecar.errors import OpsError
from stack.servers import RabbitMq, Redis
from stack.servers.base import Server

SAMPLE = 0.05
# A process that uses less than this share of a core has counted everything.
IDLE_SHARE = 0.15
QUIET_SAMPLES = 8
SCRAPE_PAUSE = 0.2
# The generator keeps its events in memory, so a million tasks are not generated at once.
TASKS_A_STEP = 50_000
QUIET_PERCENT = 40.0
QUIET_SECONDS = 3.0
PREFERRED = -10
# How Celery sends an event over AMQP.
CONTENT = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 1}
UNLIMITED = {"client-output-buffer-limit": "pubsub 0 0 0"}


@dataclass
class Workshop:
    """A folder for servers and logs, and the servers' numbering."""

    folder: Path
    priority: bool = False
    made: int = 0

    @contextmanager
    def redis(self, options: dict[str, str] | None = None) -> Iterator[Redis]:
        self.made += 1
        with Redis(self.folder / f"redis-{self.made}", options=options or {}) as server:
            self.prefer(int(server.pid or 0))
            yield server

    @contextmanager
    def rabbitmq(self) -> Iterator[RabbitMq]:
        self.made += 1
        with RabbitMq(self.folder / f"rabbitmq-{self.made}") as server:
            yield server

    def prefer(self, pid: int, value: int = PREFERRED) -> None:
        """Give a measured process priority over the machine's other work, which would distort the result."""
        if self.priority:
            psutil.Process(pid).nice(value)
            # Where sessions are scheduling groups, the group's priority counts.
            group = Path(f"/proc/{pid}/autogroup")
            if group.exists():
                group.write_text(str(value))

    @contextmanager
    def running(self, subject: Subject, server: Server) -> Iterator[Subject]:
        subject.start(int(server.port), self.folder / f"{subject.name.replace(' ', '-')}.log")
        try:
            self.prefer(subject.running.pid)
            yield subject
        finally:
            subject.stop()


def wait_for_quiet(patience: float) -> float:
    """Wait, for a limited time, until other processes are idle; returns the share of the processors in use, in percent."""
    end = time.monotonic() + patience
    while True:
        used = float(psutil.cpu_percent(interval=QUIET_SECONDS))
        if used < QUIET_PERCENT or time.monotonic() > end:
            return used


def generator(server: Redis, **options: float) -> "subprocess.Popen[str]":
    """A load generator that is running; its last line reports what it published."""
    return go(prepared(server, **options))


def prepared(server: Redis, **options: float) -> "subprocess.Popen[str]":
    """A load generator that has generated its events and waits."""
    words = [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.exporter.load", f"--port={server.port}", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def go(process: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
    """Start a waiting load generator."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


def published(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise OpsError("the load generator failed", hint="see its messages above")
    result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return result


def until_idle(subject: Subject, seconds: float) -> float:
    """Wait until the process is idle; returns the monotonic time at which it was last busy."""
    end, quiet, busy_at, last = time.monotonic() + seconds, 0, time.monotonic(), subject.cpu()
    while quiet < QUIET_SAMPLES and time.monotonic() < end:
        time.sleep(SAMPLE)
        now = subject.cpu()
        if (now - last) / SAMPLE > IDLE_SHARE:
            quiet, busy_at = 0, time.monotonic()
        else:
            quiet += 1
        last = now
    return busy_at


@dataclass
class Drain:
    """How fast a backlog of events is counted.

    ``rate`` is per second of the subject's own CPU time: its rate with a core to itself. All subjects do this work on one thread, so on a quiet machine it equals the wall-clock rate; on a busy machine, only this rate is comparable.

    Attributes:
        seconds: of CPU.
        wall_seconds: until it was idle.
    """

    seconds: float
    wall_seconds: float
    counted: int
    events: int

    @property
    def rate(self) -> float:
        return self.counted / self.seconds

    @property
    def wall_rate(self) -> float:
        return self.counted / self.wall_seconds

    @property
    def cpu_per_100k(self) -> float:
        return self.seconds / self.counted * 100_000


def drain(shop: Workshop, subject: Subject, events: int) -> Drain:
    """A burst against unlimited buffers: every subject is offered everything, and nothing is lost."""
    with shop.redis(UNLIMITED) as server, shop.running(subject, server):
        load = prepared(server, events=events)
        cpu, started = subject.cpu(), time.monotonic()
        go(load)
        total = published(load)["events"]
        ended = until_idle(subject, 300)
        used = subject.cpu() - cpu
        counted = subject.events()
    return Drain(used, ended - started, counted, total)


def drain_amqp(shop: Workshop, subject: Subject, events: int) -> Drain:
    """The same over RabbitMQ, whose queue holds the burst until the exporter reads it."""
    with shop.rabbitmq() as server, shop.running(subject, server):
        link = AmqpLink(parse_broker(server.url))
        channel = link.connection.channel()
        bodies = islice(event_bodies(Traffic(Shape())), events)
        messages = [(key, Message(body, **CONTENT)) for key, body in bodies]
        cpu, started = subject.cpu(), time.monotonic()
        for key, message in messages:
            channel.basic_publish(message, exchange="celeryev", routing_key=key)
        ended = until_idle(subject, 300)
        link.close()
        used = subject.cpu() - cpu
        counted = subject.events()
    return Drain(used, ended - started, counted, events)


@dataclass
class Loss:
    """What was published, what was counted, and the scrapes during that time."""

    offered: float
    published: int
    counted: int
    rss: float
    cpu_share: float
    scrapes: list[float] = field(default_factory=list)
    series: int = 0

    @property
    def lost(self) -> float:
        return 1 - self.counted / self.published


def loss(shop: Workshop, subject: Subject, rate: float, seconds: float, **shape: float) -> Loss:
    """A steady rate against Redis' default buffers, scraped throughout."""
    with shop.redis() as server, shop.running(subject, server):
        load = generator(server, rate=rate, seconds=seconds, tail=4, **shape)
        cpu, started = subject.cpu(), time.monotonic()
        scrapes = scrape_until(subject, lambda: load.poll() is None)
        used = (subject.cpu() - cpu) / (time.monotonic() - started)
        made = published(load)
        until_idle(subject, 60)
        counted, series = subject.events(), series_of(subject)
        return Loss(
            made["events"] / made["seconds"], made["events"], counted, subject.rss(), used, scrapes, series
        )


def scrape_until(subject: Subject, going: Any) -> list[float]:
    """Scrape at a steady pace until stopped; returns the seconds of each scrape. A scrape that fails counts as a minute."""
    times = []
    while going():
        try:
            times.append(subject.scrape()[0])
        except NOT_ANSWERED:
            times.append(60.0)
        time.sleep(SCRAPE_PAUSE)
    return times


def series_of(subject: Subject) -> int:
    return sum(not line.startswith("#") for line in subject.scrape()[1].splitlines())


@dataclass
class Scrapes:
    """Scrape times in milliseconds."""

    series: int
    median: float
    p99: float


def scrapes_idle(shop: Workshop, subject: Subject, count: int, **shape: float) -> Scrapes:
    """Scrapes of many series while nothing happens."""
    with shop.redis() as server, shop.running(subject, server):
        published(generator(server, rate=5_000, seconds=4, **shape))
        until_idle(subject, 60)
        times = []
        for _ in range(count):
            times.append(subject.scrape()[0])
            # Longer than a page is reused, so that every answer is a new one.
            time.sleep(1.05 if subject.name == "posthub-ops" else 0.05)
        return summary(times, series_of(subject))


def summary(times: list[float], series: int) -> Scrapes:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(times)
    return Scrapes(
        series,
        statistics.median(ordered) * 1e3,
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
    )


def memory(shop: Workshop, subject: Subject, goals: list[int], rate: float) -> list[tuple[int, float]]:
    """RSS after this number of tasks with unique ids and unknown parents, half of which never end."""
    with shop.redis() as server, shop.running(subject, server):
        found, done = [(0, subject.rss())], 0
        for goal in goals:
            while done < goal:
                step = min(TASKS_A_STEP, goal - done)
                # 4 events of a task that ends, 1 of one that does not: 2.5 on average.
                published(generator(server, rate=rate, seconds=step * 2.5 / rate, orphans=5))
                done += step
            until_idle(subject, 60)
            found.append((goal, subject.rss()))
        return found


@dataclass
class Recovery:
    """The effects of a crash of the broker."""

    back_after: float
    answers: dict[int, int]
    went_down: bool


def recovery(shop: Workshop, subject: Subject) -> Recovery:
    """Kill Redis and start it again: when does counting resume, and what does /metrics answer until then?"""
    with shop.redis() as server, shop.running(subject, server):
        published(generator(server, rate=500, seconds=1))
        before = subject.events()
        load = prepared(server, rate=500, seconds=8)
        watch = _Watch(subject)
        server.kill()
        time.sleep(3)
        server.start()
        back = time.monotonic()
        go(load)
        while subject.events() <= before and time.monotonic() - back < 30:
            time.sleep(0.02)
        took = time.monotonic() - back
        published(load)
        return Recovery(took, watch.stop(), watch.went_down)


class _Watch:
    """Scrapes on a separate thread: status codes, and whether the count ever falls."""

    def __init__(self, subject: Subject) -> None:
        self.went_down = False
        self._answers: dict[int, int] = {}
        self._subject = subject
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[int, int]:
        self._stop.set()
        self._thread.join()
        return self._answers

    def _run(self) -> None:
        highest = 0
        while not self._stop.wait(0.1):
            try:
                count, status = self._subject.events(), 200
            except ScrapeError as error:
                count, status = highest, error.status
            except NOT_ANSWERED:
                count, status = highest, 0
            self.went_down |= count < highest
            highest = max(highest, count)
            self._answers[status] = self._answers.get(status, 0) + 1


@dataclass
class Forced:
    """Task starts lost by force, and how many of them were reported."""

    lost: int
    reported: int
    disconnects: int


def forced_loss(shop: Workshop, subject: Subject, rate: float) -> Forced:
    """Stop the exporter until Redis disconnects it, resume it, and compare."""
    with shop.redis() as server, shop.running(subject, server):
        load = generator(server, rate=rate, seconds=14, tail=12)
        time.sleep(4)
        subject.running.send_signal(signal.SIGSTOP)
        _until_disconnected(server)
        time.sleep(1)
        subject.running.send_signal(signal.SIGCONT)
        made = published(load)
        until_idle(subject, 30)
        text = subject.scrape()[1]
        started = value(text, "celery_task_started_total")
        return Forced(
            made["starts"] - int(started),
            int(value(text, "celery_exporter_events_lost_total")),
            int(value(text, "celery_exporter_disconnects_total")),
        )


def _until_disconnected(server: Redis) -> None:
    end = time.monotonic() + 30
    with redis.Redis(port=server.port) as client:
        while client.pubsub_numpat():
            if time.monotonic() > end:
                raise OpsError("Redis did not disconnect the stopped exporter", hint="give a higher rate")
            time.sleep(0.2)


def value(text: str, name: str) -> float:
    """The sum of a metric's samples."""
    lines = (line for line in text.splitlines() if line.startswith((name + "{", name + " ")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@dataclass
class Rounds:
    """The cost of polling many queues for Redis, in milliseconds."""

    redis_ms: float
    wall_ms: float


def queue_rounds(shop: Workshop, queues: int, filled: int) -> Rounds:
    """The time that Redis reports for one round."""
    with shop.redis() as server, redis.Redis(port=server.port) as client:
        message = json.dumps({"headers": {"id": "x", "task": "shop.add"}, "body": "e30="})
        pipeline: Any = client.pipeline(transaction=False)
        for n in range(queues):
            pipeline.sadd(f"_kombu.binding.queue_{n}", f"queue_{n}\x06\x16\x06\x16queue_{n}")
            pipeline.lpush(f"queue_{n}", message)
        pipeline.execute()
        for _ in range(filled // 10_000):
            client.lpush("queue_0", *([message] * 10_000))
        poller = RedisPoller(redis_settings(parse_broker(server.url)), EventState())
        poller.poll()
        client.config_resetstat()
        started = time.monotonic()
        rounds = 5
        for _ in range(rounds):
            poller.poll()
        wall = (time.monotonic() - started) / rounds * 1e3
        stats: Any = client.info("commandstats")
        poller.close()
        spent = sum(
            part["usec"] for name, part in stats.items() if "config" not in name and "info" not in name
        )
        return Rounds(spent / rounds / 1e3, wall)
