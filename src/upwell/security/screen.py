"""Columns dropped or hashed and rows left out, of whatever a source gives, before it is stored.

A hashed value is HMAC-SHA-256 (RFC 2104) of the value's text, as 64 hexadecimal digits: the same
value and key give the same hash in every table, so that hashes can be joined. NULL stays NULL. A
hash of what has few possible values (a postcode, a year) can be undone by whoever has the key; it
is a pseudonym, not anonymity.

Rows are chosen by their new image. An UPDATE after which a row does not match is a DELETE of its
key, whether it was stored or not; one after which it matches is an UPDATE, which ingest takes for
an insert where nothing was stored. A matching row that leaves out values, and of which nothing is
stored, goes to quarantine until a change carries them all; so does a row whose condition hangs on a
value that was left out. Replica identity FULL, by which the log leaves nothing out, avoids both.

Refused values follow their column: none is told of one dropped or hashed. A value of a dropped
column cannot make its row be refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from upwell.core.errors import EnvironmentFault
from upwell.core.protocols import (
    Bools,
    Operation,
    Refusal,
    RefusedRows,
    TableChanges,
    Truncation,
)
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, quote
from upwell.security.rule import Fitted, Rule, fit, typed_columns

_BLOCK_BYTES = 64
_ROWS = "_rows"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a statement made of rows: which match, and the hashed columns."""

    matches: Bools
    hashed: Mapping[str, pa.ChunkedArray]


