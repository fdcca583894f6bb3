"""Asks a server again and again, in a thread and over a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

C = TypeVar("C")

#: A thread that waits for a server which does not answer is left to find that out by itself.
_CLOSING_SECONDS = 1.0


class Asking(Generic[C]):
    """Calls ``ask`` every so often from ``start`` until ``close``.

    Whatever connecting or asking raises is told to ``failed``; then it is connected anew, after
    ``again_seconds``.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], AbstractContextManager[C]],
        ask: Callable[[C], None],
        *,
        failed: Callable[[Exception], None],
        every_seconds: float,
        again_seconds: float,
    ) -> None:
        self._connect = connect
        self._ask = ask
        self._failed = failed
        self._every_seconds = every_seconds
        self._again_seconds = again_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_closing(self) -> bool:
        """Whether nobody wants to know any more."""
        return self._closing.is_set()

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Returns soon, whatever the server does; an answer under way may still come in."""
        self._closing.set()
        self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        while not self.is_closing:
            try:
                with self._connect() as connection:
                    while not self.is_closing:
                        self._ask(connection)
                        self._closing.wait(self._every_seconds)
            except Exception as error:  # noqa: BLE001 - whatever a server says, time goes on
                self._failed(error)
                self._closing.wait(self._again_seconds)
