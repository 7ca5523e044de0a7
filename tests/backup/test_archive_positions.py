"""Positions in an archive from a pipe equal those that pg_dump writes when it can seek."""

import random
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.postgres.archive import DATA, LAST, POST_DATA, PRE_DATA, RowEnds, contents, write_positions
from stack.programs import postgres_bin
from stack.servers import Postgres
from tests.backup.conftest import SCHEMA, NewDatabase

# Magic, versions, sizes, format and compression; then seven numbers for the time of the dump.
HEADER = 12
TIMESTAMP = 7 * 5


def dump(url: str, *arguments: str) -> bytes:
    command = [str(postgres_bin() / "pg_dump"), "-Fc", *arguments, f"--dbname={url}"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def positioned(path: Path) -> bool:
    ends = RowEnds()
    ends.feed(path.read_bytes())
    return write_positions(path, ends.found)


def without_timestamp(archive: bytes) -> bytes:
    return archive[:HEADER] + archive[HEADER + TIMESTAMP :]


@pytest.fixture(scope="module")
def url(postgres: Postgres, new_database: NewDatabase) -> str:
    # A large object may contain anything, such as the end mark of a table's rows.
    trap = (
        f"SELECT lo_from_bytea(0, decode('{LAST.hex()}', 'hex') || convert_to(repeat('x', 100000), 'UTF8'));"
    )
    return postgres.url_for(new_database(SCHEMA + trap, "positions"))


@pytest.fixture(scope="module")
def piped(url: str) -> bytes:
    return dump(url, "-Z0")


def test_they_equal_those_that_pg_dump_writes_to_a_file(tmp_path: Path, url: str, piped: bytes) -> None:
    seekable, target = tmp_path / "seekable", tmp_path / "piped"
    dump(url, "-Z0", f"--file={seekable}")
    target.write_bytes(piped)
    assert without_timestamp(piped) != without_timestamp(seekable.read_bytes())
    assert positioned(target)
    assert without_timestamp(target.read_bytes()) == without_timestamp(seekable.read_bytes())
    # A second time is unnecessary, but harmless.
    assert not positioned(target)


def test_its_contents_are_those_that_pg_restore_lists(tmp_path: Path, url: str, piped: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(piped)

    def listed(*options: str) -> dict[int, str]:
        command = [str(postgres_bin() / "pg_restore"), "--list", *options, str(archive)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if not line.startswith(";")]
        return {int(number): rest for number, _, rest in (line.partition(";") for line in lines)}

    items = {each.id: each for each in contents(archive)}
    for number, line in listed().items():
        assert re.match(rf" \d+ \d+ {items[number].kind.decode()} ", line)
    for section, name in ((PRE_DATA, "pre-data"), (DATA, "data"), (POST_DATA, "post-data")):
        numbers = listed(f"--section={name}")
        assert {items[number].section for number in numbers} <= {section, 1}
        assert numbers.keys() >= {
            each.id for each in items.values() if each.section == section and each.id in listed()
        }
    tables = [each for each in items.values() if each.kind == b"TABLE"]
    keys = [each for each in items.values() if each.kind in (b"CONSTRAINT", b"INDEX")]
    assert keys
    assert all({each.id for each in tables}.intersection(key.needs) for key in keys)


def test_the_contents_of_an_unknown_archive_are_not_known(tmp_path: Path, piped: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(piped)
    needed = next(each.needs[0] for each in contents(archive) if each.kind == b"CONSTRAINT")
    text = str(needed).encode()
    length = len(text).to_bytes(4, "little")
    for data in (
        piped.replace(length + text, length + b"x" * len(text)),
        b"",
        b"PGDMP",
        piped[:6] + b"\x63" + piped[7:],
        piped[:2000],
        b"-- PostgreSQL database dump\n" * 40,
    ):
        archive.write_bytes(data)
        assert contents(archive) == []


def test_an_archive_without_data_has_none_to_write(tmp_path: Path, url: str) -> None:
    target = tmp_path / "archive"
    target.write_bytes(dump(url, "-Z0", "--schema-only"))
    assert positioned(target)


@pytest.mark.parametrize("what", ["compressed", "plain text", "cut off", "tail", "no text", "newer"])
def test_an_unknown_archive_is_not_changed(tmp_path: Path, url: str, piped: bytes, what: str) -> None:
    given = {
        "compressed": lambda: dump(url, "-Z1"),
        "plain text": lambda: b"-- PostgreSQL database dump\n" * 40,
        "cut off": lambda: piped[:-20],
        "tail": lambda: piped + b"\x01",
        "no text": lambda: b"P",
        "newer": lambda: piped[:6] + b"\x63" + piped[7:],
    }[what]()
    target = tmp_path / "archive"
    target.write_bytes(given)
    assert not positioned(target)
    assert target.read_bytes() == given


def test_damage_anywhere_does_no_harm(tmp_path: Path, piped: bytes) -> None:
    target, dice = tmp_path / "archive", random.Random(1)
    for _ in range(300):
        damaged = bytearray(piped)
        # Damage to the list of contents, with its numbers and lengths, matters most.
        damaged[dice.randrange(min(len(piped), 30_000))] ^= 1 << dice.randrange(8)
        target.write_bytes(damaged)
        if not positioned(target):
            assert target.read_bytes() == damaged


@given(st.lists(st.sampled_from([LAST, LAST[:4], LAST[4:], b"\\.", b"\n", b"\0"]), max_size=20), st.data())
def test_ends_of_rows_are_found_however_the_pieces_are_cut(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    ends = RowEnds()
    for begin, end in pairwise([0, *cuts, len(whole)]):
        ends.feed(whole[begin:end])
    assert ends.found == [match.end() for match in re.finditer(re.escape(LAST), whole)]
