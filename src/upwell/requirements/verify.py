"""Every requirement: met, not met, or not measured, with the evidence.

Invariant: "met" is said only of what was measured and whose figure lies at or under the limit even
at the far end of its measuring error. What is not measured is never called met, however likely; the
verdict says what would be needed. A verdict rests on what was observed, and states how much of the
asked time that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from upwell.core.histogram import RELATIVE_ERROR
from upwell.project.target import Target, parse_span_hours, parse_target
from upwell.project.values import Project, Requirement, RequirementsFile
from upwell.requirements.measurements import Measurements, Observation

_HOUR_US = 3_600_000_000


class Outcome(StrEnum):
    """The answer; its text is shown as it stands."""

    MET = "met"
    NOT_MET = "not met"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was asked, by whom, the answer, why, and the figures behind it."""

    requirement: str
    stakeholder: str
    asked: str
    outcome: Outcome
    evidence: str
    figures: Mapping[str, int | float | str] = field(default_factory=dict)


def verify(project: Project, measurements: Measurements, *, now_us: int) -> list[Verdict]:
    """A verdict on every requirement, in the order of the files.

    ``now_us`` is the time of the question, microseconds since 1970 UTC: spans end there.
    """
    return list(_verdicts(project, measurements, now_us))


def _verdicts(project: Project, measurements: Measurements, now_us: int) -> Iterator[Verdict]:
    for file in project.requirements.values():
        for requirement in file.requirements:
            if requirement.measure == "freshness":
                yield _judge_freshness(requirement, file, measurements, now_us)
            else:
                yield _verdict(requirement, file, Outcome.NOT_MEASURED, _why(requirement, file))


def _why(requirement: Requirement, file: RequirementsFile) -> str:
    """Why a requirement cannot be measured."""
    if requirement.measure is not None:
        return f"nothing measures {requirement.measure} yet"
    if requirement.met_by is not None:
        return (
            f"{requirement.met_by} exists; whether it answers the need is for "
            f"{file.stakeholder} to say"
        )
    if requirement.kind == "functional":
        return "nothing in the project is named as answering it: write `met_by`"
    return "it names no measure: write `measure`"


def _judge_freshness(
    requirement: Requirement, file: RequirementsFile, measurements: Measurements, now_us: int
) -> Verdict:
    if requirement.of is None or requirement.target is None or requirement.over is None:
        raise ValueError(f"{requirement.id}: reading a project refuses such a requirement")
    target = parse_target(requirement.target)
    hours = parse_span_hours(requirement.over)
    observed = measurements.freshness(
        requirement.of.removeprefix("dashboard:"),
        since_us=now_us - hours * _HOUR_US,
        until_us=now_us,
    )
    if observed is None:
        evidence = (
            f"no commit was seen becoming visible on {requirement.of} in the last "
            f"{requirement.over}; freshness is recorded while `upwell run` serves the dashboard"
        )
        return _verdict(requirement, file, Outcome.NOT_MEASURED, evidence)
    return _held_against(target, requirement, file, observed, hours)


def _held_against(
    target: Target,
    requirement: Requirement,
    file: RequirementsFile,
    observed: Observation,
    hours: int,
) -> Verdict:
    bounds = observed.latencies.bounds(target.quantile)
    value_ms = observed.latencies.quantile(target.quantile)
    if bounds is None or value_ms is None:
        raise ValueError("an observation holds at least one latency")
    low_ms, high_ms = bounds
    outcome = Outcome.MET if high_ms <= target.limit_ms else Outcome.NOT_MET
    near = " (too near the limit to be called met)" if low_ms < target.limit_ms < high_ms else ""
    span_us = observed.until_us - observed.from_us
    evidence = (
        f"{target.statistic} is {_milliseconds(value_ms)} ± {RELATIVE_ERROR:.1%}{near}, over "
        f"{observed.latencies.count:,} commits in {observed.minutes:,} minutes from "
        f"{_time(observed.from_us)} to {_time(observed.until_us)}"
    )
    if span_us < hours * _HOUR_US * 0.99:
        evidence += f"; only {_span(span_us)} of {requirement.over} observed"
    figures: dict[str, int | float | str] = {
        f"{target.statistic}_ms": round(value_ms, 1),
        "limit_ms": target.limit_ms,
        "commits": observed.latencies.count,
        "minutes": observed.minutes,
        "observed_from": _time(observed.from_us),
        "observed_until": _time(observed.until_us),
        "observed_hours": round(span_us / _HOUR_US, 2),
        "asked_hours": hours,
    }
    return _verdict(requirement, file, outcome, evidence, figures)


def _verdict(
    requirement: Requirement,
    file: RequirementsFile,
    outcome: Outcome,
    evidence: str,
    figures: Mapping[str, int | float | str] | None = None,
) -> Verdict:
    asked = requirement.need
    if not asked:
        parts = (requirement.measure, requirement.of, requirement.target, requirement.over)
        asked = "{} of {}: {} over {}".format(*(part or "?" for part in parts))
    return Verdict(requirement.id, file.stakeholder, asked, outcome, evidence, dict(figures or {}))


def _milliseconds(value_ms: float) -> str:
    return f"{value_ms:.0f} ms" if value_ms < 1_000 else f"{value_ms / 1_000:.1f} s"


def _span(span_us: int) -> str:
    hours = span_us / _HOUR_US
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="minutes")
