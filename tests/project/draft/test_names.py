"""Names made from other people's names."""

from __future__ import annotations

import re

import duckdb
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.project.document import parse
from upwell.project.draft.names import (
    KEYWORDS,
    Names,
    identifier,
    label,
    noun,
    plural,
    scalar,
    singular,
    words,
    written,
)

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)


@settings(deadline=None)
@given(TEXTS)
def test_an_identifier_is_one_that_project_files_take(text: str) -> None:
    found = Names().take(text, otherwise="column")
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}", found)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=20))
def test_no_identifier_is_given_twice(texts: list[str]) -> None:
    names = Names(["column"])
    found = [names.take(text, otherwise="column") for text in texts]
    assert len({*found, "column"}) == len(texts) + 1


@settings(deadline=None)
@given(TEXTS)
def test_a_name_written_in_yaml_is_read_back_as_it_was(text: str) -> None:
    assert parse(f"a: {scalar(text)}\n", "f.yaml").data == {"a": text}


def test_every_word_that_sql_reserves_is_quoted() -> None:
    reserved = duckdb.sql(
        "select keyword_name from duckdb_keywords() where keyword_category <> 'unreserved'"
    ).fetchall()
    assert {word for (word,) in reserved} <= KEYWORDS


@settings(deadline=None)
@given(st.one_of(TEXTS.filter(bool), st.sampled_from(sorted(KEYWORDS))))
def test_a_name_written_in_sql_is_read_back_as_it_was(name: str) -> None:
    tree = sqlglot.parse_one(f"select t.{written(name)} from t", dialect="duckdb")
    (column,) = tree.find_all(sqlglot.exp.Column)
    assert column.name == name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("OrderDate", ("order", "date")),
        ("Order Date", ("order", "date")),
        ("orderID", ("order", "id")),
        ("HTTPStatus", ("http", "status")),
        ("Größe_cm", ("groe", "cm")),
        ("заказ", ()),
    ],
)
def test_names_fall_into_words(text: str, found: tuple[str, ...]) -> None:
    assert words(text) == found


def test_a_name_without_plain_letters_has_no_identifier_but_a_label() -> None:
    assert identifier("заказ") == ""
    assert label("заказ") == "Заказ"


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("order", "orders"),
        ("category", "categories"),
        ("box", "boxes"),
        ("address", "addresses"),
        ("status", "statuses"),
        ("person", "people"),
        ("order line", "order lines"),
        ("day", "days"),
        ("purchase", "purchases"),
        ("invoice", "invoices"),
    ],
)
def test_one_and_several(one: str, several: str) -> None:
    assert plural(one) == several
    assert plural(several) == several
    assert singular(several) == one


def test_a_table_is_named_after_its_rows_without_what_it_is_wrapped_in() -> None:
    assert noun("raw_orders") == "orders"
    assert noun("tblCustomers") == "customers"
    assert noun("olist_orders_dataset") == "olist orders"
    assert noun("data") == "data"
