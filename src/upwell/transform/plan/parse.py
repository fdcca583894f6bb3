"""A model's text, read: one SELECT, the tables it names, the functions it calls.

The text is changed in two ways only, token by token, so that it stays the user's own: ``avg(x)``
is written ``sum(x) / count(x)``, since a mean can only be kept by its parts and both paths must
round alike; and the clock (``now()``, ``current_date``, …) is bound to the version's logical time.
Refused: anything but one SELECT, files and other table functions that reach outside, functions
whose result is random or belongs to a session, and COLLATE, which DuckDB hands on to whatever reads
a result but no table keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.optimizer.scope import traverse_scope

from upwell.core.errors import ProjectError
from upwell.project.values import Model
from upwell.transform.plan.bind import LOGICAL_TIME

DIALECT = "duckdb"

_NOW = f"make_timestamptz(${LOGICAL_TIME})"
_CLOCK = {
    "now": _NOW,
    "get_current_timestamp": _NOW,
    "transaction_timestamp": _NOW,
    "current_timestamp": _NOW,
    "current_date": f"CAST({_NOW} AS DATE)",
    "today": f"CAST({_NOW} AS DATE)",
    "current_time": f"CAST({_NOW} AS TIMETZ)",
    "get_current_time": f"CAST({_NOW} AS TIMETZ)",
    "localtimestamp": f"CAST({_NOW} AS TIMESTAMP)",
    "current_localtimestamp": f"CAST({_NOW} AS TIMESTAMP)",
    "localtime": f"CAST({_NOW} AS TIME)",
    "current_localtime": f"CAST({_NOW} AS TIME)",
}
_BARE_CLOCK = {"current_timestamp", "current_date", "current_time", "localtimestamp", "localtime"}
_MEANS = {"avg", "mean"}
_SESSION = {"getvariable", "current_setting", "current_user", "current_role", "getenv", "version"}
_TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "explode", "json_each", "json_tree"}
_FUNCTION_NAME = re.compile(r"\w+(?=\()")


@dataclass(frozen=True, slots=True)
class Reference:
    """A table as the text names it, and the line where it does."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """A model's text and its syntax tree. ``query`` binds the clock; ``plain`` keeps AVG.

    ``faithful`` is False where the tree does not say quite what the text says.
    """

    model: Model
    query: str
    plain: str
    tree: exp.Query
    references: tuple[Reference, ...]
    reads_clock: bool
    faithful: bool


def parse(model: Model, functions: Mapping[str, tuple[str, str]]) -> Parsed:
    """Read a model's text. ``functions``: name → (kind, stability), as DuckDB has them.

    Raises ``ProjectError`` for what the module refuses.
    """
    plain = _bind_clock(_one_statement(model))
    query = _spell_out_means(plain)
    tree = _tree(model, plain)
    _refuse_foreign_functions(model, tree, functions)
    return Parsed(
        model=model,
        query=query,
        plain=plain,
        tree=_tree(model, query),
        references=tuple(_references(model, tree)),
        reads_clock=f"${LOGICAL_TIME}" in plain,
        # ``a ~ b`` matches a whole text in DuckDB, which SQLGlot takes for regexp_matches.
        faithful=all(token.token_type != TokenType.TILDE for token in _tokens(plain)),
    )


def where(model: Model, line: int | None = None) -> str:
    """``models/daily.sql:3``."""
    return f"{model.path}:{line}" if line else str(model.path)


def function_name(call: exp.Expr) -> str:
    """The name DuckDB knows a call by; empty for operators and casts."""
    if isinstance(call, exp.Binary | exp.Unary):
        return ""  # ``count(*) > 1 AND …`` begins like a call
    name = _FUNCTION_NAME.match(call.sql(dialect=DIALECT))
    return name.group().lower() if name else ""


# ── one SELECT ───────────────────────────────────────────────────────────────────────────────────


def _one_statement(model: Model) -> str:
    """The text without its closing semicolon."""
    try:
        tokens = _tokens(model.sql)
        statements = [tree for tree in sqlglot.parse(model.sql, dialect=DIALECT) if tree]
    except TokenError as error:
        raise _not_understood(model, str(error).split(" '", 1)[0], None) from error
    except ParseError as error:
        first = error.errors[0]
        expected = first["description"].split(" but got <Token", 1)[0]
        what = f"{expected} near {first['highlight']!r}"
        raise _not_understood(model, what, first["line"]) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ProjectError(
            "model_not_a_select",
            f"model {model.name} must be exactly one SELECT",
            where=where(model),
            next_step="keep one SELECT in the file and put other statements elsewhere",
        )
    ends = [token.start for token in tokens if token.token_type == TokenType.SEMICOLON]
    return model.sql[: ends[0]] if ends else model.sql


def _not_understood(model: Model, what: str, line: int | None) -> ProjectError:
    return ProjectError(
        "model_does_not_parse",
        f"model {model.name} does not parse: {what}",
        where=where(model, line),
        next_step="expected one SELECT in DuckDB's dialect",
    )


def _tree(model: Model, query: str) -> exp.Query:
    tree = sqlglot.parse_one(query, dialect=DIALECT)
    if not isinstance(tree, exp.Query):
        raise _not_understood(model, "not a SELECT", None)
    return tree


def _tokens(sql: str) -> list[Token]:
    return sqlglot.tokenize(sql, read=DIALECT)


# ── text, changed by tokens ──────────────────────────────────────────────────────────────────────


def _bind_clock(sql: str) -> str:
    """Every reading of the clock replaced by the logical time."""
    tokens = _tokens(sql)
    pieces: list[str] = []
    done = 0
    for index, token in enumerate(tokens):
        name = token.text.lower()
        if name not in _CLOCK or not _is_name(tokens, index):
            continue
        called = _opens(tokens, index + 1) and _closes(tokens, index + 2)
        if not called and name not in _BARE_CLOCK:
            continue
        end = tokens[index + 2].end if called else token.end
        pieces += [sql[done : token.start], _CLOCK[name]]
        done = end + 1
    return "".join([*pieces, sql[done:]])


def _spell_out_means(sql: str) -> str:
    """Every ``avg(x)`` that is not a window function as ``(sum(x) / count(x))``."""
    searched = 0
    while True:
        tokens = _tokens(sql)
        found = next(
            (
                index
                for index, token in enumerate(tokens)
                if token.start >= searched
                and token.text.lower() in _MEANS
                and _is_name(tokens, index)
                and _opens(tokens, index + 1)
            ),
            None,
        )
        if found is None:
            return sql
        last = _closing(tokens, found + 1)
        if _is_word(tokens, last + 1, "filter"):
            last = _closing(tokens, last + 2)
        if _is_word(tokens, last + 1, "over"):
            searched = tokens[found].end + 1
            continue
        start, end = tokens[found].start, tokens[last].end + 1
        call = sql[tokens[found].end + 1 : end]
        sql = f"{sql[:start]}(sum{call} / count{call}){sql[end:]}"


def _is_name(tokens: list[Token], index: int) -> bool:
    """Whether the token is a bare name: not quoted, not a text, not after a dot or AS."""
    if tokens[index].token_type in (TokenType.STRING, TokenType.IDENTIFIER):
        return False
    return index == 0 or tokens[index - 1].token_type not in (TokenType.DOT, TokenType.ALIAS)


def _is_word(tokens: list[Token], index: int, word: str) -> bool:
    return index < len(tokens) and tokens[index].text.lower() == word


def _opens(tokens: list[Token], index: int) -> bool:
    return index < len(tokens) and tokens[index].token_type == TokenType.L_PAREN


def _closes(tokens: list[Token], index: int) -> bool:
    return index < len(tokens) and tokens[index].token_type == TokenType.R_PAREN


def _closing(tokens: list[Token], opening: int) -> int:
    """Index of the parenthesis that closes the one at ``opening``."""
    depth = 0
    for index in range(opening, len(tokens)):
        depth += _opens(tokens, index) - _closes(tokens, index)
        if depth == 0:
            return index
    raise ParseError("a parenthesis is not closed")


# ── what the text names ──────────────────────────────────────────────────────────────────────────


def _references(model: Model, tree: exp.Query) -> Iterator[Reference]:
    """Tables named in the text, other than its own common table expressions, in order."""
    seen: dict[str, Reference] = {}
    for scope in traverse_scope(tree):
        for source in scope.sources.values():
            if not isinstance(source, exp.Table):
                continue
            if not isinstance(source.this, exp.Identifier):
                _refuse_table_function(model, source)
                continue
            name = ".".join(part.name for part in source.parts)
            line = int(source.this.meta.get("line", 0))
            seen.setdefault(name.lower(), Reference(name, line))
    yield from seen.values()


def _refuse_table_function(model: Model, source: exp.Table) -> None:
    name = function_name(source.this)
    if name not in _TABLE_FUNCTIONS:
        raise ProjectError(
            "model_reads_outside",
            f"model {model.name} calls {name or 'a function'}() in FROM: a model reads tables only",
            where=where(model),
            next_step="add what it reads as a source and name that table",
        )


def _refuse_foreign_functions(
    model: Model, tree: exp.Query, functions: Mapping[str, tuple[str, str]]
) -> None:
    """Refuse what would give another answer each time it is asked."""
    for part in tree.find_all(exp.Func, exp.Placeholder, exp.TableSample):
        if found := _not_repeatable(part, functions):
            what, step = found
            raise ProjectError(
                "model_not_repeatable",
                f"model {model.name} {what}",
                where=where(model),
                next_step=step,
            )


def _not_repeatable(
    part: exp.Expr, functions: Mapping[str, tuple[str, str]]
) -> tuple[str, str] | None:
    """Why the part gives another answer each time, and what to do instead."""
    if isinstance(part, exp.TableSample):
        return "takes a random sample", "filter by hash(id) % 100 < 10 to keep a fixed tenth"
    if isinstance(part, exp.Collate):
        return "compares by COLLATE, which no table keeps", "write lower(x) or strip_accents(x)"
    if isinstance(part, exp.Placeholder):
        ours = part.name == LOGICAL_TIME
        return None if ours else ("has a parameter", "write the value itself")
    name = function_name(part)
    _, stability = functions.get(name, ("", "CONSISTENT"))
    if name == "age" and len([*part.iter_expressions()]) == 1:
        return "calls age(x), which hides the clock", "write age(current_date, x)"
    if stability != "CONSISTENT" or name in _SESSION:
        what = f"calls {name}(), whose result is not decided by the data"
        return what, f"take {name}() out, or compute it in the source"
    return None
