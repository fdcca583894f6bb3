"""Models planned: read, put in order, bound against empty tables, taken apart into nodes.

Refused, each with file and line: a model that does not parse or bind, names an unknown table, is
part of a circle, gives two columns one name, or declares a key it does not have.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from upwell.core.batch import WEIGHT
from upwell.core.errors import ProjectError
from upwell.core.schema import Column, TableSchema
from upwell.project.values import Model
from upwell.transform.plan.bind import Binder, Refused
from upwell.transform.plan.decompose import decompose, reads_of
from upwell.transform.plan.draft import Draft, Target
from upwell.transform.plan.joins import Obstacle
from upwell.transform.plan.keys import Relation
from upwell.transform.plan.nodes import Aggregate, Input, ModelPlan, Node, Plan, Recompute
from upwell.transform.plan.parse import DIALECT, Parsed, Reference, parse, where

#: Raised when the nodes or states of the same text come out otherwise: stored models are rebuilt.
FORMAT = 4

#: DuckDB's type of a bare NULL; stored, it becomes INTEGER.
_NULL_TYPE = '"NULL"'

_UNORDERED = {
    exp.Limit: "LIMIT keeps whichever rows come first: order them by a unique key",
    exp.AnyValue: "any_value() may pick another value each time",
    exp.First: "first() may pick another value each time: order its argument",
    exp.Last: "last() may pick another value each time: order its argument",
    exp.RowNumber: "row_number() numbers equal rows as they come: order by a unique key",
}


def plan_models(models: Sequence[Model], tables: Sequence[TableSchema]) -> Plan:
    """Plan every model over the source ``tables``, named as in SQL. Raises ``ProjectError``."""
    binder = Binder(tables)
    try:
        parsed = [parse(model, binder.functions) for model in models]
        relations = {
            table.name.lower(): Relation(table.name, _key_not_null(table), table.key)
            for table in tables
        }
        for each in parsed:
            _refuse_taken_name(each.model, relations)
        planned: dict[str, ModelPlan] = {}
        for each in _in_order(parsed, list(relations)):
            plan = _plan_model(each, binder, relations, planned)
            planned[plan.name.lower()] = plan
            last = plan.nodes[-1]
            relations[plan.name.lower()] = Relation(plan.name, last.columns, last.unique)
        return Plan(tuple(tables), tuple(planned.values()))
    finally:
        binder.close()


def plan_those_that_hold(
    models: Sequence[Model], tables: Sequence[TableSchema]
) -> tuple[Plan, dict[str, ProjectError]]:
    """The plan of the models that can be planned, and why the others cannot, by name.

    Raises ``ProjectError`` for what is no one model's fault, such as a circle.
    """
    left, refused = list(models), dict[str, ProjectError]()
    while True:
        try:
            return plan_models(left, tables), refused
        except ProjectError as error:
            culprit = next((each for each in left if _is_in(error.where, each)), None)
            if culprit is None or error.code == "model_circle":
                raise
            refused[culprit.name] = error
            left.remove(culprit)


def _is_in(place: str, model: Model) -> bool:
    return place == where(model) or place.startswith(f"{where(model)}:")


def _key_not_null(table: TableSchema) -> tuple[Column, ...]:
    return tuple(
        Column(each.name, each.type, each.nullable and each.name not in table.key)
        for each in table.columns
    )


# ── order ────────────────────────────────────────────────────────────────────────────────────────


def _refuse_taken_name(model: Model, relations: Mapping[str, Relation]) -> None:
    if model.name.lower() in relations:
        raise ProjectError(
            "model_name_taken",
            f"model {model.name} has the name of a source table",
            where=where(model),
            next_step="rename the model's file",
        )


def _in_order(parsed: Sequence[Parsed], tables: Sequence[str]) -> list[Parsed]:
    """Each model after those it reads. Raises ``ProjectError`` for a circle or an unknown name."""
    by_name = {each.model.name.lower(): each for each in parsed}
    known = [*tables, *by_name]
    done: list[Parsed] = []
    path: list[Parsed] = []

    def visit(each: Parsed) -> None:
        if each in done:
            return
        if each in path:
            raise _circle([*path[path.index(each) :], each])
        path.append(each)
        for reference in each.references:
            name = _bare(reference.name)
            if name not in known:
                raise _unknown_table(each.model, reference, known)
            if name in by_name:
                visit(by_name[name])
        path.pop()
        done.append(each)

    for each in parsed:
        visit(each)
    return done


def _bare(name: str) -> str:
    return name.lower().removeprefix("main.")


def _circle(path: Sequence[Parsed]) -> ProjectError:
    names = " → ".join(each.model.name for each in path)
    return ProjectError(
        "model_circle",
        f"models read one another in a circle: {names}",
        where=where(path[0].model),
        next_step="let one of them read the source tables instead",
    )


def _unknown_table(model: Model, reference: Reference, known: Sequence[str]) -> ProjectError:
    near = difflib.get_close_matches(reference.name.lower(), known, n=1, cutoff=0.5)
    names = ", ".join(sorted(known))
    return ProjectError(
        "unknown_table",
        f"model {model.name} reads {reference.name}, which is no source table and no model",
        where=where(model, reference.line),
        next_step=f"did you mean {near[0]}?" if near else f"there are: {names}",
    )


# ── one model ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Bound:
    """A model's text as DuckDB binds it."""

    query: str
    columns: tuple[Column, ...]
    merges_means: bool


