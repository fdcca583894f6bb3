"""Values that the environment and files hold."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from upwell.project.read import read_settings
from upwell.project.references import (
    UnresolvedError,
    is_open_to_all,
    resolve,
    without_references,
)
from upwell.project.settings import PostgresSource

ENVIRONMENT = {"A": "one", "EMPTY": "", "NESTED": "${A}"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"),
        ("x${A}y${A}z", "xoneyonez"),
        ("${NONE:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${NONE:-}", ""),
        ("${A:-two}", "one"),
        ("$A", "$A"),
        ("pa$$word", "pa$$word"),
        ("${NESTED}", "${A}"),
        ("${file:-two}", "two"),
    ],
)
def test_variables_are_filled_in_as_a_shell_does_but_only_once(
    text: str, value: str, tmp_path: Path
) -> None:
    assert resolve(text, ENVIRONMENT, tmp_path).text == value


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("${NONE}", "NONE"),
        ("${EMPTY}", "EMPTY"),
        ("${A B}", "`${`"),
        ("${", "`${`"),
        ("${A:-${B}}", "A"),
    ],
)
def test_a_variable_that_is_not_set_is_refused_by_name(
    text: str, names: str, tmp_path: Path
) -> None:
    with pytest.raises(UnresolvedError, match=names.replace("$", r"\$")) as caught:
        resolve(text, ENVIRONMENT, tmp_path)
    assert caught.value.is_variable


@pytest.mark.parametrize("content", ["word", "word\n", "word\r\n"])
@pytest.mark.parametrize("text", ["file:here/key", "${file:here/key}", "file:{}/here/key"])
def test_a_file_holds_a_value_without_the_end_of_its_line(
    text: str, content: str, tmp_path: Path
) -> None:
    file = tmp_path / "here/key"
    file.parent.mkdir()
    file.write_bytes(content.encode())
    resolved = resolve(text.replace("{}", str(tmp_path)), {}, tmp_path)
    assert (resolved.text, resolved.files) == ("word", (file,))


@pytest.mark.parametrize("password", ["simple", "a@b/c:d?e%f#g", "dé ${A}", "100%25"])
def test_a_password_in_a_file_is_a_part_of_a_url_whatever_it_holds(
    password: str, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(password + "\n", encoding="utf-8")
    found = resolve("postgresql://u:${file:password}@h:5/d", ENVIRONMENT, tmp_path)
    parts = urlsplit(found.text)
    assert (parts.username, parts.hostname, parts.port, parts.path) == ("u", "h", 5, "/d")
    assert resolve("file:password", {}, tmp_path).text == password


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hidden\nmore\n", "more than one line"),
        (b"hidden\0", "more than one line"),
        (b"hidden\xff", "not UTF-8"),
        (b"h" * 70_000, "too large"),
    ],
)
def test_a_file_that_holds_no_value_is_refused_without_telling_what_it_holds(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UnresolvedError, match=said) as caught:
        resolve("file:key", {}, tmp_path)
    assert str(file) in caught.value.what
    assert caught.value.next_step
    assert "hidden" not in caught.value.what + caught.value.next_step
    assert not caught.value.is_variable


def test_a_folder_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(UnresolvedError, match="no ordinary file"):
            resolve(f"file:{name}", {}, tmp_path)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("file:key", ""),
        ("${A}${file:b}${C:-d}", ""),
        ("postgresql://u:${A}@h/d", "postgresql://u:@h/d"),
        ("word", "word"),
    ],
)
def test_what_stands_in_a_project_itself_is_told_from_what_it_names(
    text: str, written: str
) -> None:
    assert without_references(text) == written


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_may_read_is_noticed(
    mode: int, tmp_path: Path, *, is_open: bool
) -> None:
    file = tmp_path / "key"
    file.touch()
    file.chmod(mode)
    assert is_open_to_all(file) is is_open


def test_the_url_of_a_standby_is_a_reference_and_its_password_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "upwell.yaml").write_text(
        "name: shop\nsources:\n  shop:\n    type: postgres\n    url: ${URL}\n"
        "    standby: ${STANDBY_URL}\n    tables: [orders]\n"
    )
    url = "postgresql://u:hunter2@standby/shop"
    settings = read_settings(tmp_path, environment={"URL": url, "STANDBY_URL": url})
    source = settings.sources["shop"]
    assert isinstance(source, PostgresSource)
    assert source.standby == url
    assert "hunter2" not in repr(settings)
