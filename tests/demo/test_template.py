"""The sample project: reads without a warning, gives the golden numbers, respects edits."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec
import pytest

from upwell.core.errors import EnvironmentFault, UsageError
from upwell.demo import template
from upwell.demo.shop import TABLES
from upwell.demo.template import template_files, write_project
from upwell.project.read import read_project, warnings
from upwell.project.values import RatioMetric


def test_the_written_project_reads_without_a_warning(tmp_path: Path) -> None:
    written = write_project(tmp_path / "shop")
    project = read_project(tmp_path / "shop", environment={})
    assert warnings(project) == []
    assert {path.relative_to(tmp_path / "shop").as_posix() for path in written} == {
        str(path) for path in template_files()
    }
    assert set(project.settings.sources["shop"].tables) == set(TABLES)
    assert all(model.description and model.owner for model in project.models.values())
    assert all(metric.description for metric in project.metrics.values())


def test_the_dashboard_has_four_numbers_a_timeline_and_two_rankings(tmp_path: Path) -> None:
    write_project(tmp_path)
    project = read_project(tmp_path, environment={})
    board = project.dashboards["sales"]
    numbers = [tile.metric for tile in board.tiles if tile.by is None]
    assert numbers == ["net_sales", "orders", "units", "average_order"]
    split = [(tile.by, tile.over, tile.show) for tile in board.tiles if tile.by is not None]
    assert split == [
        ("category", "time", "stacked_area"),
        ("region", None, "ranked_bars"),
        ("category", None, "ranked_bars"),
    ]
    assert (board.filters, board.compare) == (("category", "region"), "previous_period")
    assert isinstance(project.metrics["average_order"], RatioMetric)


def test_address_zone_and_port_are_filled_in(tmp_path: Path) -> None:
    url = "postgresql://postgres:p%40ss@127.0.0.1:5999/shop"
    write_project(tmp_path, url=url, zone="Asia/Kolkata", http="127.0.0.1:0")
    settings = read_project(tmp_path, environment={}).settings
    assert settings.sources["shop"].url == url
    assert (settings.time.zone, settings.serve.http) == ("Asia/Kolkata", "127.0.0.1:0")


def test_the_environment_names_another_shop(tmp_path: Path) -> None:
    write_project(tmp_path)
    settings = read_project(tmp_path, environment={"SHOP_URL": "postgresql://elsewhere/x"}).settings
    assert settings.sources["shop"].url == "postgresql://elsewhere/x"


def test_each_placeholder_stands_in_the_template_once() -> None:
    whole = template_files()[PurePosixPath("upwell.yaml")]
    for placeholder in (template._URL, template._ZONE, template._HTTP):
        assert whole.count(placeholder) == 1
        others = [text for path, text in template_files().items() if path.name != "upwell.yaml"]
        assert not any(placeholder in text for text in others)


def test_a_project_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    write_project(tmp_path)
    model = tmp_path / "models" / "sale_lines.sql"
    model.write_text("select 1 as mine")
    (tmp_path / "models" / "daily_sales.sql").unlink()
    assert write_project(tmp_path, zone="UTC") == ()
    assert model.read_text() == "select 1 as mine"
    assert not (tmp_path / "models" / "daily_sales.sql").exists()
    assert "Europe/London" in (tmp_path / "upwell.yaml").read_text()


def test_another_file_in_the_way_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my thesis")
    with pytest.raises(UsageError, match="already") as caught:
        write_project(tmp_path)
    assert caught.value.where == str(tmp_path / "README.md")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_write_that_was_cut_off_is_completed_by_the_next(tmp_path: Path) -> None:
    for path in write_project(tmp_path)[4:]:
        path.unlink()
    assert len(write_project(tmp_path)) == len(template_files())


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot write"):
        write_project(tmp_path / "file" / "shop")


def test_the_requirement_on_freshness_can_be_measured(tmp_path: Path) -> None:
    write_project(tmp_path)
    requirements = read_project(tmp_path, environment={}).requirements["marketing"]
    assert requirements.decision
    measured = [msgspec.to_builtins(one) for one in requirements.requirements if one.measure]
    assert [(one["of"], one["target"], one["over"]) for one in measured] == [
        ("dashboard:sales", "p99 <= 5 s", "7d")
    ]
