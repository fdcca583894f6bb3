"""Names for catalogs, and secrets that no text shows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.store.lake.catalog import Access, catalog_name, shown, sql_name


@given(st.text(min_size=1) | st.from_regex(r"(x_)?[a-z0-9_]+(_x)?", fullmatch=True))
def test_a_catalogs_name_is_made_of_what_all_take_and_tells_the_name_in_sql(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9_]*[a-z0-9])?", catalog_name(name))
    assert sql_name(catalog_name(name)) == name


@pytest.mark.parametrize("name", ["orders__log", "a_4f_b", "x", "7days"])
def test_a_plain_name_stays_readable(name: str) -> None:
    assert catalog_name(name) == name


def test_access_shows_no_secret() -> None:
    access = Access(
        catalog="https://ada:hidden@catalog:81/iceberg",
        endpoint="https://ada:hidden@store",
        access_key="key-of-ada",
        secret_key="hidden",
    )
    for text in (repr(access), str(access), f"{[access]}", shown(access.catalog)):
        assert "hidden" not in text
        assert "key-of-ada" not in text
    assert shown(access.catalog) == "https://catalog:81/iceberg"
