"""The hot store comes back from the lake as it was, whatever its rows hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stored import create
from upwell.core.errors import IntegrityError
from upwell.core.schema import Column, TableSchema
from upwell.ingest.tables import widen
from upwell.rebuild import rebuild
from upwell.store import ledger
from upwell.store.lake.objects import path_of
from upwell.store.lake.writer import LakeWriter, read_mark

from .lake_shop import ORDERS, PROJECT, LakeShop, rows_of

TYPES = {
    "big": ("BIGINT", -(2**63)),
    "small": ("SMALLINT", -32768),
    "unsigned": ("UINTEGER", 2**32 - 1),
    "wide": ("HUGEINT", 2**100),
    "money": ("DECIMAL(38,9)", "12345678901234567890123456789.123456789"),
    "ratio": ("DOUBLE", "-inf"),
    "single": ("FLOAT", "nan"),
    "flag": ("BOOLEAN", True),
    "text": ("VARCHAR", "emoji 🛒, quote ', newline \n"),
    "bytes": ("BLOB", b"\x00\xff"),
    "day": ("DATE", "infinity"),
    "past": ("DATE", "4713-01-01 (BC)"),
    "moment": ("TIMESTAMPTZ", "-infinity"),
    "wall": ("TIMESTAMP", "0044-03-15 (BC) 12:00:00"),
    "clock": ("TIME", "23:59:59.999999"),
    "id128": ("UUID", "01234567-89ab-cdef-0123-456789abcdef"),
    "span": ("INTERVAL", "1 year 2 months 3 days 04:05:06"),
    "list": ("BIGINT[]", [1, None, 3]),
    'odd "name" ×': ("VARCHAR", ""),
}


def told(_event: str, **_facts: Any) -> None:
    """Nobody listens."""


def rebuilt(shop: LakeShop, name: str = "again.duckdb") -> Any:
    lake = shop.open_lake()
    store = shop.open_store(name)
    rebuild(store, lake, read_mark(lake), told)
    return store


@pytest.mark.parametrize("null", [False, True], ids=["values", "nulls"])
def test_every_stored_type_comes_back_as_it_was(tmp_path: Path, *, null: bool) -> None:
    columns = [Column(name, of) for name, (of, _) in TYPES.items()]
    schema = TableSchema("shop.things", (Column("id", "INTEGER"), *columns), ("id",))
    shop = LakeShop(tmp_path, (schema,))
    shop.write([(1, *(None if null else value for _, value in TYPES.values()))], schema=schema)
    shop.flush(LakeWriter(shop.open_lake(), PROJECT))
    store = rebuilt(shop)
    assert rows_of(store.writer, schema.name) == rows_of(shop.store.writer, schema.name)
    assert len(rows_of(store.writer, schema.name)) == 1


def test_what_stands_comes_back_at_the_version_and_position_of_the_mark(tmp_path: Path) -> None:
    shop = LakeShop(tmp_path)
    writer = LakeWriter(shop.open_lake(), PROJECT)
    shop.write([(1, "a"), (2, "b"), (3, "c")])
    shop.write([(1, "a2")], [(1, "a")])
    shop.flush(writer)
    shop.write(gone=[(2, "b")])
    shop.write([(2, "b")])
    shop.flush(writer)
    shop.write([(9, "not in the lake")])
    store = rebuilt(shop)
    assert rows_of(store.writer, ORDERS.name) == [
        "{'id': 1, 'note': a2}",
        "{'id': 2, 'note': b}",
        "{'id': 3, 'note': c}",
    ]
    assert ledger.latest_version(store.writer) == 4
    assert ledger.progress(store.writer, PROJECT).position == "00000004"
    assert ledger.read_identity(store.writer, PROJECT) == "cluster-1"


def test_a_round_that_did_not_end_is_as_if_it_had_never_begun(tmp_path: Path) -> None:
    shop = LakeShop(tmp_path)
    writer = LakeWriter(shop.open_lake(), PROJECT)
    shop.write([(1, "a")])
    shop.flush(writer)
    shop.write([(2, "b")])
    ledger_table = writer.ledger
    writer._ledger = None  # type: ignore[assignment]  # the round cannot end
    with pytest.raises(AttributeError):
        shop.flush(writer)
    assert ledger_table is not None
    store = rebuilt(shop)
    assert rows_of(store.writer, ORDERS.name) == ["{'id': 1, 'note': a}"]
    after = LakeWriter(shop.open_lake(), PROJECT)
    after.take_over()
    shop.flush(after)
    again = rebuilt(shop, "third.duckdb")
    assert rows_of(again.writer, ORDERS.name) == ["{'id': 1, 'note': a}", "{'id': 2, 'note': b}"]


def test_a_column_that_came_later_is_null_in_older_rows(tmp_path: Path) -> None:
    shop = LakeShop(tmp_path)
    writer = LakeWriter(shop.open_lake(), PROJECT)
    shop.write([(1, "a")])
    shop.flush(writer)
    wider = TableSchema(ORDERS.name, (*ORDERS.columns, Column("extra", "DECIMAL(9,2)")), ("id",))
    with shop.store.transaction() as connection:
        widen(connection, ORDERS, wider)
    shop.write([(2, "b", "1.50")], schema=wider)
    shop.flush(writer)
    store = rebuilt(shop)
    assert rows_of(store.writer, ORDERS.name) == rows_of(shop.store.writer, ORDERS.name)


def test_a_log_that_began_anew_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    shop = LakeShop(tmp_path)
    writer = LakeWriter(shop.open_lake(), PROJECT)
    shop.write([(1, "a")])
    shop.flush(writer)
    changed = TableSchema(ORDERS.name, (Column("id", "INTEGER"), Column("note", "BIGINT")), ("id",))
    with shop.store.transaction() as connection:
        create(connection, changed)
    shop.write([(1, 7)], schema=changed)
    shop.flush(writer)
    store = rebuilt(shop)
    assert rows_of(store.writer, ORDERS.name) == ["{'id': 1, 'note': 7}"]
    names = shop.open_lake().names()
    assert any(name.startswith("shop.orders__log__until_") for name in names), names


def test_a_damaged_file_is_named_and_no_store_is_left_that_looks_whole(tmp_path: Path) -> None:
    shop = LakeShop(tmp_path)
    writer = LakeWriter(shop.open_lake(), PROJECT)
    shop.write([(1, "a")])
    shop.flush(writer)
    table = shop.open_lake().table("shop.orders__log")
    assert table is not None
    path = path_of(table.files[0].file_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    store = shop.open_store("again.duckdb")
    lake = shop.open_lake()
    with pytest.raises(IntegrityError) as caught:
        rebuild(store, lake, read_mark(lake), told)
    assert path.name in caught.value.where
    assert ledger.latest_version(store.writer) == 0
