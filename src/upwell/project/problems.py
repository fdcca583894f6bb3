"""What can be wrong with a project, and how it is said.

A problem is a ``ProjectError`` whose ``where`` is ``file:line``, whose text says what is wrong, and
whose next step says what to write instead. Reading gathers every problem it finds and raises them
together as ``ProjectErrors``, so that one look at the list is enough to mend the folder.

Invariant: no text made here holds a password: what is quoted from a file goes through ``shown``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from upwell.core.errors import ProjectError
from upwell.project.url import redact_url

Code = Literal[
    "project_file_unreadable",
    "project_yaml_invalid",
    "project_key_twice",
    "project_key_unknown",
    "project_key_missing",
    "project_type_wrong",
    "project_value_wrong",
    "project_variable_missing",
    "project_secret_unreadable",
    "project_model_invalid",
    "project_name_taken",
    "project_name_unknown",
    "project_mismatch",
    "project_invalid",
]

#: Every code, and what it means.
MEANINGS: dict[Code, str] = {
    "project_file_unreadable": "A file cannot be read, is not UTF-8, is too large or lies outside.",
    "project_yaml_invalid": "A file is not YAML, or uses YAML that projects do not read.",
    "project_key_twice": "A mapping holds the same key twice.",
    "project_key_unknown": "A key that has no meaning where it stands.",
    "project_key_missing": "A key that must be there is not.",
    "project_type_wrong": "Text, a list or keys were expected, and something else is there.",
    "project_value_wrong": "A value is not one of those a key can have.",
    "project_variable_missing": "`${NAME}` names an environment variable that is not set.",
    "project_secret_unreadable": "A file that a reference names holds no value that can be read.",
    "project_model_invalid": "A model file is not a comment and one statement.",
    "project_name_taken": "Two things of one kind have the same name.",
    "project_name_unknown": "A name refers to something that the project does not have.",
    "project_mismatch": "Two settings that are each fine do not fit one another.",
    "project_invalid": "Several of these at once; they are listed one by one.",
}

_SHOWN_LENGTH = 60
_LISTED = 24  # longer lists help nobody


class ProjectErrors(ProjectError):  # noqa: N818 - there are several
    """Everything that is wrong with a project, in the order of files and lines."""

    def __init__(self, problems: Sequence[ProjectError]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            (only,) = self.problems
            super().__init__(only.code, only.what, where=only.where, next_step=only.next_step)
            return
        super().__init__(
            "project_invalid",
            "\n".join(
                [
                    f"{len(self.problems)} problems in the project",
                    *(_one_line(problem) for problem in self.problems),
                ]
            ),
            where=self.problems[0].where,
            next_step="mend them and run `upwell validate` again",
        )

    def __str__(self) -> str:
        return "\n\n".join(str(problem) for problem in self.problems)


def problem(code: Code, what: str, *, where: str, next_step: str) -> ProjectError:
    """One problem of one place."""
    return ProjectError(code, what, where=where, next_step=next_step)


@contextmanager
def gathering(problems: list[ProjectError]) -> Iterator[None]:
    """Add the problems that the block raises to ``problems`` and go on after it."""
    try:
        yield
    except ProjectErrors as several:
        problems.extend(several.problems)
    except ProjectError as one:
        problems.append(one)


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known name that ``name`` most likely stands for, or None if there is none like it.

    ``likeness`` runs from 0 (anything) to 1 (the same but for case).
    """
    by_folded = {candidate.casefold(): candidate for candidate in sorted(known, reverse=True)}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=likeness)
    return by_folded[close[0]] if close else None


def choices(name: str, known: Iterable[str], *, nothing: str) -> str:
    """The next step after an unknown name: the nearest known one, and what else there is.

    ``nothing`` is the step where nothing is known at all. The order of ``known`` is kept.
    """
    names = list(dict.fromkeys(known))
    if not names:
        return nothing
    close = nearest(name, names)
    if len(names) > _LISTED:
        return f"did you mean `{close}`?" if close else f"{len(names)} are known, none like it"
    listed = ", ".join(names)
    if close is None:
        return f"write one of {listed}" if len(names) > 1 else f"write `{listed}`"
    others = f" (there are {listed})" if len(names) > 1 else ""
    return f"did you mean `{close}`?{others}"


def unknown_name(
    noun: str, name: str, known: Iterable[str], where: str, *, owner: str = ""
) -> ProjectError:
    """The problem that there is no ``noun`` of this name, or that ``owner`` has none."""
    return problem(
        "project_name_unknown",
        f"{owner or 'the project'} has no {noun} `{shown(name)}`",
        where=where,
        next_step=choices(name, known, nothing=f"there is none at all yet: declare a {noun}"),
    )


def shown(text: str) -> str:
    """Text of a file as an error may quote it: on one line, not long, without passwords."""
    line = " ".join(redact_url(text).split())
    return line if len(line) <= _SHOWN_LENGTH else line[: _SHOWN_LENGTH - 1] + "…"


def _one_line(one: ProjectError) -> str:
    return f"{one.where}: {one.what}; {one.next_step}"
