"""Pathway: a dataflow in memory. Tables that change are fed by connectors, row by row as they take.

Times are microseconds and money is cents, as integers: it has no decimals. Every batch of either
connector holds one marker row more, which travels through both models: when both have given out
the marker of a batch, they are fresh.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pathway as pw  # type: ignore[import-not-found]  # in an environment of its own
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.contenders.loop import Changes

_MARKER = -1
_MARKED = "marker"
_HOUR_US = 3_600_000_000
_PATIENCE_SECONDS = 900.0

_ITEMS = ("item_id", "order_id", "product_id", "qty", "price")
_PRODUCTS = ("product_id", "category")
_FACT = (
    *("item_id", "order_id", "order_ts", "customer_id", "segment", "region", "product_id"),
    *("category", "qty", "amount"),
)
_HOURLY = ("h", "category", "region", "s", "units", "n")


class _Items(pw.Schema):  # type: ignore[misc]  # a class of another environment
    item_id: int = pw.column_definition(primary_key=True)
    order_id: int
    product_id: int
    qty: int
    price: int


class _Products(pw.Schema):  # type: ignore[misc]  # as above
    product_id: int = pw.column_definition(primary_key=True)
    category: str


class _Fed(pw.io.python.ConnectorSubject):  # type: ignore[misc]  # as above
    """A connector that commits each list of rows it is given as one batch."""

    def __init__(self) -> None:
        super().__init__(session_type="upsert")
        self.given: queue.SimpleQueue[Iterator[tuple[str, dict[str, Any]]]] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            for operation, row in self.given.get():
                if operation == "delete":
                    self.delete(**row)
                else:
                    self.next(**row)
            self.commit()


class _Output:
    """A model's rows as they come out, and the last batch that came out whole.

    A change of a row may come as its new form before its old one, so both are kept by content.
    """

    def __init__(self, table: Any, columns: tuple[str, ...], quantity: str) -> None:
        self._columns, self._quantity = columns, quantity
        self._rows: dict[tuple[Any, ...], int] = {}
        self._marked = self._whole = -1
        self._passed = threading.Condition()
        pw.io.subscribe(table, on_change=self._on_change, on_time_end=self._on_time_end)

    def _on_change(self, key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:  # noqa: ARG002 - as called
        values = tuple(row[name] for name in self._columns)
        if row["region"] == _MARKED:
            if is_addition and row["category"] == str(row[self._quantity]):
                self._marked = row[self._quantity]
            return
        count = self._rows.get(values, 0) + (1 if is_addition else -1)
        if count:
            self._rows[values] = count
        else:
            del self._rows[values]

    def _on_time_end(self, time: int) -> None:  # noqa: ARG002 - as called
        with self._passed:
            self._whole = self._marked
            self._passed.notify_all()

    def await_batch(self, number: int) -> None:
        with self._passed:
            if not self._passed.wait_for(lambda: self._whole >= number, _PATIENCE_SECONDS):
                raise TimeoutError(f"batch {number} did not come out of Pathway")

    def rows(self) -> pa.Table:
        lists = zip(*self._rows, strict=True)
        return pa.table(dict(zip(self._columns, map(list, lists), strict=True)))


class Contender:
    """The dataflow of both models, running in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        del folder  # everything is in memory
        self._items, self._products = _Fed(), _Fed()
        self._outputs: tuple[_Output, ...] = ()
        self._batch = 0

    def start(self, base: Path) -> None:
        fact, hourly = _models(self._items, self._products, base)
        self._outputs = (_Output(fact, _FACT, "qty"), _Output(hourly, _HOURLY, "units"))
        threading.Thread(
            target=pw.run, kwargs={"monitoring_level": pw.MonitoringLevel.NONE}, daemon=True
        ).start()
        self.take_in({name: pq.read_table(base / f"{name}.parquet") for name in _FED})
        self.refresh()

    def take_in(self, changes: Changes) -> None:
        marker: dict[str, int | str] = dict.fromkeys(_ITEMS, _MARKER)
        marker |= {"qty": self._batch, "price": 0, "category": str(self._batch)}
        for name, columns in _FED.items():
            rows = [*_rows(changes[name], columns)] if name in changes else []
            rows.append(("insert", {each: marker[each] for each in columns}))
            (self._items if name == "order_items" else self._products).given.put(iter(rows))

    def refresh(self) -> None:
        for output in self._outputs:
            output.await_batch(self._batch)
        self._batch += 1

    def export(self, to: Path) -> None:
        for output, name in zip(self._outputs, ("fact", "hourly"), strict=True):
            pq.write_table(_as_others(output.rows()), to / f"{name}.parquet")

    def cpu_seconds(self) -> float:
        return time.process_time()


