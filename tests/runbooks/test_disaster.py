"""The data folder of PostgreSQL is destroyed under load; the script brings the app back with everything that was backed up."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest

from stack.demo import seed_posts
from stack.demo.backups import Backups
from stack.demo.traffic import Traffic, customers_of
from stack.paths import ROOT
from stack.suite import Suite
from stack.wait import wait_for
from tests.ended import ended

# In the process of the frontend's suite, after it: three suites at once slow each other down, and one after the other they take too long.
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("frontend")]

ROWS = 5000


@dataclass(frozen=True)
class Customers:
    suite: Suite
    traffic: Traffic


@pytest.fixture(scope="module")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Customers]:
    suite = Suite(tmp_path_factory.mktemp("disaster"), factor=60.0)
    seeded: list[str] = []

    def prepare() -> None:
        seeded.append(suite.manage("seed_demo", "--users", "2", "--json"))
        seed_posts.fill(suite.postgres.url, ROWS)

    try:
        suite.start(after_migrations=prepare)
        with Traffic(suite.api.url, customers_of(json.loads(seeded[0]))) as traffic:
            yield Customers(suite, traffic)
    finally:
        suite.stop()


def script(suite: Suite, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(ROOT / "runbooks" / name), *arguments],
        env={
            "PATH": os.environ["PATH"],
            "TMPDIR": tempfile.gettempdir(),
            "OPS_STACK": "embedded",
            "OPS_FOLDER": str(suite.folder),
            "HOME": "/nonexistent",
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    print(done.stdout, done.stderr)
    return done


def destroy(suite: Suite) -> None:
    """Remove the data folder of the running server, which keeps running but cannot work."""
    while suite.postgres.data.exists():
        shutil.rmtree(suite.postgres.data, ignore_errors=True)


def ids(suite: Suite, query: str) -> set[str]:
    with psycopg.connect(suite.postgres.url) as connection:
        return {str(row[0]) for row in connection.execute(query.encode())}


def posts(suite: Suite, until: datetime | None = None) -> set[str]:
    when = f" WHERE created_at <= '{until.isoformat()}'" if until else ""
    return ids(suite, f"SELECT id FROM posts_post{when}")


def active_silences(suite: Suite) -> list[str]:
    from alerts.alertmanager import Alertmanager

    return [one.comment for one in Alertmanager(suite.alertmanager.url).silences()]


def test_the_app_comes_back(customers: Customers) -> None:
    suite = customers.suite
    wait_for(
        lambda: len(posts(suite)) > ROWS + 5, timeout=60, what="posts of the customers", hint="see the logs"
    )
    certain = posts(suite)
    made = Backups(suite).run()
    taken = datetime.fromisoformat(made["taken"])
    # A row's time is that of its insertion, shortly before its commit, so the second of the snapshot is left out.
    committed = certain | posts(suite, taken.replace(microsecond=0))
    assert len(committed) > ROWS
    wait_for(
        lambda: posts(suite) - committed, timeout=150, what="posts after the backup", hint="see the logs"
    )

    refused = script(suite, "restore.sh")
    ended(refused, 2, "cannot ask for confirmation")

    began = datetime.now(UTC)
    destroy(suite)
    done = script(suite, "restore.sh", "latest", "--yes-i-mean", "posthub")
    assert done.returncode == 0, done.stderr[-3000:]
    assert committed - posts(suite) == set()
    found = re.search(r"RTO (\d+) s; RPO (\d+) s", done.stdout)
    assert found is not None
    rto, rpo = int(found[1]), int(found[2])
    assert 0 < rto < 300
    assert abs(rpo - (began - taken).total_seconds()) < 10
    print(f"RTO {rto} s, RPO {rpo} s, {len(committed)} posts committed before the snapshot, all there")
    assert "Timeline (UTC)" in done.stdout
    assert active_silences(suite) == []
    assert list((suite.folder / "control" / "hold").iterdir()) == []
    # The app works too, not only its database: customers write, workers publish.
    there = posts(suite)
    wait_for(
        lambda: posts(suite) - there, timeout=60, what="new posts after the restore", hint="see the logs"
    )
    published = "SELECT id FROM posts_post WHERE status = 'published' AND published_at > now() - interval '20 seconds'"
    wait_for(lambda: ids(suite, published), timeout=150, what="a worker that publishes", hint="see the logs")


def test_and_back_again(customers: Customers) -> None:
    """After the disaster, one command undoes a mistaken restore."""
    suite = customers.suite
    Backups(suite).run()
    wrong = script(suite, "restore.sh", "latest", "--yes-i-mean", "another")
    assert wrong.returncode == 2
    assert "is not posthub" in wrong.stderr
    assert "FAILED" in wrong.stdout
    assert active_silences(suite) == []
    assert list((suite.folder / "control" / "hold").iterdir()) == []
    there = posts(suite)
    assert script(suite, "restore.sh", "latest", "--dry-run").returncode == 0
    assert script(suite, "rollback.sh", "--dry-run").returncode == 0
    # The refused restore has left a verified database, which is found.
    done = script(suite, "restore.sh", "latest", "--yes-i-mean", "posthub")
    assert done.returncode == 0, done.stderr[-3000:]
    done = script(suite, "rollback.sh", "--yes-i-mean", "posthub")
    assert done.returncode == 0, done.stderr[-3000:]
    assert there - posts(suite) == set()
    drilled = script(suite, "drill.sh")
    assert drilled.returncode == 0
    assert re.search(r"RTO .*\nRPO ", drilled.stdout)


def test_a_new_server(customers: Customers) -> None:
    """Nothing runs and PostgreSQL is empty; the bucket has everything."""
    suite = customers.suite
    there = posts(suite)
    Backups(suite).run()
    hold = suite.folder / "control" / "hold"
    for name in ("api", "beat", "worker", "worker-ai"):
        (hold / name).touch()
    for name in ("api", "beat", "worker", "worker-ai"):
        wait_for(
            lambda name=name: not (hold.parent / "running" / name).exists(),  # type: ignore[misc]
            timeout=60,
            what=f"the end of {name}",
            hint="see the logs",
        )
    destroy(suite)
    done = script(suite, "new-server.sh", "--yes-i-mean", "posthub")
    assert done.returncode == 0, done.stderr[-3000:]
    assert there - posts(suite) == set()
    assert list(hold.iterdir()) == []
