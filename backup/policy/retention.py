"""Which backups are kept, and why: grandfather-father-son, without ever losing the last verified backup.

Pure: the same backups, policy and time give the same plan, in any order. Time only decides whether pruning is
blocked, never which backup is deleted, so a clock that jumps deletes nothing extra.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Literal
from zoneinfo import ZoneInfo

from sidecar.humanize import counted

# Maximum difference between two hosts' clocks before the current time is not trusted.
CLOCK_TOLERANCE = timedelta(minutes=10)
# One run deletes at most this number of backups older than two days, or less than this share of them.
MAX_AT_ONCE = 2
MAX_SHARE = 0.5
THINNED = timedelta(days=2)
# A jump: new backups above this multiple of the usual number, plus a few. The judgement needs this number of earlier prunes.
MAX_FACTOR = 3
MAX_EXTRA = 3
MIN_PRUNES = 3
JUMPED = "more backups appeared than usual"

# Doubtful: its verification failed for reasons other than its bytes. It fills no tier, but is kept like a verified one.
State = Literal["verified", "unverified", "unprovable", "doubtful", "failed"]


_VERDICTS: dict[State, str] = {
    "failed": "failed its verification",
    "doubtful": "failed its verification",
    "unprovable": "could not be verified here",
}


@dataclass(frozen=True)
class StoredBackup:
    """What retention needs to know about a backup."""

    id: str
    taken: datetime
    state: State = "verified"
    anomalous: bool = False
    on_hold: bool = False


@dataclass(frozen=True)
class Policy:
    """What is kept. Only periods with a verified backup are counted.

    Attributes:
        within: keep every verified backup taken within this time of the newest.
        floor: minimum number of verified backups to keep, regardless of the other rules.
        rpo: maximum age of the newest backup before pruning stops.
        verify_within: maximum time that a backup may be unverified before pruning stops.
        zone: the time zone in which days begin.
    """

    last: int = 3
    hourly: int = 0
    daily: int = 7
    weekly: int = 4
    monthly: int = 6
    yearly: int = 0
    within: timedelta = timedelta(0)
    floor: int = 2
    rpo: timedelta = timedelta(hours=26)
    verify_within: timedelta = timedelta(hours=26)
    zone: ZoneInfo = ZoneInfo("UTC")  # noqa: RUF009 - immutable


@dataclass(frozen=True)
class Decision:
    """The decision for a backup. ``tiers`` are the tiers that keep it."""

    id: str
    keep: bool
    reasons: tuple[str, ...]
    tiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The decision for every backup, newest first, and the reasons why pruning is blocked."""

    decisions: tuple[Decision, ...]
    blocked: tuple[str, ...] = ()

    @property
    def deletions(self) -> list[str]:
        return [decision.id for decision in self.decisions if not decision.keep]


def plan(
    backups: Iterable[StoredBackup], policy: Policy, now: datetime, *, problems: Sequence[str] = ()
) -> Plan:
    """Decide about each backup.

    Args:
        problems: further reasons to delete nothing, such as a failed run.
    """
    newest_first = sorted(backups, key=lambda backup: (backup.taken, backup.id), reverse=True)
    verified = [backup for backup in newest_first if backup.state == "verified"]
    kept = {**_doubtful(newest_first, policy), **_kept(verified, policy)}
    blocked = (*problems, *_blocks(newest_first, verified, policy, now))
    decisions = [_decide(backup, kept, verified, blocked) for backup in newest_first]
    return Plan(tuple(decisions), blocked if decisions else ())


def bounded(decided: Plan, backups: Iterable[StoredBackup]) -> Plan:
    """The plan, or one that deletes nothing if it would delete too many old backups at once.

    Backups of the last two days do not count: retention thins these out after each busy day.
    """
    verified = [backup for backup in backups if backup.state in ("verified", "doubtful")]
    newest = max((backup.taken for backup in verified), default=None)
    old = {backup.id for backup in verified if newest is not None and newest - backup.taken > THINNED}
    going = old.intersection(decided.deletions)
    if len(going) <= MAX_AT_ONCE or len(going) < MAX_SHARE * len(old):
        return decided
    reason = f"it would delete {len(going)} of {len(old)} backups older than two days at once"
    decisions = [each if each.keep else _kept_back(each) for each in decided.decisions]
    return Plan(tuple(decisions), (reason,))


def _kept_back(decision: Decision) -> Decision:
    return Decision(decision.id, True, (f"pruning is blocked ({'; '.join(decision.reasons)})",))


@dataclass(frozen=True)
class Count:
    """The number of backups that a prune found, and the number that it left."""

    moment: datetime
    found: int
    left: int
    jumped: bool = False


def jump(before: Sequence[Count], found: int, now: datetime) -> str | None:
    """A description if many more backups than usual have appeared since the last prune; None otherwise.

    It remains until a person agrees to a prune. New backups may claim any date, so only their number
    counts.

    Args:
        before: earlier prunes, oldest first.
        found: the current number of backups.
    """
    if before and before[-1].jumped:
        return f"{JUMPED} before an earlier prune"
    rates = [
        (later.found - earlier.left) / _days(earlier.moment, later.moment)
        for earlier, later in pairwise(before)
    ]
    if len(rates) < MIN_PRUNES:
        return None
    days, usual = _days(before[-1].moment, now), max(median(rates), 0.0)
    new = found - before[-1].left
    if new <= MAX_FACTOR * usual * days + MAX_EXTRA:
        return None
    return f"{JUMPED}: {new} since the last prune, usually {usual:.1f} a day"


