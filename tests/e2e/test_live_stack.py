"""The real suite under load: every panel has data; ten things break, and the right message arrives.

Symptoms of a fault are not reported; its end is. Durations of the monitoring are divided by FACTOR; the seconds from
fault to message are printed (`pytest -s`).
"""

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
import redis
import yaml
from celery import Celery

from alerts import rules
from alerts.alertmanager import Alertmanager
from dashboards.live_check import Empty, empty_queries
from dashboards.render import render_all
from dashboards.resolve import Scope
from sidecar.prometheus import Prometheus
from sidecar.promql import selectors
from stack import timefactor
from stack.demo import traffic
from stack.demo.backups import Backups
from stack.demo.story import QUEUES
from stack.programs import find
from stack.servers import Service
from stack.suite import Suite
from stack.wait import wait_for
from tests.alerts.capture import version
from tests.alerts.fixtures import FOLDER, exposed
from tests.e2e import livestack

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("whole-stack")]

FACTOR = 30.0
# The host's disks are filled one at a time; anything else of a host's state stays as captured.
FULL = 1e9
LONGEST_WAIT = 100.0
HEALTHY_SECONDS = float(os.environ.get("ALERTS_HEALTHY_SECONDS", "20"))
FLOODED = "default"
# Above the limit of the queue for as long as the alert needs, at ten a second.
FLOOD = 5_000
SETTLE_SECONDS = 8.0
BUSY = "1 - avg(rate(node_cpu_seconds_total{mode='idle'}[10s]))"


