"""YAML as plain data with lines: what is read, and what is refused where."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from upwell.project.document import parse
from upwell.project.problems import ProjectErrors


def test_every_key_and_item_has_its_line() -> None:
    document = parse("a: 1\nb:\n  - x\n  - c: 2\n    d:\n      {e: 3}\n", "f.yaml")
    assert document.data == {"a": 1, "b": ["x", {"c": 2, "d": {"e": 3}}]}
    assert document.where("a") == "f.yaml:1"
    assert document.where("b", 0) == "f.yaml:3"
    assert document.where("b", 1, "d") == "f.yaml:5"
    assert document.where("b", 1, "d", "e") == "f.yaml:6"


def test_a_place_that_is_not_there_has_the_line_of_what_surrounds_it() -> None:
    document = parse("a: 1\nb:\n  - c: 2\n", "f.yaml")
    assert document.where("b", 0, "missing", "deeper") == "f.yaml:3"
    assert document.where("missing") == "f.yaml:1"
    assert parse("", "f.yaml").where("missing") == "f.yaml:1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("06:30", "06:30"),
        ("2026-03-01", "2026-03-01"),
        ("0x10", "0x10"),
        ("true", True),
        ("~", None),
        ("", None),
        ("-12", -12),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("'12'", "12"),
        ('"true"', "true"),
        ("127.0.0.1:8321", "127.0.0.1:8321"),
    ],
)
def test_scalars_are_read_by_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    data = parse(f"key: {text}\n", "f.yaml").data
    assert data == {"key": value}
    assert isinstance(data, dict)
    assert type(data["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\n\tb: 2\n", 2, "tab"),
        ("a: [1, 2\nb: 3\n", 2, "expected ',' or ']'"),
        ("a: &x [1]\nb: *x\n", 2, "alias `*x`"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "tag"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a:\n  " + "[" * 40 + "]" * 40, 2, "more than 32 levels"),
        ("a: 1\n? [b]\n: c\n", 2, "key that is not plain text"),
        ("a: 1\nb: \x01\n", 2, "U+0001"),
        ('a: 1\nb: "\\ud800"\n', 2, "half of a character"),
        ('a: "\\Uffffffff"\n', 1, "escape"),
    ],
)
def test_other_yaml_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ProjectErrors) as caught:
        parse(text, "f.yaml")
    (problem,) = caught.value.problems
    assert problem.code == "project_yaml_invalid"
    assert problem.where == f"f.yaml:{line}"
    assert words in problem.what


def test_every_key_that_is_there_twice_is_reported_with_both_lines() -> None:
    with pytest.raises(ProjectErrors) as caught:
        parse("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f.yaml")
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        ("f.yaml:2", "the key `c` is there twice; first on line 2"),
        ("f.yaml:3", "the key `a` is there twice; first on line 1"),
    ]


def test_a_key_that_is_there_three_times_is_held_against_the_first() -> None:
    with pytest.raises(ProjectErrors) as caught:
        parse("a: {b: 1}\na:\n  b: 2\n  b: 3\na: 4\n", "f.yaml")
    assert [(problem.where, problem.what[-17:]) for problem in caught.value.problems] == [
        ("f.yaml:2", "; first on line 1"),
        ("f.yaml:4", "; first on line 3"),
        ("f.yaml:5", "; first on line 1"),
    ]


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)
    )
    with pytest.raises(ProjectErrors, match=r"alias `\*a0`"):
        parse(bomb, "f.yaml")


@given(
    st.text(alphabet=st.sampled_from("ab:-[]{}#'\"\\&*!|>%@`,?~\t\n 0.x\ufeff\x00é"), max_size=60)
)
def test_any_text_is_read_or_refused_as_a_project_problem(text: str) -> None:
    with contextlib.suppress(ProjectErrors):
        parse(text, "f.yaml")


_texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@given(_values)
def test_what_yaml_wrote_is_read_back(value: Any) -> None:
    written = yaml.safe_dump(value, allow_unicode=False)
    assert parse(written, "f.yaml").data == value
