"""The seven steps of the demo. Each one does something real, waits for its consequences and measures them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from sidecar import OpsError, humanize
from sidecar.prometheus import NoReplyError
from stack.demo import accident, picture
from stack.demo.backups import Backups
from stack.demo.results import Outcome, Step
from stack.demo.traffic import Customer, Traffic
from stack.demo.upgrade import upgrade
from stack.suite import Suite
from stack.wait import wait_for

QUEUES = ("default", "quick", "scheduled", "ai_jobs", "ai_priority")
SUCCEEDED = 'celery_tasks_total{state="succeeded"}'
# Generous, for busy machines: a step ends as soon as its condition is met.
LONGEST_WAIT = 240.0
# Beat's slowest schedule here runs at least once in this time.
RATE_RANGE = "15s"
Busy = Callable[[str], None]
T = TypeVar("T")


class Story:
    """The steps, in order.

    Args:
        suite: the running suite.
        traffic: the running traffic.
        artist: a customer without traffic, who publishes an image.
        busy: called with the current activity.
    """

    def __init__(self, suite: Suite, traffic: Traffic, artist: Customer, busy: Busy) -> None:
        self._suite = suite
        self._traffic = traffic
        self._artist = artist
        self._busy = busy
        self._backups = Backups(suite)
        self._taken = ""
        self._protection: accident.Protection | None = None

    @property
    def steps(self) -> Sequence[tuple[str, Callable[[], Outcome]]]:
        return (
            ("Real traffic, seen by Prometheus", self.traffic),
            ("An image is drawn, attached and published", self.image),
            ("A backup is taken under this load", self.backup),
            ("The backup is proven by a restore", self.proof),
            ("A damaged backup is detected and reported", self.damage),
            ("A killed worker is detected and reported", self.worker),
            ("An emptied table comes back as it was a second earlier", self.accident),
        )

    def run(self) -> Iterator[Step]:
        """Yield each step when it ends; a step that ends with an error is yielded as failed before the error is raised."""
        failures = 0
        for title, step in self.steps:
            began = time.monotonic()
            try:
                outcome = step()
            except OpsError as error:
                yield Step(title, Outcome((error.message,), {}, passed=False), time.monotonic() - began)
                raise
            before, failures = failures, self._traffic.failures
            yield Step(title, _customers_served(outcome, failures - before), time.monotonic() - began)

    def traffic(self) -> Outcome:
        """Count requests, tasks and queues, and wait until Prometheus sees all targets up."""
        self._busy("waiting until Prometheus sees all targets up and tasks on all five queues")
        seen = self._await_traffic()
        self._busy("waiting for a customer's upgrade, paid at a stand-in for Stripe")
        customer = self._traffic.customers[-1]
        upgraded = upgrade(self._suite.api.url, customer)
        missing = _missing(seen)
        requests_made, failures = sum(self._traffic.responses.values()), self._traffic.failures
        seconds = self._traffic.seconds
        data = {
            "requests": requests_made,
            "requests_per_second": round(requests_made / seconds, 1),
            "request_failures": failures,
            "upgrade_seconds": round(upgraded, 1),
            **{name: seen[name] for name in ("tasks", "task_rates", "queue_lengths", "targets")},
        }
        lines = (
            f"{requests_made} requests ({requests_made / seconds:.1f}/s), {failures} were refused or failed",
            *(_queue_line(queue, seen) for queue in QUEUES),
            f"{customer.username} upgraded to the plan pro, {upgraded:.1f} s after paying at the stand-in for Stripe",
            f"from Prometheus at {self._suite.prometheus.url}; its targets: "
            + ", ".join(f"{job} {health}" for job, health in sorted(seen["targets"].items())),
            *(f"still missing after {LONGEST_WAIT:g} s: {text}" for text in missing),
        )
        return Outcome(lines, data, passed=not missing)

    def image(self) -> Outcome:
        """Publish a post with an image of the AI provider, whose bytes are in the S3 server."""
        self._busy("drawing an image, and publishing a post with it")
        made = picture.publish(self._suite.api.url, self._artist, self._await)
        asset = made.asset
        data = {
            "provider": made.provider,
            "bytes": asset["size"],
            "drawn_seconds": made.drawn_seconds,
            "published_seconds": made.published_seconds,
            "status": made.channel_status,
            "link": {"content_type": made.content_type, "bytes": made.received_bytes},
            "changed_link": made.changed_link,
        }
        size = f"{asset['width']} × {asset['height']} pixels, {humanize.size(asset['size'])}"
        lines = (
            f"{size}, from the provider {made.provider}, in the S3 server after {made.drawn_seconds:.1f} s",
            f"its post is {made.channel_status} {made.published_seconds:.1f} s later",
            f"the signed link returns {made.content_type}; with another signature, {made.changed_link}",
        )
        passed = made.received_bytes == asset["size"] and made.changed_link == 403
        return Outcome(lines, data, passed=passed and made.channel_status == "published")

    def backup(self) -> Outcome:
        """Take a backup under this load."""
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
        return Outcome((line,), data, passed=taken["stored_bytes"] > 0)

    def proof(self) -> Outcome:
        """Restore the backup into a throwaway server and compare."""
        self._busy("restoring the backup into a throwaway server")
        report = self._backups.verify(self._taken)
        data = _report_data(report)
        line = (
            f"restored and compared: {report['tables']} tables, {report['rows']:,} rows, "
            f"{len(report['differences'])} differences; restore took {humanize.duration(report['restore_seconds'])} "
            "(the RTO, measured)"
        )
        return Outcome((line,), data, passed=_is_proven(report))

    def damage(self) -> Outcome:
        """Flip one bit in the store; wait for the alert, take a fresh backup, and wait until the alert is resolved."""
        archive = self._backups.damage(self._taken)
        flipped = time.time()
        self._busy("verifying the damaged backup")
        report = self._backups.verify(self._taken)
        self._busy("waiting for BackupVerificationFailed to arrive in the inbox")
        fired = self._suite.inbox.wait_for("BackupVerificationFailed", since=flipped, timeout=LONGEST_WAIT)
        to_notification = fired.received - flipped
        self._busy("taking and proving a fresh backup")
        repaired = time.time()
        fresh = self._backups.run()
        proof = self._backups.verify(fresh["id"])
        self._busy("waiting for the resolved notification")
        resolved = self._suite.inbox.wait_for(
            "BackupVerificationFailed", "resolved", since=repaired, timeout=LONGEST_WAIT
        )
        data = {
            "object": archive.name,
            "differences": report["differences"],
            "seconds_to_notification": round(to_notification, 1),
            "fresh_backup": fresh["id"],
            "seconds_to_resolved": round(resolved.received - repaired, 1),
        }
        lines = (
            f"one bit of {archive.name} flipped; verification reports: {_first(report['differences'])}",
            f"{fired.text}",
            f"{to_notification:.1f} s from the damage to the notification",
            f"backup {fresh['id']} taken and proven; resolved {resolved.received - repaired:.1f} s after its start",
        )
        passed = not report["ok"] and _is_proven(proof)
        return Outcome(lines, data, passed=passed)

    def worker(self) -> Outcome:
        """Kill a worker and wait for the alert; start it again and wait until the alert is resolved."""
        worker = self._suite.workers["worker-ai"]
        up = 'celery_worker_up{hostname=~"worker-ai@.+"}'
        killed = time.time()
        self._suite.crash(worker)
        self._busy("waiting until the exporter notices that the worker is gone")
        self._await(lambda: self._suite.prom.value(up) == 0, "the exporter reporting the worker as down")
        seen = time.time() - killed
        self._busy("waiting for CeleryWorkerDown; meanwhile, the WAL is streamed, and a base backup is taken")
        self._protection = accident.protect(self._suite)
        fired = self._suite.inbox.wait_for("CeleryWorkerDown", since=killed, timeout=LONGEST_WAIT)
        self._busy("starting the worker again")
        revived = time.time()
        self._suite.revive(worker)
        self._await(lambda: self._suite.prom.value(up) == 1, "the exporter reporting the worker as up")
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
            f"worker-ai killed; reported as down after {seen:.1f} s",
            fired.text,
            f"{fired.received - killed:.1f} s from the kill to the notification",
            f"started again: up after {back:.1f} s, resolved notification after {resolved.received - revived:.1f} s",
        )
        return Outcome(lines, data, passed=True)

    def accident(self) -> Outcome:
        """Empty a table; recover its state one second earlier, prove it and put it into production."""
        assert self._protection is not None, "the previous step takes the base backup while it waits"
        return accident.show(self._suite, self._protection, self._busy)

    def _await_traffic(self) -> dict[str, dict[str, Any]]:
        """The first complete report from Prometheus, or the last one when time is up.

        Raises:
            OpsError: Prometheus gave no report at all.
        """
        last: dict[str, dict[str, Any]] = {}

        def complete() -> bool:
            last.update(self._report())
            return not _missing(last)

        try:
            self._await(complete, "a report from Prometheus")
        except OpsError:
            if not last:
                raise
        return last

    def _report(self) -> dict[str, dict[str, Any]]:
        """What Prometheus reports about queues and targets."""
        prom = self._suite.prom
        longest = "max by (queue_name) (max_over_time(celery_queue_length[1m]))"
        return {
            "tasks": prom.by_label(f"sum by (queue) ({SUCCEEDED})", "queue"),
            "task_rates": prom.by_label(f"sum by (queue) (rate({SUCCEEDED}[{RATE_RANGE}]))", "queue"),
            "queue_lengths": prom.by_label("max by (queue_name) (celery_queue_length)", "queue_name"),
            "peaks": prom.by_label(longest, "queue_name"),
            "targets": prom.targets(),
        }

    def _await(self, condition: Callable[[], T | None], what: str) -> T:
        def patiently() -> T | None:
            # On a busy machine, a single request may time out; only the whole time counts.
            with suppress(NoReplyError):
                return condition()
            return None

        return wait_for(
            patiently, timeout=LONGEST_WAIT, what=what, hint=f"read the logs in {self._suite.logs}"
        )


def _missing(seen: dict[str, dict[str, Any]]) -> list[str]:
    """What a complete report would have and this one lacks."""
    lacking = {
        "targets up": [job for job, health in seen["targets"].items() if health != "up"]
        if seen["targets"]
        else ["all"],
        "finished tasks of queues": [queue for queue in QUEUES if not seen["task_rates"].get(queue, 0) > 0],
        "lengths of queues": [queue for queue in QUEUES if queue not in seen["queue_lengths"]],
    }
    return [f"{what}: {', '.join(sorted(names))}" for what, names in lacking.items() if names]


def _queue_line(queue: str, seen: dict[str, dict[str, Any]]) -> str:
    tasks, rates, lengths, peaks = (seen[name] for name in ("tasks", "task_rates", "queue_lengths", "peaks"))
    return (
        f"queue {queue:<12}{tasks.get(queue, 0):5.0f} tasks run, {rates.get(queue, 0):5.1f}/s now, "
        f"length {lengths.get(queue, float('nan')):.0f} now, at most {peaks.get(queue, 0):.0f}"
    )


def _customers_served(outcome: Outcome, failures: int) -> Outcome:
    """The outcome; a step during which customer requests failed has failed too."""
    if not failures:
        return outcome
    line = f"{failures} requests were refused or failed meanwhile"
    return replace(
        outcome,
        lines=(*outcome.lines, line),
        data={**outcome.data, "request_failures": failures},
        passed=outcome.passed and outcome.disturbs,
    )


def _is_proven(report: dict[str, Any]) -> bool:
    return bool(report["ok"]) and not report["differences"] and report["tables"] > 0 and report["rows"] > 0


def _report_data(report: dict[str, Any]) -> dict[str, Any]:
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
