"""``./ops test --mutate``: breaks the code in plausible ways, one at a time, and reports which change no test notices.

The changes are in ``tests/mutations/*.yml``, each file with the tests that guard it; a single change may name others.
They run in copies of the checkout, one for each processor that may be used (``taskset -c 0 ./ops test --mutate`` uses
one). A test proves something only if it passes without the change, so all of them are run once on the code as it is, and
those that fail are left out. This run also measures them. For each change, the test that noticed it last is tried first
(``tests/mutations/caught.json`` names it), then those that start no server, then the others. The first failure ends it,
if the test also fails alone. The outcome names the test and the reason of its failure, because on a busy machine, a
timeout may have nothing to do with the change.
"""

import hashlib
import importlib.util
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Self

import click
import yaml

from sidecar import UsageError
from stack.paths import ROOT

FOLDER = Path("tests", "mutations")
MUTATIONS = ROOT / FOLDER
CAUGHT = "caught.json"
# Not copied; the programs and packages are linked.
LEFT_OUT = (
    ".git",
    ".venv",
    ".ops",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
)
LINKED = (".venv", ".ops")
# For one change; a test that does not end is ended earlier, by pytest.
SECONDS = 3600
# What pytest returns when it did what it was asked to do: all passed, some failed, none of these names, none found.
ENDED = (0, 1, 4, 5)
# Runs the tests. It is a program, so that the copy's code is loaded and not this one's.
SERVER = Path(__file__).with_name("forked_tests.py")


@dataclass(frozen=True)
class Mutation:
    """One plausible fault.

    Args:
        group: the file in ``tests/mutations/`` that names it, without ending.
        file: what is changed, from the root of the checkout.
        change: a text in this file; its first occurrence is replaced.
        tests: arguments for pytest.
    """

    group: str
    file: str
    change: str
    to: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.group}: {self.file}: {self.change.strip()!r} → {self.to.strip()!r}"

    @property
    def key(self) -> str:
        """Its name in ``caught.json``."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:12]

    def applied(self, text: str) -> str | None:
        """The file's text with the change; None if it no longer contains the text to be changed."""
        return text.replace(self.change, self.to, 1) if self.change in text else None


def mutations(folder: Path = MUTATIONS) -> list[Mutation]:
    """All changes, in the order of their files."""
    return [mutation for path in sorted(folder.glob("*.yml")) for mutation in _read(path)]


def _read(path: Path) -> Iterator[Mutation]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for change in document["mutations"]:
        tests = tuple(change.get("tests", document["tests"]))
        yield Mutation(path.stem, change["file"], change["change"], change["to"], tests)


def run(
    groups: tuple[str, ...],
    root: Path = ROOT,
    *,
    memory: Path | None = None,
    env: Mapping[str, str] = os.environ,
) -> int:
    """Try the changes of these groups (all by default). Returns 1 if one was not noticed or no longer applies.

    Args:
        memory: an existing folder for temporary files; None for the usual one.
        env: the environment of the tests.

    Raises:
        UsageError: there is no such group.
    """
    found = mutations(root / "tests" / "mutations")
    names = {mutation.group for mutation in found}
    if unknown := set(groups) - names:
        raise UsageError(
            f"no group of mutations {', '.join(sorted(unknown))}", hint=f"one of {', '.join(sorted(names))}"
        )
    chosen = [mutation for mutation in found if not groups or mutation.group in groups]
    known = _Known(root / FOLDER / CAUGHT, {mutation.key for mutation in found})
    spent = _seconds_of_children()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(_scratch(memory)))
        benches: SimpleQueue[_Bench] = SimpleQueue()
        for number in range(min(len(os.sched_getaffinity(0)), len(chosen))):
            tests = _Tests(_copied(root, folder / str(number)), memory, {**env, "TMPDIR": str(folder)})
            benches.put(stack.enter_context(_Bench(tests, known)))
        pool = ThreadPoolExecutor(benches.qsize())
        stack.callback(pool.shutdown, cancel_futures=True)
        lists = dict.fromkeys(mutation.tests for mutation in chosen)
        failing = [test for tests in pool.map(partial(_surveyed, benches), lists) for test in tests]
        for test in sorted(set(failing)):
            click.echo(f"fails without a change: {test}")
        outcomes = [
            done.result()
            for done in as_completed(pool.submit(_tried, benches, mutation) for mutation in chosen)
        ]
    caught = outcomes.count("caught")
    minutes = (_seconds_of_children() - spent) / 60
    click.echo(f"caught {caught} of {len(chosen)} in {minutes:.0f} minutes of processor time")
    return int(bool(failing) or caught < len(chosen))


