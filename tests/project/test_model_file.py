"""What the leading comment of a model says, and where a file is no model."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.project.model_file import parse_model
from upwell.project.problems import ProjectErrors


def test_the_leading_comment_is_description_key_and_owner() -> None:
    model = parse_model(
        "\n-- What each order sold\n-- per category.\n--\n-- Note: net of refunds.\n"
        "-- key: order_id , category\n-- owner: Sales team\n\nselect 1 as one -- not this\n",
        "models/a/sold.sql",
    )
    assert model.name == "sold"
    assert model.path.as_posix() == "models/a/sold.sql"
    assert model.description == "What each order sold per category.\n\nNote: net of refunds."
    assert model.key == ("order_id", "category")
    assert model.owner == "Sales team"


def test_a_model_needs_no_comment() -> None:
    model = parse_model("select 1 as one", "models/one.sql")
    assert (model.description, model.key, model.owner) == ("", (), "")


def test_lines_of_the_sql_are_lines_of_the_file() -> None:
    text = "-- About.\n\nselect 1 as one\nfrom shop.orders\n"
    assert parse_model(text, "models/one.sql").sql.splitlines()[3] == "from shop.orders"


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("select 1 as one;\n", "select 1 as one"),
        ("select 1 as one ; -- done\n;;", "select 1 as one"),
        ("; select 1 as one", "; select 1 as one"),
        ("select ';' as one", "select ';' as one"),
        ('select 1 as "a;b"', 'select 1 as "a;b"'),
        ("select $$a;b$$ as one", "select $$a;b$$ as one"),
        ("select 1 /* ; */ as one -- ; select 2", "select 1 /* ; */ as one -- ; select 2"),
        ("-- Größe; größer\nselect 'ä;ö' as one; ", "-- Größe; größer\nselect 'ä;ö' as one"),
    ],
)
def test_only_a_semicolon_that_ends_the_statement_ends_it(text: str, sql: str) -> None:
    assert parse_model(text, "models/one.sql").sql == sql


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "no statement"),
        ("-- Only a comment.\n;", 1, "no statement"),
        ("select 1;\n\nselect 2", 3, "second statement"),
        ("select 'a\n", 1, "not closed"),
        ("-- keys: a\nselect 1", 1, "unknown word `keys:`"),
        ("-- About.\n-- onwer: me\nselect 1", 2, "unknown word `onwer:`"),
        ("-- Key: a\nselect 1", 1, "unknown word `Key:`"),
        ("-- schedule: daily\nselect 1", 1, "unknown word `schedule:`"),
        ("-- key:\nselect 1", 1, "says nothing"),
        ("-- key: a\n-- key: b\nselect 1", 2, "is there twice"),
        ("-- key: a,,b\nselect 1", 1, "cannot be a column of the key"),
        ("-- key: a; b\nselect 1", 1, "cannot be a column of the key"),
        ("-- key: a, A\nselect 1", 1, "names a column twice"),
    ],
)
def test_what_is_no_model_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ProjectErrors) as caught:
        parse_model(text, "models/one.sql")
    (problem,) = caught.value.problems
    assert problem.code == "project_model_invalid"
    assert problem.where == f"models/one.sql:{line}"
    assert words in problem.what


@pytest.mark.parametrize(
    "prose", ["Note: this", "see https://example.com", "10:30 is noon", "a :b"]
)
def test_prose_with_a_colon_is_prose(prose: str) -> None:
    assert parse_model(f"-- {prose}\nselect 1", "models/one.sql").description == prose


@pytest.mark.parametrize("name", ["Orders", "1st", "a-b", "a.b", "a" * 64, "größe"])
def test_a_file_name_that_is_no_simple_identifier_is_refused(name: str) -> None:
    with pytest.raises(ProjectErrors, match="cannot be the name of a model"):
        parse_model("select 1", f"models/{name}.sql")


def test_everything_wrong_with_a_file_is_said_at_once() -> None:
    with pytest.raises(ProjectErrors) as caught:
        parse_model("-- keys: a\n-- owner:\nselect 1; select 2", "models/One.sql")
    assert len(caught.value.problems) == 4


@given(st.text(alphabet=st.sampled_from("-;'\"$/*\\ \nakey:sl1é\x85\u2028"), max_size=40))
def test_any_text_is_a_model_or_refused_as_a_project_problem(text: str) -> None:
    with contextlib.suppress(ProjectErrors):
        model = parse_model(text, "models/one.sql")
        assert text.startswith(model.sql)
