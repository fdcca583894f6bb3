"""Capture from PostgreSQL: snapshot, then its log, by logical replication."""

from upwell.sources.postgres.source import PostgresSource

__all__ = ["PostgresSource"]
