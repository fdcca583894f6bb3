"""The verb ``init``: look at a database, propose a project, ask where unsure, write the folder.

What is there already is never overwritten. No file and no line printed holds a password. On a
terminal, questions are asked where a person may know better, each with the proposal as its answer;
``--yes``, ``--json`` or no terminal takes the proposals.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from rich.markup import escape
from rich.prompt import IntPrompt, Prompt

from upwell.cli.output import answer, console
from upwell.core.errors import EnvironmentFault, UsageError
from upwell.project.check import RESERVED
from upwell.project.draft import Proposal, Wishes, files_of, propose
from upwell.project.draft.names import Names, one_line
from upwell.project.problems import choices
from upwell.project.read import SETTINGS_FILE, read_project
from upwell.project.survey import Survey
from upwell.project.url import redact_url
from upwell.sources.checkup import Check
from upwell.sources.postgres.checkup import check_up
from upwell.sources.postgres.source import slot_name
from upwell.sources.postgres.survey import survey_database

_FACTS_SHOWN = 5
_TIMES_AS_LIKELY = 3.0
_LEFT_OUT_SHOWN = 12
_SPELLED_OUT_UTC = ("Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu")  # as servers name it
_SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said on the command line; None is for the proposal to say."""

    url: str
    tables: tuple[str, ...] | None
    fact: str | None
    time: str | None
    zone: str | None
    name: str | None
    asks: bool


def init(folder: Path, options: Options, *, as_json: bool) -> None:
    """Draft a project in ``folder`` from the database at ``options.url``."""
    _require_url(options.url)
    _require_free(folder)
    survey = survey_database(options.url)
    proposal = propose(survey, _wishes(folder, survey, options))
    if options.asks and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        proposal = _asked(proposal, options)
    files = files_of(proposal)
    _write(folder, files)
    variable = _variable_in(proposal.wishes.url)
    read_project(
        folder, environment={**os.environ, **({variable: options.url} if variable else {})}
    )
    slot = slot_name(proposal.wishes.project, proposal.wishes.source)
    checkup = check_up(options.url, proposal.tables, slot=slot)
    faults = [check for check in checkup.checks if check.verdict != "ok"]
    data = _report(folder, proposal, [str(path) for path in files], faults, options)
    answer(data, as_json=as_json, show=_show)


# ── before ───────────────────────────────────────────────────────────────────────────────────────


def _require_url(given: str) -> None:
    if not given.strip() or given.startswith(_SCHEMES):
        return  # of an empty one, the source says more
    if given.startswith(("mysql://", "mariadb://")):
        raise UsageError(
            "from_mysql",
            "drafting a project from MySQL or MariaDB is not possible yet, only from PostgreSQL",
            where=redact_url(given),
            next_step="`upwell doctor` with the same URL lists the tables that can be followed; "
            "write upwell.yaml with them as docs/howto/mysql.md shows",
        )
    if Path(given).expanduser().exists():
        raise UsageError(
            "from_folder",
            "drafting a project from a folder of files is not possible yet, only from a database",
            where=given,
            next_step="load the files into PostgreSQL and name that: --from postgresql://…",
        )
    raise UsageError(
        "url_invalid",
        "--from names no database",
        where=redact_url(given),
        next_step="write it as postgresql://user:password@host:5432/database",
    )


def _require_free(folder: Path) -> None:
    if (folder / SETTINGS_FILE).exists():
        raise UsageError(
            "project_exists",
            "there is a project in this folder already, and it stays as it is",
            where=str(folder / SETTINGS_FILE),
            next_step=f"edit it and run `upwell validate --project {shlex.quote(str(folder))}`, or "
            "draft another one into another folder and compare",
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            "file_in_the_way",
            "a file stands where the project's folder would be",
            where=str(folder),
            next_step="name another folder",
        )


def _wishes(folder: Path, survey: Survey, options: Options) -> Wishes:
    project = options.name or folder.resolve().name or survey.database
    source = Names(RESERVED).take(survey.database, otherwise="source")
    if source == "postgres":  # the database that every server has says nothing
        source = Names(RESERVED).take(project, otherwise="source")
    url, note = _written_url(options.url, source)
    return Wishes(
        project=one_line(project) or source,
        source=source,
        url=url,
        url_note=note,
        zone=_zone(options.zone, survey),
        tables=options.tables,
        fact=options.fact,
        time=options.time,
    )


def _zone(wished: str | None, survey: Survey) -> str:
    zones = available_timezones() - {"localtime"}
    if wished is None:
        is_told = survey.zone in zones and survey.zone not in _SPELLED_OUT_UTC
        return survey.zone if is_told else "UTC"
    if wished not in zones:
        raise UsageError(
            "zone_unknown",
            f"there is no time zone {wished}",
            where="--zone",
            next_step=choices(wished, sorted(zones), nothing="write UTC"),
        )
    return wished


