"""A process that folds a hot store's log in, again and again, to be killed by a test.

Each version rewrites a table of many blocks, so that folding takes a while. It tells before and
after each, with the version that is committed then.
"""

from __future__ import annotations

import sys
from pathlib import Path

from upwell.core.position import Position
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.store.ledger import SourceProgress
from upwell.store.place import StatePlace

ROWS = 300_000


def tell(what: str, version: int) -> None:
    sys.stdout.write(f"{what} {version}\n")
    sys.stdout.flush()


def main() -> None:
    store = HotStore(StatePlace(Path(sys.argv[1])).hot_store, zone="UTC")
    ledger.prepare(store.writer)
    with store.transaction() as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS filled (id BIGINT, r DOUBLE, version BIGINT)"
        )
    store.checkpoint()
    version = ledger.latest_version(store.writer)
    while True:
        version += 1
        with store.transaction() as connection:
            connection.execute("DELETE FROM filled")
            connection.execute(
                "INSERT INTO filled SELECT range, random(), ? FROM range(?)", [version, ROWS]
            )
            progress = SourceProgress(Position(f"{version:08}"), version)
            ledger.append(connection, version, version, {"shop": progress})
        tell("folding", version)
        store.checkpoint()
        tell("folded", version)


if __name__ == "__main__":
    main()
