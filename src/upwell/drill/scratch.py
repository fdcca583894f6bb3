"""A shop to be cruel to: a server, customers and a project of its own, gone when the drill ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg

from upwell.demo.server import Server
from upwell.demo.shop import open_shop
from upwell.demo.template import SETTINGS_FILE, write_project
from upwell.feed.channel import EngineClient
from upwell.store.place import StatePlace

DATABASE = "shop"
LAKE = "lake"
SEED = 11
_DAYS = 20


@dataclass(frozen=True, slots=True)
class Scratch:
    """A project that follows a shop of a few thousand orders, with its lake beside it."""

    folder: Path
    url: str

    @property
    def place(self) -> StatePlace:
        return StatePlace(self.folder)

    @property
    def engine(self) -> EngineClient:
        return EngineClient(self.place.socket)


@contextmanager
def scratch(orders_a_day: int) -> Iterator[Scratch]:
    """The shop inside the block; raises EnvironmentFault where no server can be started."""
    with ExitStack() as closing:
        root = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="upwell-drill-")))
        root.chmod(0o755)  # the server may run as another user
        server = closing.enter_context(Server(root / "shop-database"))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}")
        url = server.url_of(DATABASE)
        with psycopg.connect(url, autocommit=True) as connection:
            open_shop(
                connection,
                seed=SEED,
                now=datetime.now(UTC),
                zone=ZoneInfo("Europe/London"),
                days=_DAYS,
                orders_a_day=orders_a_day,
                customers=200,
            )
        folder = root / "project"
        write_project(folder, url=url, http="127.0.0.1:0")
        settings = folder / SETTINGS_FILE
        settings.write_text(
            settings.read_text() + f"\nlake: {{uri: ./{LAKE}, commit_seconds: 1}}\n"
        )
        before = os.environ.get("SHOP_URL")
        os.environ["SHOP_URL"] = url
        try:
            yield Scratch(folder, url)
        finally:
            os.environ.pop("SHOP_URL")
            if before is not None:
                os.environ["SHOP_URL"] = before
