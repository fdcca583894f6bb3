"""A whole folder: what comes out of a good one, and what a bad one says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import pytest
import rich.pretty

from upwell.core.errors import Exit, ProjectError, UsageError
from upwell.project.problems import MEANINGS, ProjectErrors
from upwell.project.read import read_project, warnings
from upwell.project.values import Project, RatioMetric, SimpleMetric, Tile

PASSWORD = "hunter2"


class Shop(Protocol):
    """As in conftest.py."""

    @property
    def folder(self) -> Path: ...
    def write(self, file: str, content: str | bytes) -> None: ...
    def replace(self, file: str, old: str, new: str) -> None: ...
    def read(self) -> Project: ...
    def problems(self) -> list[ProjectError]: ...
    def problem(self) -> ProjectError: ...


def test_the_project_of_the_design_is_read_whole(shop: Shop) -> None:
    project = shop.read()
    assert project.folder == shop.folder.resolve()
    assert project.settings.time.zone == "Europe/London"
    assert project.settings.sources["shop"].tables == (
        "customers",
        "products",
        "orders",
        "order_items",
        "refunds",
    )
    assert set(project.models) == {"sale_lines", "order_categories"}
    assert set(project.semantic_models) == {"sales"}
    assert isinstance(project.metrics["orders"], SimpleMetric)
    assert isinstance(project.metrics["average_order"], RatioMetric)
    assert project.dashboards["sales"].tiles[3] == Tile(
        metric="net_sales",
        by="category",
        over="time",
        show="stacked_area",
        grain={"24h": "hour", "7d": "hour", "30d": "day"},
    )
    assert [each.id for each in project.requirements["marketing"].requirements] == [
        "MKT-1",
        "MKT-2",
    ]


def test_a_project_needs_only_its_settings(tmp_path: Path) -> None:
    (tmp_path / "upwell.yaml").write_text(
        "name: x\nsources: {db: {type: postgres, url: 'postgresql://h/d', tables: [t]}}\n"
    )
    project = read_project(tmp_path, environment={})
    assert (project.models, project.metrics, project.dashboards) == ({}, {}, {})
    assert project.settings.time.zone == "UTC"


def test_a_project_reads_the_same_wherever_its_folder_lies(shop: Shop, tmp_path: Path) -> None:
    before = shop.read()
    moved = tmp_path / "moved"
    shop.folder.rename(moved)
    after = read_project(moved, environment={"SHOP_URL": before.settings.sources["shop"].url})
    assert after.models == before.models
    assert after.settings == before.settings


def test_a_folder_without_settings_is_no_project_and_the_error_says_how_to_make_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError) as caught:
        read_project(tmp_path, environment={})
    assert caught.value.exit is Exit.USAGE
    assert caught.value.code == "no_project"
    assert "upwell demo" in caught.value.next_step
    assert "upwell init" in caught.value.next_step


def test_all_problems_of_all_files_are_raised_at_once_in_order_of_file_and_line(shop: Shop) -> None:
    shop.replace("upwell.yaml", "monday", "mon")
    shop.replace("dashboards/sales.yaml", "title: Sales", "titel: Sales")
    shop.replace("models/sale_lines.sql", "union all", ";")
    shop.replace("metrics/sales.yaml", "agg: sum}", "agg: max}")
    shop.replace("metrics/sales.yaml", "label: Net sales", "lable: Net sales")
    assert [problem.where for problem in shop.problems()] == [
        "dashboards/sales.yaml:1",
        "metrics/sales.yaml:13",
        "metrics/sales.yaml:15",
        "models/sale_lines.sql:4",
        "upwell.yaml:2",
    ]


def test_several_problems_fit_the_one_shape_that_all_errors_have(shop: Shop) -> None:
    shop.replace("upwell.yaml", "monday", "mon")
    shop.replace("dashboards/sales.yaml", "title: Sales", "titel: Sales")
    with pytest.raises(ProjectErrors) as caught:
        shop.read()
    shown = caught.value.as_dict()
    assert set(shown) == {"code", "what", "where", "next"}
    assert shown["code"] == "project_invalid"
    assert "2 problems" in shown["what"]
    assert "dashboards/sales.yaml:1: unknown key `titel`" in shown["what"]
    assert shown["where"] == "dashboards/sales.yaml:1"
    assert caught.value.exit is Exit.USAGE
    assert str(caught.value).count("where:") == 2


def test_a_single_problem_stands_for_itself(shop: Shop) -> None:
    shop.replace("upwell.yaml", "monday", "mon")
    with pytest.raises(ProjectErrors) as caught:
        shop.read()
    assert caught.value.as_dict() == caught.value.problems[0].as_dict()
    assert str(caught.value) == str(caught.value.problems[0])


def test_every_problem_has_a_documented_code(shop: Shop) -> None:
    shop.replace("upwell.yaml", "monday", "mon")
    assert shop.problem().code in MEANINGS


def test_metrics_of_several_files_are_one(shop: Shop) -> None:
    shop.write(
        "metrics/more.yaml",
        "metrics:\n  - name: units\n    label: Units\n    type: simple\n"
        "    type_params: {measure: units}\n",
    )
    assert set(shop.read().metrics) == {"units", "net_sales", "orders", "average_order"}


def test_a_name_taken_in_another_file_is_refused_naming_both_places(shop: Shop) -> None:
    shop.write(
        "metrics/more.yaml",
        "metrics:\n  - label: Again\n    name: orders\n    type: simple\n"
        "    type_params: {measure: units}\n",
    )
    problem = shop.problem()
    assert problem.where == "metrics/sales.yaml:16"
    assert problem.what == "the metric `orders` is there already, at metrics/more.yaml:3"


def test_two_models_of_one_name_are_refused_whatever_folders_hold_them(shop: Shop) -> None:
    shop.write("models/staging/deep/sale_lines.sql", "select 1 as one")
    problem = shop.problem()
    assert problem.where == "models/staging/deep/sale_lines.sql:1"
    assert "models/sale_lines.sql" in problem.what


def test_a_name_that_may_stand_in_a_broken_file_is_not_called_unknown(shop: Shop) -> None:
    shop.replace("metrics/sales.yaml", "agg: sum}", "agg: max}")
    shop.write("models/sale_lines.sql", "")
    shop.replace("requirements/marketing.yaml", "met_by: dashboard:sales", "met_by: model:x")
    wheres = [problem.where for problem in shop.problems()]
    assert wheres == ["metrics/sales.yaml:13", "models/sale_lines.sql:1"]


@pytest.mark.parametrize("file", ["metrics/sales.yml", "models/sale_lines.SQL"])
def test_a_misspelt_ending_is_refused_instead_of_passed_over(shop: Shop, file: str) -> None:
    shop.write(file, "")
    problem = shop.problem()
    assert problem.where == f"{file}:1"
    assert "ending" in problem.what


def test_other_files_and_hidden_ones_are_left_alone(shop: Shop) -> None:
    shop.write("models/README.md", "about these models")
    shop.write("metrics/.draft.yaml", "{")
    shop.write(".upwell/log/x.yaml", "{")
    shop.read()


def test_only_models_may_lie_in_folders(shop: Shop) -> None:
    shop.write("dashboards/team/sales.yaml", "title: x")
    assert shop.problem().where == "dashboards/team:1"


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(shop: Shop) -> None:
    shop.write("models/sale_lines.sql", b"-- caf\xc3\xa9\n-- caf\xe9\nselect 1 as one")
    problem = shop.problem()
    assert problem.where == "models/sale_lines.sql:2"
    assert problem.what == "the file is not UTF-8: byte 0xE9"


def test_a_byte_order_mark_is_no_part_of_the_text(shop: Shop) -> None:
    shop.write("models/sale_lines.sql", b"\xef\xbb\xbf-- About.\nselect 1 as one")
    assert shop.read().models["sale_lines"].description == "About."


def test_a_file_too_large_to_be_written_by_hand_is_refused(shop: Shop) -> None:
    shop.write("models/sale_lines.sql", b"-" * ((1 << 18) + 1))
    assert "larger than 256 KiB" in shop.problem().what


def test_a_link_that_leads_outside_is_not_followed(shop: Shop, tmp_path: Path) -> None:
    outside = tmp_path / "secret.sql"
    outside.write_text("select 'secret' as word")
    (shop.folder / "models/secret.sql").symlink_to(outside)
    problem = shop.problem()
    assert problem.where == "models/secret.sql:1"
    assert "outside" in problem.what


def test_a_linked_folder_is_not_followed(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (shop.folder / "models/elsewhere").symlink_to(tmp_path / "elsewhere")
    assert "linked folder" in shop.problem().what


def test_a_link_inside_the_project_is_a_file_like_any_other(shop: Shop) -> None:
    (shop.folder / "models/lines_again.sql").symlink_to(shop.folder / "models/sale_lines.sql")
    assert "lines_again" in shop.read().models


def test_a_pipe_is_refused_and_does_not_hang(shop: Shop) -> None:
    os.mkfifo(shop.folder / "models/pipe.sql")
    assert "not a file" in shop.problem().what


def test_the_password_shows_in_no_representation(shop: Shop) -> None:
    project = shop.read()
    assert PASSWORD in project.settings.sources["shop"].url
    assert PASSWORD not in repr(project)
    assert PASSWORD not in rich.pretty.pretty_repr(project)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"${SHOP_URL}"', "mysql://u:hunter2@h/d"),
        ('url: "${SHOP_URL}"', "postgresql://u:hunter2@h/d: x"),
        ("type: postgres", "type: 'postgresql://u:hunter2@h/d'"),
        (
            "postgres,",
            "postgres, 'postgresql://u:hunter2@h/d': 1, 'postgresql://u:hunter2@h/d': 2,",
        ),
        ("postgres,", "postgres, tables: [host=h password=hunter2.a.b],"),
    ],
)
def test_the_password_shows_in_no_error(shop: Shop, old: str, new: str) -> None:
    shop.replace("upwell.yaml", old, new)
    with pytest.raises(ProjectErrors) as caught:
        shop.read()
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in str(caught.value.as_dict())


def test_what_is_accepted_without_effect_is_a_warning(shop: Shop) -> None:
    assert warnings(shop.read()) == []
    shop.replace("upwell.yaml", '8321"}', '8321", sql: "127.0.0.1:8322"}')
    shop.write("contracts/orders.yaml", "")
    shop.write("dashboard/sales.yaml", "")
    shop.write("data/raw.csv", "")
    assert warnings(shop.read()) == [
        "upwell.yaml: `serve.sql` is accepted, but no SQL is served there yet",
        "contracts/: not read yet",
        "dashboard/: not read; did you mean dashboards/?",
    ]


@pytest.mark.parametrize(
    ("unit", "grain", "finer"),
    [
        ("day", "24h: hour, 30d: day", "hour"),
        ("week", "24h: week, 30d: day", "day"),
        ("month", "24h: month, 30d: week", "week"),
    ],
)
def test_no_timeline_is_finer_than_the_times_it_is_made_of(
    shop: Shop, unit: str, grain: str, finer: str
) -> None:
    shop.replace("metrics/sales.yaml", "time_granularity: hour", f"time_granularity: {unit}")
    shop.replace("dashboards/sales.yaml", "24h: hour, 7d: hour, 30d: day", grain)
    assert [problem.what for problem in shop.problems()] == [
        f"time dimension `placed_at` is only known to the {unit}, not to the {finer}"
    ]


def test_a_dashboard_may_look_back_months_or_at_all_by_weeks_and_months(shop: Shop) -> None:
    shop.replace(
        "dashboards/sales.yaml", "default: 30d, choices: [", "default: all, choices: [12m, all, "
    )
    shop.replace("dashboards/sales.yaml", "{24h: hour", "{all: month, 12m: week, 24h: hour")
    board = shop.read().dashboards["sales"]
    assert board.period.default == "all"
    assert board.tiles[3].grain["12m"] == "week"


def test_a_ratio_can_be_split_only_by_what_both_its_metrics_have(shop: Shop) -> None:
    shop.write(
        "metrics/visits.yaml",
        """
semantic_models:
  - name: visits
    model: sale_lines
    defaults: {agg_time_dimension: at}
    measures: [{name: visits, agg: count}]
    dimensions: [{name: at, type: time}, {name: region, type: categorical}]
metrics:
  - {name: visits, label: Visits, type: simple, type_params: {measure: visits}}
  - name: conversion
    label: Conversion
    type: ratio
    type_params: {numerator: orders, denominator: visits}
""",
    )
    board = (
        "title: Visits\nperiod: {default: 7d, choices: [7d]}\n"
        "tiles:\n  - {metric: conversion, by: region}\n"
    )
    shop.write("dashboards/visits.yaml", board)
    shop.read()
    shop.write("dashboards/visits.yaml", board.replace("region", "category"))
    problem = shop.problem()
    assert problem.where == "dashboards/visits.yaml:4"
    assert problem.what == "metric `conversion` has no categorical dimension `category`"
