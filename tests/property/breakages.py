"""The rules by which models are refreshed, each broken in one place.

A breakage is a piece of a rule's code and what to put in its place. Nothing of the rule's file is
touched: the function in memory gets other code for as long as a test runs.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any

import pytest

from upwell.transform.plan import (
    aggregates,
    chain,
    delta,
    grouped,
    keys,
    merge,
    partners,
    reading,
    sql,
    windows,
)
from upwell.transform.refresh import deltas, refresher


@dataclass(frozen=True, slots=True)
class Edit:
    """One place in the code of ``rule``: what stands there, and what is to."""

    rule: Callable[..., Any]
    sound: str
    broken: str

    @property
    def code(self) -> str:
        """The rule as it is written."""
        return textwrap.dedent(inspect.getsource(inspect.unwrap(self.rule)))


@dataclass(frozen=True, slots=True)
class Breakage:
    """What is broken, and which models rest on it: those that show one of ``shows``."""

    what: str
    edit: Edit
    shows: tuple[str, ...]


#: Edits after which the law still holds: another way to the same rows is gone.
DETOURS = (
    Edit(merge.merges_at_once, "not kind.extremes", "False"),
    Edit(refresher.Refresher._forget, "<= MOST_NAMED_ROWS", "< 0"),
)

_MORE_THAN_EQUALITY = ("join on more than equality", "subquery with a residual condition")

_BY_KEY = ("median", "quantile", "arg_max", "float sum", "float avg", "stddev", "string_agg")
_EXTREMES = ("min", "max", "having over min or max")
_OF_THREE = ("join of three",)

BREAKAGES = (
    # ── products of deltas ───────────────────────────────────────────────────────────────────────
    Breakage(
        "of two changed inputs neither is read as it stood before",
        Edit(delta._products, "each in changed[place:]", "each is as_delta"),
        ("inner join",),
    ),
    Breakage(
        "of two changed inputs each is read as it stood before",
        Edit(delta._products, "each in changed[place:]", "each in changed"),
        ("inner join",),
    ),
    Breakage(
        "an input stood before as it stands now and its delta once more",
        Edit(delta._before, "-{WEIGHT} FROM", "{WEIGHT} FROM"),
        ("inner join",),
    ),
    Breakage(
        "weights of joined rows are not multiplied",
        Edit(delta._products, "' * '.join(weights)", "weights[0]"),
        ("inner join",),
    ),
    Breakage(
        "the conditions of a join do not hold for its delta",
        Edit(delta._products, "{sql.where([*conditions, *branch.conditions])}", ""),
        ("filter",),
    ),
    # ── joins one after another ──────────────────────────────────────────────────────────────────
    Breakage(
        "what is joined so far meets a changed input as it stands now",
        Edit(
            chain.chained,
            "_Product(so_far, sources, deltas.get(source))",
            "_Product(so_far, sources)",
        ),
        _OF_THREE,
    ),
    Breakage(
        "what changed of an input does not meet those before it",
        Edit(chain.chained, "chain.walk(source, deltas[source], passed)", "[]"),
        _OF_THREE,
    ),
    Breakage(
        "an input of many stood before as it stands now and its delta once more",
        Edit(chain._before, 'f"-{WEIGHT}"', "WEIGHT"),
        _OF_THREE,
    ),
    Breakage(
        "an input of many is read without what its own rows must meet",
        Edit(chain._current, "{sql.current(source)}{condition}", "{sql.current(source)}"),
        _OF_THREE,
    ),
    Breakage(
        "weights of rows joined one after another are not multiplied",
        Edit(chain._Chain._joined, 'weight += f" * {_COMING}0.{WEIGHT}"', "pass"),
        _OF_THREE,
    ),
    Breakage(
        "inputs of many are joined without their conditions",
        Edit(chain._Chain._joined, "{sql.where(conditions)}", ""),
        _OF_THREE,
    ),
    Breakage(
        "rows are not added up before they are passed on",
        Edit(delta.consolidated, " HAVING sum({WEIGHT}) <> 0", ""),
        ("model over model",),
    ),
    # ── outer, semi and anti joins ───────────────────────────────────────────────────────────────
    Breakage(
        "rows without a partner stay when they find one",
        Edit(delta._products, "'-' if negative else ''", "''"),
        ("left join",),
    ),
    Breakage(
        "an anti join adds the rows with a partner once more",
        Edit(delta._inner_joins, "match.conditions), True", "match.conditions), False"),
        ("not exists",),
    ),
    Breakage(
        "a change of the right side is not seen when the left one changed too",
        Edit(delta.outer_delta, "deltas.keys() == {kind.left}", "kind.left in deltas"),
        ("left join",),
    ),
    Breakage(
        "a row meets a partner as often as it has partners",
        Edit(partners._partners, "search.right.facts.identify(keys)", "True"),
        ("exists",),
    ),
    Breakage(
        "conditions on the left side do not decide who has a partner",
        Edit(partners._by_value, 'search.on if search.side(each) == "left"', "()"),
        _MORE_THAN_EQUALITY,
    ),
    Breakage(
        "conditions on the right side do not decide who is a partner",
        Edit(partners._by_value, "search.right.where(*inside)", "search.right"),
        _MORE_THAN_EQUALITY,
    ),
    Breakage(
        "conditions on both sides other than equality do not decide who has a partner",
        Edit(partners._partners, "all(each in told for each in mixed)", "compared"),
        _MORE_THAN_EQUALITY,
    ),
    Breakage(
        "padded columns are taken to be never NULL",
        Edit(partners.outer_join, '"LEFT": {_RIGHT}', '"LEFT": set[str]()'),
        ("left join",),
    ),
    Breakage(
        "NOT IN is taken for NOT EXISTS where values may be NULL",
        Edit(reading.Reading._members, "if is_negated and not (", "if False and not ("),
        ("not in where NULLs may be",),
    ),
    # ── counters ─────────────────────────────────────────────────────────────────────────────────
    Breakage(
        "NULLs are counted",
        Edit(merge._change, " FILTER (WHERE {value} IS NOT NULL)", ""),
        ("count",),
    ),
    Breakage(
        "values are taken to be never NULL",
        Edit(
            aggregates._Counters._aggregate,
            "counts_rows = always and not distinct",
            "counts_rows = not distinct",
        ),
        ("count",),
    ),
    Breakage(
        "no rows at all have a sum",
        Edit(
            aggregates._Counters._aggregate,
            "if counts_rows and self.has_groups:",
            "if counts_rows:",
        ),
        ("global aggregate",),
    ),
    Breakage(
        "groups are taken to be never NULL",
        Edit(grouped._null_groups, "if not joined.facts.never_null(each)", "if False"),
        ("count", "sum", "distinct"),
    ),
    Breakage(
        "sums change by values without their weights",
        Edit(merge._change, "AS {argument.sum_type}) * {weight})", "AS {argument.sum_type}))"),
        ("sum",),
    ),
    Breakage(
        "a sum over no value is NULL from then on",
        Edit(
            merge._change,
            "or_zero = has_others or not argument.always or not kind.groups",
            "or_zero = False",
        ),
        ("sum",),
    ),
    Breakage(
        "a distinct value that goes is taken for one that comes",
        Edit(merge._values, "{WEIGHT if is_here else 0}", "{f'abs({WEIGHT})' if is_here else 0}"),
        ("count distinct",),
    ),
    Breakage(
        "distinct values count as rows of their group",
        Edit(merge._value_term, "0 AS {WEIGHT}", "{WEIGHT}"),
        ("count distinct",),
    ),
    Breakage(
        "a group of NULL is not found again",
        Edit(sql.match, "name in nullable", "False"),
        ("group by expression",),
    ),
    Breakage(
        "HAVING is not judged anew",
        Edit(merge._having, "if having else", "if False else"),
        ("having",),
    ),
    Breakage(
        "HAVING is judged before by the counters after",
        Edit(merge.merge, "kind.having and _before(kind.having)", "kind.having"),
        ("having",),
    ),
    Breakage(
        "what a group showed is computed from the counters after",
        Edit(merge._before, "_before_it(column.name)", "column.name"),
        ("sum",),
    ),
    Breakage(
        "a group without rows stays",
        Edit(refresher.Refresher._write_state, "some_end and kind.groups", "False"),
        ("distinct",),
    ),
    Breakage(
        "a sum of nothing is zero",
        Edit(
            aggregates._Counters._aggregate,
            "return exp.Case(ifs=[exp.If(this=some, true=total)])",
            "return total",
        ),
        ("sum",),
    ),
    Breakage(
        "equal rows of hidden groups are not added up",
        Edit(refresher.Refresher._consolidated, "return consolidate(delta)", "return delta"),
        ("hidden group",),
    ),
    Breakage(
        "a least or greatest value that goes stays",
        Edit(
            merge._merged_extremes,
            'stale.append(f"{left} > 0 AND {lost}")',
            'stale.append("FALSE")',
        ),
        _EXTREMES,
    ),
    Breakage(
        "a group without values keeps its least and greatest",
        Edit(merge._merged_extremes, "CASE WHEN {left} > 0 THEN {merged} END", "{merged}"),
        _EXTREMES,
    ),
    Breakage(
        "rows that cancel out come and go among the least and greatest",
        Edit(merge.grouped_delta, "found = [consolidated(sql.union(found), names)]", "pass"),
        _EXTREMES,
    ),
    # ── touched keys ─────────────────────────────────────────────────────────────────────────────
    Breakage(
        "a key is touched only by rows that come",
        Edit(delta.touched_keys, "FROM ({changed})", "FROM ({changed}) WHERE {WEIGHT} > 0"),
        _BY_KEY,
    ),
    Breakage(
        "the key NULL is never touched",
        Edit(delta.restricted, "if name in null_keys", "if False"),
        _BY_KEY,
    ),
    Breakage(
        "a delta is read without what its own rows must meet",
        Edit(delta.passed, "{sql.where([reader.condition])}", ""),
        ("filter",),
    ),
    Breakage(
        "an input stood before with rows that do not meet what its own must",
        Edit(delta._before, "{sql.current(source)}{condition}", "{sql.current(source)}"),
        ("filter",),
    ),
    Breakage(
        "touched keys are computed anew over rows that the conditions leave out",
        Edit(delta.restricted, "[*branch.all_conditions, *met, *ranges]", "[*met, *ranges]"),
        _BY_KEY,
    ),
    Breakage(
        "a touched partition is the first window's, though another one's is larger",
        Edit(windows._partition_keys, "all(key in other for other in others)", "True"),
        ("windows that share a part of their partitions",),
    ),
    Breakage(
        "rows of touched days are looked for in too short a time",
        Edit(delta.key_range, "least - timedelta(days=2)", "greatest + timedelta(days=2)"),
        ("group by a span of time",),
    ),
    # ── what is stored, and what is proven ───────────────────────────────────────────────────────
    Breakage(
        "rows of a left join are told apart by the left side's key, whatever they meet",
        Edit(partners._unique, "found.relation is right.facts.inputs[_RIGHT]", "True"),
        ("left join",),
    ),
    Breakage(
        "a row that comes twice is stored once",
        Edit(refresher.Refresher._store, "_repeated(come)", "come"),
        ("union all",),
    ),
    Breakage(
        "a row that goes twice is deleted once",
        Edit(refresher.Refresher._delete, "copy <= -copies", "copy <= 1"),
        ("union all",),
    ),
    Breakage(
        "an update of rows that are only counted is no change",
        Edit(
            deltas._projected,
            "unchanged = pc.sum(batch.column(WEIGHT)).as_py() == 0",
            "unchanged = True",
        ),
        ("global aggregate", "cross join"),
    ),
    Breakage(
        "a part of a key identifies a row",
        Edit(keys.Facts.determined, "if key and key <= found", "if key and key & found"),
        ("filter",),
    ),
)


@contextmanager
def edited(edits: Iterable[Edit]) -> Iterator[None]:
    """The edits are in place inside."""
    by_rule: dict[Callable[..., Any], str] = {}
    for each in edits:
        by_rule[each.rule] = by_rule.get(each.rule, each.code).replace(each.sound, each.broken)
    with pytest.MonkeyPatch.context() as patch:
        for rule, code in by_rule.items():
            bare = inspect.unwrap(rule)
            patch.setattr(bare, "__code__", _compiled(code, bare))
            _forget(rule)
        yield
    for rule in by_rule:
        _forget(rule)


def _forget(rule: Callable[..., Any]) -> None:
    """Answers that a rule keeps are those of the code it had."""
    if forget := getattr(rule, "cache_clear", None):
        forget()


def _compiled(source: str, rule: Callable[..., Any]) -> CodeType:
    """The code of a function of this source, which may name all that the rule's module does."""
    names: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    code = compile(source, f"<{rule.__qualname__}, broken>", "exec", flags, dont_inherit=True)
    exec(code, {**rule.__globals__}, names)  # noqa: S102 - the source is our own
    broken: CodeType = inspect.unwrap(names[rule.__name__]).__code__
    return broken
