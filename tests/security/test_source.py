"""A screened source keeps the promises of a source, over what is copied and what is streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest

from upwell.core.errors import EnvironmentFault, LayoutChangedError, ProjectError, UpwellError
from upwell.core.position import Position
from upwell.core.protocols import (
    Checksum,
    CopiedRows,
    KeyRange,
    LayoutChange,
    RefusedRows,
    SourceBatch,
    SourceTable,
    SourceTables,
    Stream,
    TableChanges,
    Truncation,
)
from upwell.core.schema import Column, TableSchema
from upwell.security.predicate import parse_predicate
from upwell.security.rule import Rule
from upwell.security.screen import Screen
from upwell.security.source import ScreenedSource
from upwell.testing import MemoryCopy, MemorySource, changed_rows, one_transaction

from .test_screen import KEY, PEOPLE, RULE, Row, hashed, people

NAME = PEOPLE.name
PLACES = TableSchema("shop.places", (Column("id", "INTEGER", nullable=False),), ("id",))
ONE_PLACE = pa.table({"id": pa.array([1], pa.int32())})
ALL_KEYS = KeyRange(None, None)


def screened(memory: MemorySource, rule: Rule | None = RULE, key: str = KEY) -> ScreenedSource:
    return ScreenedSource(memory, Screen({NAME: rule} if rule is not None else {}, key))


def known(source: ScreenedSource) -> list[SourceTable]:
    return list(source.look().tables.values())


def changes_of(stream: Stream) -> list[TableChanges | Truncation | LayoutChange]:
    """Until nothing more comes."""
    batches: list[SourceBatch | None] = [stream.poll(1.0)]
    while batches[-1] is not None and batches[-1].changes:
        batches.append(stream.poll(0.05))
    return [change for batch in batches if batch is not None for change in batch.changes]


def as_dicts(copied: CopiedRows) -> list[dict[str, object]]:
    return [row for batch in copied.rows for row in batch.to_pylist()]


def test_what_is_left_out_is_neither_copied_nor_streamed() -> None:
    memory = MemorySource(
        "shop", [(PEOPLE, people((1, "DE", "a", "hidden"), (2, "FR", "b", "hidden")))]
    )
    source = screened(memory)
    (table,) = known(source)
    beginning = source.begin([table])
    copy = source.copy()
    (part,) = copy.plan(table, 1 << 20).parts
    of_two = {"id": 2, "country": "FR", "email": hashed("b"), "born": None}
    assert as_dicts(copy.read(table, part)) == [of_two]
    keys = pa.table({"id": pa.array([1, 2], pa.int32())})
    assert as_dicts(copy.read_rows(table, keys)) == [of_two]
    copy.close()
    stream = source.stream(beginning.position, [table])
    rows: tuple[Row, ...] = ((3, "DE", "c", "hidden"), (4, "FR", "d", "hidden"))
    memory.add(one_transaction("00000009", changed_rows(PEOPLE, people(*rows)), committed_at_us=1))
    memory.add(
        one_transaction("00000010", changed_rows(PEOPLE, people(rows[0])), committed_at_us=2)
    )
    seen = [batch for batch in (stream.poll(1.0), stream.poll(1.0)) if batch is not None]
    (change,) = [change for batch in seen for change in batch.changes]
    assert isinstance(change, TableChanges)
    assert change.schema == table.schema
    assert change.rows.to_pylist() == [
        {"id": 4, "country": "FR", "email": hashed("d"), "born": None}
    ]
    assert seen[-1].position >= "00000010", "a batch of which nothing is stored moves on"
    stream.close()
    source.close()


class Refusing(MemorySource):
    """A source that refuses a row of every part for its phone."""

    def copy(self) -> MemoryCopy:
        return RefusingCopy({NAME: people((1, "FR", "a", "p"))})


class RefusingCopy(MemoryCopy):
    def read(self, table: SourceTable, part: str) -> CopiedRows:
        (batch,) = people((2, "FR", "b", None)).to_batches()
        refused = [RefusedRows("phone: bad", ["hidden"], batch, "phone")]
        return replace(MemoryCopy.read(self, table, part), refused=refused)


def test_rows_refused_for_a_dropped_column_are_copied() -> None:
    source = screened(Refusing("shop", [(PEOPLE, people())]))
    (table,) = known(source)
    copied = source.copy().read(table, "0")
    assert [row["id"] for row in as_dicts(copied)] == [1, 2]
    assert list(copied.refused) == []


# ── terms ────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_stored_under_other_terms_is_another_and_no_other_table_is() -> None:
    memory = MemorySource("shop", [(PEOPLE, people()), (PLACES, ONE_PLACE)])
    rules = [RULE, Rule(drop=("phone",)), None]
    sources = [screened(memory, rule) for rule in rules] + [screened(memory, key=KEY + "!")]
    for one in sources:
        assert one.look(known(one)).changes == {}
        for other in sources:
            if other is one:
                continue
            changes = other.look(known(one)).changes
            assert changes.keys() == {NAME}
            assert changes[NAME].now == other.look().tables[NAME]
            assert "from now on" in changes[NAME].why


def test_a_stream_tells_it_first_and_gives_no_changes_of_such_a_table() -> None:
    batch = one_transaction(
        "00000009",
        changed_rows(PEOPLE, people((3, "FR", "c", "hidden"))),
        changed_rows(PLACES, ONE_PLACE),
        committed_at_us=1,
    )
    memory = MemorySource("shop", [(PEOPLE, people()), (PLACES, ONE_PLACE)], [batch])
    before, source = known(screened(memory, None)), screened(memory)
    stream = source.stream(Position("00000001"), before)
    first = stream.poll(1.0)
    assert first is not None
    assert (first.position, len(first.transactions)) == ("00000001", 0)
    (told,) = first.changes
    assert isinstance(told, LayoutChange)
    assert (told.now, bool(told.why)) == (source.look().tables[NAME], True)
    assert [change.table for change in changes_of(stream)] == [PLACES.name]


def test_nothing_is_copied_as_it_was_stored_under_other_terms() -> None:
    memory = MemorySource("shop", [(PEOPLE, people((1, "FR", "a", "p")))])
    (before,) = known(screened(memory, None))
    copy = screened(memory).copy()
    with pytest.raises(LayoutChangedError):
        copy.read(before, "0")
    with pytest.raises(LayoutChangedError):
        copy.plan(before, 1)


class Ordered(MemorySource):
    """Ranges of keys can be compared, and are always found equal to what has as many rows."""

    def has_ordered_keys(self, schema: TableSchema) -> bool:
        del schema
        return True

    def copy(self) -> MemoryCopy:
        return EqualCopy({schema.name: rows for schema, rows in self._tables})


class EqualCopy(MemoryCopy):
    def compare(
        self, table: SourceTable, keys: KeyRange, stored: Checksum
    ) -> CopiedRows | Position:
        del keys
        is_equal = stored.rows == self.contents[table.name].num_rows
        return Position("1") if is_equal else self.read(table, "0")


def test_checksums_say_nothing_of_a_table_of_which_something_is_left_out() -> None:
    rows = people((1, "FR", "a", "hidden"))
    source = screened(Ordered("shop", [(PEOPLE, rows), (PLACES, ONE_PLACE)]))
    tables = source.look().tables
    one, other = tables[NAME], tables[PLACES.name]
    assert [source.has_ordered_keys(each.schema) for each in (one, other)] == [False, True]
    copy = source.copy()
    assert copy.compare(other, ALL_KEYS, Checksum(1, 0)) == "1"
    found = copy.compare(one, ALL_KEYS, Checksum(1, 0))
    assert isinstance(found, CopiedRows)
    assert [row["email"] for row in as_dicts(found)] == [hashed("a")]


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────

WIDER = replace(PEOPLE, columns=(*PEOPLE.columns, Column("nick", "VARCHAR")))


class Growing(MemorySource):
    """A source whose table is another one by now."""

    now = SourceTable(WIDER, "grown")
    fills: pa.Table | None = None
    why = ""
    unfit: UpwellError | None = None
    leaving_out: tuple[str, ...] = ()

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        change = LayoutChange(self.now, self.fills, self.why, self.unfit)
        changes = {each.name: change for each in known if each != self.now}
        return SourceTables({NAME: self.now}, {}, changes, self.leaving_out)


def grown(source: Growing, rule: Rule) -> LayoutChange:
    """What a stream says of the table."""
    (before,) = known(screened(MemorySource("shop", [(PEOPLE, people())]), rule))
    change = LayoutChange(source.now, source.fills, source.why, source.unfit)
    source.add(one_transaction("00000009", change, committed_at_us=1))
    (told,) = changes_of(screened(source, rule).stream(Position("0"), [before]))
    assert isinstance(told, LayoutChange)
    looked = screened(source, rule).look([before]).changes[NAME]
    assert (told.now, told.why) == (looked.now, looked.why)
    assert (told.unfit is None) == (looked.unfit is None)
    return told


def test_the_source_is_asked_about_the_table_as_it_gave_it() -> None:
    asked: list[SourceTable] = []

    class Asked(MemorySource):
        def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
            asked.extend(known)
            return super().look(known)

    source = screened(Asked("shop", [(PEOPLE, people())]))
    source.look(known(source))
    assert asked == [SourceTable(PEOPLE, "as given")]


def test_a_value_that_a_column_was_added_with_is_stored_as_the_rule_says() -> None:
    source = Growing("shop", [])
    source.fills = pa.table({"nick": pa.array(["al"])})
    added = grown(source, Rule(drop=("phone",)))
    assert added.now.schema.column_names[-1] == "nick"
    assert (added.fills, added.why) == (source.fills, "")
    source = Growing("shop", [])
    source.fills = pa.table({"nick": pa.array(["al"])})
    kept = grown(source, Rule(keep=("country",)))
    assert (kept.now.schema.column_names, kept.fills, kept.why) == (("id", "country"), None, "")
    for rule in (
        Rule(keep=("country",), hash=("nick",)),
        Rule(keep=("nick",), rows=parse_predicate("nick = 'al'")),
    ):
        screen = Screen({NAME: rule}, KEY)
        before = SourceTable(PEOPLE, "never read under it", screen.terms(NAME))
        made = ScreenedSource(source, screen).screened(
            LayoutChange(source.now, source.fills), before
        )
        assert made.fills is not None
        assert made.fills.to_pylist() == [{"nick": hashed("al") if rule.hash else "al"}]
        assert bool(made.why) == (rule.rows is not None), "nobody knows which rows match now"


def test_why_a_table_is_read_anew_or_cannot_be_followed_is_passed_on() -> None:
    source = Growing("shop", [])
    source.why = "its key was another"
    assert grown(source, RULE).why == source.why
    source = Growing("shop", [])
    source.why = "it has no key"
    source.unfit = EnvironmentFault("table_without_key", "it has no key")
    told = grown(source, RULE)
    assert told.unfit is not None
    assert told.now.terms == Screen({NAME: RULE}, KEY).terms(NAME)


def test_a_table_whose_named_column_is_gone_is_not_followed_under_another_name() -> None:
    source = Growing("shop", [])
    columns = [
        replace(each, name="mail") if each.name == "email" else each for each in PEOPLE.columns
    ]
    source.now = SourceTable(replace(PEOPLE, columns=tuple(columns)), "renamed")
    told = grown(source, RULE)
    assert isinstance(told.unfit, ProjectError)
    assert "email" in told.unfit.what
    assert NAME in screened(source).look().unfit


def test_nothing_more_comes_of_a_table_whose_changes_the_rule_does_not_fit() -> None:
    memory = MemorySource("shop", [(PEOPLE, people())])
    source = screened(memory)
    stream = source.stream(Position("0"), known(source))
    older = replace(PEOPLE, columns=tuple(each for each in PEOPLE.columns if each.name != "email"))
    rows = people((1, "FR", "a", "p"))
    for position, change in (
        ("00000009", changed_rows(older, rows.drop_columns("email"))),
        ("00000010", changed_rows(PEOPLE, rows)),
    ):
        memory.add(one_transaction(position, change, committed_at_us=1))
    (told,) = changes_of(stream)
    assert isinstance(told, LayoutChange)
    assert isinstance(told.unfit, ProjectError)


def test_a_rule_that_does_not_fit_is_told_when_the_tables_are_looked_at() -> None:
    memory = MemorySource("shop", [(PEOPLE, people()), (PLACES, ONE_PLACE)])
    looked = screened(memory, Rule(drop=("fone",))).look()
    assert looked.tables.keys() == {PLACES.name}
    assert isinstance(looked.unfit[NAME], ProjectError)


# ── hashed keys ──────────────────────────────────────────────────────────────────────────────────


def test_a_hashed_key_needs_a_log_that_leaves_nothing_out() -> None:
    source = Growing("shop", [])
    source.leaving_out = (NAME,)
    rule = Rule(hash=("id",))
    refused = screened(source, rule).look().unfit[NAME]
    assert refused.code == "privacy_key_hashed"
    assert "REPLICA IDENTITY FULL" in refused.next_step
    for fitting in (
        Rule(hash=("email",)),  # rows can be asked for by their key
        Rule(hash=("id",), keep=("born",)),  # no value that is ever left out is stored
    ):
        assert not screened(source, fitting).look().unfit
    source.leaving_out = ()
    assert not screened(source, rule).look().unfit


def test_a_log_that_begins_to_leave_values_out_while_the_table_is_read_is_noticed() -> None:
    source = screened(
        MemorySource("shop", [(PEOPLE, people((1, "FR", "a", "p")))]), Rule(hash=("id",))
    )
    (table,) = known(source)
    with pytest.raises(LayoutChangedError):
        source.copy().read_rows(table, pa.table({"id": [hashed("1")]}))
