"""``./ops test``: the quality gates, then the tests."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import psutil
import pytest

from sidecar import OpsError, UsageError, signals
from stack import mutation
from stack.paths import ROOT, VENV_BIN
from stack.process import attended
from stack.programs import built_by_go, find
from stack.web import node

PACKAGES = ("alerts", "backup", "bench", "dashboards", "exporters", "sidecar", "stack")
# After these exit codes of pytest, the temporary files are kept for inspection.
LEAVES_SOMETHING = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERNAL_ERROR)
CODE = (*PACKAGES, "app", "tests")
# The app's tests choose their own settings; pytest-django must not use those of the shell.
NOT_PASSED = "DJANGO_SETTINGS_MODULE"
# Where temporary files are if this many bytes are free there and of memory.
MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made in it is private
ROOMY = 16 << 30
# The limit of the container that this process is in, by version of the kernel's interface.
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# The number of tests that the log of a whole run names with their durations.
SLOWEST = 10


@dataclass(frozen=True)
class Gate:
    """One check: its name, the command that must exit 0, and where it runs."""

    name: str
    command: Sequence[str]
    folder: Path = ROOT


@dataclass(frozen=True)
class Outcome:
    """How a gate ended.

    Attributes:
        seconds: its wall time.
        output: all that the command printed.
    """

    name: str
    passed: bool
    seconds: float
    output: str


def _tool(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(VENV_BIN / name), *arguments)


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _scripts() -> list[str]:
    """The executable shell scripts; the files that they source are checked with them."""
    found = [
        path for folder in ("deploy", "k8s", "runbooks") for path in sorted((ROOT / folder).rglob("*.sh"))
    ]
    return [str(path.relative_to(ROOT)) for path in found if path.read_bytes().startswith(b"#!")]


def gates() -> list[Gate]:
    """All checks except the tests. Missing programs are fetched here, before the tests run in parallel."""
    for program in ("redis-server", "prometheus", "alertmanager"):
        find(program)
    _provide_node()
    # PyPI has it only as a source package that downloads the program when it is installed, which no hash can pin.
    actionlint = built_by_go("actionlint")
    workflows = [str(path.relative_to(ROOT)) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))]
    compose = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docker-compose*.yml"))]
    return [
        Gate("ruff check", _tool("ruff", "check", *CODE)),
        Gate("ruff format", _tool("ruff", "format", "--check", *CODE)),
        Gate("mypy --strict", _tool("mypy")),
        Gate(
            "mypy app tests/app",
            _tool("mypy", "--config-file", "../tests/app/mypy.ini", ".", "../tests/app"),
            ROOT / "app",
        ),
        Gate("shellcheck", _tool("shellcheck", "-a", "-x", "-P", "SCRIPTDIR", "ops", ".ci/run", *_scripts())),
        Gate("alerts: promtool and amtool check", _python("-m", "stack", "alerts", "check")),
        Gate("dashboards in sync", _python("-m", "dashboards", "check")),
        Gate("documentation", _python("-m", "stack", "docs", "--check")),
        *(
            [Gate("actionlint", (str(actionlint), "-shellcheck", str(VENV_BIN / "shellcheck"), *workflows))]
            if actionlint
            else []
        ),
        Gate("zizmor: security of the workflows", _tool("zizmor", "--offline", "--quiet", ".github")),
        Gate(
            "compose schema", _tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *compose)
        ),
    ]


def _provide_node() -> None:
    """Fetch Node.js where there is none; without it, the tests that need it are skipped with the reason."""
    try:
        node.provide(click.echo)
    except OpsError as error:
        click.echo(f"Warning: {error.message}", err=True)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--gates-only", is_flag=True, help="Skip the tests.")
@click.option("--mutate", is_flag=True, help="Break the code in known ways, and report what no test notices.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(*, gates_only: bool, mutate: bool, pytest_arguments: Sequence[str]) -> int:
    """Run all quality gates and tests.

    Other arguments go to pytest, which then runs without the gates.

    \b
    Examples:
      ./ops test
      ./ops test --gates-only
      ./ops test tests/backup -k retention
      ./ops test --mutate retention
    """
    if mutate:
        return mutation.run(tuple(pytest_arguments), memory=_roomy_memory(), env=_environment())
    with signals.orderly_end():
        failed = [] if pytest_arguments else _failed_gates()
        code = 0 if gates_only else _pytest(pytest_arguments)
    if code == pytest.ExitCode.USAGE_ERROR:
        raise UsageError(
            "pytest does not accept these arguments", hint="./ops test tests/backup -k retention"
        )
    if code:
        failed.append("pytest")
    if failed:
        click.echo(f"Error: failed: {', '.join(failed)}", err=True)
        click.echo("Try: read the output under each ✖ above", err=True)
    return 1 if failed else 0


def _failed_gates() -> list[str]:
    """The names of the gates that do not pass. One runs per processor at a time."""
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(_run, gates()):
            click.echo(f"{'✔' if outcome.passed else '✖'} {outcome.name} ({outcome.seconds:.1f} s)")
            if not outcome.passed:
                failed.append(outcome.name)
                click.echo(outcome.output)
    return failed


def _run(gate: Gate) -> Outcome:
    began = time.monotonic()
    done = subprocess.run(gate.command, cwd=gate.folder, capture_output=True, text=True, check=False)
    return Outcome(gate.name, done.returncode == 0, time.monotonic() - began, done.stdout + done.stderr)


def _roomy_memory() -> Path | None:
    """The folder in memory for temporary files, if it has plenty of room; None for the usual one.

    A database costs more to create on a disk than all else in a small verification.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return None
    state = os.statvfs(MEMORY)
    room = min(state.f_bavail * state.f_frsize, psutil.virtual_memory().available, *_container_limits())
    return MEMORY if room > ROOMY and not state.f_flag & os.ST_NOEXEC else None


