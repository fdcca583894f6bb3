"""What a project's files say, held against one another.

Each check is a function from all declarations to the problems it finds; ``CHECKS`` runs them in
order. Invariant: of a project without problems every name refers to something, and every tile can
be drawn. A name that may stand in a file which could not be read is not called unknown.

Columns are not known here: whether an expression fits its model is for the planner to say.
"""

from __future__ import annotations

import ipaddress
import zoneinfo
from collections.abc import Iterable, Iterator

from upwell.core.errors import ProjectError
from upwell.project.check_dashboards import check_dashboards
from upwell.project.check_privacy import check_privacy
from upwell.project.check_requirements import check_requirements
from upwell.project.declared import Declarations, Declared
from upwell.project.problems import problem, shown, unknown_name
from upwell.project.settings import Settings, Source
from upwell.project.values import RatioMetric, SemanticModel, SimpleMetric

#: Schemas and databases that SQL already knows by these names, and our own.
RESERVED = frozenset(
    {"hot", "information_schema", "main", "memory", "pg_catalog", "system", "temp", "upwell"}
)


def check(declared: Declarations) -> Iterator[ProjectError]:
    """Every contradiction among what is declared."""
    for each in CHECKS:
        yield from each(declared)


def check_settings(declared: Declarations) -> Iterator[ProjectError]:
    """The zone is real, addresses are on this machine, names in SQL are free."""
    if declared.settings is None:
        return
    settings = declared.settings
    zone = settings.value.time.zone
    known = zoneinfo.available_timezones() - {"localtime"}  # a machine's own; SQL does not know it
    if zone not in known:
        where = settings.where("time", "zone")
        yield unknown_name("time zone", zone, known, where, owner="the IANA database")
    yield from _check_addresses(settings)
    for name, source in settings.value.sources.items():
        if name in RESERVED:
            yield problem(
                "project_name_taken",
                f"a source cannot be called `{name}`: SQL has a schema or database of that name",
                where=settings.where("sources", name),
                next_step="take another name, such as the name of the application",
            )
        yield from _check_tables(name, source, settings)
        for table in source.layout_changes.tables:
            if table not in source.tables:
                where = settings.where("sources", name, "layout_changes", "tables", table)
                yield unknown_name("table", table, source.tables, where)


def check_semantic_models(declared: Declarations) -> Iterator[ProjectError]:
    """Semantic models stand on models, and name what they hold once."""
    measures: dict[str, str] = {}
    for item in declared.semantic_models.values():
        semantic = item.value
        if semantic.model not in declared.models and "models" not in declared.broken:
            yield unknown_name("model", semantic.model, declared.models, item.where("model"))
        for index, measure in enumerate(semantic.measures):
            where = item.where("measures", index, "name")
            first = measures.setdefault(measure.name, where)
            if first != where:
                yield _taken("measure", measure.name, where, f"the project, at {first}")
        for noun, part, values in (
            ("dimension", "dimensions", semantic.dimensions),
            ("entity", "entities", semantic.entities),
        ):
            for index in _repeated(value.name for value in values):
                where = item.where(part, index, "name")
                yield _taken(noun, values[index].name, where, "the semantic model")
        yield from _check_time_dimension(item)


def check_metrics(declared: Declarations) -> Iterator[ProjectError]:
    """Simple metrics name measures, ratios name simple metrics."""
    if "metrics" in declared.broken:
        return
    measures = [
        measure.name
        for item in declared.semantic_models.values()
        for measure in item.value.measures
    ]
    simple = [
        name for name, item in declared.metrics.items() if isinstance(item.value, SimpleMetric)
    ]
    for item in declared.metrics.values():
        metric = item.value
        if isinstance(metric, RatioMetric):
            for part in ("numerator", "denominator"):
                named = getattr(metric.type_params, part)
                if named not in simple:
                    where = item.where("type_params", part)
                    yield unknown_name("simple metric", named, simple, where)
        elif metric.type_params.measure not in measures:
            where = item.where("type_params", "measure")
            yield unknown_name("measure", metric.type_params.measure, measures, where)
        if metric.meta.currency is not None and metric.meta.format != "currency":
            yield problem(
                "project_mismatch",
                f"metric `{metric.name}` has a currency but is no amount of money",
                where=item.where("meta", "currency"),
                next_step="write `format: currency` beside it, or remove the currency",
            )


