"""A project's state is found by whoever looks for it, and told where it cannot be kept."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from upwell.core.errors import EnvironmentFault
from upwell.store import place as state_place
from upwell.store.place import StatePlace


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of a short name, as a socket's path must be; pytest's own may be too long."""
    with tempfile.TemporaryDirectory(prefix="u-") as name:
        yield Path(name)


@pytest.fixture
def anybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /tmp."""
    folder = tmp_path / "anybodys"
    folder.mkdir()
    monkeypatch.setattr(state_place, "_ANYBODYS", folder)
    return folder


def session(monkeypatch: pytest.MonkeyPatch, folder: Path, *, made: bool = True) -> None:
    """From now on the session's runtime folder is this one."""
    if made:
        folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


def test_a_client_of_another_session_finds_the_socket_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = StatePlace(tmp_path)
    session(monkeypatch, tmp_path / "a")
    with place.held(), closing(socket.socket(socket.AF_UNIX)) as engine:
        theirs = place.socket
        engine.bind(str(theirs))
        session(monkeypatch, tmp_path / "b")
        assert place.find_socket() == theirs != place.socket
        theirs.unlink()
        assert place.find_socket() == place.socket  # what is written down is there no more
    assert not (place.state / "socket").exists()
    assert place.find_socket() == place.socket


def test_where_the_sessions_folder_will_not_do_the_socket_is_beside_everybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anybodys: Path
) -> None:
    place = StatePlace(tmp_path)
    session(monkeypatch, tmp_path / "absent", made=False)
    assert place.socket.parent.parent == anybodys
    session(monkeypatch, tmp_path / ("long" * 25))
    assert place.socket.parent.parent == anybodys
    assert place.socket.parent.stat().st_mode & 0o777 == 0o700
    session(monkeypatch, tmp_path / "s")
    assert place.socket.parent == tmp_path / "s" / "upwell"


def test_a_runtime_folder_that_is_a_link_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anybodys: Path
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    place = StatePlace(tmp_path)
    folder = place.socket.parent
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(EnvironmentFault) as caught:
        _ = place.socket
    assert caught.value.code == "runtime_folder_unusable"
    assert caught.value.where == str(anybodys / folder.name)


@pytest.mark.parametrize("case", ["a dangling link", "a file", "a folder nobody writes to"])
def test_state_that_cannot_be_written_is_told_with_the_way_out(case: str, tmp_path: Path) -> None:
    place = StatePlace(Path("/proc") if case == "a folder nobody writes to" else tmp_path)
    if case == "a dangling link":
        place.state.symlink_to(tmp_path / "nowhere")
    elif case == "a file":
        place.state.write_text("")
    with pytest.raises(EnvironmentFault) as caught, place.held():
        pass
    assert caught.value.code == "state_not_writable"
    assert ".upwell" in caught.value.where
    assert ".upwell" in caught.value.next_step
