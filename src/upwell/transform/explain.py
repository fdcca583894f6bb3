"""How a model refreshes and why, for people and for JSON.

Pure: it reads the plan only. Speaks of what the model reads, then of each step in order, then of
what is kept for it; in words that need no knowledge of the planner.
"""

from __future__ import annotations

from dataclasses import dataclass

from upwell.transform.plan.nodes import (
    HIDDEN,
    Aggregate,
    Branch,
    Keyed,
    Linear,
    ModelPlan,
    Node,
    Outer,
    Plan,
    Recompute,
)

INCREMENTAL, IN_FULL = "incremental", "full"


@dataclass(frozen=True, slots=True)
class Step:
    """One relation on the way to the model. ``kept`` names the table that holds it, or is empty."""

    gives: str
    reads: tuple[str, ...]
    refresh: str  # ``incremental`` or ``full``
    how: str
    why: str
    kept: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a model refreshes. ``refresh`` is ``full`` if any of its steps is."""

    model: str
    description: str
    path: str
    refresh: str
    reads: tuple[str, ...]
    key: tuple[str, ...]
    declared_key: tuple[str, ...]
    reads_clock: bool
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def explain(plan: Plan, name: str) -> Explanation:
    """Explain a model. Raises ``KeyError`` for a name that is not in the plan."""
    model = plan.model(name)
    steps = tuple(_step(model, node) for node in model.nodes)
    return Explanation(
        model=name,
        description=model.model.description,
        path=str(model.model.path),
        refresh=IN_FULL if any(step.refresh == IN_FULL for step in steps) else INCREMENTAL,
        reads=model.reads,
        key=model.schema.key,
        declared_key=model.model.key,
        reads_clock=model.reads_clock,
        steps=steps,
        notes=model.notes,
    )


def text(explanation: Explanation) -> str:
    """The explanation as a page of plain text."""
    lines = [f"{explanation.model}: {_summary(explanation)}"]
    if explanation.description:
        lines += [*_indented(explanation.description)]
    lines += ["", f"reads  {', '.join(explanation.reads) or 'no table'}"]
    lines += [f"key    {', '.join(explanation.key) or 'none: rows may repeat'}", "", "steps"]
    for number, step in enumerate(explanation.steps, start=1):
        lines += _step_lines(number, step)
    if explanation.notes:
        lines += ["", "notes", *(f"  - {note}" for note in explanation.notes)]
    return "\n".join(lines)


def _summary(explanation: Explanation) -> str:
    full = sum(step.refresh == IN_FULL for step in explanation.steps)
    if not full:
        return "follows each change of what it reads, without recomputing the rest"
    if explanation.reads_clock:
        return "recomputed in full at every version, since time alone can change it"
    if full == len(explanation.steps):
        return "recomputed in full when what it reads changes; only the differences are passed on"
    return "follows each change, except for the steps marked as full"


def _step_lines(number: int, step: Step) -> list[str]:
    lines = [f"  {number}. {step.gives}  ← {', '.join(step.reads) or 'nothing'}"]
    lines += [f"     {step.how}", f"     why: {step.why}"]
    lines += [f"     kept: {step.kept}" if step.kept else "     kept: nothing, it is a view"]
    return lines


def _indented(description: str) -> list[str]:
    return [f"  {line}".rstrip() for line in description.splitlines()]


def _step(model: ModelPlan, node: Node) -> Step:
    read = [each.relation for each in node.inputs]
    if isinstance(node.kind, Aggregate):
        read += [argument.distinct for argument in node.kind.arguments if argument.distinct]
    reads = tuple(dict.fromkeys(map(_shown, read)))
    full = isinstance(node.kind, Recompute)
    return Step(
        gives=_shown(node.name),
        reads=reads,
        refresh=IN_FULL if full else INCREMENTAL,
        how=_how(node),
        why=f"it {node.reason}" if full else node.reason,
        kept=_kept(model, node),
    )


def _how(node: Node) -> str:
    match node.kind:
        case Linear(branches=branches) if len(branches) > 1:
            return f"incremental: the changed rows of {len(branches)} parts, put together"
        case Linear(branches=(branch,)) if len(branch.inputs) > 1:
            return f"incremental: changed rows joined with {_others(branch)}"
        case Linear():
            return "incremental: changed rows, one by one"
        case Outer(side="ANTI"):
            return "incremental: changed rows, and those whose partners came or went"
        case Outer():
            return "incremental: changed rows joined, and padded where they have no partner"
        case Keyed(clauses=clauses) if clauses.startswith("GROUP BY"):
            return "incremental: the groups of changed rows are recomputed and compared"
        case Keyed():
            return "incremental: the partitions of changed rows are recomputed and compared"
        case Aggregate(groups=0):
            return "incremental: changed rows merged into the totals"
        case Aggregate(arguments=()) if not node.kind.having:
            return "incremental: each different row kept once, with how often it occurs"
        case Aggregate(rows=rows) if len(rows.inputs) > 1:
            return f"incremental: changed rows joined with {_others(rows)}, then merged by group"
        case Aggregate():
            return "incremental: changed rows merged by group"
        case Recompute():
            return "full: run as a whole, then compared with what is stored"


def _others(branch: Branch) -> str:
    """What one changed row is joined with."""
    return _plural(len(branch.inputs) - 1, "other input")


def _kept(model: ModelPlan, node: Node) -> str:
    match node.kind:
        case Linear(stored=False) | Outer():
            return ""
        case Aggregate(state=state, groups=groups, arguments=arguments, extremes=extremes):
            sums = sum(argument.sum_type is not None for argument in arguments)
            counts = 1 + sum(argument.is_counted for argument in arguments)
            counters = [_plural(counts, "count")]
            counters += [_plural(sums, "exact sum")] if sums else []
            counters += [_plural(len(extremes), "extreme")] if extremes else []
            *first, last = counters
            listed = f"{', '.join(first)} and {last}" if first else last
            return f"{listed} {'for each group' if groups else 'in one row'}, in {state}"
        case _:
            return f"its rows, in {model.name if node.name == model.name else node.name}"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _shown(relation: str) -> str:
    """A hidden relation without the schema it is hidden in."""
    return relation.removeprefix(HIDDEN + ".")
