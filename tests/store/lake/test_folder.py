"""Files of a lake in a folder are durable when they are said to be, and never half there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from upwell.store.lake.objects import FSYNC_FAILED, UNFINISHED, Folder

WRITE = """
import errno, os, sys
from pathlib import Path
from upwell.store.lake.objects import Folder

calls = 0

def fail(descriptor):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        raise OSError(errno.EIO, "Input/output error")

os.fsync = fail
folder = Folder(Path(sys.argv[1]))
try:
    folder.write(f"{folder.root}/one/data.parquet", b"rows")
finally:
    print("went on")
"""


@pytest.mark.parametrize("call", [1, 2], ids=["the file", "its name"])
def test_a_failing_fsync_ends_the_process_at_once(tmp_path: Path, call: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path), str(call)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == FSYNC_FAILED
    assert "durable failed" in done.stderr
    assert "went on" not in done.stdout


def test_a_write_that_failed_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "data.parquet").mkdir()  # nothing can be renamed to this
    with pytest.raises(Exception, match="writing"):
        folder.write(f"{folder.root}/data.parquet", b"rows")
    assert [path.name for path in tmp_path.iterdir() if UNFINISHED in path.name] == []