def _written_url(url: str, source: str) -> tuple[str, str]:
    """The URL as ``upwell.yaml`` says it, and the comment above it: never with a password.

    A variable that holds this very URL already is named; it need not be exported then.
    """
    held = sorted(name for name, value in os.environ.items() if value == url)
    variable = held[0] if held else f"{source.upper()}_URL"
    if held:
        return f"${{{variable}}}", f"{variable} holds the address, which stays out of this file"
    if redact_url(url) != url or set("${}") & set(url):
        note = f"export {variable} first; the password stays out of this file"
        return f"${{{variable}}}", note
    return f"${{{variable}:-{url}}}", f"set {variable} to follow another database with this project"


def _variable_in(url: str) -> str:
    """The variable that must be set for the project to be read; empty where none must."""
    return "" if ":-" in url else url.removeprefix("${").removesuffix("}")


# ── asking ───────────────────────────────────────────────────────────────────────────────────────


def _asked(proposal: Proposal, options: Options) -> Proposal:
    """The proposal after the questions that the command line left open."""
    console.print(f"[bold]{proposal.survey.database}[/]: {_seen(proposal.survey)}", highlight=False)
    try:
        if options.fact is None and len(proposal.facts) > 1:
            wishes = replace(proposal.wishes, fact=_ask_fact(proposal))
            proposal = propose(proposal.survey, wishes)
        if options.time is None and proposal.board is not None:
            wishes = replace(proposal.wishes, time=_ask_time(proposal))
            proposal = propose(proposal.survey, wishes)
        if options.tables is None:
            proposal = _ask_tables(proposal)
        if options.zone is None:
            asked = Prompt.ask("Time zone of the business", default=proposal.wishes.zone)
            wishes = replace(proposal.wishes, zone=_zone(asked, proposal.survey))
            proposal = propose(proposal.survey, wishes)
    except EOFError:
        raise UsageError(
            "no_answer", "nobody answered", next_step="run it with --yes to take the proposals"
        ) from None
    return proposal


def _ask_fact(proposal: Proposal) -> str:
    shown = proposal.facts[:_FACTS_SHOWN]
    console.print("\nWhat is the page about? The table that records what happens:")
    for number, each in enumerate(shown, start=1):
        rows = "" if each.table.rows is None else f" ({each.table.rows:,} rows)"
        name, reason = escape(one_line(each.table.name)), escape(one_line(each.reason))
        console.print(f"  {number}. [bold]{name}[/]{rows}: {reason}", highlight=False)
    numbers = [str(number) for number in range(1, len(shown) + 1)]
    return shown[IntPrompt.ask("Number", choices=numbers, default=1) - 1].table.name


def _ask_time(proposal: Proposal) -> str | None:
    assert proposal.board is not None  # noqa: S101 - asked only then
    moments = proposal.board.candidate.moments
    likely = [each for each in moments if each.weight >= moments[0].weight - _TIMES_AS_LIKELY]
    names = [f"{each.at.table.name}.{each.column.name}" for each in likely]
    if len(names) < 2:
        return names[0]
    console.print("\nWhen does it happen?")
    for number, name in enumerate(names, start=1):
        console.print(f"  {number}. {escape(one_line(name))}", highlight=False)
    numbers = [str(number) for number in range(1, len(names) + 1)]
    return names[IntPrompt.ask("Number", choices=numbers, default=1) - 1]


def _ask_tables(proposal: Proposal) -> Proposal:
    fit = [table.name for table in proposal.survey.tables if table.is_fit]
    if len(fit) == len(proposal.tables):
        return proposal
    console.print(f"\nOf {len(fit)} tables that can be captured, {len(proposal.tables)} would be.")
    given = Prompt.ask("Tables, with commas between", default=",".join(proposal.tables))
    tables = tuple(name.strip() for name in given.split(",") if name.strip())
    if tables == proposal.tables:
        return proposal
    return propose(proposal.survey, replace(proposal.wishes, tables=tables))


# ── after ────────────────────────────────────────────────────────────────────────────────────────


def _write(folder: Path, files: Mapping[Any, str]) -> None:
    """All files, ``upwell.yaml`` last. Nothing is written where one of them is there already."""
    for path in files:
        if (folder / path).exists():
            raise UsageError(
                "file_in_the_way",
                "a file of the project is there already, and it stays as it is",
                where=str(folder / path),
                next_step="name an empty folder, or move the file away",
            )
    try:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(
            "project_not_written",
            f"cannot write the project: {error.strerror}",
            where=str(error.filename or folder),
            next_step="name another folder, or make room",
        ) from error


