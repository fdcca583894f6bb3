"""The verb ``doctor``: every precondition of following a database, with the remedy to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape

from upwell.cli.access import given_url, project_in
from upwell.cli.output import answer, console
from upwell.core.errors import UsageError
from upwell.project.draft.names import one_line
from upwell.project.read import SETTINGS_FILE
from upwell.project.references import is_open_to_all
from upwell.project.settings import MysqlSource, PostgresSource, Source
from upwell.project.values import Project
from upwell.sources.checkup import Check, Checkup
from upwell.sources.mysql import checkup as mysql
from upwell.sources.postgres import checkup as postgres
from upwell.sources.postgres.role_script import role_script
from upwell.sources.postgres.session import database_of
from upwell.sources.postgres.source import slot_name

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "fault": "[red]✗[/]"}
_MANY = 30
_MYSQL_SCHEMES = ("mysql://", "mariadb://")


def doctor(url: str | None, folder: Path, tables: Sequence[str] | None, *, as_json: bool) -> None:
    """Check the database at ``url``, or each source of the project in ``folder``.

    Exit code 1 where one of them cannot be followed; warnings alone are no reason.
    """
    secrets: list[Check] = []
    if url is not None:
        found = {"": _of_url(given_url(url), tables)}
    else:
        project = _project(folder)
        secrets = list(_of_secrets(project))
        found = _of_sources(project, tables)
    data = {
        "fit": all(checkup.is_fit for checkup in found.values()),
        "secrets": msgspec.to_builtins(secrets),
        "sources": [_plain(name, checkup) for name, checkup in found.items()],
    }
    answer(data, as_json=as_json, show=_show, ok=bool(data["fit"]))


def role_scripts(folder: Path, role: str, *, as_json: bool) -> None:
    """Print, for each PostgreSQL of the project in ``folder``, the SQL that makes ``role`` for it.

    Asks no database: the role in the URL may not be there yet.
    """
    project = _project(folder)
    scripts = [
        {
            "source": name,
            "sql": role_script(
                role,
                database=database_of(source.url),
                tables=source.tables,
                publication=slot_name(project.settings.name, name),
            ),
        }
        for name, source in project.settings.sources.items()
        if isinstance(source, PostgresSource)
    ]
    data = {"role": role, "scripts": scripts}
    answer(data, as_json=as_json, show=lambda _: print(*(each["sql"] for each in scripts), end=""))


def _project(folder: Path) -> Project:
    if not (folder / SETTINGS_FILE).exists():
        raise UsageError(
            "no_database_named",
            "no database is named, and there is no project here whose source could be meant",
            where=str(folder),
            next_step="upwell doctor postgresql://user:password@host:5432/database, or mysql://…",
        )
    return project_in(folder)


def _of_sources(project: Project, tables: Sequence[str] | None) -> dict[str, Checkup]:
    return {
        name: _of_source(source, tables or source.tables, slot_name(project.settings.name, name))
        for name, source in project.settings.sources.items()
    }


def _of_secrets(project: Project) -> Iterator[Check]:
    """Passwords and keys that more people may read than follow the sources."""
    for where in project.written_out:
        said = f"{where}: a password or key stands in the file itself, and so in every backup"
        step = "write it into a file that only you may read, and ${file:PATH} in its place"
        yield Check("secret_written_out", "warning", where, said, step)
    for path in project.secret_files:
        if is_open_to_all(path):
            said = f"everybody on this machine may read or change the secret in {path}"
            step = f"chmod 600 {shlex.quote(str(path))}"
            yield Check("secret_open_to_all", "warning", str(path), said, step)


def _of_url(url: str, tables: Sequence[str] | None) -> Checkup:
    if url.startswith(_MYSQL_SCHEMES):
        return mysql.check_up(url, tables)
    return postgres.check_up(url, tables, slot=None)


def _of_source(source: Source, tables: Sequence[str], slot: str) -> Checkup:
    match source:
        case PostgresSource():
            return postgres.check_up(
                source.url,
                tables,
                slot=slot,
                standby=source.standby,
                is_offered=source.failover_slot,
            )
        case MysqlSource():
            return mysql.check_up(source.url, tables)


def _plain(name: str, checkup: Checkup) -> dict[str, Any]:
    return {
        "source": name,
        "fit": checkup.is_fit,
        "checks": msgspec.to_builtins(checkup.checks),
        "tables": msgspec.to_builtins(checkup.tables),
        "first_copy_seconds": round(checkup.copy_seconds, 1),
    }


def _show(data: Mapping[str, Any]) -> None:
    _show_checks(data["secrets"])
    for source in data["sources"]:
        if source["source"]:
            console.print(f"[bold]{source['source']}[/]")
        _show_checks(source["checks"])
        _show_copy(source)
    if data["fit"]:
        console.print("[green]✓[/] fit to be followed")
    else:
        console.print("[red]✗[/] not fit yet: run what stands below each ✗, then this again")


def _show_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """Of many fit tables only the number; one remedy below all that it is for."""
    fit = [check for check in checks if check["code"] == "table_fit"]
    shown = [each for each in checks if each["code"] != "table_fit" or len(fit) <= _MANY]
    for step, alike in groupby(shown, key=itemgetter("next_step")):
        for check in alike:
            said = one_line(check["said"])
            if check["code"] == "table_fit":
                said = f"{one_line(check['subject'])}: {said}"
            console.print(f"{_MARKS[check['verdict']]} {escape(said)}", highlight=False)
        if step:
            console.print(f"    {escape(one_line(step))}", highlight=False)
    if len(fit) > _MANY:
        console.print(f"{_MARKS['ok']} {len(fit)} tables can be captured", highlight=False)


def _show_copy(source: Mapping[str, Any]) -> None:
    tables = source["tables"]
    if not tables:
        return
    counts = [table["rows"] for table in tables]
    rows = "" if None in counts else f"about {sum(counts):,} rows, "
    size = sum(table["size_bytes"] for table in tables)
    read = f"{size / (1 << 20):,.0f} MB" if size >= 1 << 20 else f"{size / 1024:,.0f} kB"
    seconds = source["first_copy_seconds"]
    duration = "seconds" if seconds < 60 else f"about {seconds / 60:,.0f} minutes"
    several = f"{len(tables)} tables" if len(tables) > 1 else "1 table"
    console.print(
        f"  the first copy of {several} reads {rows}{read}: {duration}",
        style="dim",
        highlight=False,
    )
