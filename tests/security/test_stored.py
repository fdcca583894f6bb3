"""What becomes of rows that were stored under other terms, in the store and for the lake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.stored import silent, take_in
from upwell.core.errors import UpwellError
from upwell.core.policy import OnChange
from upwell.core.position import Position
from upwell.core.protocols import Operation, Source, Transactions
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quoted_list
from upwell.ingest import tables
from upwell.ingest.copied import CopiedTables, copied_rows, create
from upwell.ingest.tables import change_logs, logged_table
from upwell.security.predicate import parse_predicate
from upwell.security.rule import Rule
from upwell.security.screen import Screen
from upwell.security.source import ScreenedSource
from upwell.start import begin_following, layouts_ahead, open_store
from upwell.store.hot import HotStore
from upwell.store.place import StatePlace
from upwell.table_states import TableStates
from upwell.testing import MemorySource, changed_rows
from upwell.wiring import SourceSetting

from .test_screen import KEY, PEOPLE, hashed, people

PLACES = TableSchema("shop.places", (Column("id", "INTEGER", nullable=False),), ("id",))
ONE_PLACE = pa.table({"id": pa.array([1], pa.int32())})
RULES = [None, Rule(drop=("phone",)), Rule(hash=("phone",)), Rule(hash=("id",)), None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    opened = open_store(StatePlace(tmp_path), zone="UTC", report=silent)
    yield opened
    opened.close()


def opening_nothing(_identity: str | None) -> Source:
    raise AssertionError("it is open")


def under(rule: Rule | None) -> ScreenedSource:
    memory = MemorySource("shop", [(PEOPLE, people((1, "FR", "a", "hidden"))), (PLACES, ONE_PLACE)])
    return ScreenedSource(memory, Screen({} if rule is None else {PEOPLE.name: rule}, KEY))


def test_only_a_table_whose_rules_changed_is_read_anew_and_its_log_begins_anew(
    store: HotStore,
) -> None:
    identities: list[dict[str, str]] = []
    for rule in RULES:
        source = under(rule)
        for _ in range(2):  # the second time nothing is to be done
            take_in(store, source)
            identities.append({each.name: each.identity for each in change_logs(store.writer)})
        assert identities[-1] == identities[-2]
        wanted: list[object] = [1, "FR", "a", "hidden", None]
        if rule is not None:
            wanted = [hashed(str(wanted[0])) if "id" in rule.hash else 1, *wanted[1:]]
            wanted[3:4] = (
                [] if rule.drop else [hashed("hidden")] if "phone" in rule.hash else ["hidden"]
            )
        names = quoted_list(tables.captured_tables(store.writer)[PEOPLE.name].column_names)
        for name in ("people", "people__log"):
            found = store.writer.execute(f"SELECT {names} FROM shop.{name}").fetchall()
            assert [list(row) for row in found] == [wanted]
        for log in change_logs(store.writer):
            (table,) = [
                each for each in tables.captured(store.writer).values() if each.log == log.identity
            ]
            assert logged_table(log.layout) == table.table, "and so a store made anew knows it"
    logs = identities[::2]
    assert len({each["shop.people__log"] for each in logs}) == len(RULES)
    assert len({each["shop.places__log"] for each in logs}) == 1


@pytest.mark.parametrize("policy", ["evolve", "freeze", "quarantine"])
def test_no_policy_keeps_what_may_not_be_stored_any_more(store: HotStore, policy: OnChange) -> None:
    take_in(store, under(None))
    states = TableStates(store, {PEOPLE.name: policy})
    before = states.state_of(PEOPLE.name)
    assert before is not None
    change = under(Rule(drop=("phone",))).look([before]).changes[PEOPLE.name]
    assert states.breaks(change)
    states.part_with(change)
    assert states.copying[PEOPLE.name].table == change.now


def test_a_table_that_stands_still_is_read_anew_as_well(store: HotStore) -> None:
    take_in(store, under(None))
    with store.transaction() as connection:
        tables.freeze(connection, PEOPLE.name, "somebody has to decide")
    take_in_frozen = TableStates(store, {PEOPLE.name: "freeze"})
    told: list[str] = []
    for rule in (None, Rule(drop=("phone",))):
        source = under(rule)
        terms = {name: table.terms for name, table in source.look().tables.items()}
        setting = SourceSetting("shop", opening_nothing, frozenset(terms), terms=terms)
        following = begin_following(
            store, take_in_frozen, source, setting, lambda event, **_: told.append(event)
        )
        assert following.joining == (set() if rule is None else {PEOPLE.name})
    assert told == ["privacy_changed"]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_rule_that_does_not_fit_is_told_before_anything_is_read(
    store: HotStore, *, is_known: bool
) -> None:
    if is_known:
        take_in(store, under(None))
    source = under(Rule(drop=("fone",)))
    setting = SourceSetting("shop", lambda _: source, frozenset([PEOPLE.name, PLACES.name]))
    with pytest.raises(UpwellError) as raised:
        layouts_ahead(TableStates(store), {"shop": source}, [setting])
    assert raised.value.code == "privacy_column_unknown"


def test_a_row_that_left_and_came_back_while_its_table_is_read_lacks_what_was_left_out(
    store: HotStore,
) -> None:
    source = under(Rule(rows=parse_predicate("country <> 'DE'")))
    table = source.look().tables[PEOPLE.name]
    screen = Screen({PEOPLE.name: Rule(rows=parse_predicate("country <> 'DE'"))}, KEY)
    rows = people((1, "DE", None, "p"), (1, "FR", None, "p"))
    sent = changed_rows(PEOPLE, rows, Operation.UPDATE)
    change = screen.changes(replace(sent, unchanged={"email": np.array([True, True])}))
    assert change is not None
    copied = CopiedTables(store.writer)
    with store.transaction() as connection:
        create(connection, table.schema)
        (batch,) = people((1, "FR", "long", "p")).to_batches()
        copied.store(table.schema, [batch])
        transactions = Transactions([Position("1")], np.array([1]))
        copied.apply(table.schema, [change], transactions, 1, reached=False)
    assert copied.incomplete(table.schema, 9).to_pylist() == [{"id": 1}]
    with store.transaction():
        copied.fill(table.schema, [batch], asked_in=1)
    assert not copied.incomplete(table.schema, 9).num_rows
    found = store.writer.execute(copied_rows(table.schema)).fetchall()
    assert found == [(1, "FR", "long", "p", None)]
