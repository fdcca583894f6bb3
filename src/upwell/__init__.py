"""Upwell: the whole data engineering life cycle in one program.

Everything Upwell knows is a table, and every stage turns changes up to a position into changes
up to a position, committing rows and position together.
"""

__version__ = "0.1.0"