@dataclass
class Live:
    """The running suite, the parts that a fault may change, and the name of the task whose queue is flooded."""

    suite: Suite
    host: livestack.HostDouble
    backups: Backups
    flooding: str = ""
    outbreaks: list["Outbreak"] = field(default_factory=list)

    def firing(self) -> set[str]:
        """The alerts that fire in Prometheus, except Watchdog."""
        return {name for name, state in self.suite.prom.alerts().items() if state == "firing"} - {"Watchdog"}

    def inhibited(self) -> set[str]:
        """The alerts that Alertmanager inhibits."""
        alerts = Alertmanager(self.suite.alertmanager.url).alerts()
        return {one["labels"]["alertname"] for one in alerts if one["status"]["inhibitedBy"]}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        alert: whose message must arrive.
        silenced: whose messages must not.
        shows: whether at least one of those must be seen firing and inhibited; others are too slow for that.
        happen: breaks it.
        repair: repairs it.
    """

    name: str
    alert: str
    happen: Callable[[Live], object]
    repair: Callable[[Live], object]
    silenced: Sequence[str] = ()
    shows: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outbreak:
    """A fault that has happened, and the times of its start, of its message and of its repair."""

    fault: Fault
    began: float
    reported: float
    repaired: float

    @property
    def seconds(self) -> float:
        return self.reported - self.began


def crashed(part: str) -> tuple[Callable[[Live], object], Callable[[Live], object]]:
    """Kill one part of the suite; start it again."""

    def server(live: Live) -> Service:
        found = live.suite.workers.get(part) or getattr(live.suite, part)
        assert found is not None
        return found

    return lambda live: live.suite.crash(server(live)), lambda live: live.suite.revive(server(live))


def damage(live: Live) -> None:
    taken = str(live.backups.run()["id"])
    live.backups.damage(taken)
    live.backups.verify(taken)


def back_up_and_prove(live: Live) -> None:
    live.backups.verify(str(live.backups.run()["id"]))


def fill_disk(live: Live) -> None:
    live.host.set("node_filesystem_avail_bytes{", FULL)


def free_disk(live: Live) -> None:
    live.host.reset()


def rename_table(old: str, new: str) -> Callable[[Live], object]:
    def happen(live: Live) -> None:
        with psycopg.connect(live.suite.postgres.url, autocommit=True) as connection:
            connection.execute(f"ALTER TABLE {old} RENAME TO {new}")

    return happen


def flood(live: Live) -> None:
    """Send more messages than the workers may process: copies of a real one."""
    with redis.Redis.from_url(live.suite.redis.url) as client:
        # Idle workers empty the queue before it can be read, so compete with them.
        popped = client.brpop(FLOODED, timeout=120)
        assert popped, f"no message came to queue {FLOODED} within 120 s: is there traffic?"
        message = json.loads(popped[1])
        live.flooding = message["headers"]["task"]
        limit_rate(live, "10/s")
        client.lpush(FLOODED, *(copy_of(message) for _ in range(FLOOD)))


def copy_of(message: dict[str, Any]) -> str:
    """The same task once more. With one tag for all, a worker would count them as one message, and take them all."""
    task_id = str(uuid4())
    tags = {"delivery_tag": str(uuid4()), "correlation_id": task_id}
    return json.dumps(
        message
        | {"headers": message["headers"] | {"id": task_id}, "properties": message["properties"] | tags}
    )


def drain(live: Live) -> None:
    with redis.Redis.from_url(live.suite.redis.url) as client:
        client.delete(FLOODED)
    limit_rate(live, "0")


def limit_rate(live: Live, rate: str) -> None:
    """Limit how many of the flooding tasks each worker runs; "0" lifts the limit."""
    with Celery(broker=live.suite.redis.url) as app:
        app.control.rate_limit(live.flooding, rate)


FAULTS = [
    Fault("worker killed", "CeleryWorkerDown", *crashed("worker-ai")),
    Fault("beat stopped", "CeleryBeatDown", *crashed("beat"), silenced=["CeleryScheduledTaskMissed"]),
    Fault(
        "backup store stopped",
        "BackupStoreUnreachable",
        *crashed("store"),
        silenced=["BackupFailed", "BackupSpoolInUse", "BackupStoreErrors"],
    ),
    Fault("object damaged", "BackupVerificationFailed", damage, back_up_and_prove),
    Fault(
        "disk full",
        "HostDiskAlmostFull",
        fill_disk,
        free_disk,
        silenced=["HostDiskFillingUp", "HostDiskFullSoon"],
    ),
    Fault("queue flooded", "CeleryQueueBacklog", flood, drain),
    Fault(
        "exporter stopped",
        "TargetDown",
        *crashed("exporter"),
        silenced=["CeleryNoWorkers", "CeleryBeatMissing", "CeleryWorkerDown", "TargetFlapping"],
    ),
    Fault(
        "app returns 500",
        "HighErrorRate",
        rename_table("posts_channel", "posts_channel_away"),
        rename_table("posts_channel_away", "posts_channel"),
        silenced=["ApiViewFailing", "ApiAvailabilityBurnFast", "EdgeHighErrorRate"],
    ),
    Fault(
        "Redis stopped",
        "RedisDown",
        *crashed("redis"),
        silenced=[
            "CeleryBrokerUnreachable",
            "CeleryNoWorkers",
            "CeleryWorkerDown",
            "HighErrorRate",
            "ApiProbeFailed",
        ],
        shows=True,
    ),
    Fault(
        "PostgreSQL stopped",
        "PostgresDown",
        *crashed("postgres"),
        silenced=[
            "HighErrorRate",
            "ApiProbeFailed",
            "DjangoDatabaseErrors",
            "CeleryBeatDown",
            "ExporterCollectErrors",
        ],
        shows=True,
    ),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("alerts-e2e")
    with pytest.MonkeyPatch.context() as patch:
        # The demo's floor of 10 s for a range would undo the order in which causes and symptoms fire.
        patch.setattr(timefactor, "SHORTEST_RANGE", 4.0)
        # Most of what this suite costs is its traffic, and half of the demo's is enough.
        patch.setattr(traffic, "ROUNDS_PER_SECOND", traffic.ROUNDS_PER_SECOND / 2)
        with Suite(folder, factor=FACTOR) as suite, livestack.running(suite) as (_, host):
            customers = traffic.customers_of(json.loads(suite.manage("seed_demo", "--users", "2", "--json")))
            vacuum_eagerly(suite)
            with traffic.Traffic(suite.api.url, customers):
                wait_for_consumers(suite)
                backups = Backups(suite)
                backups.verify(str(backups.run()["id"]))
                running = Live(suite, host, backups)
                wait_until_quiet(running)
                yield running
    report(running.outbreaks, folder)


def vacuum_eagerly(suite: Suite) -> None:
    """Autovacuum looks at a table once a minute and waits for many dead rows: longer than we do."""
    with psycopg.connect(suite.postgres.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        connection.execute("ALTER SYSTEM SET autovacuum_vacuum_threshold = 1")
        connection.execute("ALTER SYSTEM SET autovacuum_vacuum_scale_factor = 0")
        connection.execute("SELECT pg_reload_conf()")


def wait_for_consumers(suite: Suite) -> None:
    """Queues without consumers are reported within seconds at this pace; the workers' first reply may take longer."""
    wait_for(
        lambda: len(suite.prom.instant("celery_active_consumer_count > 0")) == len(QUEUES),
        timeout=LONGEST_WAIT,
        what="consumers of every queue in Prometheus",
        hint=f"read {suite.logs}",
    )


