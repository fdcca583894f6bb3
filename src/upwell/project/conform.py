"""Plain data against the values of a project: all problems at once, each with its line.

``msgspec`` converts strictly but stops at the first problem and knows no lines. ``conform`` walks
data and type together beforehand and finds them all. Invariant: where it finds none, msgspec
converts; should the two ever differ, msgspec's word is reported, and nothing is read half.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from upwell.project.document import Data, Document, Place
from upwell.project.problems import Code, ProjectErrors, choices, nearest, problem, shown
from upwell.project.value import reference_kind

T = TypeVar("T")


class _Finding(NamedTuple):
    code: Code
    what: str
    place: Place
    next_step: str


def conform(document: Document, kind: type[T]) -> T:
    """The document as a ``kind``. Raises ``ProjectErrors`` with everything that does not fit."""
    findings = list(_check(inspect.type_info(kind), document.data, ()))
    if not findings:
        try:
            return msgspec.convert(document.data, kind, strict=True)
        except msgspec.ValidationError as error:
            findings.append(_Finding("project_type_wrong", str(error), (), "correct the value"))
    raise ProjectErrors(
        [
            problem(code, what, where=document.where(*place), next_step=next_step)
            for code, what, place, next_step in findings
        ]
    )


def spoken_place(place: Place) -> str:
    """A place as people write it, ``tiles[2].metric``, counting from 0."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{shown(step)}" if text else shown(step)
    return text


def description_of(kind: inspect.Type) -> str:
    """What a field's type says about itself; empty where it says nothing."""
    if not isinstance(kind, inspect.Metadata):
        return ""
    return str((kind.extra_json_schema or {}).get("description", ""))


def _check(kind: inspect.Type, data: Data, place: Place, expected: str = "") -> Iterator[_Finding]:
    """What does not fit. ``expected`` completes "write …" where ``kind`` alone would not help."""
    match kind:
        case inspect.Metadata() if reference_kind(kind) and not isinstance(data, str):
            yield _secret_not_text(place)
        case inspect.Metadata():
            yield from _check(kind.type, data, place, (kind.extra or {}).get("expected", expected))
        case inspect.UnionType():
            yield from _check_union(kind, data, place, expected)
        case inspect.StructType():
            yield from _check_struct([kind], data, place)
        case inspect.DictType():
            yield from _check_dict(kind, data, place)
        case inspect.VarTupleType():
            yield from _check_list(kind, data, place)
        case inspect.LiteralType():
            values = [str(value) for value in kind.values]
            if data not in values:
                yield _not_a_choice(data, values, place)
        case inspect.StrType():
            yield from _check_text(kind, data, place, expected)
        case inspect.IntType() | inspect.FloatType():
            yield from _check_number(kind, data, place)
        case _:
            raise TypeError(f"conform.py does not know how to check {kind}")


def _check_union(
    kind: inspect.UnionType, data: Data, place: Place, expected: str
) -> Iterator[_Finding]:
    if data is None and kind.includes_none:
        return
    options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
    structs = [option for option in options if isinstance(option, inspect.StructType)]
    if len(structs) == len(options):
        yield from _check_struct(structs, data, place)
    else:
        (option,) = options  # the values of a project hold no other unions
        yield from _check(option, data, place, expected)


def _check_struct(
    kinds: Sequence[inspect.StructType], data: Data, place: Place
) -> Iterator[_Finding]:
    """``kinds`` are the alternatives, told apart by their tag."""
    if not isinstance(data, dict):
        yield _wrong_type("keys and values", data, place)
        return
    kind, tag = kinds[0], kinds[0].tag_field
    if tag is not None:
        by_tag = {str(kind.tag): kind for kind in kinds}
        if tag not in data:
            yield _missing(tag, place, " or ".join(by_tag))
            return
        said = data[tag]
        if not isinstance(said, str) or said not in by_tag:
            yield _not_a_choice(said, list(by_tag), (*place, tag))
            return
        kind = by_tag[said]
    yield from _check_fields(kind, data, place)


