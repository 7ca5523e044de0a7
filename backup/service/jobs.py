"""The jobs of the service: backups, verifications, pruning, off-site copies."""

import logging
import random
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import TypeVar
from zoneinfo import ZoneInfo

from backup import cron
from backup.cancellation import StoppedError
from backup.catalogue.history import Entry, History
from backup.errors import BusyError
from backup.heartbeat import Pings
from backup.notify import notifier_for
from backup.physical import lsn
from backup.physical.due import base_due
from backup.physical.upkeep import recorded_gaps, retained_bases
from backup.prune import prune
from backup.replication.offsite import copy_missing
from backup.replication.spool import forward
from backup.run import run
from backup.service.state import REFRESH_SECONDS, State
from backup.targets import ServerTarget, Target
from backup.verify import verify
from sidecar import OpsError
from sidecar.logs import fields

log = logging.getLogger(__name__)

T = TypeVar("T")


class Jobs:
    """The service's jobs. A database that fails does not stop the others."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._wiring = state.wiring
        self._pings = Pings(state.wiring.settings)
        self._notifier = notifier_for(state.wiring)

    def back_up(self) -> None:
        """Back up all databases, verify each, and report to the dead man's switch."""
        try:
            self._wiring.discover()
        except OpsError as error:
            log.error("databases cannot be discovered: %s; try: %s", error.message, error.hint)  # noqa: TRY400 - the message says it
            self._pings.failed(f"databases cannot be discovered: {error.message}")
        self._back_up(self._wiring.everything)

    def catch_up(self) -> None:
        """Back up the databases whose run was missed while the service was down, or failed: once per start."""
        missed = [target for target in self._wiring.everything if self._missed(target)]
        if missed:
            log.info("catching up on missed runs of %s", ", ".join(target.name for target in missed))
            self._back_up(missed)

    def renew_bases(self) -> None:
        """Take a base backup of each server whose stored WAL has a gap without a later base backup."""
        if not self._state.problems.get("main"):
            for target in self._wiring.everything:
                if isinstance(target, ServerTarget):
                    self._guarded(target, partial(self._renew_base, target))

    def verify_some(self) -> None:
        """Verify the unverified backups and a sample of the older ones, since bits rot silently."""
        with self._wiring.round.open():
            self._for_each(self._verify_some)

    def prune(self) -> None:
        """Delete the backups that no retention rule keeps."""
        self._for_each(lambda target: prune(self._wiring, target))

    def copy_offsite(self) -> None:
        """Copy the backups that the off-site store lacks."""
        if self._wiring.offsite is None:
            return
        copied = 0

        def copy(target: Target) -> bool:
            nonlocal copied
            number = copy_missing(self._wiring, target)
            copied += number
            return number > 0

        self._for_each(copy)
        if copied:
            self._state.refresh()

    def notify(self) -> None:
        """Notify people of faults that began or ended."""
        if self._notifier is None:
            return
        for target in self._wiring.targets:
            history = self._state.history(target.name)
            self._notifier.send_changes(history, died=self._state.died(history) is not None)

    def forward_spool(self) -> None:
        """Move spooled backups to the store, once the store is available again."""
        spool = self._wiring.spool
        if spool is not None and any(True for _ in spool.walk()) and not self._state.problems.get("main"):
            moved = forward(self._wiring)
            log.info("spooled backups were moved to the store backups=%d", moved)
            self._state.refresh()

    def _back_up(self, targets: Iterable[Target]) -> None:
        self._pings.started()
        # All backups first, so that they are close together; a base backup is compared with the dumps that came after it.
        made = [
            (target, self._guarded(target, partial(self._taken, target))) for target in self._in_turn(targets)
        ]
        with self._wiring.round.open():
            results = [
                self._proven(target, backup)
                for target, backup in sorted(made, key=lambda each: isinstance(each[0], ServerTarget))
            ]
        if results and all(results):
            self._pings.proven()

    def _in_turn(self, targets: Iterable[Target]) -> list[Target]:
        """Servers first; databases whose last run failed come last, because they may use all of their time again."""

        def place(target: Target) -> tuple[bool, bool]:
            last = self._state.history(target.name).newest("backup", finished=True)
            return not isinstance(target, ServerTarget), last is not None and last.outcome == "failure"

        return sorted(targets, key=place)

    def _renew_base(self, target: Target) -> None:
        wiring, history = self._wiring, self._state.history(target.name)
        with wiring.stop.limit(REFRESH_SECONDS):
            gaps = recorded_gaps(wiring, history)
        bases = retained_bases(entry for entry in history.backups if not entry.damaged)
        gap = base_due(bases, gaps, history.newest("backup"), wiring.clock())
        if gap is not None:
            log.warning("base backup after a gap %s", fields(server=target.name, until=lsn.text(gap.end)))
            # Only the nightly run reports success to the dead man's switch.
            self._proven(target, self._guarded(target, partial(self._taken, target)))

    def _taken(self, target: Target) -> str:
        """Take a backup; returns its ID."""
        last = self._state.history(target.name).latest
        packed = last.manifest.stored_bytes if last else None
        return run(self._wiring, target, strict=False, packed=packed).id

    def _proven(self, target: Target, backup_id: str | None) -> bool:
        """Whether there is a new backup and it is verified, if that is configured."""
        entry = self._state.history(target.name).find(backup_id) if backup_id else None
        if entry is None or not self._wiring.settings.verify_after_backup:
            return False
        return bool(self._guarded(target, partial(self._verified, entry)))

    def _guarded(self, target: Target, work: Callable[[], T]) -> T | None:
        """The result of a job; None if it failed, which is reported and does not stop the others."""
        try:
            return work()
        except BusyError as error:
            log.info("%s: %s", target.name, error.message)
            return None
        except StoppedError:
            raise
        except OpsError as error:
            log.error("%s: %s; try: %s", target.name, error.message, error.hint)  # noqa: TRY400 - the message says it
            self._pings.failed(f"{target.name}: {error.message}")
            return None
        except Exception as error:
            log.exception("%s failed", target.name)
            self._pings.failed(f"{target.name}: {type(error).__name__}")
            return None
        finally:
            self._state.refresh(target.name)

    def _verified(self, entry: Entry) -> bool:
        report = verify(self._wiring, entry)
        if report.unprovable:
            self._pings.failed(f"{entry.id} could not be verified here: {report.unprovable[0]}")
        elif not report.ok:
            self._pings.failed(f"{entry.id} failed its verification: {report.differences[0]}")
        return report.ok

    def _verify_some(self, target: Target) -> None:
        history = self._state.history(target.name)
        for entry in chosen(history, self._wiring.settings.verify_sample):
            try:
                self._verified(entry)
            except StoppedError:
                raise
            except OpsError as error:
                log.error("%s: %s; try: %s", entry.id, error.message, error.hint)  # noqa: TRY400 - the message says it

    def _missed(self, target: Target) -> bool:
        history = self._state.history(target.name)
        if history.others and not history.backups:
            return True  # a key was set since the last run, so unsigned backups no longer count
        since = last_made(history)
        settings = self._wiring.settings
        return since is not None and missed(
            settings.schedule, ZoneInfo(settings.timezone), since, self._wiring.clock()
        )

    def _for_each(self, action: Callable[[Target], object]) -> None:
        """Run the action for each database, and refresh its state unless the action returned False (nothing changed)."""
        for target in self._wiring.everything:
            changed: object = None
            try:
                changed = action(target)
            except StoppedError:
                raise
            except OpsError as error:
                log.error("%s: %s; try: %s", target.name, error.message, error.hint)  # noqa: TRY400 - the message says it
            except Exception:
                log.exception("%s failed", target.name)
            finally:
                if changed is not False:
                    self._state.refresh(target.name)


def last_made(history: History) -> datetime | None:
    """Start time of the last successful run; if there is none, of the first run. Failed and killed runs do not count."""
    runs = [attempt for attempt in history.attempts if attempt.kind == "backup"]
    passed = [attempt for attempt in runs if attempt.outcome == "success"]
    return passed[-1].started if passed else runs[0].started if runs else None


def missed(expression: str, zone: ZoneInfo, last: datetime, now: datetime) -> bool:
    """Whether a schedule was due between the last run and now."""
    due = cron.parse(expression).next_after(last, zone)
    return due is not None and due <= now


def chosen(history: History, sample: int) -> list[Entry]:
    """What to verify: the unverified, newest first, and a random sample of the others."""
    unverified = [entry for entry in reversed(history.backups) if entry.report is None]
    others = [entry for entry in history.backups if entry.report is not None]
    return [*unverified, *random.sample(others, min(sample, len(others)))]
