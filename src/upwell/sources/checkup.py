"""What was found when all that following a database needs was looked at, one by one.

Each kind of source has its own checks; what they say has one form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "fault"]

_ROWS_A_SECOND = 200_000  # a modest share of what the first copy was measured to reach
_BYTES_A_SECOND = 30 << 20


@dataclass(frozen=True, slots=True)
class Check:
    """One precondition: of the server, or of the table ``subject``."""

    code: str
    verdict: Verdict
    subject: str
    said: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class TableSize:
    """What the first copy of a fit table reads; ``rows`` is an estimate, None for unknown."""

    table: str
    rows: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Checkup:
    """All checks, and what the first copy of the tables that are fit would take."""

    checks: tuple[Check, ...]
    tables: tuple[TableSize, ...]

    @property
    def is_fit(self) -> bool:
        return all(check.verdict != "fault" for check in self.checks)

    @property
    def copy_seconds(self) -> float:
        """A rough guess at how long the first copy takes."""
        rows = sum(table.rows or 0 for table in self.tables)
        size = sum(table.size_bytes for table in self.tables)
        return max(rows / _ROWS_A_SECOND, size / _BYTES_A_SECOND)
