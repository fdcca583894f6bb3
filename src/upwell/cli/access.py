"""A project's data as a verb sees it: from the running engine, or else from the store itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import msgspec
import pyarrow as pa

from upwell import answers
from upwell.core.errors import EnvironmentFault, Unavailable, UsageError
from upwell.core.schema import TableSchema
from upwell.core.sql import quote_table, quoted_list
from upwell.feed.channel import EngineClient
from upwell.ingest.tables import captured_tables, change_logs
from upwell.project.read import read_project
from upwell.project.references import UnresolvedError, resolve
from upwell.project.values import Model, Project
from upwell.serve.reader.statement import tables_named
from upwell.store import ledger
from upwell.store.hot import open_read_only
from upwell.store.place import StatePlace
from upwell.transform.plan import Plan, plan_models
from upwell.wiring import plan_project, source_layouts, source_settings


@dataclass(frozen=True, slots=True)
class Found:
    """What a statement runs over: tables, and models to be computed from them in order."""

    version: int
    tables: Mapping[str, pa.Table]
    models: Sequence[tuple[str, str, Mapping[str, int]]] = ()


class Access(Protocol):
    """What verbs ask."""

    def status(self) -> dict[str, Any]: ...
    def explain(self, name: str) -> dict[str, Any]: ...
    def prove(self, names: Sequence[str]) -> dict[str, Any]: ...
    def tables(self, names: Sequence[str]) -> tuple[int, dict[str, pa.Table]]:
        """The tables at one version, which comes first."""
        ...

    def logs(self) -> dict[str, str]:
        """The change logs that the hot store holds the newest part of, each with its identity."""
        ...


def project_in(folder: Path) -> Project:
    """The project in ``folder``, with the environment's secrets."""
    return read_project(folder, environment=os.environ)


def given_url(text: str) -> str:
    """A database's URL as given to a verb, which may be a reference, relative to where we are.

    So that a password need not stand in a command line, where everybody on the machine sees it.
    """
    try:
        return resolve(text, os.environ, Path.cwd()).text
    except UnresolvedError as error:
        raise UsageError(
            "reference_unresolved", error.what, where="URL", next_step=error.next_step
        ) from None


@contextmanager
def opened(project: Project) -> Iterator[Access]:
    """The engine if one runs, else the store. Raises EnvironmentFault where there is no data."""
    place = StatePlace(project.folder)
    client = EngineClient(place.find_socket())
    try:
        client.ask("identity")
    except Unavailable:
        connection = open_read_only(place.hot_store, zone=project.settings.time.zone)
        try:
            yield _Stored(project, connection)
        finally:
            connection.close()
    else:
        yield _Running(client)


def known_layouts(project: Project) -> tuple[dict[str, TableSchema], str]:
    """The layouts of the captured tables as far as they can be learnt, and from where.

    From the engine, else the store, where those follow the tables that the project names; else from
    the source itself; none where it is away.
    """
    layouts, origin = _followed_layouts(project)
    if layouts.keys() == _configured_tables(project):
        return layouts, origin
    try:
        return source_layouts(project), "source"
    except (Unavailable, EnvironmentFault):
        return {}, ""


def _configured_tables(project: Project) -> set[str]:
    """The tables that the project names, as SQL knows them."""
    return {table for setting in source_settings(project) for table in setting.tables}


def _followed_layouts(project: Project) -> tuple[dict[str, TableSchema], str]:
    """The tables of the last run or the present one, whatever the project names by now."""
    place = StatePlace(project.folder)
    try:
        found = EngineClient(place.find_socket()).ask("layouts")
        return {each["name"]: msgspec.convert(each, TableSchema) for each in found}, "engine"
    except Unavailable:
        pass
    if not place.hot_store.exists():
        return {}, ""
    connection = open_read_only(place.hot_store, zone=project.settings.time.zone)
    try:
        return captured_tables(connection), "store"
    finally:
        connection.close()


class _Running:
    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def status(self) -> dict[str, Any]:
        return dict(self._client.ask("status"))

    def explain(self, name: str) -> dict[str, Any]:
        return dict(self._client.ask("explain", {"name": name}))

    def prove(self, names: Sequence[str]) -> dict[str, Any]:
        return dict(self._client.ask("prove", {"names": list(names)}))

    def tables(self, names: Sequence[str]) -> tuple[int, dict[str, pa.Table]]:
        return self._client.tables(names)

    def logs(self) -> dict[str, str]:
        return dict(self._client.ask("logs"))


class _Stored:
    """What the last run left. ``explain`` alone is about the project as it is written now."""

    def __init__(self, project: Project, connection: duckdb.DuckDBPyConnection) -> None:
        self._project = project
        self._connection = connection
        self._layouts: Mapping[str, TableSchema] = captured_tables(connection)
        self._plan: Plan = plan_models(
            _standing_models(project, connection, self._layouts), list(self._layouts.values())
        )

    def status(self) -> dict[str, Any]:
        return answers.stored_status(self._connection, self._plan, self._layouts)

    def explain(self, name: str) -> dict[str, Any]:
        layouts = self._layouts
        if layouts.keys() != _configured_tables(self._project):
            layouts = source_layouts(self._project)
        return answers.explained(plan_project(self._project, dict(layouts)), name)

    def prove(self, names: Sequence[str]) -> dict[str, Any]:
        return answers.proofs(self._connection, self._plan, names)

    def tables(self, names: Sequence[str]) -> tuple[int, dict[str, pa.Table]]:
        found = {}
        for name in names:
            schema = answers.visible_schema(
                self._connection,
                name,
                {model.name: model.schema for model in self._plan.models},
                self._layouts,
            )
            found[name] = self._connection.execute(
                f"SELECT {quoted_list(schema.column_names)} FROM {quote_table(name)}"
            ).to_arrow_table()
        return ledger.latest_version(self._connection), found

    def logs(self) -> dict[str, str]:
        return {each.name: each.identity for each in change_logs(self._connection)}


def _standing_models(
    project: Project, connection: duckdb.DuckDBPyConnection, layouts: Mapping[str, TableSchema]
) -> list[Model]:
    """The models that the store has and that can still be read off the tables it has."""
    rows = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
    ).fetchall()
    stored = {name for (name,) in rows}
    models = {name: model for name, model in project.models.items() if name in stored}
    new = _configured_tables(project) - layouts.keys()
    while True:
        lost = {name for name, model in models.items() if new & set(tables_named(model.sql))}
        if not lost:
            return list(models.values())
        new |= lost
        models = {name: model for name, model in models.items() if name not in lost}
