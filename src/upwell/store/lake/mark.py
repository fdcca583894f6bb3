"""The mark: through which version a lake is whole.

A round writes several tables, one commit each; the commit to ``upwell.versions`` that ends it
carries the mark. What lies beyond the mark belongs to a round that never ended: an engine that
takes over removes it, and reads the same changes from the source again. So a round is in the lake
as a whole or not at all, whatever crashes in between.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from upwell.core.errors import IntegrityError
from upwell.core.position import Position

#: The table whose commits end rounds, and where the mark stands in its properties.
LEDGER = "upwell.versions"
PROPERTY = "upwell.mark"
PROJECT = "upwell.project"
#: Formats of what Upwell writes into a lake beyond Iceberg's own. In the second, tables stand
#: still: whoever does not know that would take them for up to date.
FORMAT, FORMAT_WITH_FROZEN = 1, 2


class MarkedSource(msgspec.Struct, frozen=True):
    """How far a source is in: position, moment through which it is complete, who it is."""

    position: Position
    complete_through_us: int
    identity: str = ""


class Mark(msgspec.Struct, frozen=True):
    """See the module. ``logs`` gives the identity of each captured table's change log.

    ``lineage`` names the line of hot stores, each made from the lake of the one before: one of
    another line has nothing to do with this lake. ``frozen`` gives tables whose logs ended before
    the version, and why: they are to be read anew.
    """

    format: int = FORMAT
    lineage: str = ""
    version: int = 0
    logical_time_us: int = 0
    sources: Mapping[str, MarkedSource] = {}
    logs: Mapping[str, str] = {}
    frozen: Mapping[str, str] = {}

    @classmethod
    def read(cls, properties: Mapping[str, str], where: str) -> Mark:
        """The mark among a table's properties; the one of an empty lake if there is none."""
        text = properties.get(PROPERTY)
        if text is None:
            return cls()
        found = msgspec.json.decode(text)
        if found.get("format") not in (FORMAT, FORMAT_WITH_FROZEN):
            raise IntegrityError(
                "lake_format",
                f"Opening the lake: it was written in format {found.get('format')}, this Upwell "
                f"knows {FORMAT} and {FORMAT_WITH_FROZEN}.",
                where=where,
                next_step="Use the Upwell that wrote it, or a newer one.",
            )
        return msgspec.convert(found, cls)

    def as_property(self) -> dict[str, str]:
        """The mark as what a table's properties say."""
        return {PROPERTY: msgspec.json.encode(self).decode()}
