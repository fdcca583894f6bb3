"""What every place for the files of a lake promises, held against a folder and a bucket."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.store.lake.seaweed import Seaweed
from upwell.core.errors import IntegrityError
from upwell.store.lake.bucket import Bucket
from upwell.store.lake.digests import digest_of, identity_of
from upwell.store.lake.objects import Folder, Objects, Stored, own_file


@pytest.fixture(
    params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("seaweed"))],
)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Folder(tmp_path / "lake")
    seaweed: Seaweed = request.getfixturevalue("seaweed")
    return Bucket(seaweed.address(), seaweed.access)


def place(objects: Objects, name: str = "rows.parquet", table: str = "shop.orders-1") -> str:
    return f"{objects.root}/{table}/data/{name}"


@pytest.mark.parametrize("name", ["rows.parquet", "day=2026-03-29/rows.parquet", "a%20b.parquet"])
def test_what_was_written_is_read_listed_and_measured(objects: Objects, name: str) -> None:
    location = place(objects, name)
    objects.write(location, b"rows")
    assert objects.read(location) == b"rows"
    assert objects.size(location) == 4
    assert list(objects.list(objects.root)) == [Stored(location, 4)]
    with objects.local(location) as path:
        assert path.read_bytes() == b"rows"


def test_an_empty_file_is_a_file(objects: Objects) -> None:
    objects.write(place(objects), b"")
    assert objects.size(place(objects)) == 0
    assert objects.read(place(objects)) == b""


def test_a_file_of_many_parts_comes_back_as_it_was(objects: Objects) -> None:
    data = pa.py_buffer(bytes(range(256)) * 40_000)
    objects.write(place(objects), memoryview(data))
    assert objects.read(place(objects)) == data.to_pybytes()


def test_a_missing_file_is_named(objects: Objects) -> None:
    location = place(objects, "never.parquet")
    assert objects.size(location) is None
    for read in (objects.read, lambda each: objects.local(each).__enter__()):
        with pytest.raises(IntegrityError) as caught:
            read(location)
        assert (caught.value.code, caught.value.where) == ("lake_file_missing", location)


def test_listing_a_folder_leaves_out_its_neighbours(objects: Objects) -> None:
    for table in ("shop.orders-1", "shop.orders-11", "shop.orders"):
        objects.write(place(objects, table=table), b"rows")
    below = place(objects).rpartition("/")[0]
    assert [each.location for each in objects.list(below)] == [place(objects)]
    assert list(objects.list(f"{objects.root}/shop.none")) == []


def test_deleting_removes_one_file_and_may_be_said_twice(objects: Objects) -> None:
    objects.write(place(objects, "one.parquet"), b"rows")
    objects.write(place(objects, "two.parquet"), b"rows")
    for _ in range(2):
        objects.delete(place(objects, "one.parquet"))
        assert [each.location for each in objects.list(objects.root)] == [
            place(objects, "two.parquet")
        ]


@pytest.mark.parametrize("kind", ["data", "manifest", "list"])
def test_a_file_that_is_not_what_its_name_says_is_named_and_never_given(
    objects: Objects, kind: str
) -> None:
    right, wrong = b"what was written", b"what was writteN"
    folder = f"{objects.root}/shop.orders-1"
    location = {
        "data": f"{folder}/data/000001-{digest_of(right)}.parquet",
        "manifest": f"{folder}/metadata/{identity_of(right)}-m0.avro",
        "list": f"{folder}/metadata/snap-77-0-{identity_of(right)}.avro",
    }[kind]
    objects.write(location, wrong)
    with pytest.raises(IntegrityError) as caught:
        objects.read(location)
    assert (caught.value.code, caught.value.where) == ("lake_file_damaged", location)
    objects.delete(location)
    objects.write(location, right)
    assert objects.read(location) == right


def test_a_file_of_upwells_own_finds_its_place(objects: Objects) -> None:
    location = own_file(objects.root, "unreferenced")
    objects.write(location, b"{}")
    objects.write(location, b"{1}")
    assert objects.read(location) == b"{1}"
