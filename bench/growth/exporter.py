"""The exporter's curves, each measured on running exporters with real servers, so that an older checkout can be compared."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import redis

from bench.exporter.frames import CLIENT, RECEIVED, SENT, STARTED, Shape, Traffic, frame, publish
from bench.exporter.load import Publisher
from bench.exporter.measure import UNLIMITED, Workshop, until_idle, value
from bench.exporter.subjects import Subject
from sidecar.errors import OpsError
from stack.servers import Postgres, Redis

# Makes a fresh subject with these environment variables.
Maker = Callable[..., Subject]
WITHOUT_HOSTS = {"CELERY_EXPORTER_PER_HOST_METRICS": "false", "CELERY_EXPORTER_BACKLOG_BYTES": str(1 << 30)}
NAMES = 100
PIECE = 1 << 20
NODE = "worker-1@host-1"
# Longer than a rendered page is served, so that each scrape renders a new page.
PAUSE = 3.2
SCRAPES = 3
OTHER = 'celery_tasks_total{task="other"'
BEAT_TABLES = """
create table django_celery_beat_intervalschedule (id int primary key, every int, period text);
create table django_celery_beat_crontabschedule (id int primary key, minute text, hour text, day_of_week text,
  day_of_month text, month_of_year text, timezone text);
create table django_celery_beat_clockedschedule (id int primary key, clocked_time timestamptz);
create table django_celery_beat_periodictask (id int primary key, name text, task text, enabled bool,
  last_run_at timestamptz, date_changed timestamptz, start_time timestamptz, expires timestamptz, one_off bool,
  interval_id int, crontab_id int, clocked_id int);
insert into django_celery_beat_crontabschedule select n, (n % 60)::text, (n % 24)::text, '*', '*', '*', 'UTC'
  from generate_series(1, 500) n;
