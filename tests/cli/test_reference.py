"""The reference of commands names every verb and every option."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from upwell.cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
VERBS = typer.main.get_group(app).commands


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_described_with_all_its_options(verb: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"## `upwell {verb}" in text
    for parameter in VERBS[verb].params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert option in text
