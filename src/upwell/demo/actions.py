"""What can happen in the sample shop: each action is one SQL statement, and so one transaction.

The statements stand in ``actions/*.sql``, one a file, named as the action. Each returns one row
with ``changes``, the number of rows it wrote: 0 when the shop had moved on meanwhile (an order
cancelled by hand is not paid for). They read prices and amounts from the database, so what somebody
changes there by hand holds from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import psycopg
from psycopg.rows import DictRow

Kind = Literal[
    "register_customer",
    "place_order",
    "pay_order",
    "ship_order",
    "deliver_order",
    "cancel_order",
    "refund_line",
    "change_price",
    "restock",
]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, with the values its statement binds."""

    kind: Kind
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action did: rows written, the id it was given, products now nearly sold out."""

    changes: int = 0
    id: int | None = None
    running_low: tuple[int, ...] = ()


def perform(connection: psycopg.Connection[DictRow], action: Action) -> Outcome:
    """Do it. Needs autocommit. Raises ``psycopg.Error`` when the database refuses."""
    row = connection.execute(_statement(action.kind), action.values).fetchone()
    if row is None:
        return Outcome()
    return Outcome(row["changes"], row.get("id"), tuple(row.get("running_low") or ()))


@cache
def _statement(kind: Kind) -> bytes:
    return files("upwell.demo").joinpath("actions", f"{kind}.sql").read_bytes()
