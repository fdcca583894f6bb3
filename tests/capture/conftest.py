"""The databases of the sources' own tests."""

from tests.sources.mysql.conftest import own_database, own_server
from tests.sources.postgres.conftest import database, database_18, database_names, new_database

__all__ = [
    "database",
    "database_18",
    "database_names",
    "new_database",
    "own_database",
    "own_server",
]
