"""Where tables live: the hot store (DuckDB) and its ledger of versions and positions."""
