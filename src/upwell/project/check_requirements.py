"""Whether every requirement can be judged: it names what exists and says what would be enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from upwell.core.errors import ProjectError
from upwell.project.declared import Declarations, Declared
from upwell.project.problems import nearest, problem, shown, unknown_name
from upwell.project.target import parse_target
from upwell.project.values import Requirement, RequirementsFile

MEASURES = ("freshness",)

# What a requirement can name, and the folder that holds it.
_FOLDERS = {"dashboard": "dashboards", "metric": "metrics", "model": "models"}


def check_requirements(declared: Declarations) -> Iterator[ProjectError]:
    """Identifiers are unique; references, measures and targets hold."""
    seen: dict[str, str] = {}
    for file in declared.requirements.values():
        for index, requirement in enumerate(file.value.requirements):
            where = file.where("requirements", index, "id")
            first = seen.setdefault(requirement.id, where)
            if first != where:
                yield problem(
                    "project_name_taken",
                    f"the requirement `{requirement.id}` is there already, at {first}",
                    where=where,
                    next_step="give one of the two another id",
                )
            yield from _check_references(file, index, requirement, declared)
            if requirement.kind == "functional":
                yield from _check_functional(file, index, requirement)
            else:
                yield from _check_measured(file, index, requirement)


def _check_references(
    file: Declared[RequirementsFile], index: int, requirement: Requirement, declared: Declarations
) -> Iterator[ProjectError]:
    for key, reference in (("met_by", requirement.met_by), ("of", requirement.of)):
        if reference is None:
            continue
        where = file.where("requirements", index, key)
        kind, colon, name = reference.partition(":")
        if not colon or kind not in _FOLDERS:
            yield problem(
                "project_value_wrong",
                f"`{key}` cannot be `{shown(reference)}`",
                where=where,
                next_step=f"write what it is and its name: {_examples()}",
            )
        elif _FOLDERS[kind] not in declared.broken and name not in (
            known := _names(kind, declared)
        ):
            yield unknown_name(kind, name, known, where)


def _check_functional(
    file: Declared[RequirementsFile], index: int, requirement: Requirement
) -> Iterator[ProjectError]:
    if not requirement.need:
        yield _missing(file, index, "need", "what is needed, in the stakeholder's words")
    for key in ("measure", "of", "target", "over"):
        if getattr(requirement, key) is not None:
            yield problem(
                "project_mismatch",
                f"`{key}` measures how well something is done; `{requirement.id}` is functional",
                where=file.where("requirements", index, key),
                next_step="write `kind: non-functional`, or remove the key",
            )


def _check_measured(
    file: Declared[RequirementsFile], index: int, requirement: Requirement
) -> Iterator[ProjectError]:
    if requirement.measure is None:
        if not requirement.need:
            yield _missing(file, index, "measure", f"what is measured: {', '.join(MEASURES)}")
        return
    if requirement.measure not in MEASURES:
        # Another measure is a wish we report as not measured; a misspelt one is a mistake.
        if nearest(requirement.measure, MEASURES, likeness=0.75):
            where = file.where("requirements", index, "measure")
            yield unknown_name("measure", requirement.measure, MEASURES, where, owner="Upwell")
        return
    for key, what in (
        ("of", "the dashboard, as dashboard:sales"),
        ("target", "what is enough, as p99 <= 5 s"),
        ("over", "the span of time that is judged, as 7d"),
    ):
        if getattr(requirement, key) is None:
            yield _missing(file, index, key, what)
    if requirement.of is not None and requirement.of.startswith(("metric:", "model:")):
        yield problem(
            "project_mismatch",
            f"freshness is measured where people see it, not of `{shown(requirement.of)}`",
            where=file.where("requirements", index, "of"),
            next_step="name a dashboard: dashboard:NAME",
        )
    yield from _check_target(file, index, requirement.target)


def _check_target(
    file: Declared[RequirementsFile], index: int, target: str | None
) -> Iterator[ProjectError]:
    if target is None:
        return
    try:
        parse_target(target)
    except ValueError as error:
        yield problem(
            "project_value_wrong",
            f"`{shown(target)}` is no target that freshness can be held against",
            where=file.where("requirements", index, "target"),
            next_step=f"write {error}",
        )


def _missing(
    file: Declared[RequirementsFile], index: int, key: str, description: str
) -> ProjectError:
    return problem(
        "project_key_missing",
        f"missing key `requirements[{index}].{key}`",
        where=file.where("requirements", index),
        next_step=f"add it: {description}",
    )


def _names(kind: str, declared: Declarations) -> Mapping[str, object]:
    return {
        "dashboard": declared.dashboards,
        "metric": declared.metrics,
        "model": declared.models,
    }[kind]


def _examples() -> str:
    return ", ".join(f"{kind}:NAME" for kind in _FOLDERS)
