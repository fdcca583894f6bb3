"""pyiceberg and DuckDB's read_parquet, with nothing of ours, find every row and type of a lake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pyiceberg.catalog import Catalog

from tests.interop.everything import KINDS, LOG, NAME, SHOWN, EverythingLake
from tests.interop.questions import Question, assert_same
from tests.interop.readers import (
    Reader,
    catalog_of_bucket,
    catalog_of_folder,
    planned,
    with_pyiceberg,
    with_read_parquet,
)
from tests.store.lake import rounds
from tests.store.lake.rounds import Rounds
from tests.store.lake.seaweed import Seaweed
from upwell.store.lake import layout

READERS = (with_pyiceberg, with_read_parquet)


def assert_read(
    lake: EverythingLake, catalog: Catalog, readers: Sequence[Reader], questions: Sequence[Question]
) -> None:
    for read in readers:
        for question in questions:
            found, expected = read(catalog, question), lake.expected(question)
            assert assert_same(found, expected, lake.types(question)) > 2, question


def test_every_type_that_the_lake_knows_is_among_those_proven() -> None:
    known = {*layout._SIMPLE, "VARCHAR"} - {"TIMESTAMP WITH TIME ZONE"}  # another name of one
    assert known <= {kind.stored for kind in KINDS}


def test_a_lake_in_a_folder(everything: EverythingLake, tmp_path: Path) -> None:
    catalog = catalog_of_folder(tmp_path / "lake")
    everything.begin()
    everything.go_on()
    everything.grow()
    assert_read(everything, catalog, READERS, everything.of_logs())
    before = everything.files(LOG)
    everything.merge()
    assert everything.files(LOG) < before
    everything.publish()
    assert_read(everything, catalog, READERS, [*everything.of_logs(), *SHOWN])
    whole, *spans = (len(planned(catalog, question)) for question in SHOWN)
    assert whole == everything.files(NAME)
    assert all(0 < files < whole for files in spans)  # those of other months are left alone
    catalog.close()


@pytest.mark.xdist_group("seaweed")
def test_a_lake_in_a_bucket(seaweed: Seaweed, tmp_path: Path) -> None:
    address = seaweed.address()
    lake = EverythingLake(tmp_path, address, seaweed.access)
    lake.begin()
    lake.grow()
    lake.merge()
    lake.publish()
    with catalog_of_bucket(seaweed.access, urlsplit(address).netloc) as catalog:
        assert_read(lake, catalog, [with_pyiceberg], [*lake.of_logs(), *SHOWN])
    lake.close()


@pytest.mark.parametrize("name", ["100 %", "Großer See"])
def test_a_lake_in_a_folder_with_an_unusual_name(tmp_path: Path, name: str) -> None:
    Rounds(tmp_path, uri=name).round([(1, "a"), (2, "b")])
    with catalog_of_folder(tmp_path / name) as catalog:
        assert with_pyiceberg(catalog, Question(rounds.LOG)).num_rows == 2
