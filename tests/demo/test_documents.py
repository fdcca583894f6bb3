"""What the documents tell a reader to type into psql works, and changes something."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import psycopg
import pytest

from upwell.demo.template import template_files

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PROJECT_README = template_files()[PurePosixPath("README.md")]


def statements(document: str) -> list[str]:
    """The shop's own SQL: fenced blocks without those that show a part of a model."""
    blocks = re.findall(r"```sql\n(.*?)```", document, re.DOTALL)
    text = "".join(block for block in blocks if not block.startswith("where"))
    bare = re.sub(r"--.*", "", text)
    return [statement.strip() for statement in bare.split(";") if statement.strip()]


def without_effect(connection: psycopg.Connection[tuple[object, ...]], text: str) -> Iterator[str]:
    """Statements that change no row; TRUNCATE and transaction control report -1, not 0."""
    for statement in statements(text):
        done = connection.execute(statement.encode())
        if done.rowcount == 0:
            yield statement


@pytest.mark.postgres
@pytest.mark.parametrize("document", [TUTORIAL, PROJECT_README], ids=["tutorial", "project-readme"])
def test_every_statement_for_psql_changes_the_shop(
    small_shop: Callable[[], str], document: str
) -> None:
    assert len(statements(document)) >= 6
    with psycopg.connect(small_shop(), autocommit=True) as connection:
        connection.execute("update orders set placed_at = now() where id > 300")
        assert list(without_effect(connection, document)) == []
