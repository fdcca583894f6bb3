"""Two engines on one lake in a bucket: one freezes, the other takes over, the first comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from tests.acceptance.lakes import engine_alone, put_into_bucket, sell, twin_of, write_lake
from tests.acceptance.running import (
    ShopProject,
    answers,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    running,
)
from tests.store.lake.seaweed import Seaweed
from tests.torture import altered
from upwell.app import commands
from upwell.core.errors import EnvironmentFault, Exit
from upwell.core.schema import TableSchema
from upwell.drill.account import take
from upwell.project.read import read_project
from upwell.project_lake import find_project_lake
from upwell.supervise import Supervisor

pytestmark = pytest.mark.postgres

Engine = AbstractContextManager[subprocess.Popen[bytes]]


def with_clock(folder: Path, ahead: int) -> Callable[[ShopProject], Engine]:
    """Starts engines that run alone, on a machine whose clock is so many seconds ahead."""
    if not ahead:
        return engine_alone
    told = folder / f"clock{ahead}"
    told.write_text(str(ahead))
    return lambda project: engine_alone(
        project, altered.engine(project.folder), **{altered.CLOCK: str(told)}
    )


@pytest.mark.parametrize(
    "apart",
    [
        0,
        pytest.param(600, marks=pytest.mark.torture),
        pytest.param(-600, marks=pytest.mark.torture),
    ],
)
def test_a_frozen_engine_is_replaced_and_ends_when_it_wakes(
    apart: int, shop: ShopProject, seaweed: Seaweed, tmp_path: Path
) -> None:
    """The one that takes over has a clock that is so many seconds apart from the first one's."""
    put_into_bucket(shop, seaweed)
    twin = twin_of(shop, tmp_path / "twin")
    with with_clock(tmp_path, -apart // 2)(shop) as first:
        eventually(lambda: answers(shop), seconds=60)
        sell(shop, 1, 50)
        eventually(lambda: is_durable(shop), seconds=60)
        sell(shop, 51, 50)  # perhaps in a round that does not end
        first.send_signal(signal.SIGSTOP)
        with with_clock(tmp_path, apart // 2)(twin):
            eventually(lambda: answers(twin), seconds=90)
            sell(shop, 101, 50)
            eventually(lambda: is_equal_to_the_shop(twin), seconds=60)
            first.send_signal(signal.SIGCONT)
            assert first.wait(timeout=60) == Exit.ENVIRONMENT
            assert first.stdout is not None
            output = first.stdout.read()
            assert b"another engine" in output or b"held by" in output
            sell(shop, 151, 50)
            eventually(lambda: is_equal_to_the_shop(twin), seconds=60)
            eventually(lambda: is_durable(twin), seconds=60)
            project = read_project(twin.folder, environment=os.environ)
            lake = find_project_lake(project)
            assert lake is not None
            layouts = [msgspec.convert(each, TableSchema) for each in twin.engine.ask("layouts")]
            lines = take(twin.engine, twin.url, layouts, lake, project.settings.time.zone)
            assert [line.table for line in lines if not line.equal] == []
            assert {line.table: line.lake for line in lines}["shop.customers"] == 200


def test_a_second_run_on_the_same_lake_says_who_holds_it(shop: ShopProject, tmp_path: Path) -> None:
    write_lake(shop, str(tmp_path / "lake"))
    twin = twin_of(shop, tmp_path / "twin")
    with running(shop, "engine") as held:
        supervisor = Supervisor(
            {"engine": commands(twin.folder)["engine"]}, twin.folder / "log", lambda _: None
        )
        with supervisor.running(), pytest.raises(EnvironmentFault) as caught:
            supervisor.watch(threading.Event())
        assert f"process {held.pids()['engine']} on" in caught.value.what
        assert str(shop.folder) in caught.value.what
        assert answers(shop)
