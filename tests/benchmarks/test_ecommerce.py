from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ecommerce.changes import Case, batch_of, cases, order_items
from benchmarks.ecommerce.outcome import Measured, Outcome, growth_table, tables, verdicts
from benchmarks.ecommerce.shop import MODELS, TABLES, open_copy, read_models
from benchmarks.ecommerce.trial import Full, Trial, Version
from upwell.core.protocols import Operation
from upwell.core.sql import quote_table, quoted_list
from upwell.store import ledger
from upwell.store.hot import HotStore

ITEMS = 4_000
NOT_RUN = ("REGISTER", "UNREGISTER")
CASES = {case.name: case for case in cases(runs=1) if not case.name.startswith("10k")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def store(tmp_path: Path, kept: Path) -> Iterator[HotStore]:
    store = open_copy(ITEMS, tmp_path, kept)
    yield store
    store.close()


@pytest.fixture
def trial(store: HotStore) -> Trial:
    return Trial(store, read_models())


def full(*ms: float) -> Full:
    return Full(dict(zip(MODELS, ms, strict=False)) | dict.fromkeys(MODELS[len(ms) :], 0.0), 1.0)


def version(models_ms: float) -> Version:
    return Version(1.0, models_ms, 1.0, 1.0, 1.0, {"fact": models_ms}, (), 3, 4)


def test_a_kept_shop_is_copied_and_never_written_to(
    store: HotStore, kept: Path, tmp_path: Path
) -> None:
    store.writer.execute("DELETE FROM shop.order_items WHERE TRUE")
    store.checkpoint()
    again = tmp_path / "again"
    again.mkdir()
    other = open_copy(ITEMS, again, kept)
    found = other.writer.execute("SELECT count(*), max(item_id) FROM shop.order_items").fetchone()
    other.close()
    assert found == (ITEMS, ITEMS - 1)
    assert [each.name for each in kept.iterdir()] == [f"shop-{ITEMS}-{ledger.FORMAT}.duckdb"]


def test_keys_of_the_shop_are_keys_and_its_references_lead_somewhere(store: HotStore) -> None:
    for table in TABLES:
        keys = quoted_list(table.key)
        query = f"SELECT count(*) - count(DISTINCT ({keys})) FROM {quote_table(table.name)}"
        assert store.writer.execute(query).fetchone() == (0,), table.name
    joined = store.writer.execute(
        "SELECT count(*) FROM shop.order_items JOIN shop.orders USING (order_id)"
        " JOIN shop.customers USING (customer_id) JOIN shop.regions USING (region_id)"
        " JOIN shop.products USING (product_id)"
    )
    assert joined.fetchone() == (ITEMS,)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_change_of_a_case_is_one_and_all_models_follow_it(case: Case, trial: Trial) -> None:
    changes = case.draw(trial.connection, np.random.default_rng(1))
    given = int(case.name.partition(" ")[0])
    assert changes.rows.num_rows == given
    trial.apply(batch_of(changes, number=1))
    logged = trial.connection.execute(
        f"SELECT sum(abs(_weight)) FROM {quote_table(f'{changes.table}__log')}"
    ).fetchone()
    inserts, updates, deletes = (
        int(np.sum(changes.operations == each))
        for each in (Operation.INSERT, Operation.UPDATE, Operation.DELETE)
    )
    assert logged == (inserts + 2 * updates + deletes,)
    assert trial.wrong_models() == []


def test_a_batch_of_facts_has_seven_new_to_two_changed_to_one_deleted(store: HotStore) -> None:
    drawn = order_items(store.writer, np.random.default_rng(1), 100, recent=True)
    assert Counter(drawn.operations.tolist()) == {
        Operation.INSERT: 70,
        Operation.UPDATE: 20,
        Operation.DELETE: 10,
    }
    keys = drawn.rows.column("item_id").to_numpy()
    assert len(np.unique(keys)) == 100
    assert keys.min() >= ITEMS - 400


def test_a_model_that_is_wrong_is_named(trial: Trial) -> None:
    trial.connection.execute("UPDATE fact SET amount = amount + 1 WHERE item_id = 7")
    assert "fact" in trial.wrong_models()


def test_the_time_of_a_version_is_told_by_model_and_by_statement(trial: Trial) -> None:
    draw = CASES["1 fact change"].draw
    random = np.random.default_rng(1)
    for number in range(2):
        version = trial.apply(batch_of(draw(trial.connection, random), number=number))
    assert set(version.ms_of) == set(MODELS)
    assert sum(version.ms_of.values()) <= version.models_ms
    assert {each.model for each in version.statements} >= set(MODELS) - {"top_products"}
    stated_ms = sum(each.seconds for each in version.statements) * 1e3
    assert 0 < stated_ms < version.models_ms
    assert version.queries == sum(each.kind not in NOT_RUN for each in version.statements)
    assert not any("_upwell_delta_0" in each.shape for each in version.statements)


def test_recomputing_is_measured_for_every_model_and_changes_none(trial: Trial) -> None:
    measured = trial.recompute()
    assert set(measured.ms_of) == set(MODELS)
    assert min(measured.ms_of.values()) > 0
    assert trial.wrong_models() == []


def test_budgets_are_judged_at_the_largest_size_by_medians() -> None:
    small = Outcome(10, [full(100.0)], [Measured("1 fact change", [version(5.0)] * 3, [])])
    times = [version(9.0), version(10.0), version(90.0)]
    large = Outcome(100, [full(1500.0, 500.0)], [Measured("1 fact change", times, [])])
    assert list(verdicts([small, large])) == [
        "1 fact change at 100 items: 1/200 of recomputing; budget 1/100: reached.",
        "A model at the floor at 100 items: 1.1 ms; budget 6 ms: reached.",
        "1 fact change, 10 → 100 items: 2.00 ×; budget 1.3 ×: missed.",
    ]
    assert growth_table(small, large).rows == [
        ("recompute all nine", "100.0", "2,000.0", "20.00 ×"),
        ("1 fact change", "5.0", "10.0", "2.00 ×"),
    ]


def test_a_table_says_which_models_differ_from_recompute() -> None:
    measured = Measured("1 region", [version(5.0)], ["fact", "daily"])
    together, _ = tables(Outcome(10, [full(100.0)], [measured, replace(measured, wrong=[])]))
    assert [row[-1] for row in together.rows[1:]] == ["NO: fact, daily", "all nine"]
    assert all(len(row) == len(together.columns) for row in together.rows)
