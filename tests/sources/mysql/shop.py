"""MariaDB behind a source, for the suite that every source is held against."""

from __future__ import annotations

from tests.mariadb import Server
from upwell.core.protocols import Source
from upwell.sources.mysql import MySQLSource


class Mariadb:
    """A source, and the till behind it. It begins with order 0; see ``conformance.test_source``."""

    def __init__(self, server: Server, database: str = "conformance") -> None:
        self._connection = server.connect()
        self._database = database
        self._run(f"create or replace database {database} character set utf8mb4")
        self._connection.select_db(database)
        self._run("create table orders (id int primary key)")
        self.sell(0)
        self.source: Source = MySQLSource("shop", server.url_of(database), ["orders"])

    def sell(self, *ids: int) -> None:
        """One transaction that writes these orders."""
        self._run(f"insert into orders (id) values {', '.join(f'({number})' for number in ids)}")

    def add_column(self) -> None:
        """A column whose value is 7 in all rows there are."""
        self._run("alter table orders add kind int default 7")

    def close(self) -> None:
        self.source.close()
        self._run(f"drop database {self._database}")
        self._connection.close()

    def _run(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
