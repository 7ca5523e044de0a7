"""One-shot commands: run to the end, their output kept in a log file."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sidecar import OpsError
from stack.paths import ROOT
from stack.process import guarded

SECONDS = 300.0
# Time for a verification to stop its throwaway server.
ENDING_SECONDS = 15.0


def run_command(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path = ROOT,
    accept: Sequence[int] = (0,),
) -> str:
    """Run a command and return its output; its stderr goes to the log. An interrupted wait shuts the command down.

    Raises:
        OpsError: its exit code is not in ``accept``, or it takes too long.
    """
    with log.open("a", encoding="utf-8") as errors:
        started = guarded(
            command,
            timeout=ENDING_SECONDS,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        with started as child:
            printed = _printed(child, command, log)
    if child.returncode not in accept:
        tail = "\n".join([*printed.splitlines(), *log.read_text(encoding="utf-8").splitlines()][-15:])
        raise OpsError(f"{_short(command)} exited with code {child.returncode}:\n{tail}", hint=f"read {log}")
    return printed


def _printed(child: "subprocess.Popen[str]", command: Sequence[str], log: Path) -> str:
    try:
        return child.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        raise OpsError(f"{_short(command)} took longer than {SECONDS:g} s", hint=f"read {log}") from None


def _short(command: Sequence[str]) -> str:
    return " ".join(Path(word).name if word.startswith("/") else word for word in command)
