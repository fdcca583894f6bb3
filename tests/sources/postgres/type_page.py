"""``docs/reference/types.md``: how every type of PostgreSQL is stored, made from the tested list.

``python -m tests.sources.postgres.type_page docs/reference`` writes it; a test holds the written
page against ``type_page``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from upwell.sources.postgres.session import SPELLING

from .server_encodings import ENCODINGS, REFUSED
from .type_rows import DEFINITIONS, OWN_TYPES, TYPE_ROWS, TypeRow

_INTRODUCTION = """\
# Types of PostgreSQL

How each type of a captured column is stored in DuckDB. This page is made (`make docs`) from the
list by which the tests compare real servers of versions 15 and 18: every value below, and more of
them, is copied, inserted, updated and left unchanged outside its row (TOAST), and comes out as the
text that stands here. Source and store then agree on a checksum over all of it.

- A type that is not named here is stored as the text that the server prints; so are types of
  extensions, arrays, composites and ranges. Cast it in a model: `span::INTERVAL`, `price::DECIMAL`.
- NULL is NULL, and nothing else becomes NULL: a row with a value that its stored type cannot hold
  goes to quarantine (`upwell.quarantine`), with the reason and the value as the server prints it.
- Generated columns are left out: the log does not carry them. Identity columns and defaults are
  values like others.
- The lake gives back the same values; DECIMAL, numbers, dates and times are Iceberg's own there,
  UUID is text.
"""

_SETTINGS = """\
## What is printed

Sessions of Upwell print values in one way, whatever the settings of server, database and role:

| setting | value |
|---|---|
"""

_ENCODINGS = """\
## Encodings

A database may have any encoding that the server can turn into UTF8; letters, also those in names of
tables, columns and labels, are stored as UTF-8.

| encoding | for example |
|---|---|
"""

_NOT_READ = """
| encoding | refused, because |
|---|---|
"""

_UNREADABLE = """
A text that is not valid in a UTF8 database (written by a cast or a server that did not check it)
goes to quarantine with its bytes as `\\xe9`. In another encoding the server itself cannot send such
a text: snapshot and stream end with `text_untranslatable`, which names the bytes.
"""

_SHOWN = 6
_LONGEST = 60


def type_page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for heading, rows in TYPE_ROWS.items():
        parts.append(f"\n## {heading}\n\n")
        if rows is OWN_TYPES:
            parts.append(f"```sql\n{DEFINITIONS}```\n\n")
        parts.append("| type | stored as | values as stored | refused | |\n|---|---|---|---|---|\n")
        parts += map(_line, rows)
    parts += ["\n", _SETTINGS, *(f"| `{name}` | `{value}` |\n" for name, value in SPELLING.items())]
    parts += ["\n", _ENCODINGS, *(f"| {name} | {text} |\n" for name, text in ENCODINGS.items())]
    parts += [_NOT_READ, *(f"| {name} | {why} |\n" for name, why in REFUSED.items()), _UNREADABLE]
    return "".join(parts)


def _line(row: TypeRow) -> str:
    shown = [sample.text for sample in row.samples if sample.text is not None]
    kept = [sample.text for sample in row.refused if sample.text is not None]
    cells = (_code(row.declared), row.stored, _values(shown), _values(kept), row.note)
    return f"| {' | '.join(cells)} |\n"


def _values(texts: Sequence[str]) -> str:
    filled = [text for text in dict.fromkeys(texts) if text]
    return ", ".join(_code(_shortened(text)) for text in filled[:_SHOWN])


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}… ({len(text)} letters)"


def _code(text: str) -> str:
    """A code span in a table, on one line."""
    visible = text.replace("\t", "\\t").replace("\n", "\\n").replace("|", "\\|")
    return f"`` {visible} ``" if visible != visible.strip() else f"`{visible}`"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "types.md").write_text(type_page(), encoding="utf-8")
