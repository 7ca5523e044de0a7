"""Assertions about a command that has ended. When one fails, it shows everything that the command printed."""

from typing import Any


def ended(done: Any, status: int, *texts: str) -> None:
    """Assert the exit code of a finished command, and that its output contains these texts.

    Args:
        done: a ``subprocess.CompletedProcess`` of text, or an object with ``status``, ``out`` and ``err``.
        status: the expected exit code.
        texts: texts that its output or its messages must contain.
    """
    if hasattr(done, "returncode"):
        code, printed = done.returncode, f"{done.stdout or ''}{done.stderr or ''}"
    else:
        code, printed = done.status, f"{done.out}{done.err}"
    assert code == status, f"exit code {code}, expected {status}:\n{printed}"
    for text in texts:
        assert text in printed, f"{text!r} is not in:\n{printed}"