"""


@dataclass
class Cost:
    """One measurement: what it is and its value."""

    what: str
    value: float


def in_pieces(commands: Iterator[bytes]) -> Iterator[bytes]:
    """Commands joined into pieces large enough for one call each."""
    piece, size = [], 0
    for command in commands:
        piece.append(command)
        size += len(command)
        if size > PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)


def send(server: Redis, commands: Iterator[bytes]) -> None:
    """Publish as fast as Redis accepts it."""
    publisher = Publisher(int(server.port))
    for piece in in_pieces(commands):
        publisher.send(piece)
    publisher.finish()


def slowest(subject: Subject) -> tuple[float, str]:
    """The slowest of some scrapes in milliseconds, and the newest page."""
    times, text = [], ""
    for _ in range(SCRAPES):
        took, text = subject.scrape()
        times.append(took * 1e3)
        time.sleep(PAUSE)
    return max(times), text


def names(shop: Workshop, make: Maker, workers: int) -> list[Cost]:
    """Each worker runs each of the task names once; series per host are disabled."""
    with shop.redis(UNLIMITED) as server, shop.running(make(**WITHOUT_HOSTS), server) as subject:
        traffic = Traffic(Shape(names=NAMES, workers=workers))
        cpu = subject.cpu()
        send(server, (c for _ in range(NAMES * workers) for c, _ in traffic.task(time.time())))
        until_idle(subject, 120)
        used = subject.cpu() - cpu
        took, text = slowest(subject)
        done = sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith(OTHER) and 'state="succeeded"' in line
        )
        return [
            Cost("successes without a name, %", 100 * done / (NAMES * workers)),
            Cost("scrape, ms", took),
            Cost("CPU per event, µs", used / traffic.events * 1e6),
        ]


def waits(shop: Workshop, make: Maker, waiting: int) -> list[Cost]:
    """Tasks that are all sent before the first one starts; they start in the order of sending."""
    with shop.redis(UNLIMITED) as server, shop.running(make(**WITHOUT_HOSTS), server) as subject:
        base, before = time.time(), subject.rss()
        send(server, (_sent(n, base + n / 1e4) for n in range(waiting)))
        until_idle(subject, 120)
        grown = subject.rss() - before
        sampled = value(subject.scrape()[1], "celery_exporter_waiting_tasks_sampled_ratio") or 1.0
        send(server, (_started(n, base + 60 + n / 1e4) for n in range(waiting)))
        until_idle(subject, 120)
        known = value(subject.scrape()[1], "celery_task_queue_wait_seconds_count")
        return [
            Cost("waiting times known, % of the sampled ones", 100 * known / (waiting * sampled)),
            Cost("share that is sampled, %", 100 * sampled),
            Cost("memory, MB above idle", max(grown, 0.1)),
        ]


def _uid(number: int) -> str:
    return f"0fe2b1c4-5d6e-4f70-8192-{number:012x}"


def _sent(number: int, at: float) -> bytes:
    uid = _uid(number)
    body = SENT % (CLIENT, 8843, 1, uid, uid, "null", "shop.jam", "jam", "jam", at)
    return publish(frame(body, CLIENT, "task.sent"), "task.sent")


def _started(number: int, at: float) -> bytes:
    uid = _uid(number)
    received = RECEIVED % (NODE, 8838, 4, uid, "shop.jam", uid, "null", at)
    started = STARTED % (NODE, 8838, 6, uid, at)
    return publish(frame(f"[{received}, {started}]", NODE, "task.multi"), "task.multi")


def keys(shop: Workshop, make: Maker, others: int) -> list[Cost]:
    """A queue without consumers in a database with other keys."""
    with shop.redis({"enable-debug-command": "local"}) as server, redis.Redis(port=server.port) as client:
        client.execute_command("DEBUG", "POPULATE", others, "cache", 20)
        client.sadd("_kombu.binding.lonely", "lonely\x06\x16\x06\x16lonely")
        client.lpush("lonely", json.dumps({"headers": {"id": "x", "task": "shop.add"}, "body": "e30="}))
        client.config_resetstat()
        used, subject = redis_cpu(client), make(CELERY_EXPORTER_INSPECT_INTERVAL="0")
        started = time.monotonic()
        with shop.running(subject, server):
            found = _until_shown(subject, 'celery_queue_length{queue_name="lonely"}', started)
            stats: Any = client.info("commandstats")
            steps = stats["cmdstat_scan"]["calls"]
            return [
                Cost("until the queue is shown, s", found),
                Cost("a step of the search, ms of Redis's CPU", (redis_cpu(client) - used) / steps * 1e3),
            ]


def redis_cpu(client: redis.Redis) -> float:
    """Seconds that the thread of Redis that answers has used."""
    used: Any = client.info("cpu")
    return float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])


def _until_shown(subject: Subject, name: str, started: float, patience: float = 60.0) -> float:
    while name not in subject.scrape()[1]:
        if time.monotonic() - started > patience:
            return patience
        time.sleep(0.1)
    return time.monotonic() - started


def schedules(shop: Workshop, make: Maker, count: int) -> list[Cost]:
    """Schedules of django-celery-beat over a hundred tasks, some of which were just sent."""
    shop.made += 1
    with Postgres(shop.folder / f"postgres-{shop.made}") as postgres, shop.redis(UNLIMITED) as server:
        _fill(postgres.url, count)
        subject = make(DATABASE_URL=postgres.url, CELERY_EXPORTER_BEAT_INTERVAL="5", **WITHOUT_HOSTS)
        with shop.running(subject, server):
            _until_shown(subject, "celery_beat_schedule_enabled", time.monotonic())
            send(server, (_beat_sent(n) for n in range(min(count, NAMES))))
            until_idle(subject, 60)
            cpu = subject.cpu()
            took, _ = slowest(subject)
            return [Cost("scrape, ms", took), Cost("CPU, s in the same time", max(subject.cpu() - cpu, 0.01))]


def _fill(url: str, count: int) -> None:
    run = datetime.now(UTC) - timedelta(seconds=60)
    rows = [
        (n, f"schedule {n}", f"shop.task_{n % NAMES}", True, run, run, False, n % 500 + 1)
        for n in range(count)
    ]
    with contextlib.closing(psycopg.connect(url, autocommit=True)) as link, link.cursor() as cursor:
        cursor.execute(BEAT_TABLES)
        columns = "id, name, task, enabled, last_run_at, date_changed, one_off, crontab_id"
        with cursor.copy(f"copy django_celery_beat_periodictask ({columns}) from stdin") as copy:
            for row in rows:
                copy.write_row(row)


def _beat_sent(number: int) -> bytes:
    uid, client = _uid(number), "gen77@beat-1"
    body = SENT % (client, 77, 1, uid, uid, "null", f"shop.task_{number}", "default", "default", time.time())
    return publish(frame(body, client, "task.sent"), "task.sent")


# Name of a curve → what its size counts, its sizes, the measurement.
CURVES: dict[str, tuple[str, tuple[int, ...], Callable[[Workshop, Maker, int], list[Cost]]]] = {
    "names": (f"workers, each with {NAMES} task names", (10, 100, 1_000), names),
    "waits": ("waiting tasks", (10_000, 100_000, 1_000_000), waits),
    "keys": ("other keys in Redis", (10_000, 100_000, 1_000_000), keys),
    "schedules": ("schedules", (100, 1_000, 10_000), schedules),
}


def measured(shop: Workshop, curve: str, size: int, make: Maker) -> list[Cost]:
    """One point of a curve. A subject that no longer answers has no costs."""
    try:
        return CURVES[curve][2](shop, make, size)
    except (OSError, OpsError):
        return []
