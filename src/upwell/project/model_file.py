"""A model file: a leading comment that describes the model, then one statement.

    -- What each order sold per category.
    -- key: order_id, category
    -- owner: sales
    select …

Comment lines before the statement are the description, except ``key`` and ``owner``. Refused, with
its line: a lower-case word and a colon that is neither (most likely one of them misspelt), a
repeated or empty one, a file without a statement or with several. What the statement says is for
the planner to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sqlglot
from sqlglot import Token, TokenType
from sqlglot.errors import TokenError

from upwell.core.errors import ProjectError
from upwell.project.problems import ProjectErrors, choices, gathering, nearest, problem, shown
from upwell.project.values import Model

MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_DIRECTIVE = re.compile(r"(?P<word>[A-Za-z_]+)\s*:(?:\s+(?P<rest>.*))?")
_DIRECTIVES = ("key", "owner")


class _Header(NamedTuple):
    description: str
    key: tuple[str, ...]
    owner: str


def parse_model(text: str, file: str) -> Model:
    """The model that a file declares; ``file`` is its path inside the project.

    Raises ``ProjectErrors`` with everything that is wrong.
    """
    problems: list[ProjectError] = []
    path = Path(file)
    if not MODEL_NAME.fullmatch(path.stem):
        problems.append(
            _invalid(
                f"`{shown(path.stem)}` cannot be the name of a model",
                file,
                1,
                "rename the file: lower-case letters, digits and _, beginning with a letter",
            )
        )
    header, sql = _Header("", (), ""), ""
    with gathering(problems):
        header = _header(text, file)
    with gathering(problems):
        sql = _statement(text, file)
    if problems:
        raise ProjectErrors(problems)
    return Model(
        name=path.stem,
        sql=sql,
        path=path,
        description=header.description,
        key=header.key,
        owner=header.owner,
    )


def _header(text: str, file: str) -> _Header:
    problems: list[ProjectError] = []
    prose: list[str] = []
    values: dict[str, str] = {}
    key: tuple[str, ...] = ()
    for number, comment in _leading_comments(text):
        match = _DIRECTIVE.fullmatch(comment)
        word = match["word"] if match else ""
        if match is None or not (word.islower() or nearest(word, _DIRECTIVES)):
            prose.append(comment)
            continue
        with gathering(problems):
            value = _directive(word, match["rest"] or "", values, file, number)
            values[word] = value
            if word == "key":
                key = _key(value, file, number)
    if problems:
        raise ProjectErrors(problems)
    return _Header(_reflowed(prose), key, values.get("owner", ""))


def _leading_comments(text: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each comment line before anything else."""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if stripped.startswith("--"):
            yield number, stripped.removeprefix("--").strip()
        elif stripped:
            return


def _directive(word: str, rest: str, seen: dict[str, str], file: str, line: int) -> str:
    if word not in _DIRECTIVES:
        raise _invalid(
            f"unknown word `{shown(word)}:` in the leading comment",
            file,
            line,
            choices(word, _DIRECTIVES, nothing="") + "; begin with a capital if it is a sentence",
        )
    if word in seen:
        raise _invalid(f"`{word}:` is there twice", file, line, "keep one of the two")
    if not rest.strip():
        raise _invalid(f"`{word}:` says nothing", file, line, "write a value or remove the line")
    return rest.strip()


def _key(value: str, file: str, line: int) -> tuple[str, ...]:
    columns = tuple(column.strip() for column in value.split(","))
    for column in columns:
        if not _COLUMN.fullmatch(column):
            what = f"`{shown(column)}` cannot be a column of the key"
            raise _invalid(what, file, line, "write column names with commas between: -- key: a, b")
    if len({column.casefold() for column in columns}) < len(columns):
        raise _invalid("the key names a column twice", file, line, "name each column once")
    return columns


def _reflowed(prose: list[str]) -> str:
    """Comment lines as paragraphs: an empty comment line parts them."""
    paragraphs = "\n".join(prose).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def _statement(text: str, file: str) -> str:
    try:
        tokens = sqlglot.tokenize(text, read="duckdb")
    except TokenError:
        what = "the SQL cannot be read: a quote or comment is not closed"
        raise _invalid(what, file, 1, "close it") from None
    ends = [token for token in tokens if token.token_type is TokenType.SEMICOLON]
    starts = _statement_starts(tokens)
    if not starts:
        raise _invalid("the file has no statement", file, 1, "write one SELECT")
    if len(starts) > 1:
        raise _invalid(
            "a second statement begins",
            file,
            starts[1].line,
            "keep one SELECT here, move the other to a file of its own",
        )
    first_end = next((end.start for end in ends if end.start > starts[0].start), len(text))
    return text[:first_end].rstrip()


def _statement_starts(tokens: list[Token]) -> list[Token]:
    starts: list[Token] = []
    between = True
    for token in tokens:
        is_end = token.token_type is TokenType.SEMICOLON
        if between and not is_end:
            starts.append(token)
        between = is_end
    return starts


def _invalid(what: str, file: str, line: int, next_step: str) -> ProjectError:
    return problem("project_model_invalid", what, where=f"{file}:{line}", next_step=next_step)