def _report(
    folder: Path,
    proposal: Proposal,
    files: Sequence[str],
    faults: Sequence[Check],
    options: Options,
) -> dict[str, Any]:
    board = proposal.board
    return {
        "project": proposal.wishes.project,
        "folder": str(folder),
        "database": proposal.survey.database,
        "seen": _seen(proposal.survey),
        "zone": proposal.wishes.zone,
        "fact": board.candidate.table.name if board else None,
        "why": one_line(board.candidate.reason) if board else "no table has a time",
        "time": f"{board.moment.at.table.name}.{board.moment.column.name}" if board else None,
        "splits": [split.label for split in board.splits] if board else [],
        "other_facts": [
            {"table": each.table.name, "why": one_line(each.reason)}
            for each in proposal.facts[:_FACTS_SHOWN]
            if board is None or each is not board.candidate
        ],
        "tables": [
            {"name": name, "rows": table.rows, "rows_are_exact": table.rows_are_exact}
            for name in proposal.tables
            for table in (proposal.survey.table(name),)
        ],
        "left_out": [
            {"table": each.table, "why": each.reason, "next": each.next_step}
            for each in proposal.left_out
        ],
        "notes": list(proposal.survey.notes),
        "files": list(files),
        "checks": [
            {"code": each.code, "verdict": each.verdict, "what": each.said, "next": each.next_step}
            for each in faults
        ],
        "next": _next_commands(folder, proposal, options),
    }


def _say(text: str, style: str | None = None) -> None:
    """One line for people."""
    console.print(text, style=style, highlight=False)


def _seen(survey: Survey) -> str:
    fit = sum(table.is_fit for table in survey.tables)
    return f"PostgreSQL {survey.version}; {fit} of its {len(survey.tables)} tables can be captured"


def _next_commands(folder: Path, proposal: Proposal, options: Options) -> list[str]:
    where = shlex.quote(str(folder))
    variable = _variable_in(proposal.wishes.url)
    commands = []
    if variable and os.environ.get(variable) != options.url:
        commands.append(f"export {variable}={shlex.quote(redact_url(options.url))}")
    return [*commands, f"upwell run --project {where}"]


def _show_left_out(left_out: Sequence[Mapping[str, str]]) -> None:
    """What cannot be captured one by one; what nobody needs as a number."""
    unfit = [each for each in left_out if each["next"]]
    for each in unfit[:_LEFT_OUT_SHOWN]:
        _say(f"[yellow]![/] left out {escape(one_line(each['table']))}: {escape(each['why'])}")
        _say(f"    {escape(each['next'])}", "dim")
    if len(unfit) > _LEFT_OUT_SHOWN:
        _say(f"[yellow]![/] left out {len(unfit) - _LEFT_OUT_SHOWN} more: `upwell doctor` says why")
    spared = len(left_out) - len(unfit)
    if spared:
        _say(f"  left out {spared} tables that no model reads; add them to upwell.yaml at will")


def _show(data: Mapping[str, Any]) -> None:
    _say(f"[green]✓[/] looked at [bold]{escape(data['database'])}[/]: {data['seen']}")
    if data["fact"]:
        _say(f"  what happens   [bold]{escape(one_line(data['fact']))}[/]: {escape(data['why'])}")
        _say(f"  when           {escape(one_line(data['time']))}, by the clock of {data['zone']}")
        _say(f"  split by       {escape(', '.join(data['splits']) or 'nothing found')}")
        others = ", ".join(one_line(each["table"]) for each in data["other_facts"])
        if others:
            _say(f"  or take        {escape(others)} (with --fact)", "dim")
    else:
        _say("[yellow]![/] no table says when its rows happened, so there is a model but no page;")
        _say("  a page needs a column of type date or timestamp")
    _show_left_out(data["left_out"])
    for note in data["notes"]:
        _say(f"[yellow]![/] {escape(note)}")
    _say(f"[green]✓[/] wrote {len(data['files'])} files into [bold]{escape(data['folder'])}[/]")
    for name in data["files"]:
        _say(f"    {escape(name)}", "dim")
    for step, alike in groupby(data["checks"], key=itemgetter("next")):
        for check in alike:
            mark = "[red]✗[/]" if check["verdict"] == "fault" else "[yellow]![/]"
            _say(f"{mark} {escape(one_line(check['what']))}")
        _say(f"    {escape(one_line(step))}")
    _say("\nNext:")
    for command in data["next"]:
        _say(f"  {escape(command)}")
    if any("***" in command for command in data["next"]):
        _say("  (with the password in place of ***)", "dim")