_FED = {"order_items": _ITEMS, "products": _PRODUCTS}


def _models(items: _Fed, products: _Fed, base: Path) -> tuple[Any, Any]:
    i = pw.io.python.read(items, schema=_Items, autocommit_duration_ms=None)
    p = pw.io.python.read(products, schema=_Products, autocommit_duration_ms=None)
    o = _static(base / "orders.parquet", order_id=_MARKER, customer_id=_MARKER, order_ts=0)
    c = _static(base / "customers.parquet", customer_id=_MARKER, region_id=_MARKER, segment="")
    r = _static(base / "regions.parquet", region_id=_MARKER, region=_MARKED)
    placed = o.join(c, o.customer_id == c.customer_id).select(
        o.order_id, o.order_ts, o.customer_id, c.segment, c.region_id
    )
    located = placed.join(r, placed.region_id == r.region_id).select(
        placed.order_id, placed.order_ts, placed.customer_id, placed.segment, r.region
    )
    sold = i.join(located, i.order_id == located.order_id).select(
        *(i[name] for name in _ITEMS),
        *(located[name] for name in ("order_ts", "customer_id", "segment", "region")),
    )
    fact = sold.join(p, sold.product_id == p.product_id).select(
        *(sold[name] for name in _FACT if name not in ("category", "amount")),
        category=p.category,
        amount=sold.qty * sold.price,
    )
    hours = fact.with_columns(h=fact.order_ts - fact.order_ts % _HOUR_US)
    hourly = hours.groupby(hours.h, hours.category, hours.region).reduce(
        hours.h,
        hours.category,
        hours.region,
        s=pw.reducers.sum(hours.amount),
        units=pw.reducers.sum(hours.qty),
        n=pw.reducers.count(),
        a=pw.reducers.avg(hours.amount),
    )
    return fact, hourly


def _static(file: Path, **marker: int | str) -> Any:
    """A table that does not change, with its marker row, in the columns the marker has."""
    rows = _integers(pq.read_table(file, columns=list(marker)))
    marked = pa.table({name: [value] for name, value in marker.items()}, rows.schema)
    return pw.debug.table_from_pandas(pa.concat_tables([rows, marked]).to_pandas())


def _rows(changes: pa.Table, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with what happens to it; base tables have no such column and are inserted."""
    wanted = _integers(changes.select(columns))
    lists = [wanted.column(name).to_pylist() for name in columns]
    operations = ["insert"] * changes.num_rows
    if "operation" in changes.column_names:
        operations = changes.column("operation").to_pylist()
    for operation, *values in zip(operations, *lists, strict=True):
        yield operation, dict(zip(columns, values, strict=True))


def _integers(rows: pa.Table) -> pa.Table:
    """Times as microseconds and money as cents."""
    columns = []
    for column in rows.columns:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us")).cast(pa.int64())  # noqa: PLW2901 - the same
        elif pa.types.is_decimal(column.type):
            column = pc.multiply(column, 100).cast(pa.int64())  # noqa: PLW2901 - the same
        elif pa.types.is_integer(column.type):
            column = column.cast(pa.int64())  # noqa: PLW2901 - the same
        columns.append(column)
    return pa.table(columns, rows.column_names)


def _as_others(rows: pa.Table) -> pa.Table:
    """What comes out with the types that all contenders have; cents are exact below 2⁵³."""
    for name in {"order_ts", "h"} & set(rows.column_names):
        at = rows.column_names.index(name)
        rows = rows.set_column(at, name, rows.column(name).cast(pa.timestamp("us")))
    for name in {"amount", "s"} & set(rows.column_names):
        at = rows.column_names.index(name)
        rows = rows.set_column(at, name, pc.divide(rows.column(name).cast(pa.float64()), 100.0))
    return rows
