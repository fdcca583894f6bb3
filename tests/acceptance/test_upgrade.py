"""What an older Upwell wrote, this one goes on with: nothing is lost. So does the older one again,
where both write the same format; else the hot store is made anew from the lake.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.acceptance.lakes import put_into_folder
from tests.acceptance.running import (
    answers,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    running,
    shop_project,
)
from upwell.demo.customers import customers, send_home
from upwell.demo.server import Server
from upwell.store import ledger

ROOT = Path(__file__).parents[2]


def code_of(commit: str, folder: Path) -> Path:
    """The program as it was at a commit; skips where the history does not reach that far."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "src"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"the history at hand does not reach back to {commit}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def format_of(code: Path) -> int:
    """The format of the hot stores that a program writes."""
    text = (code / "upwell" / "store" / "ledger.py").read_text(encoding="utf-8")
    found = re.search(r"^FORMAT = (\d+)$", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.postgres
@pytest.mark.parametrize(
    "commit",
    [
        "HEAD~1",
        *(pytest.param(f"HEAD~{back}", marks=pytest.mark.torture) for back in (2, 5, 10, 20)),
    ],
)
def test_what_an_older_upwell_wrote_is_gone_on_with(
    postgres: Server, tmp_path: Path, commit: str
) -> None:
    code = code_of(commit, tmp_path / "code")
    project = shop_project(postgres, tmp_path / "project", days_of_history=2)
    put_into_folder(project)
    is_of_this_format = format_of(code) == ledger.FORMAT
    for program in (code, None, code) if is_of_this_format else (code, None):
        with customers(project.url, 20) as shop, running(project, "engine", code=program):
            eventually(lambda: answers(project))
            facts = send_home(shop)
            assert facts["orders_written"] > 0
            eventually(lambda: is_equal_to_the_shop(project))
            eventually(lambda: is_durable(project), seconds=60)
            proofs = project.engine.ask("prove")["models"]
            assert [each["model"] for each in proofs if not each["holds"]] == []
    aside = list((project.folder / ".upwell").glob("hot.duckdb.*-*"))
    assert bool(aside) != is_of_this_format, "set aside, and made anew from the lake"
