"""A process that commits versions as fast as it can, to be killed by a test.

Each version empties and refills one table, adds a column to another or replaces it, and writes down
its number in all of them: whoever finds different numbers has found half a version.
"""

from __future__ import annotations

import sys
from pathlib import Path

from upwell.core.position import Position
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.store.ledger import SourceProgress
from upwell.store.place import StatePlace

ROWS = 200


def tell(version: int) -> None:
    sys.stdout.write(f"{version}\n")
    sys.stdout.flush()


def main() -> None:
    place = StatePlace(Path(sys.argv[1]))
    store = HotStore(place.hot_store, zone="UTC")
    store.writer.execute("SET checkpoint_threshold = '100KB'")  # checkpoints among the kills
    ledger.prepare(store.writer)
    with store.transaction() as connection:
        for name in ("filled", "replaced"):
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (id BIGINT, version BIGINT)")
    version = ledger.latest_version(store.writer)
    tell(version)
    while True:
        version += 1
        with store.transaction() as connection:
            connection.execute("DELETE FROM filled")
            connection.execute(
                "INSERT INTO filled (id, version) SELECT range, ? FROM range(?)", [version, ROWS]
            )
            if version % 5 == 0:
                connection.execute("CREATE OR REPLACE TABLE replaced (id BIGINT, version BIGINT)")
            else:
                connection.execute("DELETE FROM replaced")
            connection.execute("INSERT INTO replaced VALUES (1, ?)", [version])
            progress = SourceProgress(Position(f"{version:08}"), version)
            ledger.append(connection, version, version, {"shop": progress})
        if version % 7 == 0:
            store.checkpoint()
            with store.transaction() as connection:
                connection.execute(f"ALTER TABLE filled ADD COLUMN extra_{version} VARCHAR")
            store.checkpoint()
        tell(version)


if __name__ == "__main__":
    main()
