"""The result of one check, and how a check is carried out: it always ends, and yields one result."""

from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from backup.cancellation import OutOfTimeError, limited
from sidecar import OpsError

CHECK_SECONDS = 60.0
MAX_SKEW_SECONDS = 30.0


@dataclass(frozen=True)
class Check:
    """The result of one check. ``ok`` is None for a remark."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


Probe = Callable[[], "str | Check"]


@dataclass
class Shared:
    """What the checks of one examination share.

    Attributes:
        sizes: bytes of each database that answered, by its name.
        silent: the servers and stores that have not answered in time. They are not waited for again.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def asked(self, whom: str, name: str, probe: Probe) -> Check:
        """The result of a check that waits for a server or a store."""
        if whom in self.silent:
            return Check(
                name,
                False,
                f"not checked: {whom} did not respond earlier",
                "check that server and the network: connections are not refused, but there is no response",
            )
        return carried_out(name, probe, lambda: self.silent.add(whom))


def carried_out(name: str, probe: Probe, when_silent: Callable[[], object] = lambda: None) -> Check:
    """Carry out a check. If it raises an error, or gets no response in time, it has failed."""
    try:
        with limited(
            CHECK_SECONDS,
            "no response within a minute",
            "check the server and the network: the connection is not refused, but there is no response",
        ):
            found = probe()
    except OpsError as error:
        if isinstance(error, OutOfTimeError):
            when_silent()
        # Hints to run doctor are dropped, because this is doctor.
        hint = "read the message, and the store's own log" if "backup doctor" in error.hint else error.hint
        return Check(name, False, error.message, hint)
    except (OSError, psycopg.Error) as error:
        return Check(name, False, str(error), "check its permissions and free space")
    return found if isinstance(found, Check) else Check(name, True, found)
