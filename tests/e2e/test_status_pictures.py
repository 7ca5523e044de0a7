"""The two status pages in a browser: pictures of them, and whether a telephone shows them without scrolling sideways.

STATUS_PICTURES=docs/pictures ./ops test tests/e2e/test_status_pictures.py renews the pictures of the documentation.
"""

import math
import os
import random
import re
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import pyrage
import pytest

from backup.catalogue import layout
from backup.catalogue.manifest import Table
from backup.catalogue.records import Difference
from backup.service.state import Job
from exporters import overview
from exporters.beat.collector import BeatCollector
from exporters.beat.schedules import Schedule
from exporters.decode import typed
from exporters.pipeline import Pipeline
from exporters.queues.model import Queue, Snapshot
from exporters.settings import ExporterSettings
from sidecar import html
from stack.web.browser import find_browser
from tests.backup.documents import NOW, attempt, manifest, put_attempt
from tests.backup.test_status_pages import Service

# A folder, to renew the documentation's pictures.
PICTURES = os.environ.get("STATUS_PICTURES")
PHONE = 390
DESKTOP = 1160
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# A frame as wide as a telephone, measured from outside: the pages themselves forbid scripts.
FRAME = """<!doctype html><title>unknown</title><iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe>
<script>onload = () => {{
  document.title = document.querySelector("iframe").contentDocument.documentElement.scrollWidth;
}}</script>"""
BROWSER = find_browser()

pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")


