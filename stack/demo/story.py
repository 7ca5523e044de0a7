"""The five steps of the demo. Each one does something real, waits for what must follow and measures it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sidecar import OpsError, humanize
from sidecar.prometheus import NoReplyError
from stack.demo.backups import Backups
from stack.demo.facts import Outcome, Step
from stack.demo.traffic import Traffic
from stack.suite import Suite
from stack.waiting import wait_for

QUEUES = ("default", "quick", "scheduled", "ai_jobs", "ai_priority")
SUCCEEDED = 'celery_tasks_total{state="succeeded"}'
LONGEST_WAIT = 60.0
# Long enough for beat's slowest schedule here to run in it.
RATE_RANGE = "15s"
Busy = Callable[[str], None]
T = TypeVar("T")


class Story:
    """The steps, in their order.

    Args:
        suite: the running suite.
        traffic: the running traffic.
        busy: told what is being waited for.
    """

    def __init__(self, suite: Suite, traffic: Traffic, busy: Busy) -> None:
        self._suite = suite
        self._traffic = traffic
        self._busy = busy
        self._backups = Backups(suite)
        self._taken = ""

    @property
    def steps(self) -> Sequence[tuple[str, Callable[[], Outcome]]]:
        return (
            ("Real traffic, seen by Prometheus", self.traffic),
            ("A backup taken under this load", self.backup),
            ("The backup proven by a restore", self.proof),
            ("A damaged backup is found and told", self.damage),
            ("A killed worker is seen and told", self.worker),
        )

    def tell(self) -> Iterator[Step]:
        """Each step as it ends; the one that an error ends as well, as one that did not hold."""
        failures = 0
        for title, step in self.steps:
            began = time.monotonic()
            try:
                outcome = step()
            except OpsError as error:
                yield Step(title, Outcome((error.message,), {}, held=False), time.monotonic() - began)
                raise
            before, failures = failures, self._traffic.failures
            yield Step(title, _customers_served(outcome, failures - before), time.monotonic() - began)

    def traffic(self) -> Outcome:
        """Requests made, tasks run, queues seen by Prometheus."""
        self._busy("waiting until Prometheus has seen tasks on all five queues")
        seen = self._await(self._seen, "tasks at work on all five queues")
        requests_made, failures = sum(self._traffic.responses.values()), self._traffic.failures
        seconds = self._traffic.seconds
        data = {
            "requests": requests_made,
            "requests_per_second": round(requests_made / seconds, 1),
            "request_failures": failures,
            **{name: seen[name] for name in ("tasks", "task_rates", "queue_lengths", "targets")},
        }
        lines = (
            f"{requests_made} requests ({requests_made / seconds:.1f}/s), {failures} refused or failed",
            *(_queue_line(queue, seen) for queue in QUEUES),
            f"asked from Prometheus at {self._suite.prometheus.url}; its targets: "
            + ", ".join(f"{job} {health}" for job, health in sorted(seen["targets"].items())),
        )
        held = set(seen["queue_lengths"]) >= set(QUEUES) and set(seen["targets"].values()) == {"up"}
        return Outcome(lines, data, held=held)

    def backup(self) -> Outcome:
        """A backup under this load."""
        self._busy("backing up the database into the S3 server")
        taken = self._backups.run()
        self._taken = str(taken["id"])
        data = {
            "id": taken["id"],
            "raw_bytes": taken["raw_bytes"],
            "stored_bytes": taken["stored_bytes"],
            "backup_seconds": taken["seconds"],
            "bytes_per_second": taken["bytes_per_second"],
        }
        line = (
            f"backup {taken['id']}: {humanize.size(taken['raw_bytes'])} dumped, "
            f"{humanize.size(taken['stored_bytes'])} stored, {humanize.duration(taken['seconds'])}, "
            f"{humanize.rate(taken['bytes_per_second'])}"
        )
        return Outcome((line,), data, held=taken["stored_bytes"] > 0)

    def proof(self) -> Outcome:
        """The backup restored into a throwaway server and compared."""
        self._busy("restoring the backup into a throwaway server")
        report = self._backups.verify(self._taken)
        data = _report_facts(report)
        line = (
            f"restored and compared: {report['tables']} tables, {report['rows']:,} rows, "
            f"{len(report['differences'])} differences; restore took {humanize.duration(report['restore_seconds'])} "
            "(the RTO, measured)"
        )
        return Outcome((line,), data, held=_is_proven(report))

    def damage(self) -> Outcome:
        """One bit flipped in the store: found, told, mended, told again."""
        archive = self._backups.damage(self._taken)
        flipped = time.time()
        self._busy("verifying the damaged backup")
        report = self._backups.verify(self._taken)
        self._busy("waiting for BackupVerificationFailed to arrive in the inbox")
        fired = self._suite.inbox.wait_for("BackupVerificationFailed", since=flipped, timeout=LONGEST_WAIT)
        to_notification = fired.received - flipped
        self._busy("taking and proving a fresh backup")
        mended = time.time()
        fresh = self._backups.run()
        proof = self._backups.verify(fresh["id"])
        self._busy("waiting for the resolved notification")
        resolved = self._suite.inbox.wait_for(
            "BackupVerificationFailed", "resolved", since=mended, timeout=LONGEST_WAIT
        )
        data = {
            "object": archive.name,
            "differences": report["differences"],
            "seconds_to_notification": round(to_notification, 1),
            "fresh_backup": fresh["id"],
            "seconds_to_resolved": round(resolved.received - mended, 1),
        }
        lines = (
            f"one bit of {archive.name} flipped; verification says: {_first(report['differences'])}",
            f"{fired.text}",
            f"{to_notification:.1f} s from the flip to the notification",
            f"backup {fresh['id']} taken and proven; resolved {resolved.received - mended:.1f} s after its start",
        )
        held = not report["ok"] and _is_proven(proof)
        return Outcome(lines, data, held=held)

    def worker(self) -> Outcome:
        """A worker killed, seen, told; back, seen, told."""
        worker = self._suite.workers["worker-ai"]
        up = 'celery_worker_up{hostname=~"worker-ai@.+"}'
        killed = time.time()
        self._suite.crash(worker)
        self._busy("waiting until the killed worker is missed")
        self._await(lambda: self._suite.prom.value(up) == 0, "the exporter seeing the worker go")
        seen = time.time() - killed
        fired = self._suite.inbox.wait_for("CeleryWorkerDown", since=killed, timeout=LONGEST_WAIT)
        self._busy("starting the worker again")
        revived = time.time()
        self._suite.revive(worker)
        self._await(lambda: self._suite.prom.value(up) == 1, "the exporter seeing the worker come back")
        back = time.time() - revived
        resolved = self._suite.inbox.wait_for(
            "CeleryWorkerDown", "resolved", since=revived, timeout=LONGEST_WAIT
        )
        data = {
            "seconds_to_seen": round(seen, 1),
            "seconds_to_notification": round(fired.received - killed, 1),
            "seconds_to_back": round(back, 1),
            "seconds_to_resolved": round(resolved.received - revived, 1),
        }
        lines = (
            f"worker-ai killed; gone for Prometheus after {seen:.1f} s",
            fired.text,
            f"{fired.received - killed:.1f} s from the kill to the notification",
            f"started again: up after {back:.1f} s, resolved notification after {resolved.received - revived:.1f} s",
        )
        return Outcome(lines, data, held=True)

    def _seen(self) -> dict[str, dict[str, Any]] | None:
        """What Prometheus knows of the queues, once tasks are at work on all of them."""
        prom = self._suite.prom
        rates = prom.by_label(f"sum by (queue) (rate({SUCCEEDED}[{RATE_RANGE}]))", "queue")
        if not all(rates.get(queue, 0) > 0 for queue in QUEUES):
            return None
        longest = "max by (queue_name) (max_over_time(celery_queue_length[1m]))"
        return {
            "tasks": prom.by_label(f"sum by (queue) ({SUCCEEDED})", "queue"),
            "task_rates": rates,
            "queue_lengths": prom.by_label("max by (queue_name) (celery_queue_length)", "queue_name"),
            "peaks": prom.by_label(longest, "queue_name"),
            "targets": prom.targets(),
        }

    def _await(self, condition: Callable[[], T | None], what: str) -> T:
        def patiently() -> T | None:
            # A busy machine may leave one question unanswered; the time for the whole is what counts.
            with suppress(NoReplyError):
                return condition()
            return None

        return wait_for(
            patiently, timeout=LONGEST_WAIT, what=what, hint=f"read the logs in {self._suite.logs}"
        )


def _queue_line(queue: str, seen: dict[str, dict[str, Any]]) -> str:
    tasks, rates, lengths, peaks = (seen[name] for name in ("tasks", "task_rates", "queue_lengths", "peaks"))
    return (
        f"queue {queue:<12}{tasks[queue]:5.0f} tasks run, {rates[queue]:5.1f}/s now, "
        f"length {lengths.get(queue, float('nan')):.0f} now, at most {peaks.get(queue, 0):.0f}"
    )


def _customers_served(outcome: Outcome, failures: int) -> Outcome:
    """The outcome; no step holds during which the app failed its customers."""
    if not failures:
        return outcome
    line = f"{failures} requests refused or failed meanwhile"
    return Outcome((*outcome.lines, line), {**outcome.data, "request_failures": failures}, held=False)


def _is_proven(report: dict[str, Any]) -> bool:
    return bool(report["ok"]) and not report["differences"] and report["tables"] > 0 and report["rows"] > 0


def _report_facts(report: dict[str, Any]) -> dict[str, Any]:
    return {
        name: report[name] for name in ("tables", "rows", "differences", "restore_seconds", "verify_seconds")
    }


def _first(differences: Sequence[dict[str, Any]]) -> str:
    if not differences:
        return "nothing"
    first = differences[0]
    expected, found = (_short(str(first[name])) for name in ("expected", "found"))
    return f"{first['kind']} {first['object']}: expected {expected}, found {found}"


def _short(text: str, length: int = 24) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
