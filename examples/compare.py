"""Compares what the pages of a running Upwell show with numbers computed without it.

    python examples/<name>/check.py FILES --json | python examples/compare.py ADDRESS

Standard input is a JSON list of expectations: under which filters (``where``) of which
``dashboard`` a ``metric`` has which ``value``, in all and by month. Every number that the pages
show for them is compared digit for digit: number tiles, ranked bars, timelines with their layers
summed by calendar month. A quotient is compared to as many decimals as are expected of it.

Ends with a table of the totals and exit code 0 where all are equal. Exit code 1: a number differs,
or none of the pages shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

SHOWN_DIFFERENCES = 20

Months = Mapping[str, Decimal]


class Page(NamedTuple):
    """A dashboard under filters."""

    dashboard: str
    where: frozenset[tuple[str, str]] = frozenset()

    def narrowed(self, dimension: str, value: str) -> Page:
        """The page with ``dimension`` filtered to ``value`` instead."""
        others = {each for each in self.where if each[0] != dimension}
        return Page(self.dashboard, frozenset(others | {(dimension, value)}))

    def __str__(self) -> str:
        return self.dashboard + "".join(f", {name} {value}" for name, value in sorted(self.where))


class Place(NamedTuple):
    """A metric on a page."""

    page: Page
    metric: str


@dataclass(frozen=True)
class Expectation:
    """What a metric should be: in all (None for a ratio to nothing) and, where asked, by month."""

    value: Decimal | None
    months: Months | None = None
    is_ratio: bool = False


@dataclass
class Comparison:
    """What was compared so far."""

    expected: Mapping[Place, Expectation]
    seen: dict[Place, Decimal | None] = field(default_factory=dict)
    numbers: int = 0
    differences: list[str] = field(default_factory=list)

    def compare_value(self, place: Place, shown: Decimal | int | None) -> None:
        """A number tile or a bar against what was expected of it, if anything was."""
        expectation = self.expected.get(place)
        if expectation is None:
            return
        self.seen[place] = _as_expected(shown, expectation)
        self._compare(str(place.page), place.metric, expectation.value, self.seen[place])

    def compare_months(self, place: Place, shown: Months) -> None:
        """A timeline against what was expected of each month; a month without rows has 0."""
        expectation = self.expected.get(place)
        if expectation is None or expectation.months is None:
            return
        for month in sorted({*shown, *expectation.months}):
            expected = expectation.months.get(month, Decimal(0))
            where = f"{place.page}, {month}"
            self._compare(where, place.metric, expected, shown.get(month, Decimal(0)))

    def _compare(
        self, where: str, metric: str, expected: Decimal | None, shown: Decimal | None
    ) -> None:
        self.numbers += 1
        if expected != shown:
            self.differences.append(f"{where}: {metric} is {shown}, not {expected}")


def main() -> int:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description="Compares pages with numbers computed plainly.")
    parser.add_argument("address", help="where Upwell serves, e.g. http://127.0.0.1:8321")
    given = parser.parse_args()
    expected = dict(read_expectations(json.load(sys.stdin)))
    try:
        comparison = compare(expected, given.address)
    except (OSError, urllib.error.HTTPError) as error:
        print(f"cannot read the pages at {given.address}: {error}", file=sys.stderr)
        return 1
    print(*table(comparison), sep="\n")
    unseen = [place for place in expected if place not in comparison.seen]
    wrong = comparison.differences + [
        f"{place.page}: {place.metric} is on no page" for place in unseen
    ]
    print(*wrong[:SHOWN_DIFFERENCES], sep="\n", file=sys.stderr)
    print(f"\n{comparison.numbers:,} numbers compared, {len(wrong):,} differ.")
    return 1 if wrong else 0


def read_expectations(
    records: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[Place, Expectation]]:
    """The expectations as ``check.py`` writes them."""
    for record in records:
        page = Page(record["dashboard"], frozenset(record["where"].items()))
        months = record.get("months")
        yield (
            Place(page, record["metric"]),
            Expectation(
                value=None if record["value"] is None else Decimal(record["value"]),
                months=None if months is None else {k: Decimal(v) for k, v in months.items()},
                is_ratio=record.get("is_ratio", False),
            ),
        )


def compare(expected: Mapping[Place, Expectation], address: str) -> Comparison:
    """Look at pages, the widest first, until every expectation that any shows has been met."""
    comparison = Comparison(expected)
    pages: dict[Page, list[Place]] = defaultdict(list)
    for place in expected:
        pages[place.page].append(place)
    for page in sorted(pages, key=lambda page: (len(page.where), str(page))):
        if any(place not in comparison.seen for place in pages[page]):
            _compare_page(comparison, page, _read(address, page))
    return comparison


def table(comparison: Comparison) -> Iterator[str]:
    """The totals of unfiltered pages as a Markdown table."""
    yield "| dashboard | total | from the files | from Upwell |"
    yield "|---|---|---:|---:|"
    for place, expectation in comparison.expected.items():
        if not place.page.where:
            label = place.metric.replace("_", " ")
            shown = comparison.seen.get(place)
            plain, ours = (_written(value) for value in (expectation.value, shown))
            yield f"| {place.page.dashboard} | {label} | {plain} | {ours} |"


def _compare_page(comparison: Comparison, page: Page, board: Mapping[str, Any]) -> None:
    zone = ZoneInfo(board["zone"])
    for tile in board["tiles"]:
        place = Place(page, tile["metric"])
        if tile["kind"] == "number":
            comparison.compare_value(place, tile["value"])
        elif tile["kind"] == "bars":
            for row in tile["rows"]:
                if row["key"] is not None:  # else: the rest together
                    bar = Place(page.narrowed(tile["by"], row["key"]), tile["metric"])
                    comparison.compare_value(bar, row["value"])
        else:
            months = [
                datetime.fromtimestamp(bucket / 1000, zone).strftime("%Y-%m")
                for bucket in tile["buckets_ms"]
            ]
            comparison.compare_months(place, _by_month(months, tile["totals"]))
            for layer in tile["series"]:
                if tile["by"] is not None and layer["key"] is not None:
                    narrowed = Place(page.narrowed(tile["by"], layer["key"]), tile["metric"])
                    comparison.compare_months(narrowed, _by_month(months, layer["values"]))


def _by_month(months: Sequence[str], values: Sequence[Decimal | int | None]) -> Months:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for month, value in zip(months, values, strict=True):
        sums[month] += value or 0
    return sums


def _read(address: str, page: Page) -> dict[str, Any]:
    query = urllib.parse.urlencode([("period", "all"), *sorted(page.where)])
    with urllib.request.urlopen(  # noqa: S310 - the address is the caller's own
        f"{address.rstrip('/')}/api/v1/dashboards/{page.dashboard}?{query}", timeout=30
    ) as reply:
        return dict(json.load(reply, parse_float=Decimal))


def _as_expected(shown: Decimal | int | None, expectation: Expectation) -> Decimal | None:
    if shown is None:
        return None
    exact, decimals = Decimal(shown), expectation.value
    return exact.quantize(decimals) if expectation.is_ratio and decimals is not None else exact


def _written(value: Decimal | None) -> str:
    return "none" if value is None else f"{value.normalize():,f}"


if __name__ == "__main__":
    sys.exit(main())
