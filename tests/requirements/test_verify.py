"""Verdicts: met and not met only of what was measured, with the figures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from upwell.core.histogram import Histogram
from upwell.project.settings import PostgresSource, Settings
from upwell.project.values import Project, Requirement, RequirementsFile
from upwell.requirements.measurements import MINUTE_US, MinuteLatencies, RecordedMinutes
from upwell.requirements.verify import Outcome, Verdict, verify

NOW_US = 1_790_000_000_000_000 // MINUTE_US * MINUTE_US
NOTHING = RecordedMinutes([])

FRESHNESS = Requirement(
    id="MKT-2",
    kind="non-functional",
    measure="freshness",
    of="dashboard:sales",
    target="p99 <= 5 s",
    over="7d",
)


def project_with(*requirements: Requirement) -> Project:
    source = PostgresSource(url="postgresql://localhost/shop", tables=("orders",))
    return Project(
        folder=Path(),
        settings=Settings(name="shop", sources={"shop": source}),
        models={},
        semantic_models={},
        metrics={},
        dashboards={},
        requirements={
            "marketing": RequirementsFile(stakeholder="Marketing", requirements=requirements)
        },
    )


def minute(minutes_ago: int, *values_ms: float, dashboard: str = "sales") -> MinuteLatencies:
    latencies = Histogram.empty().add(np.array(values_ms))
    return MinuteLatencies(dashboard, NOW_US - minutes_ago * MINUTE_US, latencies)


def judge(*recorded: MinuteLatencies, requirement: Requirement = FRESHNESS) -> Verdict:
    (verdict,) = verify(project_with(requirement), RecordedMinutes(recorded), now_us=NOW_US)
    return verdict


def test_a_target_that_is_reached_is_met_with_its_figures() -> None:
    verdict = judge(*(minute(ago, *[200.0] * 99, 400.0) for ago in range(1, 61)))
    assert verdict.outcome is Outcome.MET
    assert verdict.figures["commits"] == 6_000
    assert verdict.figures["minutes"] == 60
    assert verdict.figures["limit_ms"] == 5_000
    assert verdict.figures["p99_ms"] == pytest.approx(200, rel=0.05)
    assert verdict.figures["observed_hours"] == 1
    assert verdict.figures["asked_hours"] == 168
    assert verdict.evidence.startswith("p99 is ")
    assert "6,000 commits in 60 minutes" in verdict.evidence
    assert verdict.evidence.endswith("only 1.0 h of 7d observed")


def test_a_target_that_is_missed_is_not_met() -> None:
    verdict = judge(minute(1, *[200.0] * 98, 9_000.0, 9_000.0))
    assert verdict.outcome is Outcome.NOT_MET
    assert "p99 is 9.3 s" in verdict.evidence


def test_a_figure_too_near_the_limit_to_tell_is_not_called_met() -> None:
    requirement = msgspec.structs.replace(FRESHNESS, target="p99 <= 5.2 s")
    verdict = judge(minute(1, 5_100.0), requirement=requirement)
    shown_ms = verdict.figures["p99_ms"]
    assert isinstance(shown_ms, float)
    assert shown_ms < 5_200
    assert verdict.outcome is Outcome.NOT_MET
    assert "too near the limit" in verdict.evidence


def test_a_latency_beyond_what_is_measured_is_not_met() -> None:
    assert judge(minute(1, 10_000_000.0)).outcome is Outcome.NOT_MET


def test_with_nothing_observed_it_is_not_measured() -> None:
    verdict = judge()
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert "no commit was seen" in verdict.evidence
    assert verdict.figures == {}


def test_minutes_without_a_commit_are_nothing_observed() -> None:
    assert judge(minute(1)).outcome is Outcome.NOT_MEASURED


def test_only_the_asked_span_and_dashboard_count() -> None:
    verdict = judge(
        minute(7 * 24 * 60 + 1, 60_000.0),
        minute(7 * 24 * 60, 100.0),
        minute(1, 100.0),
        minute(1, 60_000.0, dashboard="other"),
        minute(0, 60_000.0),
    )
    assert verdict.outcome is Outcome.MET
    assert verdict.figures["commits"] == 2
    assert "observed" not in verdict.evidence


def test_a_minute_in_several_parts_is_one_minute() -> None:
    assert judge(minute(1, 100.0), minute(1, 200.0)).figures["minutes"] == 1


def test_the_running_minute_is_observed_only_until_now() -> None:
    project = project_with(FRESHNESS)
    half_a_minute_later = NOW_US + MINUTE_US // 2
    (verdict,) = verify(project, RecordedMinutes([minute(0, 100.0)]), now_us=half_a_minute_later)
    assert verdict.figures["observed_hours"] == pytest.approx(0.5 / 60, abs=0.01)


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        (
            Requirement(id="A", kind="functional", need="sales", met_by="dashboard:sales"),
            "dashboard:sales exists; whether it answers the need is for Marketing to say",
        ),
        (Requirement(id="A", kind="functional", need="sales"), "write `met_by`"),
        (
            Requirement(id="A", kind="non-functional", measure="availability"),
            "nothing measures availability yet",
        ),
        (Requirement(id="A", kind="non-functional", need="quick"), "write `measure`"),
    ],
)
def test_what_nothing_measures_is_not_measured_and_says_why(
    requirement: Requirement, words: str
) -> None:
    verdict = judge(minute(1, 100.0), requirement=requirement)
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert words in verdict.evidence


def test_every_requirement_gets_a_verdict_in_the_order_of_the_file() -> None:
    functional = Requirement(id="MKT-1", kind="functional", need="sales by region")
    verdicts = verify(project_with(functional, FRESHNESS), NOTHING, now_us=NOW_US)
    assert [(each.requirement, each.stakeholder, each.asked) for each in verdicts] == [
        ("MKT-1", "Marketing", "sales by region"),
        ("MKT-2", "Marketing", "freshness of dashboard:sales: p99 <= 5 s over 7d"),
    ]


def test_a_project_without_requirements_has_no_verdicts() -> None:
    assert verify(project_with(), NOTHING, now_us=NOW_US) == []
