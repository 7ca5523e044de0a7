"""Our own commands in a benchmark: their JSON, their peak memory, and why one failed."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from bench.peak import Peak
from sidecar import OpsError
from stack.paths import ROOT

# The end of what a failed command printed, in characters.
SHOWN = 600


def backup(
    arguments: tuple[str, ...], env: Mapping[str, str], root: Path = ROOT
) -> tuple[dict[str, Any], int]:
    """Run ``python -m backup``: the facts that it prints, and the peak memory of its process in bytes.

    Args:
        root: the checkout whose code is run.

    Raises:
        OpsError: it failed. The message ends with what it printed.
    """
    # A file, because a pipe would fill up while the other one is read.
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "backup", *arguments, "--json"],
            env=dict(env),
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout is not None
        with Peak(process.pid) as peak:
            printed = process.stdout.read()
            status = process.wait()
        errors.seek(0)
        message = errors.read().strip()
    if status != 0:
        raise OpsError(
            f"backup {' '.join(arguments)} failed with exit code {status}: {_reason(printed) or message[-SHOWN:]}",
            hint=f"run it by hand: python -m backup {' '.join(arguments)}",
        )
    found = json.loads(printed)
    return dict(found[0] if isinstance(found, list) else found), peak.bytes


def compile_all(env: Mapping[str, str]) -> None:
    """Start our program once: in a new checkout, the first start compiles all that it imports, which the image has compiled."""
    for words in (["run", "--help"], ["list", "--json"]):
        command = [sys.executable, "-m", "backup", *words]
        subprocess.run(command, env=dict(env), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def _reason(printed: bytes) -> str:
    """What a failed command states in its JSON: an error, what this host lacks, or the first difference."""
    try:
        found = json.loads(printed)
    except ValueError:
        return ""
    facts = found[0] if isinstance(found, list) and found else found
    if not isinstance(facts, dict):
        return ""
    reasons = (facts.get("error"), *facts.get("unprovable", ()), *facts.get("differences", ()))
    return next((str(each) for each in reasons if each), "")