def _check_fields(
    kind: inspect.StructType, data: dict[str, Data], place: Place
) -> Iterator[_Finding]:
    fields = {field.encode_name: field for field in kind.fields}
    known = [*([kind.tag_field] if kind.tag_field else []), *fields]
    absent = [name for name, field in fields.items() if field.required and name not in data]
    for key, value in data.items():
        if key in fields:
            yield from _check(fields[key].type, value, (*place, key))
        elif key != kind.tag_field:
            # A misspelt required key is one problem, not an unknown and a missing one.
            meant = nearest(key, absent)
            yield _unknown(key, [meant] if meant else known, place)
            if meant:
                absent.remove(meant)
    for name in absent:
        yield _missing(name, place, description_of(fields[name].type))


def _check_dict(kind: inspect.DictType, data: Data, place: Place) -> Iterator[_Finding]:
    if not isinstance(data, dict):
        yield _wrong_type("keys and values", data, place)
        return
    if not data and kind.min_length:
        yield _empty(place)
    for key, value in data.items():
        yield from _check(kind.key_type, key, (*place, key))
        yield from _check(kind.value_type, value, (*place, key))


def _check_list(kind: inspect.VarTupleType, data: Data, place: Place) -> Iterator[_Finding]:
    if not isinstance(data, list):
        yield _wrong_type("a list", data, place)
        return
    if not data and kind.min_length:
        yield _empty(place)
    for index, item in enumerate(data):
        yield from _check(kind.item_type, item, (*place, index))


def _check_text(
    kind: inspect.StrType, data: Data, place: Place, expected: str
) -> Iterator[_Finding]:
    if not isinstance(data, str):
        yield _wrong_type("text", data, place, expected if kind.pattern else "")
    elif len(data) < (kind.min_length or 0) or not re.search(kind.pattern or "", data):
        what = f"`{spoken_place(place)}` cannot be {_quoted(data)}"
        yield _Finding("project_value_wrong", what, place, f"write {expected or kind.pattern}")


def _check_number(
    kind: inspect.IntType | inspect.FloatType, data: Data, place: Place
) -> Iterator[_Finding]:
    """Of the bounds there can be only the least value is known; no project value has another."""
    is_whole = isinstance(kind, inspect.IntType)
    wanted = "a whole number" if is_whole else "a number"
    if isinstance(data, bool) or not isinstance(data, int if is_whole else int | float):
        yield _wrong_type(wanted, data, place)
    elif not math.isfinite(data) or (kind.ge is not None and data < kind.ge):
        what = f"`{spoken_place(place)}` cannot be {data}"
        yield _Finding("project_value_wrong", what, place, f"write {wanted} of at least {kind.ge}")


def _unknown(key: str, known: list[str], place: Place) -> _Finding:
    what = f"unknown key `{spoken_place((*place, key))}`"
    step = choices(key, known, nothing="remove it")
    return _Finding("project_key_unknown", what, (*place, key), step)


def _missing(name: str, place: Place, description: str) -> _Finding:
    what = f"missing key `{spoken_place((*place, name))}`"
    return _Finding("project_key_missing", what, place, f"add it: {description}".rstrip(": ."))


def _empty(place: Place) -> _Finding:
    what = f"`{spoken_place(place)}` is empty"
    return _Finding("project_value_wrong", what, place, "write at least one entry")


def _not_a_choice(data: Data, values: list[str], place: Place) -> _Finding:
    what = f"`{spoken_place(place)}` cannot be {_quoted(data)}"
    step = choices(data if isinstance(data, str) else "", values, nothing="remove it")
    return _Finding("project_value_wrong", what, place, step)


def _wrong_type(wanted: str, data: Data, place: Place, expected: str = "") -> _Finding:
    name = f"`{spoken_place(place)}`" if place else "the file"
    what = f"{name} should be {wanted}, but is {_quoted(data)}"
    step = f"write {expected or wanted}"
    if wanted == "text" and isinstance(data, bool | int | float) and not expected:
        step = "put it in quotes"
    return _Finding("project_type_wrong", what, place, step)


def _secret_not_text(place: Place) -> _Finding:
    """Does not quote what is there: a password may be all digits."""
    what = f"`{spoken_place(place)}` should be text, and is not"
    return _Finding("project_type_wrong", what, place, "put it in quotes")


def _quoted(data: Data) -> str:
    """A value as an error quotes it; lists and mappings by their kind only."""
    match data:
        case dict():
            return "keys and values"
        case list():
            return "a list"
        case str():
            return f"`{shown(data)}`" if data else "empty"
        case None:
            return "empty"
        case bool():
            return "true" if data else "false"
        case _:
            return f"the number {data}"
