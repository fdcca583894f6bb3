"""What the web process says of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from upwell.core.histogram import Histogram
from upwell.serve.web.follower import Standing
from upwell.serve.web.live import Hub


def exposition(hub: Hub, standing: Standing, freshness: Mapping[str, Histogram]) -> str:
    """The metrics in Prometheus' text format (version 0.0.4)."""
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
