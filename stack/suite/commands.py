"""One-shot commands: run to the end, their output kept in a log file."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sidecar import OpsError
from stack.paths import ROOT

SECONDS = 300.0


def run_command(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path = ROOT,
    accept: Sequence[int] = (0,),
) -> "subprocess.CompletedProcess[str]":
    """Run a command; its stderr goes to the log.

    Raises:
        OpsError: its exit code is none of ``accept``, or it takes too long.
    """
    with log.open("a", encoding="utf-8") as errors:
        try:
            done = subprocess.run(
                list(command), env=dict(env), cwd=cwd, stdout=subprocess.PIPE, stderr=errors, text=True,
                stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise OpsError(f"{_short(command)} took longer than {SECONDS:g} s", hint=f"read {log}") from None
    if done.returncode not in accept:
        tail = "\n".join([*done.stdout.splitlines(), *log.read_text(encoding="utf-8").splitlines()][-15:])
        raise OpsError(
            f"{_short(command)} ended with exit code {done.returncode}:\n{tail}", hint=f"read {log}"
        )
    return done


def _short(command: Sequence[str]) -> str:
    return " ".join(Path(word).name if word.startswith("/") else word for word in command)
