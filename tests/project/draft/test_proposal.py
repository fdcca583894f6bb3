"""What is proposed of a database: what happens, when, how much, by what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.project.draft.surveys import (
    RECENTLY,
    WISHES,
    changed,
    column,
    drafted,
    reference,
    shop,
    survey,
    table,
)
from upwell.core.errors import EnvironmentFault, UpwellError, UsageError
from upwell.project.draft import Proposal, files_of, propose
from upwell.project.survey import Obstacle, SeenForeignKey, Survey


def proposed(given: Survey, **wishes: object) -> Proposal:
    return propose(given, replace(WISHES, **wishes))  # type: ignore[arg-type]


def text_of(proposal: Proposal, ending: str) -> str:
    (text,) = [text for path, text in files_of(proposal).items() if str(path).endswith(ending)]
    return text


def test_lines_are_the_fact_before_their_header_and_a_catalogue(tmp_path: Path) -> None:
    proposal = proposed(shop())
    assert proposal.board is not None
    assert proposal.board.candidate.table.name == "order_items"
    assert proposal.board.moment.column.name == "placed_at"
    assert proposal.board.event.noun == "order"
    project = drafted(shop(), tmp_path)
    assert list(project.models) == ["order_lines"]
    assert set(project.metrics) == {"sales", "orders", "average_order", "units", "customers"}
    (board,) = project.dashboards.values()
    assert (board.title, board.filters) == ("Sales", ("category", "country", "order_status"))


def test_a_table_that_is_empty_yet_is_the_fact_only_where_no_other_is_as_good() -> None:
    event = (column("id"), column("at", "time", latest=RECENTLY), column("total"))
    used, unused = table("deals", *event, rows=3), table("orders", *event, rows=0)
    staff = table("employees", column("id"), column("hired_at", "time", latest=RECENTLY), rows=9)
    for tables, fact in (((used, unused), used), ((unused, staff), unused)):
        board = proposed(survey(*tables)).board
        assert board is not None
        assert board.candidate.table.name == fact.name


def test_an_inner_join_is_only_where_the_database_sees_to_a_partner() -> None:
    model = text_of(proposed(shop()), ".sql")
    assert "\njoin shop.orders on" in model
    assert "\nleft join shop.products on" in model  # product_id may be empty
    assert "\nleft join shop.categories on" in model  # a product may be missing already
    lax = changed(
        shop(),
        "order_items",
        foreign_keys=(
            SeenForeignKey(("order_id",), "orders", ("id",), is_sure=False),
            reference("product_id", "products"),
        ),
    )
    assert "\nleft join shop.orders on" in text_of(proposed(lax), ".sql")


def test_without_foreign_keys_columns_named_after_keys_are_followed_and_said_to_be_guesses() -> (
    None
):
    tables = [replace(each, foreign_keys=()) for each in shop().tables]
    proposal = proposed(survey(*tables))
    assert proposal.board is not None
    assert proposal.board.candidate.table.name == "order_items"
    model = text_of(proposal, ".sql")
    assert "-- left: no foreign key says so, but order_id is named after orders" in model
    assert "\njoin" not in model


def test_inexact_money_is_cast_so_that_sums_are_exact() -> None:
    columns = [
        replace(each, stored="FLOAT") if each.name == "unit_price" else each
        for each in shop().table("order_items").columns
    ]
    model = text_of(proposed(changed(shop(), "order_items", columns=tuple(columns))), ".sql")
    assert "cast(order_items.unit_price as decimal(18, 4))" in model


@pytest.mark.parametrize(
    ("common", "sql"),
    [
        (["0", "0.05"], "* (1 - order_items.discount)"),
        (["0", "2.50"], "order_items.unit_price - order_items.discount"),
        (["0"], "nobody can"),
    ],
)
def test_a_discount_is_a_share_an_amount_or_left_for_a_person(common: list[str], sql: str) -> None:
    items = shop().table("order_items")
    discount = column("discount", stored="DECIMAL(6,2)", common=common)
    given = changed(shop(), "order_items", columns=(*items.columns, discount))
    assert sql in text_of(proposed(given), ".sql")


def test_old_data_is_shown_whole_and_recent_data_by_the_month(tmp_path: Path) -> None:
    (board,) = drafted(shop(), tmp_path / "recent").dashboards.values()
    assert (board.period.default, board.compare) == ("30d", "previous_period")
    orders = shop().table("orders")
    columns = tuple(
        replace(each, latest=datetime(1998, 5, 6, tzinfo=UTC)) if each.latest else each
        for each in orders.columns
    )
    (board,) = drafted(
        changed(shop(), "orders", columns=columns), tmp_path / "old"
    ).dashboards.values()
    assert board.period.default == "all"


def test_a_date_is_known_to_the_day_and_not_drawn_by_the_hour(tmp_path: Path) -> None:
    orders = shop().table("orders")
    columns = tuple(
        replace(each, stored="DATE", declared="date") if each.family == "time" else each
        for each in orders.columns
    )
    project = drafted(changed(shop(), "orders", columns=columns), tmp_path)
    (board,) = project.dashboards.values()
    assert "24h" not in board.period.choices
    (semantic,) = project.semantic_models.values()
    assert [
        each.type_params.time_granularity for each in semantic.dimensions if each.type_params
    ] == ["day"]


def test_where_nothing_is_money_rows_are_counted(tmp_path: Path) -> None:
    visits = table(
        "visits", column("id"), column("visited_at", "time"), column("page", "text", distinct=9)
    )
    project = drafted(survey(visits), tmp_path)
    assert set(project.metrics) == {"visits"}
    (board,) = project.dashboards.values()
    assert board.title == "Visits"


def test_without_a_time_there_is_a_model_and_no_page(tmp_path: Path) -> None:
    cities = table("cities", column("id"), column("country", "text", distinct=9))
    project = drafted(survey(cities), tmp_path)
    assert (set(project.models), project.dashboards) == ({"cities"}, {})


def test_a_person_may_choose_the_fact_and_its_time() -> None:
    proposal = proposed(shop(), fact="orders")
    assert proposal.board is not None
    assert proposal.board.candidate.table.name == "orders"
    for wish in ({"fact": "ordrs"}, {"fact": "categories"}, {"time": "placed"}):
        with pytest.raises(UsageError) as refused:
            proposed(shop(), **wish)
        assert refused.value.next_step


def test_wished_tables_are_captured_and_no_others() -> None:
    proposal = proposed(shop(), tables=("orders", "customers"))
    assert proposal.tables == ("orders", "customers")
    with pytest.raises(UsageError, match="no table oders") as refused:
        proposed(shop(), tables=("oders",))
    assert "orders" in refused.value.next_step


UNFIT = Obstacle("table_without_key", "a has no primary key", "ALTER TABLE a ADD PRIMARY KEY (…)")


def test_a_table_that_cannot_be_captured_is_left_out_with_its_remedy() -> None:
    given = changed(shop(), "categories", obstacles=(UNFIT,))
    proposal = proposed(given)
    assert "categories" not in proposal.tables
    assert [(each.table, each.next_step) for each in proposal.left_out] == [
        ("categories", UNFIT.next_step)
    ]
    assert "shop.categories" not in text_of(proposal, ".sql")
    with pytest.raises(EnvironmentFault):
        proposed(given, tables=("categories",))


@pytest.mark.parametrize("tables", [(), (replace(shop().tables[0], obstacles=(UNFIT,)),)])
def test_a_database_from_which_nothing_can_be_captured_is_refused_with_the_next_step(
    tables: tuple[object, ...],
) -> None:
    with pytest.raises(UpwellError) as refused:
        proposed(replace(shop(), tables=tables))  # type: ignore[arg-type]
    assert refused.value.next_step


def test_of_two_tables_that_sql_could_not_tell_apart_one_is_captured() -> None:
    given = survey(
        table("Orders", column("id"), column("placed_at", "time", latest=RECENTLY)),
        table("orders", column("id"), column("placed_at", "time", latest=RECENTLY)),
        table("sales.orders", column("id"), column("placed_at", "time", latest=RECENTLY)),
    )
    proposal = proposed(given)
    assert proposal.tables == ("Orders", "sales.orders")
    assert [each.table for each in proposal.left_out] == ["orders"]


def test_of_many_tables_only_what_the_model_reads_is_captured() -> None:
    others = [table(f"other_{number}", column("id")) for number in range(30)]
    proposal = proposed(survey(*shop().tables, *others))
    assert set(proposal.tables) == {each.name for each in shop().tables}
    assert len(proposal.left_out) == 30


def test_no_drafted_file_holds_what_a_column_holds_but_for_states_of_being_undone() -> None:
    """Values may be personal, and files are committed."""
    customers = shop().table("customers")
    columns = (*customers.columns, column("segment", "text", distinct=3, common=["Jane Doe"]))
    given = changed(shop(), "customers", columns=columns)
    assert "Jane Doe" not in "".join(files_of(proposed(given)).values())


@pytest.mark.parametrize("name", ["status", "order_state"])
def test_where_orders_can_be_cancelled_a_condition_stands_ready(name: str) -> None:
    (old,) = (each for each in shop().table("orders").columns if each.name == "status")
    columns = tuple(
        replace(each, name=name) if each == old else each for each in shop().table("orders").columns
    )
    model = text_of(proposed(changed(shop(), "orders", columns=columns)), ".sql")
    assert f"\n-- where (orders.{name} in ('cancelled')) is not true" in model


def test_two_references_to_one_table_are_two_joins(tmp_path: Path) -> None:
    given = survey(
        table("countries", column("id"), column("name", "text", distinct=20), rows=20),
        table(
            "orders",
            column("id"),
            column("placed_at", "time", latest=RECENTLY),
            column("total", stored="DECIMAL(10,2)"),
            column("billing_country_id"),
            column("shipping_country_id"),
            to=[
                reference("billing_country_id", "countries"),
                reference("shipping_country_id", "countries"),
            ],
        ),
    )
    assert drafted(given, tmp_path).metrics


def test_a_time_named_after_the_rows_goes_before_their_orders() -> None:
    payments = table(
        "payments",
        column("id"),
        column("order_id"),
        column("amount", stored="DECIMAL(10,2)"),
        column("paid_at", "time", latest=RECENTLY),
        column("updated_at", "time", latest=RECENTLY),
        to=[reference("order_id", "orders")],
    )
    board = proposed(survey(*shop().tables, payments), fact="payments").board
    assert board is not None
    assert board.moment.column.name == "paid_at"
    assert (board.event.noun, board.event.is_distinct) == ("payment", False)