def _plan_model(
    parsed: Parsed,
    binder: Binder,
    relations: Mapping[str, Relation],
    planned: Mapping[str, ModelPlan],
) -> ModelPlan:
    model = parsed.model
    bound = _bind(parsed, binder)
    _refuse_columns(model, bound.columns, binder)
    _refuse_rowid(parsed)
    reads = tuple(relations[_bare(each.name)] for each in parsed.references)
    nodes = _nodes(parsed, bound, binder, relations, reads)
    last = nodes[-1]
    key = last.unique if all(not last_column(last, name).nullable for name in last.unique) else ()
    upstream = [planned[each.name.lower()] for each in reads if each.name.lower() in planned]
    return ModelPlan(
        model=model,
        schema=TableSchema(model.name, last.columns, key),
        query=bound.query,
        reads=tuple(each.name for each in reads),
        nodes=nodes,
        reads_clock=parsed.reads_clock,
        fingerprint=_fingerprint(parsed, reads, upstream),
        notes=tuple(_notes(parsed, last)),
    )


def last_column(node: Node, name: str) -> Column:
    return next(column for column in node.columns if column.name == name)


def _bind(parsed: Parsed, binder: Binder) -> _Bound:
    """The model's columns; AVG stays as written where SUM/COUNT would not give the same type."""
    try:
        plain = binder.describe(parsed.plain)
    except Refused as refused:
        raise _not_bound(parsed.model, refused) from refused
    if parsed.query != parsed.plain:
        try:
            merged = binder.describe(parsed.query)
        except Refused:
            return _Bound(parsed.plain, plain, merges_means=False)
        if [each.type for each in merged] != [each.type for each in plain]:
            return _Bound(parsed.plain, plain, merges_means=False)
    return _Bound(parsed.query, plain, merges_means=True)


def _not_bound(model: Model, refused: Refused) -> ProjectError:
    sentence, _, candidates = refused.what.partition(" Candidate bindings: ")
    near = candidates or refused.what.partition("Did you mean ")[2].rstrip("?")
    return ProjectError(
        "model_does_not_bind",
        f"model {model.name}: {sentence.partition(' Did you mean ')[0]}",
        where=where(model, refused.line),
        next_step=f"the nearest names are: {near}" if near else "correct the SQL",
    )


def _refuse_columns(model: Model, columns: Iterable[Column], binder: Binder) -> None:
    names = [column.name.lower() for column in columns]
    for column in columns:
        name = column.name
        if names.count(name.lower()) > 1:
            what, step = f"gives two columns the name {name}", "give one of them another AS name"
        elif name.lower() == WEIGHT:
            what, step = f"calls a column {WEIGHT}, a name Upwell uses", "give it another AS name"
        elif not binder.keeps(column.type):
            what, step = f"gives {name} the type {column.type}", f"cast {name} to VARCHAR"
        else:
            continue
        raise ProjectError(
            "model_columns", f"model {model.name} {what}", where=where(model), next_step=step
        )
    for name in model.key:
        if name.lower() not in names:
            near = difflib.get_close_matches(name.lower(), names, n=1)
            raise ProjectError(
                "model_key",
                f"model {model.name} declares the key column {name}, which it does not have",
                where=where(model),
                next_step=f"did you mean {near[0]}?" if near else f"it has: {', '.join(names)}",
            )


def _refuse_rowid(parsed: Parsed) -> None:
    if any(column.name.lower() == "rowid" for column in parsed.tree.find_all(exp.Column)):
        raise ProjectError(
            "model_not_repeatable",
            f"model {parsed.model.name} reads rowid, which changes whenever a row is rewritten",
            where=where(parsed.model),
            next_step="use a column of the table that identifies its rows",
        )


