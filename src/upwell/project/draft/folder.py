"""A proposal as the files of a project folder.

``upwell.yaml`` comes last: a folder is a project once it has that file, so half a draft is none.
No file holds a password: the URL is what ``Wishes`` says, and that is a variable or has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from upwell.project.draft.board import (
    Page,
    dashboard_file,
    metrics_file,
    page_of,
    requirements_file,
)
from upwell.project.draft.model import WideModel, wide_model
from upwell.project.draft.names import label, one_line, scalar
from upwell.project.draft.proposal import Proposal
from upwell.project.survey import SeenTable

_IGNORED = "# state of the last run, made anew from the database\n.upwell/\n"
_LISTED = 40


def files_of(proposal: Proposal) -> Mapping[PurePosixPath, str]:
    """Every file of the draft: path in the project → text."""
    model = wide_model(proposal)
    found = {PurePosixPath(f"models/{model.name}.sql"): model.text}
    page = page_of(proposal.board, model) if proposal.board else None
    if page is not None:
        found[PurePosixPath(f"metrics/{page.name}.yaml")] = metrics_file(page)
        found[PurePosixPath(f"dashboards/{page.name}.yaml")] = dashboard_file(page)
        found[PurePosixPath(f"requirements/{page.name}.yaml")] = requirements_file(page)
    found[PurePosixPath("README.md")] = _readme(proposal, model, page)
    found[PurePosixPath(".gitignore")] = _IGNORED
    found[PurePosixPath("upwell.yaml")] = "\n".join(_settings(proposal)) + "\n"
    return found


def _settings(proposal: Proposal) -> Iterator[str]:
    wishes, survey = proposal.wishes, proposal.survey
    yield f"# Drafted from the database {one_line(survey.database)}. All of it is yours to edit;"
    yield "# `upwell validate` tells whether it holds together."
    yield ""
    yield f"name: {scalar(wishes.project)}"
    yield ""
    yield "# Days and hours on the page are those of this clock. The database's own is"
    yield f"# {one_line(survey.zone)}. A time without a zone is read by this clock too."
    yield f"time: {{zone: {scalar(wishes.zone)}}}"
    yield ""
    yield "sources:"
    source = wishes.source
    yield f"  # In SQL a table is {source}.NAME; of another schema, {source}.SCHEMA__NAME."
    yield f"  {scalar(wishes.source)}:"
    yield "    type: postgres"
    yield f"    # {one_line(wishes.url_note)}"
    yield f"    url: {scalar(wishes.url)}"
    yield "    tables:"
    for name in proposal.tables:
        yield f"      - {scalar(name)}{_size(proposal.survey.table(name))}"
    if proposal.left_out:
        yield "    # left out:"
        for each in proposal.left_out[:_LISTED]:
            yield f"    #   {one_line(each.table)}: {one_line(each.reason)}"
        if len(proposal.left_out) > _LISTED:
            yield f"    #   and {len(proposal.left_out) - _LISTED} more"
    yield ""
    yield 'serve: {http: "127.0.0.1:8321"}'


def _size(table: SeenTable) -> str:
    if table.rows is None:
        return ""
    about = "" if table.rows_are_exact else "about "
    return f" # {about}{table.rows:,} rows"


def _readme(proposal: Proposal, model: WideModel, page: Page | None) -> str:
    rows = [
        ("upwell.yaml", "which database and tables, in which time zone a day begins"),
        (f"models/{model.name}.sql", "one `select`, kept up to date change by change"),
    ]
    if page is not None:
        metrics = ", ".join(metric.label.lower() for metric in page.metrics)
        rows += [
            (f"metrics/{page.name}.yaml", f"what is meant by {metrics}"),
            (f"dashboards/{page.name}.yaml", "what is on the page"),
            (f"requirements/{page.name}.yaml", "who needs it, and how fresh it must be"),
        ]
    table = "\n".join(f"| `{file}` | {one_line(says)} |" for file, says in rows)
    explain = f"upwell explain {model.name}"
    return f"""\
# {label(proposal.wishes.project)}

A project for Upwell, drafted by `upwell init` from a database. Comments in the files say why
something is as it is; edit what you know better.

| file | says |
|---|---|
{table}

```sh
upwell doctor      # is the database ready to be followed, and what to run if not
upwell validate    # do the files hold together
upwell run         # follow the database and serve the page, until Ctrl-C
```

While it runs:

```sh
upwell status
upwell query "select count(*) from {model.name}"
{explain}  # how it is kept up to date, and why so
{"upwell prove":<{len(explain)}}  # is every model equal to a full recompute?
```
"""
