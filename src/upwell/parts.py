"""What becomes one version of a source's: a batch, or all parts of a very large transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from upwell.core.protocols import BegunAnewError, SourceBatch
from upwell.following import POLL_SECONDS, Following
from upwell.upkeep import Upkeep


class UndoneError(Exception):
    """A transaction that came in parts was undone; ``met`` has what has to be followed first."""

    def __init__(self, why: str, met: SourceBatch | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.met = met


class Parts:
    """A batch, and where it is the first part of a transaction the others, as they come."""

    def __init__(
        self,
        following: Following,
        first: SourceBatch,
        upkeep: Upkeep,
        is_to_end: Callable[[], bool],
    ) -> None:
        self._following = following
        self._first = first
        self._upkeep = upkeep
        self._is_to_end = is_to_end
        self.last = first

    @property
    def are_many(self) -> bool:
        return self._first.goes_on

    def __iter__(self) -> Iterator[SourceBatch]:
        """Raises what the stream raises, and UndoneError where the parts so far cannot stay."""
        yield self._first
        while self.last.goes_on:
            self.last = self._next()
            yield self.last

    def _next(self) -> SourceBatch:
        stream = self._following.stream
        assert stream is not None  # noqa: S101 - nobody else closes it
        while not self._is_to_end():
            try:
                part = stream.poll(POLL_SECONDS)
            except BegunAnewError as error:
                raise UndoneError("the source gives it again") from error
            if part is not None and self._upkeep.asks_for_layouts(part):
                raise UndoneError("a table's layout changes in it", part)
            if part is not None:
                return part
        raise UndoneError("the engine ends")