def _check_addresses(settings: Declared[Settings]) -> Iterator[ProjectError]:
    serve = settings.value.serve
    for key, address in (("http", serve.http), ("sql", serve.sql)):
        wrong = None if address is None else _fault_of_address(address)
        if wrong is not None:
            yield problem(
                "project_value_wrong",
                f"cannot serve at `{shown(str(address))}`: {wrong}",
                where=settings.where("serve", key),
                next_step="write a loopback address and a port, such as 127.0.0.1:8321",
            )
    if serve.sql == serve.http and not serve.http.endswith(":0"):
        yield problem(
            "project_mismatch",
            f"`serve.http` and `serve.sql` are both `{shown(serve.http)}`",
            where=settings.where("serve", "sql"),
            next_step="take another port for one of the two",
        )


def _fault_of_address(address: str) -> str | None:
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        return "it is not `host:port`"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        is_loopback = bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        return "there is no access control yet, so only this machine may be served"
    return None


def _check_tables(
    name: str, source: Source, settings: Declared[Settings]
) -> Iterator[ProjectError]:
    """No two tables may come to the same name in SQL; log and history need theirs too."""
    taken: dict[str, str] = {}
    for index, table in enumerate(source.tables):
        relation = _relation(table, source.home)
        derived = [relation, f"{relation}__log", f"{relation}__history"]
        first = next((taken[each] for each in derived if each in taken), None)
        if first is not None:
            what = f"table `{shown(table)}` is listed twice"
            if first != table:
                what = (
                    f"in SQL, table `{shown(table)}`, its log or its history would have the same "
                    f"name as those of `{shown(first)}`"
                )
            yield problem(
                "project_name_taken",
                what,
                where=settings.where("sources", name, "tables", index),
                next_step="remove one of the two",
            )
        else:
            taken.update(dict.fromkeys(derived, table))


def _relation(table: str, home: str) -> str:
    """The table's name in SQL, folded as SQL compares names. ``home``: see ``settings``."""
    schema, dot, name = table.partition(".")
    is_at_home = not dot or schema == home
    return ((name or schema) if is_at_home else f"{schema}__{name}").casefold()


def _check_time_dimension(item: Declared[SemanticModel]) -> Iterator[ProjectError]:
    semantic = item.value
    name = semantic.defaults.agg_time_dimension
    times = [dimension.name for dimension in semantic.dimensions if dimension.type == "time"]
    if name not in times:
        yield unknown_name(
            "time dimension",
            name,
            times,
            item.where("defaults", "agg_time_dimension"),
            owner=f"semantic model `{semantic.name}`",
        )
    for index, dimension in enumerate(semantic.dimensions):
        if dimension.type != "time" and dimension.type_params is not None:
            yield problem(
                "project_mismatch",
                f"dimension `{dimension.name}` is categorical and has no time granularity",
                where=item.where("dimensions", index, "type_params"),
                next_step="remove `type_params`, or write `type: time`",
            )


def check_lake(declared: Declarations) -> Iterator[ProjectError]:
    """The lake's settings name captured tables and models, and part only what they publish."""
    if declared.settings is None or (lake := declared.settings.value.lake) is None:
        return
    settings = declared.settings
    captured = [
        f"{source}.{_relation(table, setting.home)}"
        for source, setting in settings.value.sources.items()
        for table in setting.tables
    ]
    every = [*captured, *declared.models]
    published = declared.models if lake.publish is None else lake.publish
    for key, noun, names, known in (
        ("history_days", "captured table", lake.history_days, captured),
        ("publish", "table or model", lake.publish or (), every),
        ("publish_by_month", "published table or model", lake.publish_by_month, published),
    ):
        if known is not captured and "models" in declared.broken:
            continue
        folded = {name.casefold() for name in known}
        for index, name in enumerate(names):
            if name.casefold() not in folded:
                place = index if key == "publish" else name
                yield unknown_name(noun, name, known, settings.where("lake", key, place))


def _repeated(names: Iterable[str]) -> list[int]:
    """Indexes of the names that were there before."""
    order = list(names)
    return [index for index, name in enumerate(order) if name in order[:index]]


def _taken(noun: str, name: str, where: str, within: str) -> ProjectError:
    return problem(
        "project_name_taken",
        f"the {noun} `{name}` is there already in {within}",
        where=where,
        next_step="rename or remove one of the two",
    )


CHECKS = (
    check_settings,
    check_privacy,
    check_lake,
    check_semantic_models,
    check_metrics,
    check_dashboards,
    check_requirements,
)
