"""The user's own commands before and after each backup.

They are configuration, like the paths of programs, and not restored content, so they are not confined. They get none of
our secrets. The command after the backup undoes what the command before it began, so it runs whatever happens in between.
"""

import logging
import os
import shlex
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from backup.cancellation import Check
from backup.catalogue.journal import OpenAttempt
from backup.errors import DumpError
from backup.pipeline.child import run_child
from backup.programs import clean_environment
from sidecar import OpsError
from sidecar.logs import escape, mask

log = logging.getLogger(__name__)

SECONDS = 600.0
# After a failure or a signal: a service must end within its grace period.
HURRIED_SECONDS = 30.0
MAX_SHOWN = 400
MAX_FIRST_LINE = 256
BEFORE, AFTER = "BACKUP_BEFORE_COMMAND", "BACKUP_AFTER_COMMAND"


@contextmanager
def around(
    before: str | None,
    after: str | None,
    facts: Mapping[str, str],
    attempt: OpenAttempt,
    check: Check,
    secrets: Collection[str] = (),
) -> Iterator[None]:
    """Run a command before a block and one after it.

    Args:
        facts: variables for the commands, such as ``HOOK_DATABASE``.
        secrets: what no message about their output may contain.
        attempt: is marked as failed if the command after a successful block fails.
        check: raises to stop.

    Raises:
        DumpError: the command before the block failed; the block was not entered.
    """
    outcome, reason, hurried = "failure", "", True
    try:
        if before:
            run_command(BEFORE, before, facts, check, SECONDS, secrets)
        yield
        outcome, hurried = "success", False
    except BaseException as error:
        reason = error.message if isinstance(error, OpsError) else type(error).__name__
        raise
    finally:
        if after:
            ended = {**facts, "HOOK_OUTCOME": outcome, "HOOK_ERROR": reason}
            _afterwards(after, ended, attempt, HURRIED_SECONDS if hurried else SECONDS, secrets)


def _afterwards(
    command: str, facts: Mapping[str, str], attempt: OpenAttempt, seconds: float, secrets: Collection[str]
) -> None:
    try:
        run_command(AFTER, command, facts, lambda: None, seconds, secrets)
    except OpsError as error:
        log.error("%s", error.message)  # noqa: TRY400 - the message says it
        if facts["HOOK_OUTCOME"] == "success":
            attempt.fail(error)


def run_command(
    variable: str,
    command: str,
    facts: Mapping[str, str],
    check: Check,
    seconds: float,
    secrets: Collection[str] = (),
) -> None:
    """Run a command and wait for its end. If it must be stopped, all that it has started is.

    Raises:
        DumpError: it cannot be started, took too long, or did not exit with 0.
    """
    words = shlex.split(command)
    deadline = time.monotonic() + seconds

    def stop() -> None:
        check()
        if time.monotonic() > deadline:
            raise _failed(variable, f"took longer than {seconds:.0f} s", "check what it waits for")

    log.info("%s begins: %s", variable, words[0])
    program = shutil.which(words[0]) or words[0]
    try:
        ended = run_child(
            [program, *words[1:]],
            env={**clean_environment(), **facts},
            output=True,
            check=stop,
            group=True,
        )
    except OSError as error:
        raise _failed(variable, f"cannot be started: {error}", "check its path") from None
    if ended.status != 0:
        output = shown(ended.errors, secrets)[-MAX_SHOWN:]
        how = (
            f"exited with code {ended.status}"
            if ended.status > 0
            else f"was killed by signal {-ended.status}"
        )
        raise _failed(variable, f"{how}: {output}" if output else how, "run it by hand")


def shown(output: Iterable[str], secrets: Iterable[str]) -> str:
    """The output of a user's command on one line. It is stored and passed on, and may contain anything."""
    # Masked first: a secret may contain blanks.
    return escape(" ".join(mask("\n".join(output), secrets).split()))


def unstartable(command: str) -> str:
    """Why a command cannot be started; empty if it can, as far as that can be seen."""
    program = shlex.split(command)[0]
    found = shutil.which(program)
    return not_startable(Path(found)) if found else f"{program} is not an executable program"


def not_startable(program: Path) -> str:
    """Why the kernel would not start an executable file; empty if it would, as far as that can be seen."""
    with suppress(OSError), program.open("rb") as file:
        first = file.read(MAX_FIRST_LINE).partition(b"\n")[0]
        if not first.startswith(b"#!"):
            binary = b"\0" in first or first.startswith(b"\x7fELF")
            return "" if binary else f"{program} has no line #! that names its interpreter"
        interpreter = os.fsdecode(first[2:].strip(b" \t").split(b" ")[0])
        if not os.access(interpreter, os.X_OK):
            return f"the interpreter of {program} is missing: {interpreter!r}"
    return ""


def _failed(variable: str, what: str, hint: str) -> DumpError:
    return DumpError(f"{variable} {what}", hint=hint)
