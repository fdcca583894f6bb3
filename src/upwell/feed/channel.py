"""Carries the feed, and questions to the engine, over Arrow Flight on a Unix socket.

``FeedServer`` runs in the engine; ``EngineClient`` is what every other process holds. Errors of
ours cross the channel whole: raised on one side, raised again as the same kind on the other.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import flight

from upwell.core import errors
from upwell.core.protocols import FeedMessage, TableSnapshot, VersionEnd
from upwell.feed.envelopes import SCHEMA, decode, encode
from upwell.feed.hub import FeedHub

Handler = Callable[[dict[str, Any]], Any]
"""Answers one question: JSON object in, JSON value out."""

_MARK = "upwell-error:"
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.UpwellError,
        errors.UsageError,
        errors.EnvironmentFault,
        errors.Unavailable,
        errors.GapError,
        errors.IntegrityError,
    )
}


class FeedTicket(msgspec.Struct, frozen=True):
    """What a follower asks for. ``version`` counts only in the store it was seen in."""

    tables: tuple[str, ...]
    version: int | None = None
    store: str | None = None
    once: bool = False  # one snapshot, then the end


class FeedServer(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Serves a hub on ``socket``. ``handlers`` answer questions by name."""

    def __init__(
        self, socket: Path, hub: FeedHub, *, store: str, handlers: Mapping[str, Handler]
    ) -> None:
        socket.unlink(missing_ok=True)
        super().__init__(f"grpc+unix://{socket}")
        self._socket = socket
        self._hub = hub
        self._store = store
        self._handlers = handlers

    def do_get(
        self, context: flight.ServerCallContext, ticket: flight.Ticket
    ) -> flight.FlightDataStream:
        wanted = msgspec.json.decode(ticket.ticket, type=FeedTicket)
        version = wanted.version if wanted.store == self._store else None
        with _crossing():
            if wanted.once:
                schemas = {name: self._hub.schema_of(name) for name in wanted.tables}
                messages: Iterator[FeedMessage] = self._hub.snapshot(schemas)
            else:
                messages = self._hub.follow(wanted.tables, version)
            first = next(messages, None)  # an unknown table is told before the stream begins
        return flight.GeneratorStream(SCHEMA, _envelopes(context, messages, first))

    def do_action(
        self, _context: flight.ServerCallContext, action: flight.Action
    ) -> list[flight.Result]:
        handler = self._handlers.get(action.type)
        with _crossing():
            if handler is None:
                raise errors.UsageError(
                    "unknown_question",
                    f"Asking the engine: it has no answer to {action.type!r}.",
                    next_step="Run the same version of Upwell everywhere.",
                )
            body = action.body.to_pybytes()
            answer = handler(msgspec.json.decode(body) if body else {})
        return [flight.Result(pa.py_buffer(msgspec.json.encode(answer)))]

    def list_actions(self, _context: flight.ServerCallContext) -> list[tuple[str, str]]:
        return [(name, "") for name in self._handlers]

    def stop(self) -> None:
        """End the followers' streams, then the server."""
        self._hub.close()
        self.shutdown()
        self._socket.unlink(missing_ok=True)


def _envelopes(
    context: flight.ServerCallContext,
    messages: Iterator[FeedMessage],
    message: FeedMessage | None,
) -> Iterator[pa.RecordBatch]:
    while message is not None and not context.is_cancelled():
        yield from encode(message)
        message = next(messages, None)


class EngineClient:
    """The engine as seen from another process. Implements ``core.protocols.Feed``."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._store: str | None = None

    def follow(
        self, tables: Sequence[str], version: int | None, *, once: bool = False
    ) -> Iterator[FeedMessage]:
        """See ``Feed``; with ``once``, one snapshot of the tables and no more."""
        store = self.ask("identity")["store"]
        known = version if store == self._store else None  # versions count within one store
        self._store = store
        ticket = FeedTicket(tuple(tables), known, store, once)
        with self._connected() as client:
            stream = client.do_get(flight.Ticket(msgspec.json.encode(ticket)))
            try:
                yield from decode(chunk.data for chunk in stream)
            finally:
                stream.cancel()

    def tables(self, names: Sequence[str]) -> tuple[int, dict[str, pa.Table]]:
        """The tables as they stand, all at one version, which comes first."""
        found, version = {}, 0
        for message in self.follow(names, None, once=True):
            match message:
                case TableSnapshot(schema=schema, rows=rows):
                    found[schema.name] = rows
                case VersionEnd(version=version):
                    pass
        return version, found

    def ask(self, question: str, about: Mapping[str, Any] | None = None) -> Any:
        """The engine's answer. Raises Unavailable where no engine listens."""
        action = flight.Action(question, msgspec.json.encode(dict(about or {})))
        with self._connected() as client:
            (result,) = client.do_action(action)
            return msgspec.json.decode(result.body.to_pybytes())

    @contextlib.contextmanager
    def _connected(self) -> Iterator[flight.FlightClient]:
        if not self._socket.exists():
            raise _not_running(self._socket)
        client = flight.FlightClient(f"grpc+unix://{self._socket}")
        try:
            yield client
        except flight.FlightUnavailableError as error:
            raise _not_running(self._socket) from error
        except flight.FlightCancelledError:
            return
        except (flight.FlightServerError, flight.FlightInternalError) as error:
            raise _received(error) from error
        finally:
            client.close()


@contextlib.contextmanager
def _crossing() -> Iterator[None]:
    """Errors of ours, raised inside, arrive on the other side as what they are."""
    try:
        yield
    except errors.UpwellError as error:
        kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KINDS)
        facts = msgspec.json.encode({"kind": kind, **error.as_dict()}).decode()
        raise flight.FlightServerError(_MARK + facts) from error


def _received(error: flight.FlightError) -> errors.UpwellError:
    text = str(error)
    if _MARK not in text:
        return errors.Unavailable(
            "engine_broke_off", f"Talking to the engine: {text}", next_step="Try again."
        )
    # Flight appends words of its own to the text of an error.
    facts, _ = json.JSONDecoder().raw_decode(text.split(_MARK, 1)[1])
    kind = _KINDS.get(facts["kind"], errors.UpwellError)
    return kind(facts["code"], facts["what"], where=facts["where"], next_step=facts["next"])


def _not_running(socket: Path) -> errors.Unavailable:
    return errors.Unavailable(
        "engine_not_running",
        "Talking to the engine: none is running for this project.",
        where=str(socket),
        next_step="Start it with `upwell run`.",
    )
