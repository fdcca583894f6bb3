"""A shop's project with a lake: in a folder or in a bucket, its engine alone, or a twin of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.running import ShopProject
from tests.store.lake.seaweed import Seaweed
from upwell.app import commands
from upwell.store.lake.catalog import Access


def write_lake(
    project: ShopProject, uri: str, access: Access | None = None, more: str = ""
) -> None:
    """Name a lake in the project's settings, with a round a second and what else is said."""
    settings = project.folder / "upwell.yaml"
    lake = f"uri: '{uri}', commit_seconds: 1{more}"
    if access is not None:
        lake += (
            f", catalog: '{access.catalog}', endpoint: '{access.endpoint}', "
            f"access_key: '{access.access_key}', secret_key: '{access.secret_key}'"
        )
    settings.write_text(f"{settings.read_text()}\nlake: {{{lake}}}\n")


def put_into_folder(project: ShopProject, more: str = "") -> None:
    """Give the project a lake beside it."""
    write_lake(project, "./lake", more=more)


def put_into_bucket(project: ShopProject, seaweed: Seaweed, access: Access | None = None) -> str:
    """Give the project a lake in a bucket of its own; its address."""
    address = seaweed.address()
    write_lake(project, address, access or seaweed.access)
    return address


def twin_of(project: ShopProject, folder: Path) -> ShopProject:
    """The same project on another machine: its files, none of its state."""
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns(".upwell"))
    return ShopProject(folder, project.url, project.address)


@contextmanager
def engine_alone(
    project: ShopProject, command: Sequence[str] = (), **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The project's engine, with nobody to start it again."""
    process = subprocess.Popen(
        command or commands(project.folder)["engine"],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def sell(project: ShopProject, first: int, count: int) -> None:
    """So many customers register at the shop, in one transaction."""
    with project.connect() as connection:
        connection.execute(
            "insert into customers (email, full_name, region) select 'c' || n || '@shop', 'C', "
            "'North' from generate_series(%s::int, %s::int) n",
            [first, first + count - 1],
        )
