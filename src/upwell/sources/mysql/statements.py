"""What a statement in the log does to which tables.

The log has rows as rows, but definitions as the text that was run. Only its beginning is read, and
only as far as it takes to know the tables; what exactly became of a table the catalogue says. Texts
in the log are the client's: comments, quotes and letter case come as people write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --(?=\s|$)[^\n]* | \#[^\n]* | /\*(?!!|M!).*?(?:\*/|$) | /\*M?!\d* | \*/ )
    | (?P<quoted> `(?:[^`]|``)*` )
    | (?P<double> "(?:[^"\\]|""|\\.)*" )
    | (?P<text> '(?:[^'\\]|''|\\.)*' )
    | (?P<word> [\w$\u0080-\U0010ffff]+ )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Further than this no statement is read, but a long list of tables to drop.
_MOST_TOKENS = 20_000


class Effect(Enum):
    """What a statement does to its tables."""

    NOTHING = auto()
    ALTERS = auto()
    ONLY_ADDS = auto()  # columns or indexes: rows that were there keep their values
    REPLACES = auto()  # what was read of the table says nothing of what is there now
    TRUNCATES = auto()
    WRITES = auto()  # rows were changed by a statement instead of rows in the log


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a statement names it; without a database it is in the session's."""

    database: str
    name: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Effect and tables; ``database``: all tables of it."""

    effect: Effect
    tables: Sequence[Table] = ()
    database: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_word: bool  # unquoted

    def is_(self, *words: str) -> bool:
        return self.is_word and self.text.upper() in words


_NOTHING = Statement(Effect.NOTHING)
_ANYTHING_BUT_ADDING = (
    "MODIFY",
    "CHANGE",
    "RENAME",
    "CONVERT",
    "ORDER",
    "ALTER",
    "PARTITION",
    "TRUNCATE",
    "DISCARD",
    "IMPORT",
)
_ROWS_VANISH = ("PARTITION", "IGNORE", "DISCARD", "IMPORT", "VERSIONING")
_NOT_COLUMNS = ("INDEX", "KEY", "CONSTRAINT", "FOREIGN", "CHECK")


def read_statement(text: str, database: str) -> Statement:
    """What ``text`` does, run in a session whose database is ``database``."""
    tokens = list(_tokens(text))
    if not tokens:
        return _NOTHING
    first = tokens[0].text.upper() if tokens[0].is_word else ""
    reader = _READERS.get(first)
    return reader(tokens, database) if reader else _NOTHING


def savepoint_of(text: str) -> str:
    """The name, which stands last; its case makes no difference to the server."""
    names = [token.text for token in _tokens(text) if token.text != ";"]
    return names[-1].casefold()


def _tokens(text: str) -> Iterator[_Token]:
    count = 0
    for match in _TOKEN.finditer(text):
        kind, piece = match.lastgroup, match[0]
        if kind == "space":
            continue
        count += 1
        if count > _MOST_TOKENS:
            return
        if kind == "quoted":
            yield _Token(piece[1:-1].replace("``", "`"), is_word=False)
        elif kind == "double":
            yield _Token(piece[1:-1].replace('""', '"'), is_word=False)
        elif kind == "text":
            yield _Token("", is_word=False)
        else:
            yield _Token(piece, is_word=kind == "word")


def _alter(tokens: Sequence[_Token], database: str) -> Statement:
    at = _after(tokens, "TABLE")
    if at is None or at > 4:  # ALTER DATABASE, VIEW, USER …
        return _NOTHING
    table, rest = _name(tokens, _skip(tokens, at, "IF", "EXISTS"), database)
    words = [token.text.upper() for token in tokens[:at] if token.is_word]
    words += [token.text.upper() for token in tokens[rest:] if token.is_word]
    tables = [table]
    for index in range(rest, len(tokens)):
        if tokens[index].is_("RENAME") and not _next_is(tokens, index, "COLUMN", *_NOT_COLUMNS):
            renamed, _ = _name(tokens, _skip(tokens, index + 1, "TO", "AS"), database)
            return Statement(Effect.REPLACES, (table, renamed))
    if any(word in words for word in _ROWS_VANISH):
        return Statement(Effect.REPLACES, tables)
    drops_column = any(
        tokens[index].is_("DROP") and not _next_is(tokens, index, *_NOT_COLUMNS)
        for index in range(rest, len(tokens))
    )
    changes = drops_column or any(word in words[1:] for word in _ANYTHING_BUT_ADDING)
    return Statement(Effect.ALTERS if changes else Effect.ONLY_ADDS, tables)


def _drop(tokens: Sequence[_Token], database: str) -> Statement:
    if len(tokens) < 3 or tokens[1].is_("TEMPORARY"):
        return _NOTHING
    at = _skip(tokens, 2, "IF", "EXISTS")
    if tokens[1].is_("DATABASE", "SCHEMA"):
        return Statement(Effect.REPLACES, (), tokens[at].text if at < len(tokens) else "")
    if not tokens[1].is_("TABLE", "TABLES"):
        return _NOTHING
    return Statement(Effect.REPLACES, _names(tokens, at, database))


def _create(tokens: Sequence[_Token], database: str) -> Statement:
    """A table that is made where it is not yet leaves one that is there alone."""
    at = _after(tokens, "TABLE")
    if at is None or at > 4 or any(token.is_("TEMPORARY") for token in tokens[:at]):
        return _NOTHING
    if at < len(tokens) and tokens[at].is_("IF"):
        return _NOTHING
    table, _ = _name(tokens, at, database)
    return Statement(Effect.REPLACES, (table,))


def _rename(tokens: Sequence[_Token], database: str) -> Statement:
    """``RENAME TABLE a TO b, c TO a``: all of them are others than before."""
    if len(tokens) < 2 or not tokens[1].is_("TABLE", "TABLES"):
        return _NOTHING
    at = _skip(tokens, 2, "IF", "EXISTS")
    return Statement(Effect.REPLACES, _names(tokens, at, database))


def _truncate(tokens: Sequence[_Token], database: str) -> Statement:
    table, _ = _name(tokens, _skip(tokens, 1, "TABLE"), database)
    return Statement(Effect.TRUNCATES, (table,))


def _insert(tokens: Sequence[_Token], database: str) -> Statement:
    at = _skip(tokens, 1, "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO")
    table, _ = _name(tokens, at, database)
    return Statement(Effect.WRITES, (table,))


def _load(tokens: Sequence[_Token], database: str) -> Statement:
    at = _after(tokens, "TABLE")
    return Statement(Effect.WRITES, (_name(tokens, at, database)[0],)) if at else _NOTHING


def _update(tokens: Sequence[_Token], database: str) -> Statement:
    """Any table that is named may be the one written to."""
    tables = []
    for index, token in enumerate(tokens):
        is_name = not token.is_word or token.text.isidentifier()
        if is_name and not (index and tokens[index - 1].text == "."):
            tables.append(_name(tokens, index, database)[0])
    return Statement(Effect.WRITES, tables)


_READERS = {
    "ALTER": _alter,
    "DROP": _drop,
    "CREATE": _create,
    "RENAME": _rename,
    "TRUNCATE": _truncate,
    "INSERT": _insert,
    "REPLACE": _insert,
    "LOAD": _load,
    "UPDATE": _update,
    "DELETE": _update,
    "WITH": _update,
}


def _after(tokens: Sequence[_Token], word: str) -> int | None:
    for index, token in enumerate(tokens):
        if token.is_(word):
            return index + 1
    return None


def _skip(tokens: Sequence[_Token], at: int, *words: str) -> int:
    while at < len(tokens) and tokens[at].is_(*words):
        at += 1
    return at


def _next_is(tokens: Sequence[_Token], index: int, *words: str) -> bool:
    return index + 1 < len(tokens) and tokens[index + 1].is_(*words)


def _name(tokens: Sequence[_Token], at: int, database: str) -> tuple[Table, int]:
    """The table named at ``at``, and where what follows it begins."""
    if at >= len(tokens):
        return Table(database, ""), at
    if at + 2 < len(tokens) and tokens[at + 1].text == "." and tokens[at + 1].is_word is False:
        return Table(tokens[at].text, tokens[at + 2].text), at + 3
    return Table(database, tokens[at].text), at + 1


def _names(tokens: Sequence[_Token], at: int, database: str) -> list[Table]:
    """Names in a list, whatever stands between them (``,`` or ``TO``)."""
    tables: list[Table] = []
    while at < len(tokens):
        if tokens[at].text in (",", ";") or tokens[at].is_("TO", "RESTRICT", "CASCADE", "WAIT"):
            at += 1
            continue
        table, at = _name(tokens, at, database)
        tables.append(table)
    return tables
