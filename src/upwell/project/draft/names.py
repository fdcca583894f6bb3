"""Names made from other people's names: for files, for SQL, for eyes.

Invariant: an ``identifier`` is one that project files take (``[a-z][a-z0-9_]*``, at most 63
letters), whatever it was made from, and ``Names`` never gives one twice; ``written`` is read back
by SQL as the very name it was given.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable

from upwell.core.sql import quote

_LONGEST = 63
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_PLAIN_YAML = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_YAML_WORDS = frozenset({"true", "false", "null"})

#: What stands in a table's name without saying what its rows are.
_WRAPPINGS = frozenset(
    ("raw", "stg", "staging", "src", "tbl", "table", "t", "dim", "fact", "fct", "dataset", "data")
)
_ODD_PLURALS = {"people": "person", "children": "child", "men": "man", "women": "woman"}
_NO_PLURALS = frozenset(
    ("series", "news", "status", "address", "basis", "bonus", "campus", "sales")
)

#: DuckDB's words that cannot stand for a column or table as they are.
KEYWORDS = frozenset(
    (
        "all", "analyse", "analyze", "and", "anti", "any", "array", "as", "asc", "asof", "at",
        "asymmetric", "authorization", "between", "bigint", "binary", "bit", "boolean",
        "both", "by", "case", "cast", "char", "character", "check", "coalesce", "collate",
        "collation", "column", "columns", "concurrently", "constraint", "create", "cross",
        "current_catalog", "current_date", "current_role", "current_schema", "current_time",
        "current_timestamp", "current_user", "day", "dec", "decimal", "default",
        "deferrable", "desc", "describe", "distinct", "do", "else", "end", "except",
        "exists", "extract", "false", "fetch", "float", "for", "foreign", "freeze", "from",
        "full", "generated", "glob", "grant", "group", "grouping", "grouping_id", "having",
        "ilike", "in", "initially", "inner", "inout", "int", "integer", "intersect",
        "interval", "into", "is", "isnull", "join", "lambda", "lateral", "leading", "left",
        "like", "limit", "localtime", "localtimestamp", "map", "national", "natural",
        "nchar", "none", "not", "notnull", "null", "nullif", "numeric", "offset", "on",
        "only", "or", "order", "out", "outer", "overlaps", "overlay", "pivot",
        "pivot_longer", "pivot_wider", "placing", "position", "positional", "precision",
        "primary", "qualify", "real", "references", "returning", "right", "row", "schema",
        "select", "semi", "session_user", "setof", "show", "similar", "smallint", "some",
        "struct", "substring", "summarize", "symmetric", "system_user", "table",
        "tablesample", "then", "time", "timestamp", "to", "trailing", "treat", "trim",
        "true", "try_cast", "union", "unique", "unpack", "unpivot", "user", "using", "values",
        "varchar", "variadic", "verbose", "view", "when", "where", "window", "with",
        "within", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest",
        "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable" )
)  # fmt: skip


class Names:
    """Gives identifiers, none of them twice."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def take(self, text: str, *, otherwise: str) -> str:
        """An identifier like ``text``, or like ``otherwise`` where nothing of it can be kept."""
        wanted = identifier(text) or otherwise
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted[: _LONGEST - 5]}_{number}"
        self._taken.add(name)
        return name


def words(text: str) -> tuple[str, ...]:
    """The words of a name, lower-case and in plain letters: ``OrderDate`` → ``order``, ``date``."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return tuple(word for word in re.split(r"[^a-z0-9]+", _HUMPS.sub(" ", plain).lower()) if word)


def identifier(text: str) -> str:
    """``Order Date`` → ``order_date``; empty where no letter of it is a plain one."""
    found = "_".join(words(text)).lstrip("0123456789_")
    return found[:_LONGEST].rstrip("_")


def noun(relation: str) -> str:
    """What the rows of a table are, as its name has it: ``raw_orders`` → ``orders``."""
    kept = [word for word in words(relation) if word not in _WRAPPINGS]
    if all(word.isdigit() for word in kept):
        kept = list(words(relation))
    return " ".join(kept) or one_line(relation)


def singular(text: str) -> str:
    """One of them: ``order details`` → ``order detail``, ``categories`` → ``category``."""
    head, blank, last = text.rpartition(" ")
    return head + blank + _singular(last)


def plural(text: str) -> str:
    """Several of them: ``category`` → ``categories``; what is plural already stays."""
    head, blank, last = text.rpartition(" ")
    return head + blank + _plural(_singular(last))


def label(text: str) -> str:
    """A name for people: ``order_date`` → ``Order date``."""
    found = " ".join(words(text)) or one_line(text)
    return found[:1].upper() + found[1:]


def one_line(text: str) -> str:
    """Text that can stand in a comment or a label: printable and on one line."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def written(name: str) -> str:
    """An SQL name, quoted only where it must be."""
    return name if _PLAIN.fullmatch(name) and name not in KEYWORDS else quote(name)


def scalar(text: str) -> str:
    """A text in YAML, in quotes only where it must be."""
    if _PLAIN_YAML.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    spelled = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in spelled)


def _singular(word: str) -> str:
    if word in _ODD_PLURALS:
        return _ODD_PLURALS[word]
    if word in _NO_PLURALS and word != "sales":
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word[:-2] in _NO_PLURALS or word.endswith(("sses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 2:
        return word[:-1]
    return word


def _plural(word: str) -> str:
    for many, one in _ODD_PLURALS.items():
        if word == one:
            return many
    if word in _NO_PLURALS and word not in {"status", "address", "basis", "bonus", "campus"}:
        return word
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")