def browsed(page: bytes, folder: Path, *options: str) -> str:
    """What the browser prints about a page."""
    file = folder / "page.html"
    file.write_bytes(page)
    words = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        *options,
        file.as_uri(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def width(page: bytes, folder: Path) -> int:
    """The width in pixels that a telephone's browser needs for it."""
    # A window of Chromium is never narrower than 500 pixels, but a frame may be.
    frame = FRAME.format(width=PHONE, page=escape(page.decode()))
    dom = browsed(frame.encode(), folder, "--dump-dom")
    found = re.search(r"<title>(\d+)</title>", dom)
    assert found, dom[:500]
    return int(found[1])


def picture(page: bytes, folder: Path, name: str, size: tuple[int, int], *, dark: bool = False) -> bytes:
    target = (Path(PICTURES).resolve() if PICTURES else folder) / f"{name}.png"
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    browsed(page, folder, f"--window-size={size[0]},{size[1]}", f"--screenshot={target}", scheme)
    return target.read_bytes()


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The first page, and that of a backup whose verification failed, of a service with three databases."""
    chance = random.Random(7)
    public = str(pyrage.x25519.Identity.generate().to_public())
    folder = tmp_path_factory.mktemp("backups") / "store"
    service = Service(folder, "billing", "crm", "shop", BACKUP_AGE_RECIPIENTS=public, BACKUP_KEEP_DAILY="60")
    for name, start in (("billing", 420e6), ("crm", 95e6), ("shop", 1.9e9)):
        for age in range(45, 0, -1):
            grown = (
                start * (1 + (45 - age) * 0.012) * (1 + 0.02 * math.sin(age)) * chance.uniform(0.995, 1.005)
            )
            taken = NOW - DAY * age + 14 * HOUR
            seconds = grown / 38e6 * chance.uniform(0.9, 1.2)
            made = manifest(
                taken,
                database=name,
                size=int(grown),
                finished=taken + timedelta(seconds=seconds),
                stages={"globals": 0.3, "dump": seconds * 0.9, "count": seconds * 0.08, "commit": 0.2},
                tables=tuple(
                    Table(schema="public", name=table, rows=int(grown / part))
                    for table, part in (
                        ("orders", 900),
                        ("order_items", 310),
                        ("customers", 12_000),
                        ("invoices", 1100),
                    )
                ),
                anomalies=("rows of public.carts fell from 61,204 to 0",)
                if name == "crm" and age == 6
                else (),
            )
            place = layout.folder(name, made.id)
            # A file of that size without content takes no space.
            (folder / place).mkdir(parents=True)
            with (folder / place / made.objects[0].name).open("wb") as content:
                content.truncate(int(grown))
            service.store.put(f"{place}/{layout.MANIFEST}", made.encode())
            stages = {
                "download": seconds / 3,
                "globals": 0.4,
                "restore": seconds * 1.6,
                "check": 2.0,
                "compare": seconds / 4,
            }
            service.report(made, stages=stages, tables=4, rows=made.rows, server="17.6")
            if name == "billing" and age == 1:
                broken = made
    service.report(
        broken,
        ok=False,
        started=NOW - HOUR - timedelta(seconds=34),
        finished=NOW - HOUR,
        stages={"download": 4.1, "globals": 0.4, "restore": 21.5, "compare": 6.0},
        tables=4,
        rows=broken.rows - 1,
        server="17.6",
        differences=(Difference(kind="rows", object="public.invoices", expected="582,102", found="582,101"),),
    )
    put_attempt(service.store, attempt(NOW - 10 * HOUR, database="shop"))
    for job, hours in (("verify", 16.0), ("prune", 15.0)):
        service.state.jobs[job] = Job(job, NOW + HOUR * hours, NOW - HOUR * (24 - hours))
    return {
        "backup-status": service.get("/").body,
        "backup-report": service.get(f"/backup/{broken.id}").body,
    }


@pytest.fixture(scope="module")
def exporter() -> bytes:
    """The page of an exporter that watches a busy shop."""
    settings = ExporterSettings.load({}, broker_url="redis://broker:6379/0")
    pipeline = Pipeline(settings.brokers()[0], settings)
    pipeline.receiver.health.connected = True
    pipeline.receiver.health.changed_at = time.monotonic() - 93_000
    pipeline.state.roster.connection.restored()
    now = time.time()
    nodes = [f"worker@node-{number}" for number in range(1, 5)]
    pipeline.state.take(
        [
            typed(
                {
                    "type": "worker-heartbeat",
                    "hostname": node,
                    "pid": 1,
                    "freq": 2,
                    "active": 3 + place,
                    "processed": 40_210 + 977 * place,
                    "loadavg": [1.2 + place / 3, 1, 1],
                    "timestamp": now,
                }
            )
            for place, node in enumerate(nodes)
        ],
        time.monotonic(),
        now - 1.2,
    )
    for node in nodes:
        worker = pipeline.state.roster.answered(node, time.monotonic())
        assert worker is not None
        worker.pool_size, worker.queues, worker.queues_known = 8, ("default", "mail", "reports"), True
    tasks = [("shop.order", "default", 0.21), ("shop.mail", "mail", 0.9), ("shop.report", "reports", 14.0)]
    _run(pipeline, tasks, 40, nodes, now)
    overview.render([(pipeline, ())], BeatCollector([], read=None).current(), now)
    _run(pipeline, tasks, 30, nodes, now)
    rates = pipeline.tasks.rates
    rates._samples = tuple((at - 30, counts) for at, counts in rates._samples)
    pipeline.queues.update(
        Snapshot({"default": Queue(14, 9, 0.8), "mail": Queue(230, 8, 42.0), "reports": Queue(3, 3, 6.5)})
    )
    pipeline._unreachable = ""
    pipeline._heard_enough_at = 0.0
    moment = datetime.fromtimestamp(now, UTC)
    schedules = [
        Schedule(
            name=name,
            task=task,
            enabled=True,
            last_run_at=moment - timedelta(seconds=ago),
            date_changed=moment,
            every=every,
            period="seconds",
        )
        for name, task, ago, every in (
            ("daily report", "shop.report", 40_000, 86_400),
            ("send mail", "shop.mail", 12, 60),
        )
    ]
    beat = BeatCollector([pipeline.state], read=lambda: schedules)
    beat.update()
    return html.page("Celery exporter 0.2.0", overview.render([(pipeline, ())], beat.current(), now))


def _run(pipeline: Pipeline, tasks: Any, count: int, nodes: list[str], now: float) -> None:
    for number in range(count * 3):
        name, queue, runtime = tasks[number % 3] if number % 5 else tasks[0]
        end = "task-failed" if number % 37 == 5 else "task-succeeded"
        common = {"uuid": f"{random.Random(number + count).getrandbits(64):016x}", "timestamp": now}
        where = {"hostname": nodes[number % len(nodes)], "pid": 1}
        events: list[dict[str, Any]] = [
            {
                "type": "task-sent",
                "hostname": "gen1@web",
                "name": name,
                "queue": queue,
                **common,
                "timestamp": now - 0.4,
            },
            {"type": "task-received", "name": name, **where, **common},
            {"type": "task-started", **where, **common},
            {"type": end, "runtime": runtime, "exception": "ConnectionError('smtp')", **where, **common},
        ]
        pipeline.state.take(
            [typed(each) for each in events], time.monotonic(), now - (count - number / 3) * 2
        )


@pytest.mark.parametrize("name", ["backup-status", "backup-report", "exporter"])
def test_a_phone_shows_it_without_scrolling_sideways(
    backups: Mapping[str, bytes], exporter: bytes, name: str, tmp_path: Path
) -> None:
    assert width(backups.get(name, exporter), tmp_path) <= PHONE


def test_pictures(backups: Mapping[str, bytes], exporter: bytes, tmp_path: Path) -> None:
    pages = {**backups, "exporter-status": exporter}
    drawn = [picture(page, tmp_path, name, (DESKTOP, 1000)) for name, page in pages.items()]
    drawn.append(picture(pages["backup-status"], tmp_path, "phone-backup-status", (PHONE, 844), dark=True))
    for image in drawn:
        assert image.startswith(b"\x89PNG")
        # A page of one colour is a few kilobytes.
        assert len(image) > 15_000
    assert len(set(drawn)) == len(drawn)
