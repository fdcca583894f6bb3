"""A PostgreSQL server for the examples, for who has none at hand. Ctrl-C stops it; its data stays.

    python examples/server.py [--dir DIR] [--port PORT]

It is the server that ``upwell demo`` brings along, ready for logical replication, with an empty
database for each example. It listens on loopback only and asks for no password: whoever is on this
machine may enter.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import psycopg
from psycopg import sql

from upwell.core.errors import UpwellError
from upwell.demo.server import Server

DATABASES = ("olist", "retail")
#: The port that both projects look for where their environment does not name another server.
PORT = 54329


def main() -> int:
    """Run the server until a signal ends it."""
    parser = argparse.ArgumentParser(description="A PostgreSQL server for the examples.")
    parser.add_argument("--dir", type=Path, default=Path(__file__).parent / ".upwell" / "postgres")
    parser.add_argument("--port", type=int, default=PORT)
    given = parser.parse_args()
    stopping = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)  # they wait for sigwait below
    try:
        with Server(given.dir, port=given.port) as server:
            for database in DATABASES:
                create(server, database)
                print(f"{database:<7} {server.url_of(database)}")
            print("Ctrl-C stops the server; its data stays.", flush=True)
            signal.sigwait(stopping)
    except UpwellError as error:
        print(error, file=sys.stderr)
        return int(error.exit)
    return 0


def create(server: Server, database: str) -> None:
    """Make the database unless it is there."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        found = connection.execute("select from pg_database where datname = %s", [database])
        if found.fetchone() is None:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))


if __name__ == "__main__":
    sys.exit(main())
