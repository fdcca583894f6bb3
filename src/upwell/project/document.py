"""One YAML file as plain data that remembers its lines.

The YAML read here is the part that people write by hand: mappings, lists and scalars of YAML 1.2's
core schema, so ``no`` and ``06:30`` are text. Invariant: every value and key of ``data`` has its
line. Refused, each with its line: tabs and broken syntax, a key twice in one mapping, keys that are
not plain text, aliases and tags (a few lines of either can stand for gigabytes or for code),
nesting deeper than 32, a second document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import yaml

from upwell.core.errors import ProjectError
from upwell.project.problems import ProjectErrors, problem, shown

Data: TypeAlias = "dict[str, Data] | list[Data] | str | int | float | bool | None"

#: A way into the data: ``("tiles", 2, "metric")``.
Place: TypeAlias = "tuple[str | int, ...]"

_DEEPEST = 32

_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Document:
    """The data of one file; ``file`` is its path inside the project."""

    file: str
    data: Data
    lines: Mapping[Place, int] = field(repr=False)

    def where(self, *place: str | int) -> str:
        """``file:line`` of a place, or of the innermost thing around it that is there."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.file}:{self.lines.get(place, 1)}"


def parse(text: str, file: str) -> Document:
    """Read the text of a YAML file. Raises ``ProjectErrors`` with everything that is wrong."""
    reader = _Reader(file)
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        data = reader.document(events)
    except yaml.MarkedYAMLError as error:
        raise ProjectErrors([*reader.problems, _not_yaml(error, file)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the invisible character U+{error.character:04X}"
        raise ProjectErrors([_invalid(what, f"{file}:{line}", "remove it")]) from None
    except (ValueError, OverflowError):  # an escape such as "\Uffffffff", met inside PyYAML
        what = "an escape that stands for no character"
        raise ProjectErrors([_invalid(what, f"{file}:1", "correct the escape")]) from None
    if reader.problems:
        raise ProjectErrors(reader.problems)
    return Document(file, data, reader.lines)


class _Reader:
    """Builds data from parser events, and notes lines and problems as it goes.

    Works on events, not on PyYAML's nodes: composing nodes recurses without bound and follows
    aliases.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.problems: list[ProjectError] = []

    def document(self, events: Iterator[yaml.Event]) -> Data:
        data: Data = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _stop("a second document", event, "give it a file of its own")
            elif isinstance(event, yaml.NodeEvent):
                data = self._value(event, events, ())
        return data

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], place: Place) -> Data:
        self.lines.setdefault(place, _line(event))
        if len(place) > _DEEPEST:
            raise _stop(f"more than {_DEEPEST} levels", event, "nest less deep")
        if isinstance(event, yaml.AliasEvent):
            raise _stop(f"the alias `*{event.anchor}`", event, "write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _stop(f"the tag `{shown(tag)}`", event, "write the plain value")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, place)
        scalar = cast("yaml.ScalarEvent", event)
        text = _text(scalar)
        return _plain(text) if scalar.style is None else text

    def _mapping(self, events: Iterator[yaml.Event], place: Place) -> dict[str, Data]:
        mapping: dict[str, Data] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise _stop("a key that is not plain text", event, "write a word as the key")
            key = _text(event)
            inside: Place = (*place, key)
            if key in mapping:
                self._report_twice(key, inside, line)
                inside = (*place, key, -line)  # keeps the lines of the first one
            self.lines[inside] = line
            value = self._value(next(events), events, inside)
            mapping.setdefault(key, value)
        return mapping

    def _sequence(self, events: Iterator[yaml.Event], place: Place) -> list[Data]:
        items: list[Data] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._value(event, events, (*place, len(items))))
        return items

    def _report_twice(self, key: str, place: Place, line: int) -> None:
        self.problems.append(
            problem(
                "project_key_twice",
                f"the key `{shown(key)}` is there twice; first on line {self.lines[place]}",
                where=f"{self.file}:{line}",
                next_step="keep one of the two",
            )
        )


def _text(event: yaml.ScalarEvent) -> str:
    text = str(event.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _stop("half of a character (\\ud800 to \\udfff)", event, "write the whole character")
    return text


def _plain(text: str) -> Data:
    """An unquoted scalar by YAML 1.2's core schema (without 0o, 0x, .inf and .nan)."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INTEGER.fullmatch(text) and len(text) < 20:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _stop(what: str, event: yaml.Event, next_step: str) -> yaml.MarkedYAMLError:
    mark = cast("yaml.Mark", event.start_mark)
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark, note=next_step)


def _line(event: yaml.Event) -> int:
    return cast("yaml.Mark", event.start_mark).line + 1  # a parser's events always have marks


def _not_yaml(error: yaml.MarkedYAMLError, file: str) -> ProjectError:
    said = error.problem or "it cannot be understood"
    if "'\\t'" in said:
        said, step = "a tab where only spaces can be", "indent with spaces"
    else:
        said += f", {error.context}" if error.context else ""
        step = error.note or "correct the line, or the one before it"
    mark = error.problem_mark or error.context_mark
    return _invalid(said, f"{file}:{mark.line + 1 if mark else 1}", step)


def _invalid(what: str, where: str, next_step: str) -> ProjectError:
    return problem(
        "project_yaml_invalid",
        f"this is not YAML that a project reads: {what}",
        where=where,
        next_step=next_step,
    )
