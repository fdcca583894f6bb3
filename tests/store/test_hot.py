"""The hot store holds whole versions, one process writes it, and a damaged one is put aside."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from upwell.core.errors import EnvironmentFault, IntegrityError, Unavailable
from upwell.start import open_store
from upwell.store import hot, ledger
from upwell.store.hot import HotStore, faults_named, open_read_only
from upwell.store.place import StatePlace

from .committing import ROWS

ROUNDS = 8


def kill_in_mid_commit(folder: Path, versions: int, draw: random.Random) -> int:
    """Let a process commit for a while and kill it; the last version it told of."""
    command = [sys.executable, "-m", "tests.store.committing", str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        told = int(process.stdout.readline())
        for _ in range(versions):
            told = int(process.stdout.readline())
        for _ in range(draw.randrange(20_000)):  # somewhere inside the next version
            pass
        process.kill()
        rest = process.stdout.read().split(b"\n")[:-1]
    return int(rest[-1]) if rest else told


def test_a_process_killed_while_committing_leaves_whole_versions(tmp_path: Path) -> None:
    draw = random.Random(7)
    for _ in range(ROUNDS):
        told = kill_in_mid_commit(tmp_path, draw.randrange(1, 12), draw)
        store = HotStore(StatePlace(tmp_path).hot_store, zone="UTC")
        version = ledger.latest_version(store.writer)
        assert version in {told, told + 1}
        assert ledger.progress(store.writer, "shop").position == f"{version:08}"
        filled = "SELECT count(*), count(DISTINCT id), min(version), max(version) FROM filled"
        assert store.writer.execute(filled).fetchone() == (ROWS, ROWS, version, version)
        assert store.writer.execute("FROM replaced").fetchall() == [(1, version)]
        store.close()


def test_what_fails_inside_a_transaction_leaves_nothing_and_is_not_announced(
    tmp_path: Path,
) -> None:
    store = HotStore(tmp_path / "hot.duckdb", zone="UTC")
    store.writer.execute("CREATE TABLE t (id BIGINT)")
    announced: list[int] = []
    with (
        pytest.raises(duckdb.Error, match="missing"),
        store.transaction(lambda: announced.append(1)) as connection,
    ):
        connection.execute("INSERT INTO t VALUES (1)").execute("FROM missing")
    assert store.writer.execute("FROM t").fetchall() == []
    assert announced == []
    with store.transaction(lambda: announced.append(2)) as connection:
        connection.execute("INSERT INTO t VALUES (2)")
        assert announced == []
    assert announced == [2]
    store.close()


def test_a_store_that_another_process_holds_is_refused_as_locked(tmp_path: Path) -> None:
    path = tmp_path / "hot.duckdb"
    program = (
        "import sys; from pathlib import Path; from upwell.store.hot import HotStore;"
        f"store = HotStore(Path({str(path)!r}), zone='UTC'); print('open', flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(EnvironmentFault) as caught:
            HotStore(path, zone="UTC")
        with pytest.raises(EnvironmentFault):
            open_read_only(path, zone="UTC")
        process.kill()
    assert caught.value.code == "store_locked"


def busy_store(path: Path) -> tuple[HotStore, duckdb.DuckDBPyConnection]:
    """A store with something to fold in, and a reader whose transaction forbids it."""
    store = HotStore(path, zone="UTC")
    store.writer.execute("CREATE TABLE t AS SELECT 1 AS a")
    reader = store.reader()
    reader.begin().execute("FROM t").fetchall()
    store.writer.execute("ALTER TABLE t ADD COLUMN b INTEGER")
    store.writer.execute("UPDATE t SET a = 2")
    return store, reader


def test_a_checkpoint_waits_for_whoever_reads(tmp_path: Path) -> None:
    store, reader = busy_store(tmp_path / "hot.duckdb")
    assert not store.try_checkpoint()
    assert store.wal_bytes() > 0
    leaving = threading.Timer(0.1, reader.rollback)
    leaving.start()
    store.checkpoint()
    leaving.join()
    assert store.wal_bytes() == 0
    assert store.try_checkpoint()
    reader.close()
    store.close()


def test_a_checkpoint_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "CHECKPOINT_PATIENCE_SECONDS", 0.05)
    store, reader = busy_store(tmp_path / "hot.duckdb")
    with pytest.raises(Unavailable) as caught:
        store.checkpoint()
    assert caught.value.code == "store_busy"
    reader.close()
    store.close()


def test_a_table_that_is_laid_out_is_shown_when_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HotStore(tmp_path / "hot.duckdb", zone="UTC")
    ledger.prepare(store.writer)
    for name in ("the lines", "stock"):
        with store.relayout(unfilled=[name]) as connection:
            connection.execute(f'CREATE TABLE "{name}" (id BIGINT)')
    monkeypatch.setattr(hot, "FILLING_PATIENCE_SECONDS", 0.05)
    with pytest.raises(Unavailable, match="stock, the lines") as caught, store.view():
        pass
    assert caught.value.code == "store_unfilled"
    with store.view(whole=False) as connection:
        assert connection.execute("FROM stock").fetchall() == []
    monkeypatch.setattr(hot, "FILLING_PATIENCE_SECONDS", 60)

    def fill() -> None:
        for name in ("the lines", "stock"):
            with store.transaction() as connection:
                connection.execute(f'INSERT INTO "{name}" VALUES (1)')
                ledger.note_filled(connection, [name])

    filling = threading.Timer(0.1, fill)
    filling.start()
    with store.view() as connection:
        assert connection.execute('FROM "the lines"').fetchall() == [(1,)]
        assert connection.execute("FROM stock").fetchall() == [(1,)]
    filling.join()
    store.close()


def test_a_project_is_run_once_at_a_time(tmp_path: Path) -> None:
    place = StatePlace(tmp_path)
    with (
        place.held(),
        pytest.raises(EnvironmentFault, match="already runs this project"),
        place.held(),
    ):
        pass
    with place.held():
        pass


def whole_store(folder: Path) -> Path:
    """A closed store with a table that spans many blocks."""
    place = StatePlace(folder)
    store = HotStore(place.hot_store, zone="UTC")
    ledger.prepare(store.writer)
    store.writer.execute("CREATE TABLE t AS SELECT range AS id, random() AS r FROM range(500000)")
    store.close()
    return place.hot_store


@pytest.mark.parametrize("start", [0, 4096, 8192, 12288])
def test_a_damaged_file_is_set_aside_and_a_new_one_made(tmp_path: Path, start: int) -> None:
    path = whole_store(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 4096] = random.Random(start).randbytes(4096)
    if start:
        damaged[4096:12288] = random.Random(start).randbytes(8192)  # both headers
    path.write_bytes(damaged)
    told: list[str] = []
    store = open_store(
        StatePlace(tmp_path), zone="UTC", report=lambda event, **_facts: told.append(event)
    )
    assert told == ["store_set_aside"]
    assert ledger.latest_version(store.writer) == 0
    store.close()
    (aside,) = path.parent.glob("hot.duckdb.damaged-*")
    assert aside.read_bytes() == bytes(damaged)


def test_damage_that_shows_only_when_it_is_read_sets_the_file_aside_for_the_next_start(
    tmp_path: Path,
) -> None:
    path = whole_store(tmp_path)
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 4096] = random.Random(66).randbytes(4096)
    path.write_bytes(damaged)
    store = HotStore(path, zone="UTC")
    with pytest.raises(duckdb.IOException, match="Corrupt"), faults_named(path):
        store.writer.execute("SELECT sum(r) FROM t").fetchall()
    store.close()
    assert not path.exists()
    (aside,) = path.parent.glob("hot.duckdb.damaged-*")
    assert aside.read_bytes() == bytes(damaged)


def test_a_file_that_is_no_store_is_told_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "hot.duckdb"
    path.write_text("a lock, a block and a clock\n" * 1000)
    with pytest.raises(IntegrityError) as caught:
        HotStore(path, zone="UTC")
    assert caught.value.code == "store_damaged"


def test_a_store_of_another_format_is_set_aside(tmp_path: Path) -> None:
    path = whole_store(tmp_path)
    store = HotStore(path, zone="UTC")
    identity = ledger.read_fact(store.writer, "store")
    ledger.write_fact(store.writer, "format", "0")
    store.close()
    told: list[str] = []
    store = open_store(
        StatePlace(tmp_path), zone="UTC", report=lambda event, **_facts: told.append(event)
    )
    assert told == ["store_set_aside"]
    assert ledger.read_fact(store.writer, "format") == str(ledger.FORMAT)
    assert ledger.read_fact(store.writer, "store") != identity
    store.close()


def test_reading_needs_a_store_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no data yet"):
        open_read_only(tmp_path / "hot.duckdb", zone="UTC")
    assert list(tmp_path.iterdir()) == []
    path = whole_store(tmp_path)
    reader = open_read_only(path, zone="UTC")
    with pytest.raises(duckdb.Error, match="read-only"):
        reader.execute("DELETE FROM t")
    reader.close()


def fail(*words: str) -> None:
    """Raise DuckDB's errors with these words, each caused by the one before."""
    cause: BaseException | None = None
    for each in words:
        error = duckdb.IOException(each)
        error.__cause__ = cause
        cause = error
    assert cause is not None
    raise cause


