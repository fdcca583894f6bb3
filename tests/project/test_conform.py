"""Conforming finds exactly what msgspec would refuse, only all of it and with its place."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.project.conform import conform, spoken_place
from upwell.project.document import Document
from upwell.project.problems import ProjectErrors
from upwell.project.settings import Settings
from upwell.project.values import Dashboard, MetricsFile, RequirementsFile

SETTINGS: dict[str, Any] = {
    "name": "shop",
    "time": {"zone": "UTC", "day_starts": "06:00"},
    "sources": {"shop": {"type": "postgres", "url": "postgresql://h/d", "tables": ["orders"]}},
    "serve": {"http": "127.0.0.1:1", "sql": None},
    "lake": {"uri": "./lake", "commit_seconds": 5, "history_days": {"shop.orders": 90}},
}
METRICS = {
    "semantic_models": [
        {
            "name": "sales",
            "model": "sales",
            "defaults": {"agg_time_dimension": "at"},
            "measures": [{"name": "units", "agg": "sum", "expr": None}],
            "dimensions": [
                {"name": "at", "type": "time", "type_params": {"time_granularity": "hour"}}
            ],
            "entities": [{"name": "order", "type": "foreign"}],
        }
    ],
    "metrics": [
        {"name": "units", "label": "Units", "type": "simple", "type_params": {"measure": "units"}},
        {
            "name": "share",
            "label": "Share",
            "type": "ratio",
            "type_params": {"numerator": "units", "denominator": "units"},
            "meta": {"format": "currency", "currency": "GBP"},
        },
    ],
}
DASHBOARD: dict[str, Any] = {
    "title": "Sales",
    "period": {"default": "7d", "choices": ["24h", "7d"]},
    "tiles": [{"metric": "units", "by": "region", "as": "ranked_bars", "grain": {"7d": "day"}}],
    "compare": "previous_period",
    "filters": ["region"],
}
REQUIREMENTS = {
    "stakeholder": "Marketing",
    "requirements": [{"id": "A-1", "kind": "non-functional", "measure": "freshness", "over": "7d"}],
}
KINDS: list[tuple[Any, type[msgspec.Struct]]] = [
    (SETTINGS, Settings),
    (METRICS, MetricsFile),
    (DASHBOARD, Dashboard),
    (REQUIREMENTS, RequirementsFile),
]

# "type" is left alone: of a lone tagged struct msgspec lets the tag be missing, conform does not.
_odd = st.sampled_from([None, True, 7, 1.5, "", "x y", "sum", "7d", [], {}, ["a"], {"a": "b"}])


def _places(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = data.items() if isinstance(data, dict) else enumerate(data)
    return [
        found
        for key, value in inside
        if key != "type"
        for found in [
            (*place, key),
            *(_places(value, (*place, key)) if isinstance(value, dict | list) else []),
        ]
    ]


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[Any, type[msgspec.Struct]]:
    """A file's data with a few values replaced, removed or added."""
    data, kind = draw(st.sampled_from(KINDS))
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(0, 3))):
        *above, last = draw(st.sampled_from(_places(data)))
        container = data
        for step in above:
            container = container[step]
        if draw(st.booleans()):
            container[last] = copy.deepcopy(draw(_odd))
        elif isinstance(container, dict) and draw(st.booleans()):
            container["extra"] = copy.deepcopy(draw(_odd))
        else:
            del container[last]
        if not _places(data):
            break
    return data, kind


@given(spoilt())
def test_conform_refuses_exactly_what_msgspec_refuses(case: tuple[Any, type[Any]]) -> None:
    data, kind = case
    try:
        expected = msgspec.convert(data, kind)
    except msgspec.ValidationError:
        with pytest.raises(ProjectErrors) as caught:
            conform(Document("f.yaml", data, {}), kind)
        # Were it found by msgspec only, the walk would have missed it.
        assert all(problem.next_step != "correct the value" for problem in caught.value.problems)
    else:
        assert conform(Document("f.yaml", data, {}), kind) == expected


def test_all_problems_of_a_file_are_found_at_once() -> None:
    data = copy.deepcopy(DASHBOARD)
    del data["title"]
    data["perod"] = data.pop("period")
    data["tiles"] = [{"metric": "Net Sales", "as": "pie"}, {"by": 7}]
    with pytest.raises(ProjectErrors) as caught:
        conform(Document("f.yaml", data, {}), Dashboard)
    assert {problem.what for problem in caught.value.problems} == {
        "missing key `title`",
        "unknown key `perod`",
        "`tiles[0].metric` cannot be `Net Sales`",
        "`tiles[0].as` cannot be `pie`",
        "`tiles[1].by` should be text, but is the number 7",
        "missing key `tiles[1].metric`",
    }


def test_a_misspelt_required_key_is_one_problem_not_two() -> None:
    data = {**DASHBOARD, "titel": "Sales"}
    del data["title"]
    with pytest.raises(ProjectErrors) as caught:
        conform(Document("f.yaml", data, {}), Dashboard)
    (problem,) = caught.value.problems
    assert (problem.what, problem.next_step) == ("unknown key `titel`", "did you mean `title`?")


def test_a_source_without_its_type_is_refused() -> None:
    data = copy.deepcopy(SETTINGS)
    del data["sources"]["shop"]["type"]
    with pytest.raises(ProjectErrors, match=r"missing key `sources\.shop\.type`"):
        conform(Document("f.yaml", data, {}), Settings)


def test_a_place_is_spoken_as_people_write_it() -> None:
    assert spoken_place(("tiles", 2, "grain", "7d")) == "tiles[2].grain.7d"