def late(before: Sequence[Count], backups: Iterable[StoredBackup]) -> str | None:
    """A description if backups have appeared since the last prune that claim to be older than it; None otherwise.

    That includes a run that was in progress then.
    """
    if not before:
        return None
    last = before[-1]
    appeared = sum(backup.taken < last.moment - CLOCK_TOLERANCE for backup in backups) - last.left
    return f"{JUMPED}: {appeared} that are older than the last prune" if appeared > 1 else None


def _days(begin: datetime, end: datetime) -> float:
    return max((end - begin) / timedelta(days=1), 1.0)


def _blocks(
    newest_first: list[StoredBackup], verified: list[StoredBackup], policy: Policy, now: datetime
) -> Iterable[str]:
    if not newest_first:
        return
    newest, age = newest_first[0], now - newest_first[0].taken
    if age < -CLOCK_TOLERANCE:
        yield f"the clock is behind the newest backup {newest.id}"
    if age > policy.rpo:
        yield f"the newest backup {newest.id} is overdue"
    if newest.anomalous:
        yield f"the newest backup {newest.id} is anomalous"
    if newest.state in _VERDICTS:
        yield f"the newest backup {newest.id} {_VERDICTS[newest.state]}"
    if newest.state == "unverified" and age > policy.verify_within:
        yield f"the newest backup {newest.id} has been unverified for too long"
    if len(verified) < policy.floor:
        yield f"there {'is' if len(verified) == 1 else 'are'} only {counted(len(verified), 'verified backup')}; the floor is {policy.floor}"


def _decide(
    backup: StoredBackup, kept: dict[str, list[str]], verified: list[StoredBackup], blocked: tuple[str, ...]
) -> Decision:
    reasons = list(kept.get(backup.id, ()))
    tiers = tuple(reason.partition(" ")[0] for reason in reasons) if backup.state == "verified" else ()
    if backup.state != "verified" and (not verified or backup.taken >= verified[0].taken):
        reasons.append("newer than any verified backup")
    if backup.on_hold:
        reasons.append("on hold")
    if reasons:
        return Decision(backup.id, True, tuple(reasons), tiers)
    unwanted = backup.state in {"verified", "doubtful"}
    why = "no rule keeps it" if unwanted else f"{backup.state}, and a newer one is verified"
    if blocked:
        return Decision(backup.id, True, (f"pruning is blocked ({why})",))
    return Decision(backup.id, False, (why,))


def _kept(verified: list[StoredBackup], policy: Policy) -> dict[str, list[str]]:
    """Reasons to keep, by ID; each begins with its tier."""
    kept: dict[str, list[str]] = {}
    for backup, reason in _wanted(verified, policy):
        kept.setdefault(backup.id, []).append(reason)
    missing = policy.floor - len(kept)
    spare = [backup for backup in verified if backup.id not in kept]
    for backup in spare[: max(missing, 0)]:
        kept[backup.id] = [f"floor {policy.floor}"]
    return kept


def _doubtful(newest_first: list[StoredBackup], policy: Policy) -> dict[str, list[str]]:
    """Doubtful backups that would be kept if they were verified. They do not affect which others are kept."""
    whole = [backup for backup in newest_first if backup.state in {"verified", "doubtful"}]
    kept: dict[str, list[str]] = {}
    for backup, reason in _wanted(whole, policy):
        if backup.state == "doubtful":
            kept.setdefault(backup.id, []).append(f"{reason}, if it is verified again")
    return kept


def _wanted(verified: list[StoredBackup], policy: Policy) -> Iterable[tuple[StoredBackup, str]]:
    yield from ((backup, "newest verified") for backup in verified[:1])
    yield from ((backup, f"last {policy.last}") for backup in verified[: policy.last])
    for backup in verified:
        if policy.within and verified[0].taken - backup.taken <= policy.within:
            yield backup, f"within {policy.within}"
    for tier, count, period in _tiers(policy):
        for backup, name in _newest_of_each(verified, count, period):
            yield backup, f"{tier} {name}"


Period = Callable[[datetime], str]


def _tiers(policy: Policy) -> Iterable[tuple[str, int, Period]]:
    def local(form: str) -> Period:
        return lambda moment: moment.astimezone(policy.zone).strftime(form)

    yield "hourly", policy.hourly, local("%Y-%m-%d %H")
    yield "daily", policy.daily, local("%Y-%m-%d")
    yield "weekly", policy.weekly, local("%G-W%V")
    yield "monthly", policy.monthly, local("%Y-%m")
    yield "yearly", policy.yearly, local("%Y")


def _newest_of_each(
    verified: list[StoredBackup], count: int, period: Period
) -> Iterable[tuple[StoredBackup, str]]:
    seen: set[str] = set()
    for backup in verified:
        name = period(backup.taken)
        if name in seen:
            continue
        if len(seen) == count:
            return
        seen.add(name)
        yield backup, name
