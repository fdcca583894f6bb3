"""The sample shop: a real PostgreSQL, simulated customers, and a project that follows them."""
