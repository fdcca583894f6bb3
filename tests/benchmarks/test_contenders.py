from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from benchmarks.contenders import recompute, tables
from benchmarks.contenders.child import Child, System
from benchmarks.contenders.loop import read_changes
from benchmarks.contenders.truth import CHANGED_ITEMS, CHANGED_PRODUCTS, Truth
from benchmarks.model_peers import model_peers
from benchmarks.peers import NotRunError

ITEMS = 4_000
AT_HOME = ("upwell", "recompute")


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    folder = tmp_path / "truth"
    folder.mkdir()
    return Truth(folder, ITEMS, seed=1)


def test_a_batch_is_a_hundred_changes_of_two_tables(truth: Truth) -> None:
    changes = read_changes(truth.next_batch())
    counted = {
        name: Counter(rows.column("operation").to_pylist()) for name, rows in changes.items()
    }
    assert counted == {
        "order_items": {"insert": 63, "update": 18, "delete": 9},
        "products": {"update": CHANGED_PRODUCTS},
    }
    assert CHANGED_ITEMS + CHANGED_PRODUCTS == 100


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        ("SELECT * FROM fact WHERE item_id > 2", 3),
        ("SELECT * FROM fact UNION ALL SELECT * REPLACE (-item_id - 1 AS item_id) FROM fact", 4000),
        ("SELECT * REPLACE (if(item_id < 5, NULL, amount) AS amount) FROM fact", 5),
        ("SELECT * FROM fact", 0),
    ],
    ids=["missing", "too many", "other", "none"],
)
def test_a_row_that_lacks_differs_or_should_not_be_is_one_wrong_row(
    truth: Truth, tmp_path: Path, damage: str, facts: int
) -> None:
    truth.recompute()
    contender = recompute.Contender(tmp_path)
    contender.start(truth.base)
    contender.export(tmp_path)
    fact, damaged = tmp_path / "fact.parquet", tmp_path / "damaged.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW fact AS FROM read_parquet('{fact}')")
        connection.execute(f"COPY ({damage}) TO '{damaged}' (FORMAT parquet)")
    damaged.rename(fact)
    assert truth.wrong_rows(tmp_path) == {"fact": facts, "hourly": 0}


@pytest.mark.parametrize("module", AT_HOME)
def test_a_contender_in_its_process_follows_every_batch_exactly(
    truth: Truth, tmp_path: Path, module: str
) -> None:
    with Child(System(module, module, is_at_home=True), tmp_path / module) as child:
        assert child.start(truth.base) > 0
        for _ in range(2):
            figures = child.refresh(truth.next_batch())
            assert set(figures) == {"take_in_ms", "refresh_ms", "cpu_ms"}
            assert min(figures.values()) > 0
            assert truth.wrong_rows(child.export()) == {"fact": 0, "hourly": 0}
        assert child.memory_mb() > 10


def test_a_contender_that_misses_a_batch_is_found_out(truth: Truth, tmp_path: Path) -> None:
    with Child(System("r", "recompute", is_at_home=True), tmp_path / "r") as child:
        child.start(truth.base)
        truth.next_batch()
        wrong = truth.wrong_rows(child.export())
    assert wrong["fact"] >= CHANGED_ITEMS
    assert wrong["hourly"] > 0


def test_a_contender_that_cannot_be_loaded_is_not_run_and_its_last_words_say_why(
    truth: Truth, tmp_path: Path
) -> None:
    missing = System("missing", "no_such_module", is_at_home=True)
    with (
        Child(missing, tmp_path / "missing") as child,
        pytest.raises(NotRunError, match=r"No module named 'benchmarks.contenders.no_such_module'"),
    ):
        child.start(truth.base)


def test_a_program_that_is_not_here_keeps_a_contender_from_running(tmp_path: Path) -> None:
    system = System("s", "recompute", is_at_home=True, needs=("no-such-compiler",))
    with pytest.raises(NotRunError, match="no-such-compiler"):
        Child(system, tmp_path / "s")


def test_a_system_that_cannot_run_stands_in_the_table_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PG_IVM_SOURCE", raising=False)
    page = model_peers(ITEMS, rounds=1, only=("Upwell", "pg_ivm"))
    upwell, pg_ivm = page.tables[0].rows
    assert len(upwell) == len(pg_ivm) == len(page.tables[0].columns)
    assert upwell[-2:] == ("0, 0", "0, 0")
    assert pg_ivm[:2] == ("pg_ivm", "not run: its source is not here, see PG_IVM_SOURCE")


def test_what_contenders_of_others_import_is_not_of_upwell() -> None:
    """Their environment has none of it: a system that is measured there must load without."""
    modules = "benchmarks.contenders.loop, benchmarks.contenders.tables, benchmarks.processes"
    said = f"import sys, {modules}; sys.exit('upwell' in sys.modules)"
    root = Path(tables.__file__).parents[2]
    subprocess.run([sys.executable, "-c", said], cwd=root, check=True)
