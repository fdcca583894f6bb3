"""The databases of the source's own tests."""

from tests.sources.postgres.conftest import database_18, database_names, new_database

__all__ = ["database_18", "database_names", "new_database"]
