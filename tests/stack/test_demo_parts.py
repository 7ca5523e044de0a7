"""Parts of the demo; tests/e2e runs all of it."""

import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from sidecar import OpsError, UsageError
from stack.demo import accident, folder
from stack.demo.backups import flip
from stack.paths import ROOT
from stack.servers import Postgres
from stack.wait import wait_for


def test_the_demo_starts_without_what_draws_its_pictures() -> None:
    """matplotlib takes most of the time in which nothing is visible yet."""
    asked = "import stack.demo.cli, sys; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_state_of_an_earlier_demo_is_removed(tmp_path: Path) -> None:
    with folder.fresh(tmp_path / "demo") as place:
        (place / "postgres").mkdir()
    with folder.fresh(tmp_path / "demo") as place:
        assert [entry.name for entry in place.iterdir()] == [folder.MARK]


def test_what_people_read_remains_after_the_demo(tmp_path: Path) -> None:
    for name in ("postgres", "s3", *folder.KEPT):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / folder.MARK).touch()
    folder.tidy(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {folder.MARK, *folder.KEPT}


def test_a_folder_with_other_content_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty"), folder.fresh(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_an_impossible_folder_is_named_in_the_error() -> None:
    with (
        pytest.raises(UsageError, match=r"--folder /dev/null/x: .*: Not a directory"),
        folder.fresh(Path("/dev/null/x")),
    ):
        pass


def test_one_demo_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with (
        folder.fresh(tmp_path / "demo") as place,
        pytest.raises(OpsError, match="another demo is running"),
        folder.fresh(place),
    ):
        pass


def test_emptying_the_table_survives_a_deadlock(postgres: Postgres) -> None:
    """The app's statement holds the lock of a table that refers to posts, and waits for posts."""
    name = f"accident_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres.url_for(name)
    with psycopg.connect(url, autocommit=True) as ours, psycopg.connect(url) as app:
        ours.execute(
            "CREATE TABLE posts_post (id int PRIMARY KEY, created_at timestamptz DEFAULT now() - interval '1 day')"
        )
        ours.execute("CREATE TABLE attempt (post int REFERENCES posts_post)")
        ours.execute("INSERT INTO posts_post SELECT generate_series(1, 3)")
        # Looked for once, this long after it began to wait: the app waits by then, and looks much later.
        ours.execute("SET deadlock_timeout = '2s'")
        app.execute("SET deadlock_timeout = '60s'")
        app.commit()
        app.execute("LOCK TABLE attempt IN ROW EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as pool:
            emptied = pool.submit(accident._truncate, ours)
            with psycopg.connect(url, autocommit=True) as other:
                waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'attempt'::regclass"
                wait_for(
                    lambda: other.execute(waits).fetchone() == (1,),
                    timeout=30,
                    what="our lock",
                    hint="see pg_locks",
                )
            assert app.execute("SELECT count(*) FROM posts_post").fetchone() == (3,)
            app.commit()
            assert emptied.result(timeout=30)[1] == 3
        assert ours.execute("SELECT count(*) FROM posts_post").fetchone() == (0,)


def test_flipping_changes_one_bit(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"abc")
    flip(path)
    assert path.read_bytes() == b"acc"
