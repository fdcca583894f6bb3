"""A project's sources and models, made of what its files say.

What any process and most verbs need of a project; nothing of it opens a store or a lake.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from upwell.copying import Budget
from upwell.core.policy import OnChange
from upwell.core.protocols import Source
from upwell.core.schema import TableSchema
from upwell.following import LogPolicy
from upwell.models import Models
from upwell.project.read import SETTINGS_FILE, read_settings
from upwell.project.settings import MysqlSource as MysqlSetting
from upwell.project.settings import PostgresSource as PostgresSetting
from upwell.project.settings import Source as Setting
from upwell.project.values import Project
from upwell.publishing import check_months
from upwell.security.predicate import parse_predicate
from upwell.security.rule import Rule
from upwell.security.screen import Screen
from upwell.security.source import ScreenedSource
from upwell.serve.web.metrics import check_metrics
from upwell.sources.mysql.source import MySQLSource
from upwell.sources.mysql.tables import sql_name as mysql_name
from upwell.sources.postgres.source import PostgresSource, slot_name
from upwell.sources.postgres.tables import sql_name as postgres_name
from upwell.transform.plan import Plan, plan_models


@dataclass(frozen=True, slots=True)
class SourceSetting:
    """A configured source: what it is called, how to reach it, and its tables by SQL name.

    ``terms`` stand for what is left out of tables: see ``core.protocols.SourceTable``.
    """

    name: str
    open: Callable[[str | None], Source]  # given the server's identity known so far
    tables: frozenset[str]
    budget: Budget = field(default_factory=Budget)
    log_policy: LogPolicy = field(default_factory=LogPolicy)
    policies: Mapping[str, OnChange] = field(default_factory=dict)  # by name in SQL
    terms: Mapping[str, str] = field(default_factory=dict)  # as well
    reconcile_seconds: float = 0.0  # how often each table is compared; 0: never


def source_settings(project: Project) -> list[SourceSetting]:
    """The project's sources, ready to be opened."""
    settings = []
    for name, setting in project.settings.sources.items():
        screen = _screen(project, name)
        tables = frozenset(_sql_name(name, setting, table) for table in setting.tables)
        settings.append(
            SourceSetting(
                name,
                partial(_open_source, project, name, screen),
                tables,
                _budget(setting),
                LogPolicy(setting.log.cap_megabytes * 1e6, setting.log.beyond, setting.log.lost),
                _policies(name, setting),
                {table: screen.terms(table) for table in tables},
                setting.reconcile.hours * 3600,
            )
        )
    return settings


def _sql_name(source: str, setting: Setting, table: str) -> str:
    match setting:
        case PostgresSetting():
            return postgres_name(source, table)
        case MysqlSetting():
            return mysql_name(source, table, setting.home)


def _budget(setting: Setting) -> Budget:
    megabytes = setting.copy.megabytes_per_second
    return Budget(setting.copy.connections, None if megabytes is None else megabytes * 1_000_000)


def _policies(source: str, setting: Setting) -> dict[str, OnChange]:
    changes = setting.layout_changes
    return {
        _sql_name(source, setting, table): changes.tables.get(table, changes.policy)
        for table in setting.tables
    }


def _open_source(project: Project, name: str, screen: Screen, identity: str | None) -> Source:
    """Behind a screen also where nothing is left out now: something may have been before."""
    return ScreenedSource(_bare_source(project, name, identity), screen)


def _bare_source(project: Project, name: str, identity: str | None) -> Source:
    setting = project.settings.sources[name]
    match setting:
        case PostgresSetting():
            return PostgresSource(
                name,
                setting.url,
                setting.tables,
                slot=slot_name(project.settings.name, name),
                known=identity,
                is_offered=setting.failover_slot,
                standby=setting.standby,
                # Who opens a source to follow it holds the project's lake, and nobody else does.
                is_sole_follower=project.settings.lake is not None,
                renewed_url=partial(_url_by_now, project, name),
            )
        case MysqlSetting():
            return MySQLSource(name, setting.url, setting.tables, expected_identity=identity)


def _url_by_now(project: Project, name: str) -> str:
    """A source's URL as the project's references lead to it by now; no other setting changes."""
    settings = read_settings(project.folder, environment=os.environ)
    return settings.sources.get(name, project.settings.sources[name]).url


def _screen(project: Project, name: str) -> Screen:
    """What lets through of a source's tables what may be stored."""
    setting = project.settings.sources[name]
    rules = {
        _sql_name(name, setting, table): Rule(
            drop=rule.drop,
            keep=rule.keep,
            hash=rule.hash,
            rows=parse_predicate(rule.rows) if rule.rows else None,
            where=f"{SETTINGS_FILE}: sources.{name}.privacy.{table}",
        )
        for table, rule in setting.privacy.items()
    }
    return Screen(rules, project.settings.privacy_key)


def source_layouts(project: Project) -> dict[str, TableSchema]:
    """The captured tables as the sources have them now. Raises as opening a source does."""
    layouts: dict[str, TableSchema] = {}
    for setting in source_settings(project):
        source = setting.open(None)
        try:
            looked = source.look()
            for problem in looked.unfit.values():
                raise problem
            layouts |= {name: each.schema for name, each in looked.tables.items()}
        finally:
            source.close()
    return layouts


def plan_project(project: Project, layouts: dict[str, TableSchema]) -> Plan:
    """The plan of all models over these tables. Raises ProjectError for what does not hold."""
    plan = plan_models(list(project.models.values()), list(layouts.values()))
    problems = check_metrics(project, {model.name: model.schema for model in plan.models})
    if problems:
        raise problems[0]
    return plan


def check_project(project: Project, models: Models, layouts: dict[str, TableSchema]) -> None:
    """Raise ProjectError for what does not hold over these layouts of the captured tables."""
    plan = models.check(layouts)
    if project.settings.lake is not None:
        check_months(project.settings.lake, layouts)
    found = {**models.schemas, **{model.name: model.schema for model in plan.models}}
    for problem in check_metrics(project, found):
        raise problem
