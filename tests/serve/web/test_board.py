"""A board's numbers, against the same numbers computed in plain Python from the definitions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.core.errors import ProjectError, Unavailable, UsageError
from upwell.core.protocols import TableSnapshot, VersionEnd
from upwell.project.values import Project
from upwell.serve.web.board import Boards
from upwell.serve.web.metrics import Number as Value
from upwell.serve.web.payload import Bars, Number, Payload, Timeline, to_json
from upwell.serve.web.replica import Replica
from upwell.serve.web.tiles import BARS_MAX, SERIES_MAX
from upwell.serve.web.view import Filter, View, read_view, token, value_of

from .shop import (
    AVERAGE,
    CATEGORIES,
    DASHBOARD,
    NET_SALES,
    NOTHING_COMMITTED,
    ORDERS,
    REGIONS,
    SCHEMA,
    TIMELINE,
    UNITS,
    Row,
    instant_us,
    local,
    make_project,
    table,
)

NOW = instant_us(2026, 10, 27, 14, 37)
HOUR = 3_600_000_000
DAY = 24 * HOUR


def boards_of(rows: Iterable[Row], project: Project | None = None) -> Boards:
    project = project or make_project()
    replica = Replica(project)
    replica.receive(TableSnapshot(1, SCHEMA, table(rows)))
    replica.receive(VersionEnd(1, NOW, (), NOTHING_COMMITTED))
    return Boards(project, replica)


def show(rows: Iterable[Row], *filters: Filter, period: str = "30d", now: int = NOW) -> Payload:
    return boards_of(rows).compute(View("sales", period, filters), now).payload


def number(payload: Payload, place: int) -> Number:
    tile = payload.tiles[place]
    assert isinstance(tile, Number)
    return tile


def bars(payload: Payload, place: int) -> Bars:
    tile = payload.tiles[place]
    assert isinstance(tile, Bars)
    return tile


def timeline(payload: Payload) -> Timeline:
    tile = payload.tiles[TIMELINE]
    assert isinstance(tile, Timeline)
    return tile


def sale(  # noqa: PLR0917 - a row, in the order of its columns
    order: int,
    at: int = NOW,
    region: str | None = "North",
    category: str | None = "Hats",
    units: int | None = 1,
    amount: str | None = "10.00",
) -> Row:
    return (order, at, region, category, units, None if amount is None else Decimal(amount))


# ── against plain Python ─────────────────────────────────────────────────────────────────────────

ROWS = st.tuples(
    st.integers(1, 30),
    st.integers(NOW - 62 * DAY, NOW + DAY) | st.none(),
    st.sampled_from(["North", "South", None]),
    st.sampled_from(["Hats", "Shoes", "~odd", "", None]),
    st.integers(-3, 5) | st.none(),
    st.decimals(-500, 500, places=2, allow_nan=False) | st.none(),
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sets(st.sampled_from(["Hats", "~odd", "", None]), min_size=1),
        "region": st.sets(st.sampled_from(["North", None, "Nowhere"]), min_size=1),
    },
)
FIELD = {"region": 2, "category": 3}


def business_date(us: int) -> date:
    return datetime.fromtimestamp(us // 1_000_000, UTC).astimezone(ZoneInfo("Europe/London")).date()


def is_current(row: Row, days: int) -> bool:
    first = business_date(NOW) - timedelta(days=days - 1)
    return row[1] is not None and first <= business_date(row[1]) and row[1] <= NOW


def is_previous(row: Row, days: int) -> bool:
    if row[1] is None:
        return False
    moment = datetime.fromtimestamp(row[1] / 1e6, ZoneInfo("Europe/London")).replace(tzinfo=None)
    now = datetime.fromtimestamp(NOW / 1e6, ZoneInfo("Europe/London")).replace(tzinfo=None)
    first = business_date(NOW) - timedelta(days=2 * days - 1)
    return first <= business_date(row[1]) and moment < now - timedelta(days=days)


def sums(rows: list[Row]) -> tuple[Decimal, int, int]:
    amounts = sum((row[5] for row in rows if row[5] is not None), Decimal())
    return amounts, len({row[0] for row in rows}), sum(row[4] or 0 for row in rows)


def passing(rows: list[Row], chosen: dict[str, set[str | None]], ignore: str = "") -> list[Row]:
    return [
        row
        for row in rows
        if all(row[FIELD[name]] in values for name, values in chosen.items() if name != ignore)
    ]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, max_size=40), chosen=FILTERS, period=st.sampled_from(["7d", "30d"]))
def test_every_tile_shows_what_its_definition_says(
    rows: list[Row], chosen: dict[str, set[str | None]], period: str
) -> None:
    query = [(name, token(value)) for name, values in chosen.items() for value in values]
    boards = boards_of(rows)
    view = read_view(boards.project, "sales", [("period", period), *query])
    payload = boards.compute(view, NOW).payload
    days = int(period[:-1])
    now_rows = [row for row in rows if is_current(row, days)]
    old_rows = [row for row in rows if is_previous(row, days)]

    amount, orders, units = sums(passing(now_rows, chosen))
    old_amount, old_orders, old_units = sums(passing(old_rows, chosen))
    shown = [(tile.value, tile.previous) for tile in payload.tiles if isinstance(tile, Number)]
    assert shown[:3] == [(amount, old_amount), (orders, old_orders), (units, old_units)]
    assert shown[3][0] == (pytest.approx(float(amount) / orders) if orders else None)

    for place, name in ((REGIONS, "region"), (CATEGORIES, "category")):
        current = passing(now_rows, chosen, ignore=name)
        before = passing(old_rows, chosen, ignore=name)
        for bar in bars(payload, place).rows:
            assert bar.key is not None
            value = value_of(bar.key)
            part = sums([row for row in current if row[FIELD[name]] == value])[0]
            old = sums([row for row in before if row[FIELD[name]] == value])[0]
            assert (bar.value, bar.previous) == (part, old)
            assert bar.selected == (value in chosen.get(name, set()))
        total = sum((Decimal(bar.value or 0) for bar in bars(payload, place).rows), Decimal())
        assert total == sums(current)[0]

    drawn = timeline(payload)
    assert sum((Decimal(value or 0) for value in drawn.totals), Decimal()) == amount
    for point, at in enumerate(drawn.buckets_ms):
        layers = sum((Decimal(each.values[point] or 0) for each in drawn.series), Decimal())
        assert layers == drawn.totals[point]
        if period == "30d":
            day = business_date(at * 1000)
            of_day = [row for row in passing(now_rows, chosen) if business_date(row[1] or 0) == day]
            assert layers == sums(of_day)[0]


# ── the definitions, one by one ──────────────────────────────────────────────────────────────────


def test_an_order_of_two_categories_is_one_order() -> None:
    payload = show([sale(1, category="Hats"), sale(1, category="Shoes"), sale(2)])
    assert number(payload, ORDERS).value == 2
    assert number(payload, AVERAGE).value == 15.0


def test_sums_of_decimals_are_exact_down_to_the_json() -> None:
    payload = show(
        [sale(n, amount="0.10") for n in range(3)] + [sale(9, amount="90071992547409.93")]
    )
    assert number(payload, NET_SALES).value == Decimal("90071992547410.23")
    assert b'"value":90071992547410.23' in to_json(payload)


def test_a_ratio_to_nothing_and_a_change_from_nothing_are_nothing() -> None:
    payload = show([])
    assert [number(payload, each).value for each in (NET_SALES, ORDERS, UNITS)] == [0, 0, 0]
    assert number(payload, AVERAGE).value is None
    assert number(payload, NET_SALES).change is None
    assert b"NaN" not in to_json(payload)
    assert msgspec.json.decode(to_json(payload))["tiles"][AVERAGE]["value"] is None


def test_a_change_from_a_negative_number_has_the_sign_of_the_difference() -> None:
    payload = show([sale(1, amount="50.00"), sale(2, at=NOW - 31 * DAY, amount="-100.00")])
    assert number(payload, NET_SALES).change == 1.5


def test_null_is_a_category_of_its_own_that_can_be_chosen() -> None:
    rows = [sale(1, category=None), sale(2, category="(none)", amount="5.00")]
    payload = show(rows, Filter("category", (None,)))
    assert number(payload, NET_SALES).value == 10
    rows_shown = {row.key: (row.label, row.value) for row in bars(payload, CATEGORIES).rows}
    assert rows_shown == {"~": ("(none)", 10), "(none)": ("(none)", 5)}
    assert [row.selected for row in bars(payload, CATEGORIES).rows] == [True, False]


def test_a_list_shows_what_its_own_filter_hides_elsewhere() -> None:
    rows = [sale(1, region="North"), sale(2, region="South", amount="30.00")]
    payload = show(rows, Filter("region", ("North",)))
    assert number(payload, NET_SALES).value == 10
    shares = [(row.label, row.share) for row in bars(payload, REGIONS).rows]
    assert shares == [("South", 0.75), ("North", 0.25)]
    assert bars(payload, CATEGORIES).rows[0].value == 10


def test_a_chosen_value_is_listed_also_when_nothing_of_it_is_left() -> None:
    payload = show([sale(1)], Filter("category", ("Gloves",)))
    chosen = [row for row in bars(payload, CATEGORIES).rows if row.selected]
    assert [(row.label, row.value) for row in chosen] == [("Gloves", 0)]


def test_what_is_too_small_to_draw_is_drawn_together_and_nothing_is_lost() -> None:
    rows = [sale(n, category=f"c{n:02}", amount=f"{n + 1}.00") for n in range(20)]
    payload = show(rows)
    series = timeline(payload).series
    assert len(series) == SERIES_MAX + 1
    assert (series[-1].key, series[-1].values[-1]) == (None, sum(range(1, 13)))
    listed = bars(payload, CATEGORIES)
    assert len(listed.rows) == BARS_MAX + 1
    assert (listed.rows[-1].label, listed.left_out) == ("Other", 20 - BARS_MAX)
    assert sum(float(row.share or 0) for row in listed.rows) == pytest.approx(1)


def test_a_value_keeps_its_rank_when_others_come() -> None:
    project = make_project()
    replica = Replica(project)
    boards = Boards(project, replica)
    for version, categories in enumerate((["B", "D"], ["A", "B", "C", "D"]), 1):
        rows = [sale(n, category=each) for n, each in enumerate(categories)]
        replica.receive(TableSnapshot(version, SCHEMA, table(rows)))
        replica.receive(VersionEnd(version, NOW, (), NOTHING_COMMITTED))
        payload = boards.compute(View("sales", "30d"), NOW).payload
        ranks = {each.label: each.rank for each in timeline(payload).series}
        assert (ranks["B"], ranks["D"]) == (0, 1)
    assert sorted(ranks.values()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("period", "grain", "points"),
    [("24h", "hour", 24), ("7d", "hour", 7 * 24 + 1 - 9), ("30d", "day", 30)],
)
def test_a_timeline_has_every_bucket_up_to_now_and_none_after(
    period: str, grain: str, points: int
) -> None:
    payload = show([sale(1, at=NOW + 1), sale(2)], period=period)
    drawn = timeline(payload)
    assert (drawn.grain, len(drawn.buckets_ms)) == (grain, points)  # 25 Oct 2026 has 25 hours
    assert drawn.buckets_ms[-1] * 1000 <= NOW
    assert drawn.totals[-1] == 10
    assert sum(float(value or 0) for value in drawn.totals[:-1]) == 0


def test_a_row_stamped_ahead_of_our_clock_shows_when_its_time_has_come() -> None:
    boards = boards_of([sale(1, at=NOW + 2_000_000)])
    view = View("sales", "24h")
    early = boards.compute(view, NOW)
    assert number(early.payload, ORDERS).value == 0
    assert early.expires_at_us == NOW + 2_000_000
    late = boards.compute(view, early.expires_at_us)
    assert number(late.payload, ORDERS).value == 1


def test_midnight_in_the_business_zone_begins_another_window() -> None:
    boards = boards_of([sale(1)])
    view = View("sales", "30d")
    night = instant_us(2026, 10, 27, 23, 59, 59)
    before = boards.compute(view, night)
    assert before.expires_at_us == instant_us(2026, 10, 28)
    after = boards.compute(view, before.expires_at_us)
    starts = [local(each.payload.window.starts_ms * 1000) for each in (before, after)]
    assert starts == ["2026-09-28 00:00", "2026-09-29 00:00"]


def test_without_comparison_nothing_is_compared() -> None:
    project = make_project(dashboard=DASHBOARD.replace("compare: previous_period", ""))
    boards = boards_of([sale(1), sale(2, at=NOW - 31 * DAY)], project)
    payload = boards.compute(View("sales", "30d"), NOW).payload
    assert number(payload, NET_SALES).previous is None
    assert payload.window.previous_starts_ms is None
    assert bars(payload, REGIONS).rows[0].change is None


def test_there_are_no_numbers_before_the_first_version() -> None:
    project = make_project()
    with pytest.raises(Unavailable):
        Boards(project, Replica(project)).compute(View("sales", "30d"), NOW)


def test_a_board_waits_for_its_own_tables_alone() -> None:
    replica = Replica(make_project())
    replica.receive(VersionEnd(1, NOW, (), NOTHING_COMMITTED))
    boards = Boards(make_project(), replica)
    view = View("sales", "30d", ())
    with pytest.raises(Unavailable, match=f"{SCHEMA.name} is not there yet"):
        boards.compute(view, NOW)
    replica.receive(TableSnapshot(2, SCHEMA, table([])))
    replica.receive(VersionEnd(2, NOW, (), NOTHING_COMMITTED))
    assert boards.compute(view, NOW).payload.version == 2


# ── views ────────────────────────────────────────────────────────────────────────────────────────


@given(st.none() | st.text())
def test_a_token_stands_for_one_value(value: str | None) -> None:
    assert value_of(token(value)) == value


def test_the_same_question_is_the_same_view() -> None:
    project = make_project()
    one = read_view(project, "sales", [("region", "b"), ("category", "x"), ("region", "a")])
    two = read_view(
        project, "sales", [("category", "x"), ("region", "a"), ("region", "b"), ("region", "a")]
    )
    assert one == two
    assert hash(one) == hash(two)
    assert one.period == "30d"


@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("sale", [], "did you mean sales"),
        ("sales", [("period", "9d")], "expected one of: 24h, 7d, 30d"),
        ("sales", [("colour", "red")], "expected one of: category, region"),
        ("sales", [("region", "x" * 501)], "too long"),
        ("sales", [("region", str(n)) for n in range(101)], "at most 100"),
    ],
)
def test_what_a_dashboard_does_not_offer_is_refused_with_what_it_does(
    name: str, query: list[tuple[str, str]], says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read_view(make_project(), name, query)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("metric: units", "metric: unit"), "did you mean units?"),
        (("by: region", "by: regions"), "did you mean region?"),
        (("filters: [category", "filters: [categry"), "did you mean category?"),
    ],
)
def test_a_dashboard_that_names_what_is_not_there_is_refused_with_file_and_nearest_name(
    wrong: tuple[str, str], says: str
) -> None:
    project = make_project(dashboard=DASHBOARD.replace(*wrong))
    with pytest.raises(ProjectError) as refused:
        Boards(project, Replica(project))
    assert says in str(refused.value)
    assert "dashboards/sales.yaml" in str(refused.value)


def test_values_are_numbers_of_python() -> None:
    value: Value | None = number(show([sale(1)]), NET_SALES).value
    assert isinstance(value, Decimal)