@pytest.mark.parametrize(
    "words",
    [
        ["Could not write file: No space left on device"],
        ["failed to offload data block: Out of Disk Space"],
        ["No space left on device", "transaction is aborted", "rollback failed"],
    ],
)
def test_a_full_disk_is_named_with_the_way_out(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught, faults_named(tmp_path / "hot.duckdb"):
        fail(*words)
    assert caught.value.code == "disk_full"
    assert caught.value.where == str(tmp_path / "hot.duckdb")
    assert "Free space" in caught.value.next_step


def test_any_other_failure_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(duckdb.IOException, match="a cable"), faults_named(tmp_path):
        fail("a cable was cut")


def test_a_long_log_is_folded_in_between_versions_and_in_bulk_a_longer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "FOLD_AT_BYTES", 1_000)
    monkeypatch.setattr(hot, "FOLD_IN_BULK_AT_BYTES", 1_000_000)
    store = HotStore(tmp_path / "hot.duckdb", zone="UTC")
    store.writer.execute("CREATE TABLE t (n BIGINT)")
    with store.transaction() as connection:
        connection.execute("INSERT INTO t FROM range(1000)")
    store.fold(in_bulk=True)
    assert store.wal_bytes() > 1_000
    store.fold(in_bulk=False)
    assert store.wal_bytes() == 0
    store.close()
