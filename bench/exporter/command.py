"""The command: run the measurements, print them next to their goals."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.exporter import measure
from bench.exporter.measure import Drain, Workshop
from bench.exporter.subjects import NOT_ANSWERED, ROOT, Subject, on_rabbitmq, ours, peer, raw_loop, today
from bench.rounds import measure as measure_rounds
from sidecar.cli import stderr_console
from stack.ports import choose

PARTS = ("drain", "amqp", "loss", "scrape", "memory", "week", "recovery", "forced", "queues")
# The drain rate of celery-exporter, used when no peer is given to measure it.
USUAL_PEER_RATE = 6_000.0
BURST = 150_000
DRAIN_ROUNDS = 3
AMQP_BURST = 60_000
PEER_BURST = 15_000
GOAL_RATE = 70_000.0
UNLIMITED = {"CELERY_EXPORTER_BACKLOG_BYTES": str(1 << 30)}
# 18 names on 4 workers produce over 3,000 series.
MANY = {"names": 18, "workers": 4}


@dataclass
class Row:
    """One line of the result."""

    what: str
    who: str
    found: str
    goal: str = ""
    reached: bool | None = None


@dataclass
class Bench:
    """One run."""

    shop: Workshop
    peers: list[str]
    quick: bool
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    peer_rate: float = USUAL_PEER_RATE
    today: str | None = None

    def add(self, what: str, who: str, found: str, goal: str = "", *, reached: bool | None = None) -> None:
        row = Row(what, who, found, goal, reached)
        self.rows.append(row)
        mark = {None: " ", True: "✓", False: "✗"}[reached]
        stderr_console().print(
            f"{mark} {what} · {who}: {found}" + (f"  (goal {goal})" if goal else ""), soft_wrap=True
        )

    def peer_subjects(self) -> list[Subject]:
        return [peer(text) for text in self.peers]

    # Parts

    def drain(self) -> None:
        events = BURST // 3 if self.quick else BURST
        # The whole burst must be counted; Redis must not refuse any of it.
        subjects = {
            "raw loop": lambda: measure.drain(self.shop, raw_loop(), events),
            "ours": lambda: measure.drain(self.shop, ours(**UNLIMITED), events),
        }
        if self.today:
            older = self.today
            subjects["today"] = lambda: measure.drain(self.shop, today(older, **UNLIMITED), events)
        best = self._best("drain", subjects)
        mine = best["ours"]
        share = mine.rate / best["raw loop"].rate
        self.add("drain / raw loop", "ours", f"{share:.0%}", "≥ 100%", reached=share >= 1)
        if self.today:
            self._against_today("drain / today", best, 1.5)
        self.add(
            "CPU s per 100k events",
            "ours",
            f"{mine.cpu_per_100k:.2f}",
            "≤ 2.0",
            reached=mine.cpu_per_100k <= 2,
        )
        for subject in self.peer_subjects():
            found = measure.drain(self.shop, subject, PEER_BURST)
            self.add("drain", subject.name, _drained(found))
            self.peer_rate = found.rate
            times = mine.rate / self.peer_rate
            self.add("drain / peer", "ours", f"{times:.1f}×", "≥ 10×", reached=times >= 10)

    def amqp(self) -> None:
        events = AMQP_BURST // 3 if self.quick else AMQP_BURST
        subjects = {"ours": lambda: measure.drain_amqp(self.shop, on_rabbitmq(ours()), events)}
        if self.today:
            older = self.today
            subjects["today"] = lambda: measure.drain_amqp(self.shop, on_rabbitmq(today(older)), events)
        best = self._best("drain, RabbitMQ", subjects)
        if self.today:
            self._against_today("drain / today, RabbitMQ", best, 2)

    def _best(self, what: str, subjects: Mapping[str, Callable[[], Drain]]) -> dict[str, Drain]:
        """The best of several rounds of each: other work on the machine can only make a round slower."""
        rounds = measure_rounds(subjects, 1 if self.quick else DRAIN_ROUNDS)
        best = {name: max(found, key=lambda drain: drain.rate) for name, found in rounds.items()}
        for name, found in best.items():
            mine = name == "ours"
            whole = all(drain.counted == drain.events for drain in rounds[name])
            self.add(what, name, _drained(found), "all" if mine else "", reached=whole if mine else None)
        return best

    def _against_today(self, what: str, best: Mapping[str, Drain], goal: float) -> None:
        times = best["ours"].rate / best["today"].rate
        self.add(what, "ours", f"{times:.2f}×", f"≥ {goal:g}×", reached=times >= goal)

    def loss(self) -> None:
        seconds = 10.0
        for subject in self.peer_subjects():
            for factor in (1, 2, 5):
                rate = max(self.peer_rate * factor, GOAL_RATE if factor == 5 else 0)
                self.add(f"loss at {factor}×", subject.name, self._peer_loss(subject, rate, seconds))
        for factor in (1, 2):
            self._own_loss(factor, self.peer_rate * factor, seconds, {})
        rate, long = max(GOAL_RATE, self.peer_rate * 5), seconds if self.quick else 30.0
        mine = self._own_loss(5, rate, long, MANY)
        if self.today:
            before = measure.loss(self.shop, today(self.today), rate, long, **MANY)
            scrapes, older = (measure.summary(run.scrapes, run.series) for run in (mine, before))
            self.add("loss at 5×", "today", f"{_lost(before)} in {long:.0f} s; scrape p99 {older.p99:.1f} ms")
            ratio = scrapes.p99 / older.p99
            self.add("scrape p99 / today", "ours", f"{ratio:.2f}×", "≤ 1", reached=ratio <= 1)

    def _peer_loss(self, subject: Subject, rate: float, seconds: float) -> str:
        try:
            return _lost(measure.loss(self.shop, replace(subject, port=choose()), rate, seconds))
        except NOT_ANSWERED as error:
            return f"gone at {rate:,.0f}/s: {type(error).__name__}"

    def _own_loss(self, factor: int, rate: float, seconds: float, shape: dict[str, int]) -> measure.Loss:
        found = measure.loss(self.shop, ours(), rate, seconds, **shape)
        self.add(
            f"loss at {factor}×",
            "ours",
            f"{_lost(found)} in {seconds:.0f} s",
            "0",
            reached=found.counted == found.published,
        )
        self.add("CPU of a core meanwhile", "ours", f"{found.cpu_share:.0%}; RSS {found.rss:.0f} MB")
        if shape:
            scrapes = measure.summary(found.scrapes, found.series)
            self.add(
                f"scrape at {rate:,.0f}/s, {scrapes.series:,} series",
                "ours",
                f"median {scrapes.median:.1f} ms, p99 {scrapes.p99:.1f} ms of {len(found.scrapes)}",
                "p99 ≤ 50 ms",
                reached=scrapes.p99 <= 50,
            )
        return found

    def scrape(self) -> None:
        for subject in self.peer_subjects():
            found = measure.scrapes_idle(self.shop, subject, 3, **MANY)
            self.add(f"scrape idle, {found.series:,} series", subject.name, f"median {found.median:,.0f} ms")
        if self.today:
            before = measure.scrapes_idle(self.shop, today(self.today), 20, **MANY)
            self.add(
                f"scrape idle, {before.series:,} series",
                "today",
                f"median {before.median:.1f} ms, p99 {before.p99:.1f} ms",
            )
        found = measure.scrapes_idle(self.shop, ours(), 10 if self.quick else 20, **MANY)
        text = f"median {found.median:.1f} ms, p99 {found.p99:.1f} ms"
        self.add(
            f"scrape idle, {found.series:,} series",
            "ours",
            text,
            "median ≤ 10 ms",
            reached=found.median <= 10,
        )

    def memory(self) -> None:
        goals = [20_000, 100_000] if self.quick else [100_000, 250_000, 1_000_000]
        found = measure.memory(self.shop, ours(), goals, 20_000)
        if self.today:
            before = measure.memory(self.shop, today(self.today), goals, 20_000)
            self.add("RSS after tasks with unique ids", "today", f"{before[-1][1]:.0f} MB")
            ratio = found[-1][1] / before[-1][1]
            self.add("RSS / today", "ours", f"{ratio:.2f}×", "≤ 1", reached=ratio <= 1)
        text = ", ".join(f"{tasks:,}: {rss:.0f} MB" for tasks, rss in found)
        last = found[-1][1]
        self.add("RSS after tasks with unique ids", "ours", text, "≤ 80 MB", reached=last <= 80)
        growth = last - found[1][1]
        self.add("RSS growth from there on", "ours", f"{growth:+.1f} MB", "flat", reached=growth <= 3)

    def week(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "bench.exporter.week"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        days = json.loads(done.stdout)
        text = ", ".join(f"{day['rss']:.0f}" for day in days) + f" MB; {days[-1]['series']} series"
        reached = days[-1]["rss"] - days[2]["rss"] <= 2 and days[-1]["series"] == days[2]["series"]
        self.add("RSS per day of a simulated week", "ours", text, "no growth", reached=reached)

    def recovery(self) -> None:
        for subject in [*self.peer_subjects(), ours()]:
            mine = subject.name == "posthub-ops"
            try:
                found = measure.recovery(self.shop, subject)
            except NOT_ANSWERED as error:
                self.add("Redis killed and back", subject.name, f"gone: {type(error).__name__}")
                continue
            text = f"counting {found.back_after:.2f} s after Redis is back; answers {found.answers}"
            reached = found.back_after <= 2 and set(found.answers) == {200} and not found.went_down
            self.add(
                "Redis killed and back",
                subject.name,
                text,
                "≤ 2 s, only 200" if mine else "",
                reached=reached if mine else None,
            )

    def forced(self) -> None:
        found = measure.forced_loss(self.shop, ours(), 25_000)
        off = abs(found.reported - found.lost) / max(found.lost, 1)
        text = f"{found.lost:,} starts lost, {found.reported:,} reported ({off:.2%} off), {found.disconnects} disconnects"
        self.add("forced loss is reported", "ours", text, "within 2%", reached=off <= 0.02 and found.lost > 0)

    def queues(self) -> None:
        for filled in (0, 1_000_000):
            found = measure.queue_rounds(self.shop, 1_000, filled)
            text = f"{found.redis_ms:.1f} ms of Redis a round ({found.wall_ms:.0f} ms wall)"
            self.add(
                f"1,000 queues, {filled:,} messages in one",
                "ours",
                text,
                "≤ 50 ms",
                reached=found.redis_ms <= 50,
            )


def _drained(found: Drain) -> str:
    return (
        f"{found.rate:,.0f} events per CPU s ({found.wall_rate:,.0f}/s wall), {found.cpu_per_100k:.2f} CPU s per 100k; "
        f"{found.counted:,} of {found.events:,}"
    )


def _lost(found: measure.Loss) -> str:
    return f"{found.lost:.2%} of {found.published:,} at {found.offered:,.0f}/s"


def print_rows(rows: Sequence[Row]) -> None:
    """The result as a table on stdout."""
    table = Table("measured", "who", "found", "goal", "")
    for row in rows:
        table.add_row(
            row.what, row.who, row.found, row.goal, {None: "", True: "passed", False: "MISSED"}[row.reached]
        )
    Console(width=150).print(table)


@click.command()
@click.option("--peer", "peers", multiple=True, metavar="celery-exporter=FOLDER", help="Also run a peer.")
@click.option("--today", metavar="FOLDER", help="Also run the exporter of another checkout of this project.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Only this part; repeatable.")
@click.option("--quick", is_flag=True, help="Smaller loads: a rough impression, not a proof.")
@click.option(
    "--patience", type=float, default=0.0, help="Seconds to wait for a quiet machine before each part."
)
@click.option("--priority", is_flag=True, help="Give the measured processes a higher priority (needs root).")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def exporter(
    peers: tuple[str, ...],
    today: str | None,
    only: tuple[str, ...],
    quick: bool,
    patience: float,
    priority: bool,
    as_json: bool,
) -> None:
    """Measure the Celery exporter next to its peers.

    An older checkout and a minimal loop in Python are measured as well.

    \b
    Examples:
      ./ops bench exporter --quick
      ./ops bench exporter --today ../older-checkout --only drain --only memory
      ./ops bench exporter --peer celery-exporter=../celery-exporter --only drain --only loss
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-exporter-") as folder:
        bench = Bench(Workshop(Path(folder), priority), list(peers), quick, today=today)
        bench.shop.prefer(os.getpid())
        try:
            for part in only or PARTS:
                used = measure.wait_for_quiet(patience)
                bench.add("processors in use by others", part, f"{used:.0f}%")
                getattr(bench, part)()
        finally:
            bench.shop.prefer(os.getpid(), 0)
    if as_json:
        click.echo(json.dumps([row.__dict__ for row in bench.rows], indent=2))
    else:
        print_rows(bench.rows)
        click.echo(f"in {time.monotonic() - started:.0f} s")
