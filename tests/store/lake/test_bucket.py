"""A bucket that cannot be used, and a line to it that is bad."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.lake.proxy import Disturbance, Kind, Line, line_to
from tests.store.lake.seaweed import SECRET, Seaweed
from upwell.core.errors import EnvironmentFault, IntegrityError, Unavailable, UpwellError
from upwell.core.schema import Column
from upwell.store.lake.bucket import Bucket
from upwell.store.lake.catalog import Access, Patience
from upwell.store.lake.digests import digest_of
from upwell.store.lake.lake import open_lake

pytestmark = pytest.mark.xdist_group("seaweed")

DATA = bytes(range(256)) * 400
NAME = f"shop.orders-1/data/000001-{digest_of(DATA)}.parquet"
IMPATIENT = Patience(connect_seconds=1, request_seconds=0.25, retry_seconds=0.2)
OPERATIONS: dict[str, Callable[[Bucket, str], object]] = {
    "read": lambda bucket, location: bucket.read(location),
    "write": lambda bucket, location: bucket.write(location, DATA),
    "size": lambda bucket, location: bucket.size(location),
    "list": lambda bucket, _: list(bucket.list(bucket.root)),
    "delete": lambda bucket, location: bucket.delete(location),
    "check": lambda bucket, _: bucket.check(),
}
operations = pytest.mark.parametrize("operation", OPERATIONS)


def fails(bucket: Bucket, operation: str) -> UpwellError:
    """The error of an operation on a bucket; it tells where, what next, and no secret."""
    with pytest.raises(UpwellError) as caught:
        OPERATIONS[operation](bucket, f"{bucket.root}/{NAME}")
    error = caught.value
    assert error.where.startswith(bucket.root)
    assert error.next_step
    chain: list[BaseException | None] = [error, error.__cause__]
    assert not any(SECRET in f"{each!s}{each!r}" for each in chain)
    return error


@operations
@pytest.mark.parametrize("key", [("lakekey", "wrong"), ("nobody", SECRET)])
def test_a_wrong_key_is_denied_with_the_setting_to_mend(
    seaweed: Seaweed, operation: str, key: tuple[str, str]
) -> None:
    access = replace(seaweed.access, access_key=key[0], secret_key=key[1])
    error = fails(Bucket("s3://lake-000/lake", access), operation)
    assert isinstance(error, EnvironmentFault)
    assert error.code == "lake_denied"


@pytest.mark.parametrize("operation", ["read", "write", "size", "list", "check"])
def test_a_bucket_that_is_not_there_is_said_to_be_missing(seaweed: Seaweed, operation: str) -> None:
    error = fails(Bucket("s3://never-made/lake", seaweed.access), operation)
    assert error.code == "lake_bucket_missing"


@pytest.mark.parametrize("operation", ["write", "delete"])
def test_a_key_that_may_only_look_is_denied_changes(seaweed: Seaweed, operation: str) -> None:
    address = seaweed.address()
    Bucket(address, seaweed.access).write(f"{address}/{NAME}", DATA)
    reader = Bucket(address, seaweed.reader)
    assert reader.read(f"{address}/{NAME}") == DATA
    assert fails(reader, operation).code == "lake_denied"


def test_a_bucket_that_vanishes_under_a_lake_is_told_from_a_lost_file(seaweed: Seaweed) -> None:
    lake = open_lake(seaweed.address(), Path(), seaweed.access)
    lake.create("shop.orders__log", [Column("id", "BIGINT")], {})
    seaweed.remove(lake.root.split("/")[2])
    bucket = lake.objects
    assert isinstance(bucket, Bucket)
    for operation in ("read", "size", "list", "check"):
        assert fails(bucket, operation).code == "lake_bucket_missing"


@operations
def test_storage_that_is_away_may_come_back(seaweed: Seaweed, operation: str) -> None:
    access = replace(seaweed.access, endpoint="http://127.0.0.1:9", patience=IMPATIENT)
    error = fails(Bucket("s3://lake-000/lake", access), operation)
    assert isinstance(error, Unavailable)


@pytest.mark.parametrize(
    ("uri", "access", "code"),
    [
        ("s3://bucket", Access(catalog="http://catalog"), "lake_address"),
        ("s3:///lake", Access(catalog="http://catalog"), "lake_address"),
        ("s3://bucket/lake", Access(catalog="catalog:80"), "lake_address"),
        ("s3://bucket/lake", Access(catalog="http://c", endpoint="store"), "lake_address"),
        ("s3://bucket/lake", Access(), "lake_catalog_missing"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(
    uri: str, access: Access, code: str
) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        open_lake(uri, Path(), access)
    assert caught.value.code == code


# ── on a bad line ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def line(seaweed: Seaweed) -> Iterator[Line]:
    with line_to(seaweed.endpoint) as line:
        yield line


@pytest.fixture
def bucket(seaweed: Seaweed, line: Line) -> Bucket:
    return Bucket(seaweed.address(), seaweed.through(endpoint=line.address))


def stored(bucket: Bucket) -> str:
    location = f"{bucket.root}/{NAME}"
    bucket.write(location, DATA)
    return location


@pytest.mark.parametrize(
    "trouble",
    [
        Disturbance(Kind.REFUSED, times=2),
        Disturbance(Kind.REFUSED, times=1, status=500),
        Disturbance(Kind.LOST, times=2),
        Disturbance(Kind.RESET, times=2, after=10),
        Disturbance(Kind.LATE, times=1, seconds=0.1),
    ],
    ids=lambda trouble: f"{trouble.kind.name}-{trouble.status}",
)
def test_what_passes_is_waited_out_and_a_file_is_written_once(
    line: Line, bucket: Bucket, trouble: Disturbance
) -> None:
    line.disturb(trouble)
    location = stored(bucket)
    assert line.hits == trouble.times
    assert [each.location for each in bucket.list(bucket.root)] == [location]
    line.disturb(trouble)
    assert bucket.read(location) == DATA
    assert line.hits == trouble.times


@pytest.mark.parametrize("after", [0, 100, 50_000, len(DATA) - 1])
@pytest.mark.parametrize(
    "kind", [Kind.TRUNCATED, Kind.FLIPPED, Kind.RESET], ids=lambda kind: str(kind.name)
)
def test_a_body_that_suffered_once_is_read_again(
    line: Line, bucket: Bucket, kind: Kind, after: int
) -> None:
    location = stored(bucket)
    line.disturb(Disturbance(kind, matching="GET ", times=1, after=after))
    assert bucket.read(location) == DATA
    assert line.hits == 1


def test_a_file_whose_content_stays_wrong_is_named_and_not_given(
    line: Line, bucket: Bucket
) -> None:
    location = stored(bucket)
    line.disturb(Disturbance(Kind.FLIPPED, matching="GET ", after=7))
    for read in (bucket.read, lambda each: bucket.local(each).__enter__()):
        with pytest.raises(IntegrityError) as caught:
            read(location)
        assert (caught.value.code, caught.value.where) == ("lake_file_damaged", location)
    assert line.hits == 4  # each was read twice


@pytest.mark.parametrize("operation", ["read", "write", "list"])
@pytest.mark.parametrize(
    "kind", [Kind.BLACKHOLE, Kind.SLOW, Kind.REFUSED], ids=lambda kind: str(kind.name)
)
def test_no_operation_outlasts_its_time(
    seaweed: Seaweed, line: Line, bucket: Bucket, operation: str, kind: Kind
) -> None:
    location = stored(bucket)
    hasty = Bucket(bucket.root, replace(seaweed.through(endpoint=line.address), patience=IMPATIENT))
    line.disturb(Disturbance(kind, rate=100))
    assert isinstance(fails(hasty, operation), Unavailable)
    line.calm()
    succeeds_soon(lambda: OPERATIONS[operation](hasty, location))


def succeeds_soon(operation: Callable[[], object]) -> None:
    """The operation, tried for ten seconds: on a busy machine a healthy answer is late too."""
    ends = time.monotonic() + 10
    while True:
        try:
            operation()
        except Unavailable:
            assert time.monotonic() < ends, "still unavailable ten seconds after the trouble"
        else:
            return
