"""A row that a model stumbles over stops that model, with the reason, and nothing else."""

from __future__ import annotations

import pytest

from tests.acceptance.running import ShopProject, eventually, running
from tests.golden_numbers.shop import fill
from upwell.core.protocols import TableSnapshot

FRAGILE = """-- How many customers each product code has, read as a number.
select id, cast(trim(leading 'S' from sku) as integer) as code from shop.products
"""


@pytest.mark.postgres
def test_a_poison_row_holds_its_model_and_the_rest_goes_on(shop: ShopProject) -> None:
    with shop.connect() as connection:
        fill(connection)
        connection.execute("update products set sku = 'S' || id")
        (shop.folder / "models" / "codes.sql").write_text(FRAGILE)
        with running(shop, "engine"):
            assert proofs(shop)["codes"]
            connection.execute("update products set sku = 'poison' where id = 1")
            connection.execute("update products set category = 'Elsewhere' where id = 2")
            eventually(lambda: "codes stays as it was" in shop.engine.ask("status")["trouble"])
            eventually(lambda: "Elsewhere" in categories(shop))
            held = proofs(shop)
            assert not held.pop("codes", False)
            assert all(held.values())
        with running(shop, "engine"):  # and again after a restart, from its last good result
            assert "codes stays as it was" in shop.engine.ask("status")["trouble"]
            assert rows(shop, "codes") == 4
        connection.execute("update products set sku = 'S1' where id = 1")
        with running(shop, "engine"):
            eventually(lambda: caught_up(shop))
        with running(shop, "engine"):  # what was held is built when the run starts
            assert shop.engine.ask("status")["trouble"] == ""
            assert all(proofs(shop).values())


def proofs(shop: ShopProject) -> dict[str, bool]:
    return {
        model["model"]: model["holds"]
        for model in shop.engine.ask("prove", {"names": names_that_can_be_proved(shop)})["models"]
    }


def names_that_can_be_proved(shop: ShopProject) -> list[str]:
    """A held model's own text fails, so it is left out while it is held."""
    status = shop.engine.ask("status")
    return [
        model["name"]
        for model in status["models"]
        if f"{model['name']} stays as it was" not in status["trouble"]
    ]


def column(shop: ShopProject, table: str, name: str) -> list[object]:
    """A column of a table as the engine has it now."""
    (snapshot, _) = shop.engine.follow([table], None, once=True)
    assert isinstance(snapshot, TableSnapshot)
    return list(snapshot.rows.column(name).to_pylist())


def categories(shop: ShopProject) -> set[object]:
    return set(column(shop, "order_categories", "category"))


def rows(shop: ShopProject, model: str) -> int:
    status = shop.engine.ask("status")
    return int(next(each["rows"] for each in status["models"] if each["name"] == model))


def caught_up(shop: ShopProject) -> bool:
    return "poison" not in column(shop, "shop.products", "sku")