def _container_limits() -> list[int]:
    """Bytes of memory that this container may use, where it is limited: the kernel reports the host's otherwise."""
    texts = [limit.read_text().strip() for limit in CONTAINER_LIMITS if limit.is_file()]
    return [int(text) for text in texts if text.isdigit()]


def _environment() -> dict[str, str]:
    """The environment of the tests."""
    # Go's programs, promtool most of all, collect garbage less often: memory is less scarce than processors.
    passed = {name: value for name, value in os.environ.items() if name != NOT_PASSED}
    return {"GOGC": "400", **passed, "PATH": node.search_path()}


def whole_run() -> tuple[str, ...]:
    """pytest's arguments for all tests.

    A process that dies ends the run: pytest-xdist 3.8 starts another, assigns it groups of which no test is left, and
    then waits for their end without a limit.
    """
    return (
        # Two more than there are processors: a third of a run is waiting, most of it in the tests of the whole stack.
        "-n",
        str((os.cpu_count() or 2) + 2),
        "--dist",
        "loadgroup",
        "--no-loadscope-reorder",
        "--max-worker-restart=0",
        f"--durations={SLOWEST}",
    )


def _pytest(arguments: Sequence[str]) -> int:
    chosen = arguments or whole_run()
    # Outside the checkout, whose path may be too long for Unix sockets.
    memory = _roomy_memory()
    # A socket's path may have about 100 bytes, so the path in memory must not be longer than the usual one.
    scratch = tempfile.mkdtemp(prefix="" if memory else "ops-", dir=memory)
    command = _python("-m", "pytest", f"--basetemp={scratch}/t", *chosen)
    code = None
    try:
        code = attended(command, cwd=ROOT, env={**_environment(), "TMPDIR": scratch})
    finally:
        if code in LEAVES_SOMETHING:
            click.echo(f"the files of the failed tests are in {scratch}", err=True)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return code
