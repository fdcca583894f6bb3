"""URLs without their password."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.project.url import holds_password, redact_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:p@ss/w:rd@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:two words@h/d", "postgresql://u:***@h/d"),
        ("postgresql://:p@h/d", "postgresql://:***@h/d"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://h/d?user=u&password=p&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("host=h password=p dbname=d", "host=h password=*** dbname=d"),
        (r"host=h password = 'p \' q' dbname=d", "host=h password = *** dbname=d"),
        ("cannot reach POSTGRES://u:p@h", "cannot reach POSTGRES://u:***@h"),
        ("nothing secret", "nothing secret"),
    ],
)
def test_a_password_is_hidden_in_each_way_of_writing_it(text: str, shown: str) -> None:
    assert redact_url(text) == shown


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
def test_what_is_shown_of_a_url_depends_on_no_character_of_its_password(password: str) -> None:
    url = f"postgresql://reader:{quote(password, safe='')}@localhost:5432/shop"
    assert urlsplit(url).password is not None
    assert redact_url(url) == "postgresql://reader:***@localhost:5432/shop"
    assert holds_password(url)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("postgresql://u:p@h/d", True),
        ("postgresql://u:@h/d", False),
        ("postgresql://u@h/d", False),
        ("postgresql://h/d?password=p", True),
        ("postgresql://h/d?password=&x=1", False),
        ("host=h password='p q'", True),
        ("", False),
    ],
)
def test_a_url_without_a_password_is_told_from_one_with_it(text: str, *, holds: bool) -> None:
    assert holds_password(text) is holds
