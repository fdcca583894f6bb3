"""What passes the screen, compared with what it must be, row by row and in plain Python."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.core.errors import ProjectError
from upwell.core.protocols import Operation, Refusal, RefusedRows, TableChanges, Truncation
from upwell.core.schema import Column, TableSchema
from upwell.security.predicate import parse_predicate
from upwell.security.rule import Rule
from upwell.security.screen import Screen

KEY = "a key that only tests have"
PEOPLE = TableSchema(
    "shop.people",
    (
        Column("id", "INTEGER", nullable=False),
        Column("country", "VARCHAR"),
        Column("email", "VARCHAR"),
        Column("phone", "VARCHAR"),
        Column("born", "DATE"),
    ),
    ("id",),
)
RULE = Rule(drop=("phone",), hash=("email",), rows=parse_predicate("country <> 'DE'"))
Row = tuple[int, str | None, str | None, str | None]


def screen(rule: Rule = RULE, table: str = PEOPLE.name, key: str = KEY) -> Screen:
    return Screen({table: rule}, key)


def hashed(text: str | None, key: str = KEY) -> str | None:
    if text is None:
        return None
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def people(*rows: Row) -> pa.Table:
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [[]] * 4
    ids, countries, emails, phones = columns
    return pa.table(
        {
            "id": pa.array(ids, pa.int32()),
            "country": pa.array(countries, pa.string()),
            "email": pa.array(emails, pa.string()),
            "phone": pa.array(phones, pa.string()),
            "born": pa.nulls(len(rows), pa.date32()),
        }
    )


def changes(
    *rows: tuple[Operation, Row],
    old: Mapping[int, int] | None = None,
    unchanged: Mapping[str, Sequence[int]] | None = None,
    refusals: Sequence[Refusal] = (),
) -> TableChanges:
    """``old``: the id before, by place. ``unchanged``: places of values left out, by column."""
    old = old or {}
    return TableChanges(
        schema=PEOPLE,
        rows=people(*(row for _, row in rows)),
        operations=np.array([operation for operation, _ in rows], np.int8),
        transaction=np.arange(len(rows), dtype=np.int32),
        old_key_rows=np.array(sorted(old), np.int64),
        old_keys=pa.table({"id": pa.array([old[place] for place in sorted(old)], pa.int32())})
        if old
        else None,
        unchanged={
            name: np.isin(np.arange(len(rows)), places)
            for name, places in (unchanged or {}).items()
        },
        refusals=refusals,
    )


I, U, D = Operation.INSERT, Operation.UPDATE, Operation.DELETE  # noqa: E741


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────


def test_a_layout_is_without_what_is_dropped_and_hashes_are_text() -> None:
    rule = Rule(drop=("Phone",), hash=("born", "id"))
    stored = screen(rule).schema(PEOPLE)
    assert [(column.name, column.type) for column in stored.columns] == [
        ("id", "VARCHAR"),
        ("country", "VARCHAR"),
        ("email", "VARCHAR"),
        ("born", "VARCHAR"),
    ]
    assert stored.key == ("id",)


def test_only_what_is_kept_hashed_or_in_the_key_is_stored_of_a_table_that_says_what_to_keep() -> (
    None
):
    stored = screen(Rule(keep=("country",), hash=("email",))).schema(PEOPLE)
    assert stored.column_names == ("id", "country", "email")


def test_a_table_without_a_rule_passes_as_it_is() -> None:
    other = screen(table="shop.others")
    change = changes((I, (1, "DE", "a", "b")))
    (batch,) = people((1, "DE", "a", "b")).to_batches()
    assert other.schema(PEOPLE) is PEOPLE
    assert other.changes(change) is change
    assert other.rows(PEOPLE, batch) is batch
    assert other.terms(PEOPLE.name) == Screen({}, "").terms(PEOPLE.name) == ""


@pytest.mark.parametrize(
    ("rule", "code", "step"),
    [
        (Rule(drop=("fone",)), "privacy_column_unknown", "did you mean phone?"),
        (Rule(hash=("mail",)), "privacy_column_unknown", "did you mean email?"),
        (Rule(keep=("xyz",)), "privacy_column_unknown", "there are: id, country"),
        (Rule(rows=parse_predicate("land = 'x'")), "privacy_column_unknown", "there are"),
        (Rule(drop=("id",)), "privacy_key_dropped", "hash: [id]"),
        (Rule(rows=parse_predicate("country = 5")), "privacy_rows_invalid", "own type"),
        (Rule(rows=parse_predicate("country")), "privacy_rows_invalid", "own type"),
        (Rule(rows=parse_predicate("born > 'x'")), "privacy_rows_invalid", "own type"),
        (Rule(rows=parse_predicate("email = born")), "privacy_rows_invalid", "own type"),
    ],
)
def test_a_rule_that_does_not_fit_its_table_is_refused(rule: Rule, code: str, step: str) -> None:
    with pytest.raises(ProjectError) as caught:
        screen(replace(rule, where="upwell.yaml")).schema(PEOPLE)
    assert caught.value.code == code
    assert step in caught.value.next_step
    assert caught.value.where == "upwell.yaml"


def test_a_layout_that_lost_a_protected_column_is_refused() -> None:
    """It may go by another name now, and would be stored as it is."""
    columns = tuple(
        replace(column, name="phone_number") if column.name == "phone" else column
        for column in PEOPLE.columns
    )
    kept = screen()
    kept.schema(PEOPLE)
    with pytest.raises(ProjectError):
        kept.schema(replace(PEOPLE, columns=columns))


# ── hashes ───────────────────────────────────────────────────────────────────────────────────────

VALUES = {
    "VARCHAR": pa.array(["a@b.c", "", "dé\U0001f600", None]),
    "INTEGER": pa.array([7, -1, None], pa.int32()),
    "DECIMAL(10,2)": pa.array(["5.00", None, "-0.10"]).cast(pa.decimal128(10, 2)),
    "BOOLEAN": pa.array([True, False, None]),
    "DATE": pa.array([0, 19_000, None], pa.int32()).cast(pa.date32()),
    "TIMESTAMPTZ": pa.array([0, None], pa.timestamp("us", "UTC")),
    "UUID": pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
}
TEXTS: dict[str, list[str | None]] = {
    "VARCHAR": ["a@b.c", "", "dé\U0001f600", None],
    "INTEGER": ["7", "-1", None],
    "DECIMAL(10,2)": ["5.00", None, "-0.10"],
    "BOOLEAN": ["true", "false", None],
    "DATE": ["1970-01-01", "2022-01-08", None],
    "TIMESTAMPTZ": ["1970-01-01 00:00:00+00", None],
    "UUID": ["00000000-0000-0000-0000-000000000005", None],
}


@pytest.mark.parametrize("of_type", VALUES)
@pytest.mark.parametrize("key", ["short but secret", "k" * 64, "k" * 65, "schlüssel" * 20])
def test_a_hash_is_the_hmac_of_the_text_as_anybody_can_compute_it(of_type: str, key: str) -> None:
    values = VALUES[of_type]
    schema = TableSchema("t", (Column("id", "INTEGER"), Column("x", of_type)), ("id",))
    batch = pa.record_batch({"id": pa.array(range(len(values)), pa.int32()), "x": values})
    found = Screen({"t": Rule(hash=("x",))}, key).rows(schema, batch)
    assert found.column("x").to_pylist() == [hashed(text, key) for text in TEXTS[of_type]]


def test_the_same_value_has_one_hash_in_every_table_and_form() -> None:
    """A number that comes as text, to be cast when it is stored, is that number."""
    schema = TableSchema("t", (Column("id", "INTEGER"), Column("x", "DECIMAL(10,2)")), ("id",))
    both = Screen({"t": Rule(hash=("x",))}, KEY)
    ids = pa.array([1], pa.int32())
    as_number = pa.record_batch({"id": ids, "x": pa.array(["5.00"]).cast(pa.decimal128(10, 2))})
    as_text = pa.record_batch({"id": ids, "x": pa.array(["5"])})
    assert both.rows(schema, as_number).equals(both.rows(schema, as_text))


def test_terms_differ_with_rules_and_with_the_key_and_tell_nothing_of_it() -> None:
    terms = {
        screen(rule, key=key).terms(PEOPLE.name)
        for key in (KEY, KEY + "!")
        for rule in (RULE, Rule(drop=("phone",)), Rule(hash=("phone",)))
    }
    assert len(terms) == 5, "where nothing is hashed the key does not matter"
    assert screen().terms(PEOPLE.name) == screen().terms(PEOPLE.name)
    assert all(KEY not in each for each in terms)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


def test_copied_rows_are_those_that_match_as_they_are_stored() -> None:
    rows = people(
        (1, "DE", "a", "p"), (2, "FR", "b", "p"), (3, None, "c", "p"), (4, "FR", None, "p")
    )
    (batch,) = rows.to_batches()
    assert screen().rows(PEOPLE, batch).to_pylist() == [
        {"id": 2, "country": "FR", "email": hashed("b"), "born": None},
        {"id": 4, "country": "FR", "email": None, "born": None},
    ]
    assert screen().rows(PEOPLE, batch.slice(0, 1)).num_rows == 0
    assert screen().rows(PEOPLE, batch.slice(0, 0)).schema.names == [
        "id",
        "country",
        "email",
        "born",
    ]


def test_refused_rows_follow_the_column_of_what_was_refused() -> None:
    def refused(column: str, *rows: Row) -> RefusedRows:
        (batch,) = people(*rows).to_batches()
        return RefusedRows(f"{column}: bad", [f"raw{row[0]}" for row in rows], batch, column)

    able, kept = screen().refused(
        PEOPLE,
        [
            refused("born", (1, "FR", "a", "p"), (2, "DE", "a", "p")),
            refused("email", (3, "FR", None, "p")),
            refused("country", (4, None, "a", "p")),
            refused("phone", (1, "FR", "a", None), (5, "FR", "b", None), (6, "DE", "b", None)),
        ],
    )
    assert [row["id"] for batch in able for row in batch.to_pylist()] == [5]
    assert [(each.column, list(each.raw), each.rows.column("id").to_pylist()) for each in kept] == [
        ("born", ["raw1"], [1]),
        ("email", [hashed("raw3")], [3]),
        ("country", [""], [4]),
    ]
    assert "phone" not in kept[0].rows.schema.names


# ── changes ──────────────────────────────────────────────────────────────────────────────────────


def test_a_row_that_leaves_is_deleted_and_one_that_never_matched_leaves_no_trace() -> None:
    found = screen().changes(
        changes(
            (I, (1, "DE", "a", "p")),
            (I, (2, "FR", "b", "p")),
            (U, (3, "DE", "c", "p")),
            (D, (4, None, None, None)),
            (U, (5, "FR", "e", "p")),
            old={2: 30, 4: 50},
            unchanged={"email": [4], "phone": [1]},
        )
    )
    assert found is not None
    assert found.operations.tolist() == [I, D, D, U]
    assert found.rows.to_pylist() == [
        {"id": 2, "country": "FR", "email": hashed("b"), "born": None},
        {"id": 3, "country": None, "email": None, "born": None},
        {"id": 4, "country": None, "email": None, "born": None},
        {"id": 5, "country": "FR", "email": hashed("e"), "born": None},
    ]
    assert found.transaction.tolist() == [1, 2, 3, 4]
    assert found.old_keys is not None
    assert (found.old_key_rows.tolist(), found.old_keys["id"].to_pylist()) == ([1, 3], [30, 50])
    assert {name: mask.tolist() for name, mask in found.unchanged.items()} == {
        "email": [False, False, False, True]
    }
    assert found.is_filtered
    assert screen().changes(changes((I, (1, "DE", "a", "p")))) is None


def test_a_hashed_key_is_hashed_before_and_after() -> None:
    found = screen(Rule(hash=("id",))).changes(changes((U, (2, "FR", "b", "p")), old={0: 1}))
    assert found is not None
    assert found.old_keys is not None
    assert found.rows["id"].to_pylist() == [hashed("2")]
    assert found.old_keys["id"].to_pylist() == [hashed("1")]
    assert not found.is_filtered


def test_refusals_follow_their_column() -> None:
    def refusal(column: str, *places: int) -> Refusal:
        rows = np.isin(np.arange(4), places)
        return Refusal(f"{column}: bad", rows, [f"raw{place}" for place in places], column)

    found = screen().changes(
        changes(
            (I, (0, "DE", None, None)),
            (U, (1, "FR", None, None)),
            (U, (2, "DE", None, None)),
            (I, (3, None, None, None)),
            refusals=[
                refusal("phone", 0, 1),
                refusal("email", 0, 1),
                refusal("born", 1, 2),
                refusal("country", 3),
            ],
        )
    )
    assert found is not None
    assert found.rows["id"].to_pylist() == [1, 2, 3]
    assert [(each.column, each.rows.tolist(), list(each.raw)) for each in found.refusals] == [
        ("email", [True, False, False], [hashed("raw1")]),
        ("born", [True, False, False], ["raw1"]),
        ("country", [False, False, True], [""]),
    ]


def test_a_row_whose_condition_hangs_on_a_value_left_out_is_refused() -> None:
    found = screen().changes(
        changes((U, (1, None, "a", "p")), (U, (2, "FR", "a", "p")), unchanged={"country": [0]})
    )
    assert found is not None
    assert found.operations.tolist() == [U, U]
    (refusal,) = found.refusals
    assert (refusal.rows.tolist(), list(refusal.raw)) == ([True, False], [""])
    assert refusal.reason.startswith("country: was left out")


def test_a_truncation_is_of_the_stored_layout() -> None:
    assert screen().truncation(Truncation(PEOPLE, 3)).schema == screen().schema(PEOPLE)


# ── the law: screening the changes of a table is following the screened table ────────────────────

SCREEN = screen()
rows_of_people = st.tuples(
    st.integers(0, 5),
    st.sampled_from(["DE", "FR", None]),
    st.sampled_from(["a", "b", None]),
    st.sampled_from(["p", None]),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "move", "delete"]), rows_of_people), max_size=30))
def test_screened_changes_lead_to_the_screened_table(steps: list[tuple[str, Row]]) -> None:
    """Steps are made into what a source says of a table; its end is screened as if copied."""
    table: dict[int, Row] = {}
    said: list[tuple[Operation, Row]] = []
    old: dict[int, int] = {}
    for kind, row in steps:
        key = row[0]
        if kind == "put":
            said.append((U if key in table else I, row))
            table[key] = row
        elif key in table and kind == "delete":
            said.append((D, (key, None, None, None)))
            del table[key]
        elif key in table and kind == "move" and key + 10 not in table:
            del table[key]
            table[key + 10] = (key + 10, *row[1:])
            old[len(said)] = key
            said.append((U, table[key + 10]))
    wanted = people(*table.values())
    stored = [SCREEN.rows(PEOPLE, batch).to_pylist() for batch in wanted.to_batches()]
    expected = {row["id"]: row for part in stored for row in part}
    assert followed(SCREEN.changes(changes(*said, old=old)) if said else None) == expected


def followed(change: TableChanges | None) -> dict[int, dict[str, Any]]:
    """A table kept in the plainest way."""
    table: dict[int, dict[str, Any]] = {}
    if change is None:
        return table
    before = {}
    if change.old_keys is not None:
        keys = change.old_keys["id"].to_pylist()
        before = dict(zip(change.old_key_rows.tolist(), keys, strict=True))
    for place, row in enumerate(change.rows.to_pylist()):
        table.pop(before.get(place, row["id"]), None)
        table.pop(row["id"], None)
        if change.operations[place] != D:
            table[row["id"]] = row
    return table
