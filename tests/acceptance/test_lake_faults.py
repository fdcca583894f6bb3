"""What happens to the lake's disk stops the lake alone, is said, and mends itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.lakes import write_lake
from tests.acceptance.running import (
    ShopProject,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    running,
    small_disk,
    trouble,
)

pytestmark = pytest.mark.postgres


@pytest.fixture
def small_lake(shop: ShopProject, tmp_path: Path) -> Iterator[Path]:
    """The shop's lake on a disk of 8 MB, whose rounds follow one another at once."""
    with small_disk(tmp_path / "small", 8) as folder:
        # What is published would be the first that finds no room; this is about rounds.
        write_lake(shop, str(folder / "lake"), more=", publish: []")
        yield folder


def sell(shop: ShopProject, first: int) -> None:
    with shop.connect() as connection:
        connection.execute(
            "insert into customers (email, full_name, region) select 'c' || n || '@shop', 'C', "
            "'North' from generate_series(%s::int, %s::int + 9) n",
            [first, first],
        )


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()


def test_a_full_disk_under_the_lake_is_said_and_rounds_go_on_when_there_is_room(
    shop: ShopProject, small_lake: Path
) -> None:
    with running(shop, "engine"):
        sell(shop, 1)
        eventually(lambda: is_durable(shop))
        filler = small_lake / "filler"
        with pytest.raises(OSError, match="No space left"):
            fill(filler)
        sell(shop, 101)
        eventually(lambda: "No space left" in trouble(shop))
        assert "keep their logs" in trouble(shop)
        assert is_equal_to_the_shop(shop)  # what is served goes on
        filler.unlink()
        sell(shop, 201)
        eventually(lambda: trouble(shop) == "", seconds=90)
        eventually(lambda: is_durable(shop))
        assert is_equal_to_the_shop(shop)