class Screen:
    """``rules`` by the table's name in SQL; a table without one passes as it is.

    May be used from several threads at once.
    """

    def __init__(self, rules: Mapping[str, Rule], key: str) -> None:
        self._rules = dict(rules)
        secret = key.encode()
        if len(secret) > _BLOCK_BYTES:
            secret = hashlib.sha256(secret).digest()
        padded = secret.ljust(_BLOCK_BYTES, b"\0")
        self._outer = bytes(byte ^ 0x5C for byte in padded)
        self._inner = bytes(byte ^ 0x36 for byte in padded)
        self._database = connect(zone="UTC", threads=1)  # one thread: rows stay in order
        self._fitted: dict[TableSchema, Fitted] = {}
        self._terms = {table: _terms(rule, secret) for table, rule in self._rules.items()}

    def terms(self, table: str) -> str:
        """Differs where what is left out of a table does, or the key of its hashes; empty where
        nothing is.
        """
        return self._terms.get(table, "")

    def has_hashed_key(self, schema: TableSchema) -> bool:
        """Whether rows of a table are stored under other keys than they have. Raises as ``schema``
        does.
        """
        fitted = self._fit(schema)
        return fitted is not None and not fitted.hashed.isdisjoint(schema.key)

    def schema(self, schema: TableSchema) -> TableSchema:
        """What is stored of a table. Raises ``ProjectError`` where its rule does not fit."""
        fitted = self._fit(schema)
        return schema if fitted is None else fitted.schema

    def fills(self, schema: TableSchema, fills: pa.Table) -> pa.Table | None:
        """Values that columns were added with, as they are stored; None if nothing of them is."""
        fitted = self._fit(schema)
        if fitted is None:
            return fills
        names = [name for name in fills.column_names if name not in fitted.dropped]
        return self._hashed(fitted, fills.select(names)) if names else None

    def chooses_by(self, schema: TableSchema, names: Iterable[str]) -> bool:
        """Whether one of these columns decides which rows are stored."""
        fitted = self._fit(schema)
        return fitted is not None and not set(names).isdisjoint(fitted.condition_columns)

    def truncation(self, change: Truncation) -> Truncation:
        return replace(change, schema=self.schema(change.schema))

    def rows(self, schema: TableSchema, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Copied rows: those that match, as they are stored."""
        fitted = self._fit(schema)
        if fitted is None:
            return batch
        table = pa.Table.from_batches([batch])
        seen = self._look(fitted, table)
        stored = _stored(fitted, table, seen).filter(pa.array(seen.matches)).combine_chunks()
        return pa.RecordBatch.from_arrays(
            [_one_array(column) for column in stored.columns], names=stored.column_names
        )

    def refused(
        self, schema: TableSchema, refused: Sequence[RefusedRows]
    ) -> tuple[list[pa.RecordBatch], list[RefusedRows]]:
        """Of all the copied rows of a table that cannot be stored: those that can, and the rest."""
        fitted = self._fit(schema)
        if fitted is None:
            return [], list(refused)
        kept, taken = [], set()
        for each in refused:
            if each.column not in fitted.dropped:
                taken |= set(_keys(schema, each.rows))
                kept += self._still_refused(fitted, each)
        able = []
        for each in refused:
            if each.column in fitted.dropped:
                keys = _keys(schema, each.rows)
                is_first = np.array([key not in taken for key in keys], np.bool_)
                taken |= set(keys)
                able.append(self.rows(schema, each.rows.filter(pa.array(is_first))))
        return [batch for batch in able if batch.num_rows], kept

    def changes(self, change: TableChanges) -> TableChanges | None:
        """Changes of a table, as they are stored; None if nothing of them is."""
        fitted = self._fit(change.schema)
        if fitted is None:
            return change
        seen = self._look(fitted, change.rows)
        is_row = change.operations != Operation.DELETE
        unknown = is_row & _hanging(fitted, change)
        leaves = is_row & ~seen.matches & ~unknown
        stays = ~(leaves & (change.operations == Operation.INSERT))
        if not stays.any():
            return None
        operations = np.where(leaves, np.int8(Operation.DELETE), change.operations)
        old_keys, old_key_rows = change.old_keys, change.old_key_rows
        if old_keys is not None:
            is_old_kept = stays[old_key_rows]
            old_keys = self._hashed(fitted, old_keys).filter(pa.array(is_old_kept))
            old_key_rows = (np.cumsum(stays) - 1)[old_key_rows[is_old_kept]]
        is_told = stays & ~leaves
        rows = _without_values(fitted, _stored(fitted, change.rows, seen), leaves)
        return TableChanges(
            schema=fitted.schema,
            rows=rows if stays.all() else rows.filter(pa.array(stays)),
            operations=operations[stays].astype(np.int8),
            transaction=change.transaction[stays],
            old_key_rows=old_key_rows,
            old_keys=old_keys,
            unchanged={
                name: (mask & ~leaves)[stays]
                for name, mask in change.unchanged.items()
                if name not in fitted.dropped
            },
            refusals=[
                *self._refusals(fitted, change.refusals, is_told, stays),
                *_left_out(fitted, change, unknown, stays),
            ],
            is_filtered=fitted.condition is not None,
        )

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _fit(self, schema: TableSchema) -> Fitted | None:
        rule = self._rules.get(schema.name)
        if rule is None:
            return None
        if schema not in self._fitted:
            self._fitted[schema] = fit(rule, schema)
        return self._fitted[schema]

    def _look(self, fitted: Fitted, table: pa.Table) -> _Seen:
        """One statement over the columns that matter."""
        hashed = [name for name in fitted.given.column_names if name in fitted.hashed]
        needed = [*dict.fromkeys([*hashed, *fitted.condition_columns])]
        if not needed or not table.num_rows:
            none = {name: pa.chunked_array([[]], pa.string()) for name in hashed}
            return _Seen(np.ones(table.num_rows, np.bool_), none)
        matches = f"({fitted.condition}) IS TRUE" if fitted.condition else "TRUE"
        found = self._ask(
            ", ".join([matches, *(self._hash_of(quote(name)) for name in hashed)]),
            f"(SELECT {typed_columns(fitted.given, needed)} FROM {_ROWS})",
            table.select(needed),
        )
        columns = {name: found.column(1 + index) for index, name in enumerate(hashed)}
        return _Seen(np.asarray(found.column(0)).astype(np.bool_), columns)

    def _hashed(self, fitted: Fitted, keys: pa.Table) -> pa.Table:
        names = [name for name in keys.column_names if name in fitted.hashed]
        if not names or not keys.num_rows:
            return keys
        found = self._ask(
            ", ".join(self._hash_of(quote(name)) for name in names),
            f"(SELECT {typed_columns(fitted.given, names)} FROM {_ROWS})",
            keys.select(names),
        )
        for index, name in enumerate(names):
            keys = keys.set_column(keys.column_names.index(name), name, found.column(index))
        return keys

    def _hashed_texts(self, texts: Iterable[str]) -> list[str]:
        table = pa.table({"text": pa.array(list(texts), pa.string())})
        return [str(each) for each in self._ask(self._hash_of("text"), _ROWS, table)[0].to_pylist()]

    def _hash_of(self, value: str) -> str:
        inner = f"sha256($inner::BLOB || encode(CAST({value} AS VARCHAR)))"
        return f"sha256($outer::BLOB || unhex({inner}))"

    def _ask(self, selected: str, of: str, table: pa.Table) -> pa.Table:
        parameters: dict[str, Any] = {
            name: value
            for name, value in (("inner", self._inner), ("outer", self._outer))
            if f"${name}" in selected
        }
        with self._database.cursor() as cursor:
            cursor.register(_ROWS, table)
            try:
                return cursor.execute(f"SELECT {selected} FROM {of}", parameters).to_arrow_table()
            except duckdb.Error:  # whose words repeat the value
                raise EnvironmentFault(
                    "privacy_failed",
                    "a value cannot be compared or hashed, so that nothing is stored any more",
                    where=", ".join(table.column_names),
                    next_step="correct the privacy settings of these columns in upwell.yaml",
                ) from None

    def _still_refused(self, fitted: Fitted, refused: RefusedRows) -> list[RefusedRows]:
        table = pa.Table.from_batches([refused.rows])
        seen = self._look(fitted, table)
        matches = seen.matches
        if refused.column in fitted.condition_columns or not refused.column:
            matches = np.ones(len(matches), np.bool_)  # nobody knows
        if not matches.any():
            return []
        rows = _stored(fitted, table, seen).filter(pa.array(matches)).combine_chunks()
        raw = [text for text, is_kept in zip(refused.raw, matches, strict=True) if is_kept]
        arrays = [_one_array(column) for column in rows.columns]
        return [
            replace(
                refused,
                raw=self._told(fitted, refused.column, raw),
                rows=pa.RecordBatch.from_arrays(arrays, names=rows.column_names),
            )
        ]

    def _refusals(
        self, fitted: Fitted, refusals: Sequence[Refusal], is_told: Bools, stays: Bools
    ) -> Iterable[Refusal]:
        for refusal in refusals:
            rows = refusal.rows & is_told
            if refusal.column in fitted.dropped or not rows.any():
                continue
            kept = is_told[refusal.rows]
            raw = [text for text, is_kept in zip(refusal.raw, kept, strict=True) if is_kept]
            told = self._told(fitted, refusal.column, raw)
            yield replace(refusal, rows=rows[stays], raw=told)

    def _told(self, fitted: Fitted, column: str, raw: Sequence[str]) -> list[str]:
        """What quarantine is told of refused values."""
        if column in fitted.hashed:
            return self._hashed_texts(raw)
        if column in fitted.condition_columns or not column:
            return [""] * len(raw)  # of a row that may be one never to be stored
        return list(raw)


def _terms(rule: Rule, secret: bytes) -> str:
    told = repr((rule.drop, rule.keep, rule.hash, rule.rows and rule.rows.text))
    return hmac.digest(secret if rule.hash else b"", told.encode(), "sha256").hex()[:16]


def _stored(fitted: Fitted, table: pa.Table, seen: _Seen) -> pa.Table:
    names = fitted.schema.column_names
    columns = [seen.hashed[name] if name in seen.hashed else table.column(name) for name in names]
    return pa.table(dict(zip(names, columns, strict=True)))


def _without_values(fitted: Fitted, rows: pa.Table, leaves: Bools) -> pa.Table:
    """With nothing but the key of the rows that leave."""
    if not leaves.any():
        return rows
    places = pa.array(np.arange(len(leaves)), mask=leaves)
    return pa.table(
        {
            name: rows.column(name)
            if name in fitted.schema.key
            else rows.column(name).combine_chunks().take(places)
            for name in rows.column_names
        }
    )


def _hanging(fitted: Fitted, change: TableChanges) -> Bools:
    """Rows whose condition hangs on a value that is not there to be looked at."""
    hanging = np.zeros(len(change.operations), np.bool_)
    for name in fitted.condition_columns:
        if name in change.unchanged:
            hanging |= change.unchanged[name]
    for refusal in change.refusals:
        if refusal.column in fitted.condition_columns or (
            not refusal.column and fitted.condition_columns
        ):
            hanging |= refusal.rows
    return hanging


def _left_out(
    fitted: Fitted, change: TableChanges, unknown: Bools, stays: Bools
) -> Iterable[Refusal]:
    for name in fitted.condition_columns:
        if name in change.unchanged and (rows := change.unchanged[name] & unknown).any():
            reason = f"{name}: was left out because it did not change, and rows are chosen by it"
            yield Refusal(reason, rows[stays], [""] * int(rows.sum()), name)


def _keys(schema: TableSchema, rows: pa.RecordBatch) -> list[tuple[object, ...]]:
    columns = [rows.column(name).to_pylist() for name in schema.key]
    return list(zip(*columns, strict=True))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole
