"""What the lake takes over from the hot store: tables in which rows are only ever added."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from upwell.core.schema import Column
from upwell.core.sql import quote_table
from upwell.store import ledger
from upwell.store.lake.mark import LEDGER

#: Upwell's own tables of this kind, besides the ledger, which ends each round.
OWN = ("upwell.quarantine", "upwell.freshness")


@dataclass(frozen=True, slots=True)
class Logged:
    """A table whose rows say in which version they came.

    ``version`` is that column; ``bounded`` are those of which each file tells the bounds.
    ``identity`` changes when a log begins anew; ``layout`` describes the table it is the log of.
    """

    name: str
    columns: tuple[Column, ...]
    version: str
    bounded: tuple[str, ...]
    identity: str = ""
    layout: str = ""


def own_log(connection: duckdb.DuckDBPyConnection, name: str) -> Logged:
    """One of Upwell's own tables as the store has it."""
    rows = connection.execute(f"DESCRIBE {quote_table(name)}").fetchall()
    columns = tuple(Column(row[0], row[1]) for row in rows)
    return Logged(name, columns, "version", ("version",))


#: The ledger itself.
VERSIONS = Logged(LEDGER, ledger.VERSIONS, "version", ("version", "logical_time"))
