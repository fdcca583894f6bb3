"""The published schemas and the page of keys say what is read, and are current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from upwell.project.reference import reference_files
from upwell.project.schema import FILE_KINDS, json_schema

REFERENCE = Path(__file__).parents[2] / "docs/reference"


@pytest.mark.parametrize("file", sorted(reference_files()))
def test_the_committed_reference_is_current(file: str) -> None:
    assert (REFERENCE / file).read_text(encoding="utf-8") == reference_files()[file], (
        "run `make docs`, or python -m upwell.project.reference docs/reference"
    )


def test_no_schema_is_left_over_from_a_kind_that_is_gone() -> None:
    committed = {path.stem for path in (REFERENCE / "schemas").glob("*.json")}
    assert committed == set(FILE_KINDS)


@pytest.mark.parametrize("kind", sorted(FILE_KINDS))
def test_every_key_is_described_and_every_unknown_one_forbidden(kind: str) -> None:
    schema = json_schema(kind)
    for name, definition in schema["$defs"].items():
        assert definition["additionalProperties"] is False, name
        assert definition["description"], name
        for key, value in definition["properties"].items():
            assert value.get("description") or "enum" in value, f"{name}.{key}"


@pytest.mark.parametrize("kind", sorted(FILE_KINDS))
def test_every_reference_in_a_schema_leads_somewhere(kind: str) -> None:
    schema = json_schema(kind)

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def test_a_schema_is_plain_json_of_the_published_draft() -> None:
    schema = json.loads(json.dumps(json_schema("dashboard")))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["Tile"]["required"] == ["metric"]


def test_the_page_names_every_key_of_every_kind_of_file() -> None:
    page = reference_files()["project.md"]
    for kind in FILE_KINDS:
        for definition in json_schema(kind)["$defs"].values():
            for key in definition["properties"]:
                assert f"| `{key}` |" in page
