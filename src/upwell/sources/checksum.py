"""The hot store's side of a comparison with a source: rows and their checksums in DuckDB.

Every value has one canonical text that the source and DuckDB each make of it; which, each kind of
source says. A row is its values with their lengths, so that no two rows run together; its checksum
is 60 bits of an MD5, and a table's is the sum over its rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from upwell.core.schema import TableSchema
from upwell.core.sql import quote

_ALIKE = {
    "BOOLEAN": "CASE WHEN {0} THEN 't' ELSE 'f' END",
    "BLOB": "lower(hex({0}))",
}
_DECIMAL = r"regexp_replace({0}::VARCHAR, '^(-?)\.', '\1' || '0.')"  # .5 → 0.5


def checksum_in_duckdb(schema: TableSchema, relation: str, texts: Mapping[str, str]) -> str:
    """A DuckDB query for rows and checksum of ``relation``: a quoted name or a subquery.

    ``texts`` gives the canonical text of stored types, beside those on which all sources agree;
    any other is printed as it is.
    """
    forms = {**_ALIKE, **texts}

    def text_of(stored: str) -> str:
        return _DECIMAL if stored.startswith("DECIMAL") else forms.get(stored, "{0}::VARCHAR")

    values = (
        (quote(column.name), text_of(column.type).format(quote(column.name)))
        for column in schema.columns
    )
    whole = " || ".join(
        f"CASE WHEN {name} IS NULL THEN 'N' ELSE strlen({text}) || ':' || ({text}) END"
        for name, text in values
    )
    digits = f"substr(md5({whole}), 1, 15)"
    return (
        f'SELECT count(*) AS "rows", '
        f"coalesce(sum(('0x' || {digits})::BIGINT), 0)::HUGEINT AS checksum FROM {relation}"
    )