def _nodes(
    parsed: Parsed,
    bound: _Bound,
    binder: Binder,
    relations: Mapping[str, Relation],
    reads: Sequence[Relation],
) -> tuple[Node, ...]:
    """The model taken apart, or one node that runs its own text in full."""
    target = Target(parsed.model.name, tuple(each.name for each in bound.columns), parsed.model.key)
    draft = Draft(parsed.model.name, binder, relations)
    inputs = tuple(Input(each.name, each.name, each.columns) for each in reads)
    try:
        tree = _qualified(parsed, bound, relations)
        inputs = reads_of(tree, {}, relations)
        decompose(draft, tree, target, {})
        _refuse_other_types(draft.nodes[-1], bound)
    except Obstacle as obstacle:
        draft.forget(0)
        kind = Recompute(bound.query, inputs, parsed.reads_clock)
        draft.add(target, kind, reason=str(obstacle))
    return tuple(draft.nodes)


def _refuse_other_types(node: Node, bound: _Bound) -> None:
    """What was taken apart must give the very types DuckDB gives the whole."""
    for column, given in zip(node.columns, bound.columns, strict=True):
        if given.type not in (column.type, _NULL_TYPE):
            raise Obstacle(f"could not be taken apart without {column.name} becoming {column.type}")


def _qualified(parsed: Parsed, bound: _Bound, relations: Mapping[str, Relation]) -> exp.Query:
    if not bound.merges_means:
        raise Obstacle("uses avg() of a type that cannot be merged")
    if not parsed.faithful:
        raise Obstacle("uses the operator ~, where only regexp_full_match() could be taken apart")
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for relation in relations.values():
        path = relation.name if "." in relation.name else f"main.{relation.name}"
        database, _, table = path.partition(".")
        columns = {column.name: "unknown" for column in relation.columns}
        tables.setdefault(database, {})[table] = columns
    schema: dict[str, object] = {**tables}
    try:
        tree = qualify(parsed.tree.copy(), dialect=DIALECT, schema=schema, db="main")
    except SqlglotError as error:
        raise Obstacle(f"uses names that could not be resolved ({error})") from error
    if not isinstance(tree, exp.Query):
        raise Obstacle("is no plain SELECT")
    if any(map(_is_of_many_columns, tree.walk())):
        raise Obstacle("reads columns that it does not name")
    return tree


def _is_of_many_columns(part: exp.Expr) -> bool:
    """Whether a part stands for columns that nothing says the names of: a row, or a choice."""
    if isinstance(part, exp.Star):
        return not isinstance(part.parent, exp.Count)
    return isinstance(part, exp.TableColumn | exp.Columns)


def _fingerprint(parsed: Parsed, reads: Sequence[Relation], upstream: Sequence[ModelPlan]) -> str:
    """Changes when the model's meaning, what it reads, or the way of storing it changes."""
    parts = [
        str(FORMAT),
        parsed.model.name,
        parsed.tree.sql(dialect=DIALECT, comments=False),
        ",".join(parsed.model.key),
        *(repr((each.name, each.columns, each.unique)) for each in reads),
        *(each.fingerprint for each in upstream),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _notes(parsed: Parsed, last: Node) -> Iterable[str]:
    for kind, note in _UNORDERED.items():
        if isinstance(last.kind, Recompute) and parsed.tree.find(kind):
            yield note
    if parsed.tree.args.get("order") and not parsed.tree.args.get("limit"):
        yield "ORDER BY has no effect on a stored result"
    key = parsed.model.key
    if key and tuple(each.lower() for each in last.unique) != tuple(each.lower() for each in key):
        yield (
            f"the declared key ({', '.join(key)}) does not follow from the keys of what it reads,"
            " so nothing relies on it"
        )
    elif isinstance(last.kind, Aggregate) and any(
        last_column(last, name).nullable for name in last.unique
    ):
        yield f"the key ({', '.join(last.unique)}) may hold NULLs, so followers compare whole rows"


def check_texts(models: Sequence[Model]) -> None:
    """What can be said of models while their tables are unknown: each parses, none is in a circle.

    Raises ``ProjectError``.
    """
    binder = Binder(())
    try:
        parsed = [parse(model, binder.functions) for model in models]
    finally:
        binder.close()
    named = {_bare(reference.name) for each in parsed for reference in each.references}
    _in_order(parsed, sorted(named - {each.model.name.lower() for each in parsed}))