def _seconds_of_children() -> float:
    """Processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _scratch(memory: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A socket's path may have about 100 bytes, so the path in memory must not be longer than the usual one."""
    return tempfile.TemporaryDirectory(prefix="" if memory else "ops-", dir=memory)


def _copied(root: Path, copy: Path) -> Path:
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    for name in LINKED:
        (copy / name).symlink_to(root / name)
    return copy


@contextmanager
def _one_of(benches: "SimpleQueue[_Bench]") -> Iterator["_Bench"]:
    bench = benches.get()
    try:
        yield bench
    finally:
        benches.put(bench)


def _surveyed(benches: "SimpleQueue[_Bench]", tests: tuple[str, ...]) -> list[str]:
    with _one_of(benches) as bench:
        return bench.survey(tests)


def _tried(benches: "SimpleQueue[_Bench]", mutation: Mutation) -> str:
    with _one_of(benches) as bench:
        outcome, reason = bench.outcome(mutation)
    click.echo(f"{outcome:10} {mutation}{f' by {reason}' if reason else ''}")
    return outcome


@dataclass(frozen=True)
class Result:
    """How one test ended.

    Args:
        test: its name, or that of a module that cannot be imported.
        setup: seconds.
        call: seconds.
        shared: the names of the fixtures that it shares with other tests.
        reason: the first line of what failed.
    """

    test: str
    failed: bool
    setup: float
    call: float
    shared: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.test}: {self.reason}"


def cheapest_first(results: list[Result]) -> list[str]:
    """The names of the tests. Those that share a server stay together: the first of them starts it."""
    setup: defaultdict[str, float] = defaultdict(float)
    for result in results:
        setup[result.shared] = max(setup[result.shared], result.setup)
    return [
        result.test
        for result in sorted(results, key=lambda result: (setup[result.shared], result.shared, result.call))
    ]


class _Known:
    """What is known of the tests.

    Args:
        path: where the name of the test that noticed each change is kept from one run to the next.
        keys: the changes that exist.

    Attributes:
        passes: whether each test passes without a change.
        order: of each list of tests, in which order they are tried.
    """

    def __init__(self, path: Path, keys: set[str]) -> None:
        self.passes: dict[str, bool] = {}
        self.order: dict[tuple[str, ...], list[str]] = {}
        self._path = path
        self._writing = threading.Lock()
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._tests = {key: test for test, of_test in found.items() for key in keys.intersection(of_test)}

    def test(self, key: str) -> str | None:
        return self._tests.get(key)

    def remember(self, key: str, test: str) -> None:
        """Written at once, so that a run that is interrupted is not lost."""
        with self._writing:
            self._tests[key] = test
            by_test: defaultdict[str, list[str]] = defaultdict(list)
            for each in sorted(self._tests):
                by_test[self._tests[each]].append(each)
            self._path.write_text(
                f"{json.dumps(dict(sorted(by_test.items())), indent=1)}\n", encoding="utf-8"
            )


