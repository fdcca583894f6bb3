"""A backup brings the project back; it is checked as a whole before a file is written."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from upwell.backup import back_up, restore
from upwell.core.errors import IntegrityError, UpwellError, UsageError
from upwell.demo.template import write_project
from upwell.project.read import read_project
from upwell.project.values import Project


def project_in(folder: Path) -> Project:
    return read_project(folder, environment={})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "shop"
    write_project(folder)
    for name in (
        ".upwell/journal/0001.log",
        ".upwell/registry/model.json",
        ".upwell/log/engine.log",
        ".upwell/hot.duckdb",
        "lake/catalog.db",
        "notes/why.md",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return project_in(folder)


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_neither_lake_nor_source_hold_comes_back(project: Project, tmp_path: Path) -> None:
    back_up(project, tmp_path / "b.tar.gz")
    restore(tmp_path / "b.tar.gz", tmp_path / "again")
    made_anew = {".upwell/log/engine.log", ".upwell/hot.duckdb", "lake/catalog.db"}
    assert names_in(tmp_path / "again") == names_in(project.folder) - made_anew
    again = project_in(tmp_path / "again")
    assert again.models.keys() == project.models.keys()
    assert (tmp_path / "again" / ".upwell/journal/0001.log").read_text().endswith("0001.log")


@pytest.mark.parametrize(
    "lake", ["", "\nlake: {uri: ./lake}\n", "\nlake:\n  commit_seconds: 5\n  uri: lake\n"]
)
def test_a_restored_project_finds_the_lake_it_had(
    project: Project, tmp_path: Path, lake: str
) -> None:
    settings = project.folder / "upwell.yaml"
    settings.write_text(settings.read_text() + lake)
    back_up(project_in(project.folder), tmp_path / "b.tar.gz")
    restore(tmp_path / "b.tar.gz", tmp_path / "again")
    found = project_in(tmp_path / "again").settings.lake
    assert found is not None
    assert found.uri == str(project.folder / "lake")
    assert found.commit_seconds == (5 if "5" in lake else 30)


def test_nothing_is_overwritten(project: Project, tmp_path: Path) -> None:
    back_up(project, tmp_path / "b.tar.gz")
    with pytest.raises(UsageError, match="file of that name"):
        back_up(project, tmp_path / "b.tar.gz")
    with pytest.raises(UsageError, match="holds something"):
        restore(tmp_path / "b.tar.gz", project.folder)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_an_archive_that_is_not_whole_leaves_nothing(
    project: Project, tmp_path: Path, damage: str
) -> None:
    archive = tmp_path / "b.tar.gz"
    back_up(project, archive)
    data = bytearray(gzip.decompress(archive.read_bytes()))
    at = data.find(b"0001.log", data.find(b"0001.log") + 8)  # the file's content, not its name
    data[at] ^= 1
    whole = archive.read_bytes()
    archive.write_bytes(
        {"flipped": gzip.compress(bytes(data)), "cut": whole[: len(whole) // 2], "empty": b""}[
            damage
        ]
    )
    with pytest.raises(IntegrityError):
        restore(archive, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["/etc/upwell", "../outside"])
def test_an_archive_can_write_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "b.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(UpwellError, match="no backup has"):
        restore(archive, tmp_path / "again")
