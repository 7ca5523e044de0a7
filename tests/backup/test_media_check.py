"""The documented check of media files runs in a real verification, and names what a restore would miss."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.paths import ROOT
from stack.programs import find
from stack.servers import ObjectStore, Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command
from tests.ended import ended

SCHEMA = """
CREATE TABLE media_asset (id uuid PRIMARY KEY, owner_id bigint, kind text, size bigint, created_at timestamptz)
"""


class Media:
    """A media bucket with three files, its copy, and the database whose rows name them."""

    def __init__(self, server: ObjectStore, folder: Path, database: str) -> None:
        self.server, self.folder, self.database = server, folder, database
        self.bucket, self.copy = (
            server.bucket(f"{name}-{uuid.uuid4().hex[:8]}") for name in ("media", "copy")
        )
        self.image, self.video = uuid.uuid4(), uuid.uuid4()
        self.files = {
            f"7/{self.image}/original": b"image",
            f"7/{self.image}/thumbnail": b"small",
            f"7/{self.video}/original": b"a video",
        }
        client = server.client()
        for key, content in self.files.items():
            client.put_object(Bucket=self.bucket, Key=f"production/{key}", Body=content)
        with psycopg.connect(database, autocommit=True) as connection:
            for pk, kind, size in ((self.image, "image", 5), (self.video, "video", 7)):
                row = "INSERT INTO media_asset VALUES (%s, 7, %s, %s, now() - interval '1 hour')"
                connection.execute(row, (pk, kind, size))
        self.list = folder / "media.json"
        self.script = folder / "check_media.py"
        shutil.copy(ROOT / "deploy" / "check_media.py", self.script)

    @property
    def check(self) -> str:
        return f"{sys.executable} {self.script} {self.list}"

    def rclone(self, *arguments: str) -> str:
        """The documented commands, with the remote of the page."""
        server = self.server
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": server.endpoint,
            "ACCESS_KEY_ID": server.access_key,
            "SECRET_ACCESS_KEY": server.secret_key,
        }
        env = {f"RCLONE_CONFIG_MEDIA_{name}": value for name, value in remote.items()}
        done = subprocess.run(
            [str(find("rclone")), *arguments],
            env={**os.environ, **env, "RCLONE_CONFIG": str(self.folder / "none.conf")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def replicate(self) -> None:
        source, copy = f"media:{self.bucket}/production", f"media:{self.copy}/production"
        self.rclone("copy", "--immutable", source, copy)
        self.list.write_text(self.rclone("lsjson", "--recursive", "--files-only", copy), encoding="utf-8")


@pytest.fixture
def media(object_store: ObjectStore, postgres: Postgres, new_database: NewDatabase, tmp_path: Path) -> Media:
    folder = tmp_path / "checks"
    folder.mkdir()
    return Media(object_store, folder, postgres.url_for(new_database(SCHEMA, "media")))


@pytest.fixture
def command(
    environ: dict[str, str], media: Media, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command({**environ, "DATABASE_URL": media.database}, monkeypatch, capsys)


def test_a_verification_names_the_media_that_a_restore_would_miss(command: Command, media: Media) -> None:
    media.replicate()
    made = command.passed("run")
    assert command("verify", made["id"], BACKUP_VERIFY_COMMAND=media.check).status == 0

    # The customer's bucket loses a file; its copy still has it, as it has what customers delete.
    client = media.server.client()
    client.delete_object(Bucket=media.bucket, Key=f"production/7/{media.image}/original")
    media.replicate()
    assert command("verify", made["id"], BACKUP_VERIFY_COMMAND=media.check).status == 0

    # The copy itself loses one, and another one is cut.
    client.delete_object(Bucket=media.copy, Key=f"production/7/{media.image}/original")
    client.put_object(Bucket=media.copy, Key=f"production/7/{media.video}/original", Body=b"cut")
    copy = f"media:{media.copy}/production"
    media.list.write_text(media.rclone("lsjson", "--recursive", "--files-only", copy), encoding="utf-8")
    report = command("verify", made["id"], "--json", BACKUP_VERIFY_COMMAND=media.check).json
    [difference] = report["differences"]
    assert "2 of 3 media files" in difference["found"]
    assert f"7/{media.image}/original is missing" in difference["found"]
    assert f"7/{media.video}/original has 3 bytes instead of 7" in difference["found"]


def test_a_restore_brings_posts_and_media_to_the_same_time(command: Command, media: Media) -> None:
    """As docs/app.md says: restore the rows, then copy back the files that they need, and no others."""
    client = media.server.client()
    client.put_object(Bucket=media.bucket, Key="production/7/deleted/original", Body=b"by its owner")
    media.replicate()
    made = command.passed("run")
    for key in (*media.files, "7/deleted/original"):
        client.delete_object(Bucket=media.bucket, Key=f"production/{key}")
    # What the app's command missing_media prints: see tests/app/test_app_media.py.
    missing = media.folder / "missing.txt"
    missing.write_text("".join(f"{key}\n" for key in media.files))
    source, copy = f"media:{media.bucket}/production", f"media:{media.copy}/production"
    media.rclone("copy", "--files-from", str(missing), copy, source)
    found = client.list_objects_v2(Bucket=media.bucket)["Contents"]
    assert {one["Key"] for one in found} == {f"production/{key}" for key in media.files}
    for key, content in media.files.items():
        assert client.get_object(Bucket=media.bucket, Key=f"production/{key}")["Body"].read() == content
    listing = media.rclone("lsjson", "--recursive", "--files-only", source)
    media.list.write_text(listing, encoding="utf-8")
    assert command("verify", made["id"], BACKUP_VERIFY_COMMAND=media.check).status == 0


@pytest.fixture
def run(media: Media) -> Callable[..., Any]:
    """The script against the database itself, without a backup."""

    def go(*arguments: str, database: str = media.database) -> Any:
        env = {**os.environ, "DATABASE_URL": database}
        command = [sys.executable, str(media.script), str(media.list), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    return go


def test_what_is_not_known_is_an_error(run: Callable[..., Any], media: Media, postgres: Postgres) -> None:
    done = run()
    ended(done, 1, "media.json is not a list")
    for content in ('{"not": "a list"}', '[{"Name": "x"}]', '[{"Path": "x", "Size": null}]', "[3]"):
        media.list.write_text(content)
        assert "media.json is not a list" in run().stderr
    media.list.write_text("[]")
    assert "3 of 3 media files" in run().stderr
    os.utime(media.list, (0, 0))
    assert "too old" in run().stderr
    done = run(database=postgres.url_for("nothing_here"))
    ended(done, 1, "cannot be read")
    assert "Traceback" not in done.stderr


def test_rows_that_are_newer_than_the_list_are_left_out(run: Callable[..., Any], media: Media) -> None:
    media.list.write_text(
        json.dumps([{"Path": key, "Size": len(value)} for key, value in media.files.items()])
    )
    with psycopg.connect(media.database, autocommit=True) as connection:
        # The second one was stored while the list was written.
        for age in ("-1 hour", "5 minutes"):
            row = "INSERT INTO media_asset VALUES (gen_random_uuid(), 7, 'image', 1, now() - %s::interval)"
            connection.execute(row, (age,))
    done = run()
    assert (done.returncode, done.stdout) == (0, "3 media files are in the copy, 4 are newer than its list\n")


def test_a_database_without_media_passes(
    run: Callable[..., Any], media: Media, postgres: Postgres, new_database: NewDatabase
) -> None:
    media.list.write_text("[]")
    other = postgres.url_for(new_database("CREATE TABLE other (id int)", "other"))
    assert run(database=other).returncode == 0