class _Bench:
    """A copy of the checkout, in which one change at a time is tried."""

    def __init__(self, tests: "_Tests", known: _Known) -> None:
        self._known = known
        self._tests = tests

    def __enter__(self) -> Self:
        self._tests.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._tests.stop()

    def survey(self, tests: tuple[str, ...]) -> list[str]:
        """Run these tests on the code as it is. Returns those that fail twice: on a busy machine, a server may not start in time.

        Raises:
            OSError: they do not end, or pytest was killed.
        """
        results = self._tests.results(tests)
        self._known.order[tests] = cheapest_first(results)
        self._known.passes |= {result.test: True for result in results if not result.failed}
        return [result.test for result in results if result.failed and not self._passes(result.test)]

    def outcome(self, mutation: Mutation) -> tuple[str, str]:
        """``caught``, and why, if a test fails that passes without the change; otherwise what happened instead."""
        path = self._tests.folder / mutation.file
        before = path.read_text(encoding="utf-8")
        after = mutation.applied(before)
        if after is None:
            return "stale", ""
        _write(path, after)
        try:
            failed = self._noticed(mutation)
        except TimeoutError:
            return "NO END", ""
        except ChildProcessError:
            return "CRASHED", ""
        finally:
            _write(path, before)
        if failed is None:
            return "NOT CAUGHT", ""
        if not self._passes(failed.test):
            return "BROKEN", str(failed)
        self._known.remember(mutation.key, failed.test)
        return "caught", str(failed)

    def _noticed(self, mutation: Mutation) -> Result | None:
        """The first test that fails, also alone; the one that failed the last time is tried before the others.

        A test may fail because of the tests before it, which ran in a different order without the change.
        """
        known = self._known.test(mutation.key)
        if known and self._known.passes.get(known, True) and (failed := self._tests.failed((known,))):
            return failed
        order = self._known.order[mutation.tests]
        left_out = [test for test in order if not self._known.passes.get(test, True)]
        while failed := self._tests.failed(mutation.tests, order, left_out):
            if alone := self._tests.failed((failed.test,)):
                return alone
            left_out.append(failed.test)
        return None

    def _passes(self, test: str) -> bool:
        """Whether a test passes on the code as it is; of a module that cannot be imported, whether it can."""
        if test not in self._known.passes:
            only = () if "::" in test else ("--collect-only",)
            self._known.passes[test] = self._tests.failed((test, *only)) is None
        return self._known.passes[test]


def _write(path: Path, text: str) -> None:
    """Python compares whole seconds and the size to see whether what it has compiled is current."""
    path.write_text(text, encoding="utf-8")
    if path.suffix == ".py":
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


class _Tests:
    """Runs pytest in forks of one process.

    Args:
        folder: the copy of the checkout.
        memory: see :func:`run`.
    """

    def __init__(self, folder: Path, memory: Path | None, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._memory = memory
        self._env = env

    def start(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-P", str(SERVER)],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def failed(
        self, tests: tuple[str, ...], order: Sequence[str] = (), left_out: Sequence[str] = ()
    ) -> Result | None:
        """The first test that fails, or the module that cannot be imported; None if all pass or none is there.

        Args:
            tests: arguments for pytest.
            order: names of tests, the first one first.
            left_out: names of tests.

        Raises:
            OSError: see :meth:`results`.
        """
        return next(
            (result for result in self.results(("-x", *tests), order, left_out) if result.failed), None
        )

    def results(
        self, tests: tuple[str, ...], order: Sequence[str] = (), left_out: Sequence[str] = ()
    ) -> list[Result]:
        """How each test ended.

        Raises:
            TimeoutError: they do not end.
            ChildProcessError: pytest was killed, or failed itself.
        """
        with _scratch(self._memory) as scratch:
            report = Path(scratch, "report")
            asked = [f"--basetemp={scratch}/t", "-q", "-p", "no:cacheprovider", *tests]
            code = self._run(json.dumps([asked, str(report), list(order), list(left_out)]))
            lines = report.read_text(encoding="utf-8").splitlines() if report.is_file() else []
        results = [Result(*json.loads(line)) for line in lines]
        if code not in ENDED and not any(result.failed for result in results):
            raise ChildProcessError(f"pytest exited with {code}")
        return results

    def _run(self, asked: str) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{asked}\n")
        self._server.stdin.flush()
        pid = int(self._server.stdout.readline())
        ended, _, _ = select.select([self._server.stdout], [], [], SECONDS)
        if not ended:
            os.killpg(pid, signal.SIGKILL)
        code = int(self._server.stdout.readline())
        if not ended:
            raise TimeoutError
        return code