def wait_until_quiet(live: Live, *names: str) -> None:
    """Alerts from the start or a repair end before the next fault: all of them, or those with these names."""
    wait_for(
        lambda: not live.firing() & set(names) if names else not live.firing(),
        timeout=LONGEST_WAIT,
        what=f"the end of what fires: {sorted(live.firing())}",
        hint=f"read {live.suite.logs}",
    )


def report(outbreaks: Sequence[Outbreak], folder: Path) -> None:
    lines = [f"{one.fault.name:24}{one.seconds:6.1f} s from fault to message" for one in outbreaks]
    (folder / "seconds.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("", f"durations divided by {FACTOR:g}", *lines, sep="\n")


def test_a_healthy_suite_under_load_sends_no_alert(live: Live) -> None:
    since = time.time()
    while time.time() - since < HEALTHY_SECONDS:
        assert live.firing() == set()
        time.sleep(1)
    # The end of alerts from the start may come late.
    new = [one for one in live.suite.inbox.notifications if one.received >= since and one.status == "firing"]
    assert {one.alert for one in new} <= {"Watchdog"}


def test_nothing_of_the_suite_listens_beyond_this_machine(live: Live) -> None:
    addresses = set()
    for server in live.suite.servers:
        process = psutil.Process(server.pid)
        for one in [process, *process.children(recursive=True)]:
            # A task's or a connection's process may just have ended, and a confined one belongs to nobody here.
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                addresses |= {
                    found.laddr.ip
                    for found in one.net_connections("inet")
                    if found.status == psutil.CONN_LISTEN
                }
    assert addresses == {"127.0.0.1"}


def test_the_dashboard_of_a_healthy_suite_is_drawn(live: Live, tmp_path: Path) -> None:
    """Draw into DASHBOARD_PICTURES, if it is set; the picture in README.md comes from here."""
    prometheus = live.suite.prometheus.url
    busy = wait_for(
        lambda: Prometheus(prometheus).instant(BUSY, time.time()),
        timeout=LONGEST_WAIT,
        what="the host's counters, twice",
        hint=f"read {live.suite.logs}",
    )
    assert 0 < busy[0].last < 0.5
    (picture,) = render_all(prometheus, ("overview",), "3m", "light", tmp_path, scrape_interval=1.0)
    assert picture.stat().st_size > 50_000
    if folder := os.environ.get("DASHBOARD_PICTURES"):
        shutil.copy(picture, Path(folder) / "overview.png")


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_fires_its_alert_and_no_symptom(live: Live, fault: Fault) -> None:
    known = {alert.name for alert in rules.alerts()}
    assert {fault.alert, *fault.silenced} <= known
    wait_until_quiet(live, fault.alert, *fault.silenced)
    began = time.time()
    try:
        fault.happen(live)
        arrived = live.suite.inbox.wait_for(fault.alert, since=began, timeout=LONGEST_WAIT)
        print(f"{fault.name}: {arrived.text}, {arrived.received - began:.1f} s after the fault")
        # Time in which the symptoms would have been reported, had they not been inhibited.
        time.sleep(SETTLE_SECONDS if fault.silenced else 0)
        if fault.shows:
            inhibited = wait_for(
                lambda: live.inhibited() & set(fault.silenced),
                timeout=LONGEST_WAIT,
                what=f"an alert that {fault.alert} inhibits",
                hint=f"read {live.suite.logs}",
            )
            print(f"{fault.name}: inhibited {sorted(inhibited)}")
    finally:
        # Otherwise, the next fault would start on a broken suite.
        repaired = time.time()
        fault.repair(live)
    outbreak = Outbreak(fault, began, arrived.received, repaired)
    live.outbreaks.append(outbreak)
    check_symptoms(live, outbreak, until=time.time())


def test_the_end_of_each_fault_resolves_its_alert(live: Live) -> None:
    """After all of them: the end of one is reported while the next one happens. None lists an alert that the next one fires."""
    for one in live.outbreaks:
        resolved = live.suite.inbox.wait_for(
            one.fault.alert, "resolved", since=one.repaired, timeout=LONGEST_WAIT
        )
        check_symptoms(live, one, until=resolved.received)


def check_symptoms(live: Live, outbreak: Outbreak, *, until: float) -> None:
    fault, began = outbreak.fault, outbreak.began
    notified = [one for one in live.suite.inbox.notifications if began <= one.received <= until]
    wrong = sorted({one.alert for one in notified if one.status == "firing"} & set(fault.silenced))
    assert not wrong, f"reported next to {fault.alert}: {wrong}\n{timeline(live, outbreak)}"


def timeline(live: Live, outbreak: Outbreak) -> str:
    """When the fault's alerts fired, and when people were notified: seconds since the fault."""
    fault, began = outbreak.fault, outbreak.began
    names = {fault.alert, *fault.silenced}
    lines = [f"{outbreak.repaired - began:7.1f}  repaired"]
    pattern = "|".join(names)
    for one in live.suite.prom.range(f'ALERTS{{alertname=~"{pattern}"}}', began, time.time(), 0.5):
        name, state = one.labels["alertname"], one.labels["alertstate"]
        lines.append(
            f"{one.times[0] - began:7.1f}  {name} {state} until {one.times[-1] - began:.1f} {one.labels.get('instance', '')}"
        )
    lines += [
        f"{one.received - began:7.1f}  notified: {one.alert} {one.status}"
        for one in live.suite.inbox.notifications
        if one.received >= began and one.alert in names
    ]
    return "\n".join(sorted(lines, key=lambda line: float(line.split()[0])))


def test_every_panel_of_every_dashboard_has_data(live: Live) -> None:
    missing: list[Empty] = []

    def all_explained() -> bool:
        missing[:] = without_data(live.suite.prometheus.url)
        return all(only_newer_programs_have(one.expr) for one in missing)

    # Parts that were down in earlier tests have data again after their next scrape.
    deadline = time.monotonic() + LONGEST_WAIT
    while not all_explained() and time.monotonic() < deadline:
        time.sleep(1)
    too_old = [one for one in missing if only_newer_programs_have(one.expr)]
    for one in too_old:
        warnings.warn(f"this machine's programs are older than production's: {one}", stacklevel=1)
    assert [str(one) for one in missing if one not in too_old] == []


def without_data(prometheus: str) -> list[Empty]:
    """The queries without data that must have some."""
    now = time.time()
    found = empty_queries(Prometheus(prometheus), Scope(now - 300, now, 15))
    return [one for one in found if not one.excused]


def only_newer_programs_have(expr: str) -> bool:
    """Whether a series of it was captured from a newer version than this machine has of the program it comes from."""
    return any(
        selector.metric.startswith(prefix) and selector.metric in exposed() and is_older(program)
        for selector in selectors(expr)
        for program, prefix in {"postgres_exporter": "pg_", "prometheus": "prometheus_"}.items()
    )


@cache
def is_older(program: str) -> bool:
    captured = yaml.safe_load((FOLDER / "versions.yml").read_text(encoding="utf-8"))[program]
    here, there = (tuple(map(int, text.split("."))) for text in (version(find(program)), captured))
    return here < there
