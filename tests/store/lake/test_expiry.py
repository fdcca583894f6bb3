"""Old snapshots are forgotten with the commits that follow: never the one that is read."""

from __future__ import annotations

from pathlib import Path

from tests.store.lake.rounds import Rounds, rows_in
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.tables import Change


def test_as_many_snapshots_are_left_as_are_kept(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(0, "")])
    table = rounds.table()
    for _ in range(9):
        table.commit(Change(forgotten=forgettable(table, kept=4)), epoch=rounds.writer.epoch)
    assert len(table.snapshots) == 4
    assert table.snapshots[-1].snapshot_id == table.snapshot_id
    assert rows_in(rounds.lake, table) == rounds.logged()


def test_the_snapshot_that_is_read_stays(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(0, "")])
    table = rounds.table()
    forgotten = forgettable(table, kept=1)
    table.commit(Change(forgotten=forgotten), epoch=rounds.writer.epoch)
    assert [each.snapshot_id for each in table.snapshots] == [table.snapshot_id]


def test_what_a_tag_names_stays(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(0, "")])
    table = rounds.table()
    tagged = table.snapshots[0].snapshot_id
    iceberg = rounds.lake._catalog.load_table(("shop", "orders__log"))
    iceberg.manage_snapshots().create_tag(tagged, "report").commit()
    table.refresh()
    for _ in range(4):
        table.commit(Change(), epoch=rounds.writer.epoch)
    assert tagged not in forgettable(table, kept=2)
    assert len(forgettable(table, kept=2)) == len(table.snapshots) - 2
