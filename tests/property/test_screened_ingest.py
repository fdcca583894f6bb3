"""The law of what is left out: the stored table = what may be stored of the shop's, less the
quarantine.

A shop kept in a plain dict lives through random transactions: rows that come to match and leave
again, moved keys, values left out because they did not change, the condition's own among them, and
values refused. ``UPWELL_PROPERTY_SEEDS`` sets how many shops are tried.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.stored import create
from upwell.core.protocols import Operation, Refusal, TableChanges
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect
from upwell.ingest.apply import Ingest
from upwell.security.predicate import parse_predicate
from upwell.security.rule import Rule
from upwell.security.screen import Screen
from upwell.store import ledger
from upwell.testing import one_transaction

SEEDS = int(os.environ.get("UPWELL_PROPERTY_SEEDS", "3"))
BATCHES = 25
KEY = "a key that only tests have"
NAMES = ("id", "country", "email", "note", "story")
PEOPLE = TableSchema(
    "shop.people",
    (Column("id", "INTEGER", nullable=False), *(Column(name, "VARCHAR") for name in NAMES[1:])),
    ("id",),
)
RULES = {
    "a hashed column": Rule(
        drop=("note",), hash=("email",), rows=parse_predicate("country <> 'DE'")
    ),
    "a hashed key": Rule(drop=("note",), hash=("id",), rows=parse_predicate("country <> 'DE'")),
    "no condition": Rule(keep=("country", "story"), hash=("email",)),
}
#: What may be refused, or left out of an update.
LARGE = ("country", "email", "note", "story")

Person = dict[str, Any]


def hashed(value: object) -> str:
    return hmac.new(KEY.encode(), str(value).encode(), hashlib.sha256).hexdigest()


@dataclass
class Shop:
    """The source's table, and what is said of it. A refused value stands as ``BAD`` until then."""

    chance: random.Random
    rule: Rule
    people: dict[int, Person] = field(default_factory=dict)
    said: list[tuple[Operation, Person, int | None, set[str], str]] = field(default_factory=list)

    def person(self, key: int) -> Person:
        values = {name: self.chance.choice(["a", "b", "hidden", None]) for name in NAMES[1:]}
        return {**values, "country": self.chance.choice(["DE", "FR", None]), "id": key}

    def step(self) -> None:
        key = self.chance.randrange(8)
        before = self.people.get(key)
        refused = self.chance.choice(LARGE) if self.chance.random() < 0.1 else ""
        if before is None:
            self.people[key] = self.person(key)
            self.said.append((Operation.INSERT, self.people[key], None, set(), refused))
        elif self.chance.random() < 0.25:
            del self.people[key]
            nothing = dict.fromkeys(NAMES[1:])
            self.said.append((Operation.DELETE, {**nothing, "id": key}, None, set(), ""))
        else:
            moved = self.chance.randrange(8)
            after = self.person(key if moved in self.people else moved)
            left_out = {name for name in LARGE if self.chance.random() < 0.2 and name != refused}
            after |= {name: before[name] for name in left_out}
            del self.people[key]
            self.people[after["id"]] = after
            old = key if after["id"] != key else None
            self.said.append((Operation.UPDATE, after, old, left_out, refused))

    def changes(self) -> TableChanges:
        """What was said since the last time."""
        said, self.said = self.said, []
        sent = [
            {name: None if name in left_out or name == refused else row[name] for name in NAMES}
            for _, row, _, left_out, refused in said
        ]
        old = {place: each[2] for place, each in enumerate(said) if each[2] is not None}
        return TableChanges(
            schema=PEOPLE,
            rows=pa.table(
                {
                    name: pa.array(
                        [row[name] for row in sent], pa.int32() if name == "id" else pa.string()
                    )
                    for name in NAMES
                }
            ),
            operations=np.array([each[0] for each in said], np.int8),
            transaction=np.zeros(len(said), np.int32),
            old_key_rows=np.array(list(old), np.int64),
            old_keys=pa.table({"id": pa.array(list(old.values()), pa.int32())}) if old else None,
            unchanged={name: np.array([name in each[3] for each in said]) for name in LARGE},
            refusals=[
                Refusal(f"{name}: bad", rows, ["hidden"] * int(rows.sum()), name)
                for name in LARGE
                if (rows := np.array([each[4] == name for each in said])).any()
            ],
        )

    def stored(self, person: Person) -> Person | None:
        """What may be stored of a person."""
        if self.rule.rows is not None and person["country"] in {"DE", None}:
            return None
        names = [name for name in NAMES if name not in self.rule.drop]
        if self.rule.keep is not None:
            names = [name for name in names if name in {"id", *self.rule.keep, *self.rule.hash}]
        return {
            name: hashed(person[name])
            if name in self.rule.hash and person[name] is not None
            else person[name]
            for name in names
        }


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    made = connect(zone="UTC", threads=1)
    ledger.prepare(made)
    yield made
    made.close()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_stored_is_what_may_be_stored(
    connection: duckdb.DuckDBPyConnection, seed: int, name: str
) -> None:
    shop = Shop(random.Random(seed), RULES[name])
    screen = Screen({PEOPLE.name: RULES[name]}, KEY)
    layout = screen.schema(PEOPLE)
    create(connection, layout)
    ingest = Ingest(connection, {PEOPLE.name: layout})
    version = seen = 0
    for _ in range(BATCHES):
        for _ in range(shop.chance.randrange(1, 8)):
            shop.step()
        change = screen.changes(shop.changes())
        if change is not None:
            version += 1
            batch = one_transaction(f"{version:08}", change, committed_at_us=version)
            ingest.apply(batch, version)
        found = connection.execute("FROM shop.people").to_arrow_table().to_pylist()
        wanted = [row for each in shop.people.values() if (row := shop.stored(each)) is not None]
        for row in found:
            assert row in wanted, "nothing else is stored, and nothing old"
        quarantined = {
            key for (key,) in connection.execute("SELECT key FROM upwell.quarantine").fetchall()
        }
        for row in wanted:
            assert row in found or f"id={row['id']}" in quarantined, "and nothing is lost unsaid"
        summed = connection.execute(
            f"SELECT {', '.join(layout.column_names)} FROM shop.people__log GROUP BY ALL "
            "HAVING sum(_weight) <> 0"
        ).to_arrow_table()
        assert sorted(map(str, summed.to_pylist())) == sorted(map(str, found))
        seen += len(found)
    assert seen > BATCHES / 2
    raw = connection.execute("SELECT raw, reason FROM upwell.quarantine").fetchall()
    private = (*RULES[name].hash, *(("country",) if RULES[name].rows is not None else ()))
    for text, reason in raw:
        assert text in {"", hashed("hidden")} or not reason.startswith(private)
        assert not reason.startswith("note")
