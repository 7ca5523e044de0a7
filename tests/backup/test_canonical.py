"""The encoder of documents writes what the standard library writes, and thousands of tables take little memory."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.catalogue import canonical
from backup.catalogue.manifest import Manifest, PackedSequences, PackedTables, Sequence, Table
from backup.catalogue.reader import Reader
from backup.errors import CatalogueError
from backup.store import MemoryStore
from backup.verify.compare import rows_left_out
from tests.backup.documents import KEYS, NOW, manifest, put, redigested

SCALARS = st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))
ROWS = st.lists(st.fixed_dictionaries({"b%s": SCALARS, "a": SCALARS}), max_size=5)
VALUES = st.recursive(
    SCALARS | ROWS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_the_text_is_that_of_the_standard_library(value: dict[str, Any]) -> None:
    expected = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    assert canonical.joined(canonical.members(value)) == expected.encode(errors="surrogatepass")


def test_a_value_that_json_lacks_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes"):
        canonical.members({"a": b"x"})


def wide(count: int = 50, **changes: int) -> Manifest:
    return manifest(
        tables=tuple(
            Table(schema="public", name=f"t{n}", rows=changes.get(f"t{n}", n)) for n in range(count)
        ),
        sequences=tuple(Sequence(name=f"public.s{n}", last_value=n or None) for n in range(count)),
    )


def test_tables_and_sequences_are_read_in_columns() -> None:
    made = wide()
    read = Manifest.decode(made.encode(KEYS), "", KEYS)
    tables, sequences = read.tables, read.sequences
    assert isinstance(tables, PackedTables)
    assert isinstance(sequences, PackedSequences)
    assert (tables, sequences) == (made.tables, made.sequences)
    assert (made.tables, made.sequences) == (tables, sequences)
    assert hash(tables) == hash(made.tables)
    assert tables[3] == made.tables[3]
    assert tables[-2:] == made.tables[-2:]
    assert sequences[0].last_value is None
    assert len(tables) == 50
    assert read.rows == made.rows == sum(range(50))
    assert Manifest.decode(read.encode(KEYS), "", KEYS).tables == made.tables
    assert tables != wide(t7=8).tables
    assert "50 of Table" in repr(tables)
    with pytest.raises(IndexError):
        tables[50]


@pytest.mark.parametrize(
    "table",
    [
        {"schema": "public", "name": "t", "rows": -1},
        {"schema": "public", "name": "t", "rows": 2**63},
        {"schema": "public", "name": "t", "rows": None},
        {"schema": "public", "name": 1, "rows": 1},
        {"schema": "public", "name": "t"},
        {"schema": "public", "name": "t", "rows": True, "more": []},
        [],
    ],
)
def test_what_is_out_of_the_ordinary_is_read_as_any_other_part(table: object) -> None:
    value = json.loads(wide(1).encode())
    value["tables"] = [*value["tables"], table]
    if isinstance(table, dict) and table.get("rows") is True:
        assert Manifest.decode(redigested(value), "x").tables[1] == Table(schema="public", name="t", rows=1)
        return
    with pytest.raises(CatalogueError, match=r"x is damaged: tables\.1"):
        Manifest.decode(redigested(value), "x")


def test_names_are_in_memory_once_even_where_all_numbers_change() -> None:
    store = MemoryStore()
    for number in range(4):
        made = wide(**{f"t{each}": each + number for each in range(50)})
        put(store, made.model_copy(update={"id": f"{made.id[:-1]}{number}"}), KEYS)
    found = [entry.manifest for entry in Reader(store, KEYS).read(NOW).history("shop").backups]
    assert len({each.tables[5].rows for each in found}) == 4
    names = {id(table.name) for each in found for table in each.tables}
    assert len(names) == 50
    assert len({id(each.sequences) for each in found}) == 1


def test_the_tables_whose_rows_a_backup_lacks() -> None:
    made = wide(2, t0=1)
    server = made.server.model_copy(update={"standby": True})
    labels = ["public.t0", "public.unlogged", "public.log"]
    assert rows_left_out(made, labels) == set()
    assert rows_left_out(made.model_copy(update={"server": server}), labels) == {
        "public.unlogged",
        "public.log",
    }
    assert rows_left_out(made.model_copy(update={"excluded_rows": ("public.log",)}), labels) == {"public.log"}
