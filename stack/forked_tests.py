"""Runs pytest in forks of one process, which has loaded what the tests need of other packages.

A fork loads only our own code, as it is then. Each line of stdin is a JSON list: arguments for pytest, the file for the
report, names of tests in the order in which they are to be run, and names of tests that are left out. For each, the
fork's process id is printed, and then its exit code. No plug-ins of pytest are loaded here: pytest must do that itself.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PACKAGES = (
    "yaml",
    "click",
    "rich.console",
    "pydantic",
    "requests",
    "psycopg",
    "psycopg.sql",
    "boto3",
    "redis",
    "prometheus_client",
    "zstandard",
    "pyrage",
    "kombu",
    "celery",
    "django",
    "rest_framework",
)


class Report:
    """Sorts the tests, and writes a JSON list for each that ends: its name, whether it failed, the seconds of its setup and of its call, the names of the fixtures that it shares with others, and the first line of what failed."""

    def __init__(self, path: str, order: list[str], left_out: list[str]) -> None:
        self._path = path
        self._order = {test: place for place, test in enumerate(order)}
        self._left_out = set(left_out)
        self._shared: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._seconds: dict[tuple[str, str], float] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Iterator[None]:
        yield
        items[:] = [item for item in items if item.nodeid not in self._left_out]
        items.sort(key=lambda item: self._order.get(item.nodeid, -1))
        self._shared = {item.nodeid: shared_fixtures(item) for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid, report.when] = report.duration
        if report.failed:
            self._reasons.setdefault(report.nodeid, reason(report))
        if report.when == "teardown":
            self._write(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._reasons.setdefault(report.nodeid, reason(report))
            self._write(report.nodeid)

    def _write(self, test: str) -> None:
        seconds = [self._seconds.get((test, when), 0.0) for when in ("setup", "call")]
        shared, why = self._shared.get(test, ""), self._reasons.get(test, "")
        with Path(self._path).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps([test, test in self._reasons, *seconds, shared, why])}\n")


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The first line of what failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash else report.longrepr).strip() or "failed"
    return text.partition("\n")[0][:200]


def shared_fixtures(item: pytest.Item) -> str:
    """The names of a test's fixtures that are made for more than one test."""
    if not isinstance(item, pytest.Function):
        return ""
    found = item._fixtureinfo.name2fixturedefs.items()
    return " ".join(sorted(name for name, made in found if made and made[-1].scope != "function"))


def main() -> None:
    for name in PACKAGES:
        with suppress(ImportError):
            importlib.import_module(name)
    sys.path.insert(0, str(Path.cwd()))
    for line in sys.stdin:
        arguments, *of_report = json.loads(line)
        pid = os.fork()
        if not pid:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nothing, stream)
            os._exit(int(pytest.main(arguments, plugins=[Report(*of_report)])))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
