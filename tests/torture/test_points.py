"""Killed at every point at which something commits, five times each, and in the recovery after it.

The points are read from the source, so none can be left out. Orders come in all the while; in the
end every row is in the log, in its table and in the lake exactly once, and every model is equal to
its full recompute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from tests.acceptance.lakes import put_into_bucket, put_into_folder
from tests.acceptance.running import ShopProject, answers
from tests.acceptance.verbs import upwell
from tests.drill.test_trials import points
from tests.store.lake.seaweed import Seaweed
from tests.torture import altered
from tests.torture.siege import (
    ORDERS_A_SECOND,
    RECOVERY_KILLS,
    Siege,
    account,
    besieged,
    biggest,
    busy_for_a_while,
)
from tests.torture_report import Report
from upwell.core.errors import Exit
from upwell.core.faults import Fault
from upwell.demo.customers import customers, send_home
from upwell.drill.run import _armed
from upwell.drill.trials import TRIALS, Phase, Trial

pytestmark = [pytest.mark.postgres, pytest.mark.torture]

KILLS = 5

#: Passed by a repair alone, which is no engine's.
REPAIRING = "lake.repair_written"
#: Passed by an engine whose lake is in a bucket; of the others some are tried there as well.
IN_BUCKETS = ("lake.object_before_put", "lake.table_flushed", "lake.after_commit")
ONLY_IN_BUCKETS = IN_BUCKETS[0]
#: Passed only where stored rows are not the source's.
MENDING = "reconcile.mended"
#: Passed now and then only: the clocks of these are set to go fast.
SELDOM = (
    "lake.fold_written",
    "lake.fold_committed",
    "lake.file_swept",
    "store.before_checkpoint",
    "store.after_checkpoint",
)

TRIALS_BY_POINT = {trial.point: trial for trial in TRIALS}
IN_FOLDERS = [point for point in points() if point not in {REPAIRING, ONLY_IN_BUCKETS, MENDING}]


def trial_of(point: str) -> Trial:
    """Where a drill meets the point; under load where it does not say."""
    return replace(TRIALS_BY_POINT.get(point, Trial(point, Phase.LOAD, "")), times=KILLS)


def provocation(siege: Siege, phase: Phase) -> Callable[[], None] | None:
    """What has to happen for an engine to pass a point of the phase; None under load."""
    return {
        Phase.START: siege.lose_everything,
        Phase.ANEW: siege.lose_everything,
        Phase.REBUILD: siege.lose_hot_store,
    }.get(phase)


def strike(siege: Siege, fault: Fault, provoke: Callable[[], None] | None) -> None:
    """Until the fault has happened as often as it should."""

    def is_ready() -> bool:
        """Whether there is something to lose again."""
        return fault.happened == KILLS or (
            answers(siege.project) and bool(siege.project.engine.ask("status")["durable_version"])
        )

    siege.until(is_ready)
    while (before := fault.happened) < KILLS:
        siege.kill(provoke)  # the next one reads what is armed
        if provoke is None:
            siege.until(lambda: fault.happened == KILLS, seconds=300)
        else:
            siege.until(lambda before=before: fault.happened > before)  # type: ignore[misc]
            siege.until(is_ready)


def go_through(siege: Siege, point: str, report: Report, name: str) -> None:
    trial = trial_of(point)
    project = siege.project
    with (
        customers(project.url, ORDERS_A_SECOND) as shop,
        _armed(project.folder, [trial]) as armed,
    ):
        strike(siege, armed[trial], provocation(siege, trial.phase))
        siege.kill_while_it_recovers()
        siege.until_it_answers()
        changes = send_home(shop)["row_changes"]
    found = account(project)
    times = armed[trial].happened
    report.row(
        fault=f"kill -9 at {name}",
        times=times,
        in_recovery=RECOVERY_KILLS,
        changes=changes,
        **found.figures,
    )
    assert times == KILLS
    assert found.is_right, found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", IN_FOLDERS)
def test_every_row_is_there_once_whatever_point_it_was_killed_at(
    point: str, busy_shop: ShopProject, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = None
    more = ""
    if point in SELDOM:
        monkeypatch.setenv(altered.HASTE, "1")
        command = altered.engine(busy_shop.folder)
        more = ", history_days: {shop.orders: 1, shop.order_items: 1}"
    put_into_folder(busy_shop, more)
    with besieged(busy_shop, command) as siege:
        go_through(siege, point, report, point)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", IN_BUCKETS)
def test_every_row_is_there_once_whatever_point_it_was_killed_at_with_a_lake_in_a_bucket(
    point: str, busy_shop: ShopProject, seaweed: Seaweed, report: Report
) -> None:
    put_into_bucket(busy_shop, seaweed)
    with besieged(busy_shop) as siege:
        go_through(siege, point, report, f"{point}, in a bucket")


@pytest.mark.timeout(600)
def test_a_repair_that_is_killed_can_be_made_again(busy_shop: ShopProject, report: Report) -> None:
    put_into_folder(busy_shop)
    with besieged(busy_shop):
        changes = busy_for_a_while(busy_shop)
        account(busy_shop)
    file = biggest(busy_shop, "shop.order_items*/data/*.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    point = f"{REPAIRING}:1:kill"
    repair = partial(upwell, busy_shop.folder, "scrub", "--repair")
    killed = [repair(UPWELL_FAULT=point).exit for _ in range(KILLS)]
    repaired = repair()
    with besieged(busy_shop) as siege:
        siege.lose_hot_store()  # so that the lake, and nothing else, has to say what stands
        siege.kill()
        siege.until_it_answers()
        found = account(busy_shop)
    report.row(
        fault=f"kill -9 at {REPAIRING}",
        times=killed.count(-9),
        in_recovery=0,
        changes=changes,
        **found.figures,
    )
    assert killed == [-9] * KILLS
    assert (repaired.exit, len(repaired.data["repaired"])) == (Exit.DONE, 1), repaired.output
    assert found.is_right, found
