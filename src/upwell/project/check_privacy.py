"""What a project says about columns and rows that are not to be stored, held against itself.

Columns are not known here: whether a rule fits its table is said when the source is opened.
"""

from __future__ import annotations

from collections.abc import Iterator

from upwell.core.errors import ProjectError
from upwell.project.declared import Declarations, Declared
from upwell.project.problems import problem, shown, unknown_name
from upwell.project.settings import Privacy, Settings
from upwell.security.predicate import PredicateError, parse_predicate

_SHORTEST_KEY = 16
_MAKE_A_KEY = (
    "make one and name it at the top: (umask 077; openssl rand -hex 32 > privacy.key), then "
    "privacy_key: file:privacy.key"
)


def check_privacy(declared: Declarations) -> Iterator[ProjectError]:
    """Rules are of captured tables and do not contradict themselves; hashes have a key."""
    if declared.settings is None:
        return
    settings = declared.settings
    key = settings.value.privacy_key
    if key and len(key) < _SHORTEST_KEY:
        yield problem(
            "project_value_wrong",
            f"`privacy_key` is shorter than {_SHORTEST_KEY} characters, and could be guessed",
            where=settings.where("privacy_key"),
            next_step=_MAKE_A_KEY,
        )
    for name, source in settings.value.sources.items():
        tables = [table.removeprefix("public.") for table in source.tables]
        for table, rule in source.privacy.items():
            place = ("sources", name, "privacy", table)
            if table.removeprefix("public.") not in tables:
                where = settings.where(*place)
                yield unknown_name("table", table, source.tables, where, owner=f"source `{name}`")
            yield from _check_rule(rule, settings, place)


def _check_rule(
    rule: Privacy, settings: Declared[Settings], place: tuple[str, ...]
) -> Iterator[ProjectError]:
    if rule == Privacy():
        yield problem(
            "project_value_wrong",
            "this says nothing of what is not to be stored",
            where=settings.where(*place),
            next_step="write drop, keep, hash or rows, or remove it",
        )
    if rule.drop and rule.keep is not None:
        yield problem(
            "project_mismatch",
            "`keep` says already that all other columns are dropped",
            where=settings.where(*place, "drop"),
            next_step="remove one of the two",
        )
    for column in sorted({*rule.drop, *(rule.keep or ())} & {*rule.hash}):
        yield problem(
            "project_mismatch",
            f"column `{shown(column)}` is to be hashed, and to be something else",
            where=settings.where(*place, "hash"),
            next_step="name it once",
        )
    if rule.hash and not settings.value.privacy_key:
        yield problem(
            "project_key_missing",
            "a hash needs a secret key, else whoever guesses a value can look it up",
            where=settings.where(*place, "hash"),
            next_step=_MAKE_A_KEY,
        )
    if rule.rows:
        try:
            parse_predicate(rule.rows)
        except PredicateError as error:
            yield problem(
                "project_value_wrong",
                f"rows cannot be chosen by `{shown(rule.rows)}`: {error}",
                where=settings.where(*place, "rows"),
                next_step="write a condition over the table's own columns, such as country <> 'DE'",
            )
