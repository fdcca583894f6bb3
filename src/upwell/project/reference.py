"""``docs/reference``: every key of every project file, made from the values they are read into.

``python -m upwell.project.reference docs/reference`` writes it; a test holds the written files
against ``reference_files``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import NODEFAULT, Struct, inspect, to_builtins

from upwell.project.conform import description_of
from upwell.project.problems import MEANINGS
from upwell.project.schema import FILE_KINDS, json_schema
from upwell.project.value import reference_kind

_INTRODUCTION = """\
# Project files

A project is a folder. This page lists every key of its YAML files; it is made from the program's
own definitions (`make docs`). A key that is not here is refused, with the file, the line and the
nearest key that is. The JSON Schemas in [schemas/](schemas/) say the same to an editor.

Lists and mappings are YAML's; aliases, tags and several documents in one file are not read. Words
such as `no` and `06:30` are text, with or without quotes.

A **name** is lower-case letters, digits and `_`, beginning with a letter. A **span** is a number of
hours or days: `24h`, `30d`. A **period** is a span, a number of calendar months (`12m`), or `all`.

A **reference** keeps a password or an address out of the file. It may stand anywhere in a value
that takes one:

| reference | is |
|---|---|
| `${NAME}` | what the environment variable holds |
| `${NAME:-default}` | the same, or the default if it is empty or not set |
| `${file:PATH}` | the one line that a file holds; in a URL, whatever characters it has |
| `file:PATH` | the same, as the whole value |

A path is relative to the project's folder. What a reference leads to is never printed, logged,
stored or backed up; `upwell doctor` warns of a file that everybody may read, and of a password that
stands in `upwell.yaml` itself.
"""

# A word of the introduction: how what is expected of such a text begins.
_SPOKEN = {
    "name": "lower-case letters",
    "span": "a number of hours or days",
    "period": "a number of hours, days or months",
}

_MODELS = """\
## models/**/*.sql

One SELECT a file, in DuckDB's SQL. The file's name is the model's, whichever folder under `models/`
holds it. The comment at its head describes it:

```sql
-- What each order sold per category.
-- key: order_id, category
-- owner: sales
select …
```

| line | default | meaning |
|---|---|---|
| plain comment lines | | What the model is, for readers; an empty one begins a paragraph. |
| `-- key: a, b` | found from the SQL where it can be | Columns that tell its rows apart. |
| `-- owner: name` | none | Who answers for it. |
"""


def reference_files() -> dict[str, str]:
    """Path inside ``docs/reference`` → content."""
    schemas = {
        f"schemas/{name}.json": json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"
        for name in FILE_KINDS
    }
    return {"project.md": _page(), **schemas}


def _page() -> str:
    settings, *others = FILE_KINDS.values()
    parts = [_INTRODUCTION, _section(settings.path, settings.struct), _MODELS]
    parts += [_section(kind.path, kind.struct) for kind in others]
    parts.append(_problems())
    return "\n".join(parts)


def _section(path: str, struct: type[Struct]) -> str:
    lines = [f"## {path}", ""]
    # Keyed, so that what alternatives share, such as the ``meta`` of every metric, comes once.
    found = {(kind.cls, title): kind for kind, title in _structs(inspect.type_info(struct))}
    for (_, title), kind in found.items():
        if title:
            lines += [f"### {title}", ""]
        lines += [*_prose(kind.cls), "", "| key | takes | default | meaning |", "|---|---|---|---|"]
        if kind.tag_field:
            lines.append(
                f"| `{kind.tag_field}` | `{kind.tag}` | **required** | Which kind it is. |"
            )
        lines += [_row(field) for field in kind.fields]
        lines.append("")
    return "\n".join(lines)


def _structs(kind: inspect.Type, title: str = "") -> Iterator[tuple[inspect.StructType, str]]:
    """A struct and all that its fields hold, each with the path of keys that leads to it."""
    match kind:
        case inspect.Metadata():
            yield from _structs(kind.type, title)
        case inspect.UnionType():
            for option in kind.types:
                tag = getattr(option, "tag", None)
                yield from _structs(option, f"{title}, `type: {tag}`" if tag else title)
        case inspect.VarTupleType():
            yield from _structs(kind.item_type, title)
        case inspect.DictType():
            yield from _structs(kind.value_type, f"{title}.NAME")
        case inspect.StructType():
            yield kind, title
            for field in kind.fields:
                above = title.partition(",")[0]
                yield from _structs(field.type, f"{above}.{field.encode_name}".lstrip("."))
        case _:
            return


def _prose(cls: type) -> list[str]:
    return [line.strip() for line in (cls.__doc__ or "").strip().splitlines()]


def _row(field: inspect.Field) -> str:
    default = "**required**" if field.required else _default(field)
    takes = _takes(field.type)
    return f"| `{field.encode_name}` | {takes} | {default} | {description_of(field.type)} |"


def _default(field: inspect.Field) -> str:
    value = field.default_factory() if field.default is NODEFAULT else field.default
    plain = to_builtins(value)
    if not plain:
        return "none"
    return "as below" if isinstance(plain, dict) else f"`{plain}`"


def _takes(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata() if reference_kind(kind):
            return "text or reference"
        case inspect.Metadata():
            return _spoken_pattern(kind) or _takes(kind.type)
        case inspect.UnionType():
            options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
            return " or ".join(dict.fromkeys(_takes(option) for option in options))
        case inspect.LiteralType():
            return ", ".join(f"`{value}`" for value in kind.values)
        case inspect.VarTupleType():
            return f"list of {_takes(kind.item_type)}"
        case inspect.DictType():
            return f"{_takes(kind.key_type)}: {_takes(kind.value_type)}"
        case inspect.StructType():
            return "keys, below"
        case _:
            return "text"


def _spoken_pattern(kind: inspect.Metadata) -> str:
    """The word of the introduction for a patterned text, if it has one."""
    expected = (kind.extra or {}).get("expected", "")
    return next((word for word, begins in _SPOKEN.items() if expected.startswith(begins)), "")


def _problems() -> str:
    rows = [f"| `{code}` | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["## What can be wrong", "", "| code | meaning |", "|---|---|", *rows, ""])


def write_reference(folder: Path) -> None:
    """Write ``reference_files`` into ``folder``."""
    for path, content in reference_files().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
