"""What the web process says of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from upwell.core.histogram import Histogram
from upwell.serve.web.follower import Standing
from upwell.serve.web.live import Hub


def exposition(
    hub: Hub,
    standing: Standing,
    freshness: Mapping[str, Histogram],
    engine: Mapping[str, Any] | None,
) -> str:
    """The metrics in Prometheus' text format (version 0.0.4).

    ``engine`` is what the engine answers when asked for its gauges; None if it did not.
    """
    age_ms = hub.age().age_ms
    counters = hub.counters
    families: list[tuple[str, str, str, float | None]] = [
        ("upwell_web_viewers", "gauge", "Open live pages.", hub.viewers),
        ("upwell_web_views", "gauge", "Distinct views that are watched.", hub.views),
        (
            "upwell_web_viewers_refused_total",
            "counter",
            "Live pages refused because too many were open.",
            counters.refused_viewers,
        ),
        (
            "upwell_web_computations_total",
            "counter",
            "Views computed.",
            counters.computations,
        ),
        (
            "upwell_web_computation_seconds_total",
            "counter",
            "Time spent on computing views, waiting included.",
            counters.computation_seconds,
        ),
        ("upwell_web_version", "gauge", "Version that pages show.", standing.version),
        (
            "upwell_web_data_age_seconds",
            "gauge",
            "Now minus the time through which the data is complete.",
            None if age_ms is None else age_ms / 1000,
        ),
    ]
    lines: list[str] = []
    for name, kind, about, value in families:
        lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        lines += [] if value is None else [f"{name} {value}"]
    lines += _freshness_lines(freshness)
    lines += _engine_lines(engine)
    return "\n".join(lines) + "\n"


def _freshness_lines(freshness: Mapping[str, Histogram]) -> list[str]:
    name = "upwell_web_freshness_seconds"
    lines = [
        f"# HELP {name} From the commit in the source until visible, by dashboard.",
        f"# TYPE {name} summary",
    ]
    for board, histogram in freshness.items():
        for q in (0.5, 0.99):
            milliseconds = histogram.quantile(q)
            if milliseconds is not None:
                lines.append(f'{name}{{dashboard="{board}",quantile="{q}"}} {milliseconds / 1000}')
        lines.append(f'{name}_count{{dashboard="{board}"}} {histogram.count}')
    return lines


#: Gauge of the engine → what it is in its answer, and what it says.
_ENGINE = {
    "upwell_engine_version": ("version", "Newest version."),
    "upwell_engine_durable_version": ("durable_version", "Newest version that the lake has."),
    "upwell_engine_tables_still": ("tables_still", "Tables that stand still."),
    "upwell_engine_tables_read": ("tables_read", "Tables that are being read."),
    "upwell_engine_models_held": ("models_held", "Models that stay at their last good result."),
}


def _engine_lines(engine: Mapping[str, Any] | None) -> Iterator[str]:
    yield from _gauge("upwell_engine_up", "Whether the engine answers.", [("", engine is not None)])
    if engine is None:
        return
    for name, (key, about) in _ENGINE.items():
        yield from _gauge(name, about, [("", engine[key])])
    sources = [(f'{{source="{each["name"]}"}}', each) for each in engine["sources"]]
    weighed = [(label, each["burden"]) for label, each in sources if each["burden"] is not None]
    yield from _gauge(
        "upwell_source_up",
        "Whether a source is being followed.",
        [(label, each["is_followed"]) for label, each in sources],
    )
    yield from _gauge(
        "upwell_source_age_seconds",
        "Now minus the time through which a source is complete.",
        [(label, each["age_ms"] / 1000) for label, each in sources],
    )
    yield from _gauge(
        "upwell_source_retained_bytes",
        "Log that a source keeps for Upwell.",
        [(label, burden["retained_bytes"]) for label, burden in weighed],
    )
    yield from _gauge(
        "upwell_source_retained_limit_bytes",
        "Beyond this a source discards that log by itself.",
        [(label, burden["limit_bytes"]) for label, burden in weighed],
    )
    yield from _gauge(
        "upwell_source_connections",
        "Connections of Upwell to a source.",
        [(label, burden["connections"]) for label, burden in weighed],
    )
    known = [(label, each["failover"]) for label, each in sources if each["failover"] is not None]
    yield from _gauge(
        "upwell_source_failover_slot",
        "Whether a source lets standbys keep a copy of the slot.",
        [(label, failover["is_offered"]) for label, failover in known],
    )
    yield from _gauge(
        "upwell_source_slot_synchronised",
        "Whether the standby that is asked has a usable copy; absent where that is not known.",
        [(label, failover["is_synced"]) for label, failover in known],
    )
    yield from _gauge(
        "upwell_source_standbys_missing",
        "Standbys that are away and for which the source holds its log back.",
        [(label, len(failover["missing"])) for label, failover in known],
    )
    yield from _table_lines(engine["tables"])


def _table_lines(tables: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    labelled = [(f'{{table="{_quoted(each["name"])}"}}', each) for each in tables]
    yield from _gauge(
        "upwell_table_compared_age_seconds",
        "Since a table was last compared with its source, row for row.",
        [
            (label, each["compared_ms_ago"] / 1000)
            for label, each in labelled
            if each["compared_ms_ago"] is not None
        ],
    )
    yield from _gauge(
        "upwell_table_rows_differed_total",
        "Rows that differed from the source while it was followed, and were mended.",
        [(label, each["rows_differed"]) for label, each in labelled],
        "counter",
    )


def _quoted(label: str) -> str:
    """A label's value as the text format has it."""
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _gauge(
    name: str, about: str, values: Iterable[tuple[str, float | None]], kind: str = "gauge"
) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    yield from (f"{name}{label} {value + 0}" for label, value in values if value is not None)
