"""One source and how far it is taken in: its stream, its losses, what it may forget."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from upwell.copying import Budget, Copier
from upwell.core.errors import (
    LOG_PARTED,
    EnvironmentFault,
    GapError,
    IntegrityError,
    Unavailable,
    UpwellError,
    UsageError,
)
from upwell.core.faults import reach
from upwell.core.policy import OnFullLog, OnLostLog
from upwell.core.position import BEGINNING, Position
from upwell.core.protocols import (
    Burden,
    Failover,
    Source,
    SourceBatch,
    SourceTable,
    Stream,
    Succession,
)
from upwell.read_ahead import ReadAhead

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
#: The same while tables are being read: what was read is stored between two polls.
POLL_BETWEEN_PARTS_SECONDS = 0.01
RETRY_SECONDS = (0.1, 5.0)
#: So much log is kept by a source that others write to, though nothing happens in our tables.
LOG_WORTH_BYTES = 32 << 20
#: A table that cannot be captured yet is looked at this often.
LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """What was decided beforehand about the log that a source keeps for us."""

    cap_bytes: float = 10e9
    beyond: OnFullLog = "warn"
    lost: OnLostLog = "stop"


@dataclass(slots=True)
class Following:
    """See the module; changed by the engine's thread only. ``position`` is as far as it was read,
    ``committed_position`` as far as the store has it; times are on our clock. Positions of versions
    before ``begun_version`` are of a log that is no longer followed.

    ``on_succession`` writes down that the source is another server from now on, ``on_parted`` that
    it is not to be gone on with: both before anything else happens.
    """

    source: Source
    position: Position
    complete_through_us: int = 0
    budget: Budget = field(default_factory=Budget)
    log_policy: LogPolicy = field(default_factory=LogPolicy)
    reconcile_seconds: float = 0.0  # how often each table is compared with the source; 0: never
    begun_version: int = 0
    on_succession: Callable[[Succession], None] = lambda _succession: None
    on_parted: Callable[[UpwellError], None] = lambda _why: None
    stream: Stream | None = None
    trouble: str = ""
    taking: str = ""  # what is taken in and takes its time
    retry_at: float = 0.0
    retry_seconds: float = RETRY_SECONDS[0]
    committed_position: Position = field(init=False)
    committed_at: float = 0.0
    acknowledged: Position = BEGINNING  # to the stream that is open
    lost: UpwellError | None = None
    copier: Copier = field(init=False)
    is_published: bool = False  # whether the source's log has just our tables
    published_late: list[str] = field(default_factory=list)  # not in it before: changes are missing
    joining: set[str] = field(default_factory=set)  # tables to be read as soon as they can be
    refused: str = ""  # why some of these cannot be yet
    look_at: float = 0.0

    def __post_init__(self) -> None:
        self.committed_position = self.position
        self.copier = Copier(self.source, self.budget)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def troubles(self) -> list[str]:
        """What does not go on."""
        every = (
            self.trouble,
            self.taking,
            self.refused,
            self.copier.trouble,
            self._fullness,
            self._waiting,
        )
        return [each for each in every if each]

    @property
    def burden(self) -> Burden | None:
        """What following costs the source; None if it is not followed."""
        return self.stream.burden if self.stream is not None else None

    @property
    def failover(self) -> Failover | None:
        """What would become of following if a standby took over; None if nothing is known."""
        return self.stream.failover if self.stream is not None else None

    @property
    def is_log_full(self) -> bool:
        """Whether the source keeps more of its log for us than it may."""
        burden = self.burden
        return burden is not None and burden.retained_bytes > self.log_policy.cap_bytes

    @property
    def is_log_growing(self) -> bool:
        """Whether the source keeps so much for us that an idle position is worth writing down."""
        burden = self.burden
        return burden is not None and burden.retained_bytes > LOG_WORTH_BYTES

    @property
    def _fullness(self) -> str:
        burden = self.burden
        if burden is None or not self.is_log_full:
            return ""
        kept, cap = (
            round(each / 1e6) for each in (burden.retained_bytes, self.log_policy.cap_bytes)
        )
        return f"{self.name} keeps {kept:,} MB of its log for Upwell, more than the {cap:,} allowed"

    @property
    def _waiting(self) -> str:
        failover = self.failover
        if failover is None or not failover.missing:
            return ""
        names = ", ".join(failover.missing)
        return (
            f"{self.name} gives nothing that its standbys do not have, and these are away: {names} "
            "(synchronized_standby_slots)"
        )

    def give_up_log(self) -> None:
        """Let the source discard what it keeps for us: the log is lost then."""
        said = self._fullness
        self.disconnect()
        self.source.release()
        self.lost = GapError(
            "log_given_up",
            f"the log of {self.name} was given up, as upwell.yaml asks for: {said}",
            where=self.name,
            next_step="`upwell resync` compares its tables and follows them again",
        )
        self.trouble = self.lost.what
        log.error("log_given_up", source=self.name, what=said)

    def poll(
        self,
        followed: Callable[[], Sequence[SourceTable]],
        timeout_seconds: float,
        stop: threading.Event,
    ) -> SourceBatch | None:
        """What has come; opens the stream of what is ``followed`` first where it is not open. A
        source that is away is tried again, with pauses. Raises ``GapError`` where its log has been
        lost, ``IntegrityError`` where it never had what was read.
        """
        try:
            if self.stream is None:
                wait = self.retry_at - time.monotonic()
                if wait > 0:
                    stop.wait(min(wait, timeout_seconds))
                    return None
                tables = followed()
                if not self.is_published:
                    self.published_late += self.source.follow_only(tables)
                    self.is_published = True
                self.stream = ReadAhead(self.source.stream(self.committed_position, tables))
                self.acknowledged = BEGINNING
                if self.stream.succession is not None:
                    self._succeed(self.stream.succession)
            batch = self.stream.poll(timeout_seconds)
        except (Unavailable, EnvironmentFault, UsageError) as error:
            self.lose(error)  # somebody may mend it; what is served stays meanwhile
            return None
        except IntegrityError as error:
            if error.code == LOG_PARTED:
                self.on_parted(error)
            raise
        if batch is not None:
            self.trouble = ""
            self.retry_seconds = RETRY_SECONDS[0]
        return batch

    def _succeed(self, succession: Succession) -> None:
        """Another server has taken over: what was just read of the other one counts no more."""
        self.copier.begin_again()
        self.on_succession(succession)
        if succession.what:
            log.warning("source_succeeded", source=self.name, what=succession.what)

    def acknowledge(self, position: Position) -> None:
        """Let the source forget what is before ``position``."""
        if self.stream is not None and self.acknowledged < position <= self.committed_position:
            self.acknowledged = position
            with contextlib.suppress(Unavailable):  # the next poll meets the loss, and handles it
                self.stream.acknowledge(position)
            reach("engine.acknowledged")

    def disconnect(self) -> None:
        """Close the stream; the next poll opens it where the store is."""
        stream, self.stream = self.stream, None
        self.position = self.committed_position
        if stream is not None:
            stream.close()

    def begin_at(self, position: Position, at_us: int, version: int) -> None:
        """The source's log was lost, and begins anew with ``version``."""
        self.disconnect()
        self.begun_version = version
        self.position = self.committed_position = position
        self.complete_through_us = at_us
        self.copier.begin_again()
        self.lost, self.trouble, self.is_published = None, "", True

    def new_tables(self) -> list[SourceTable]:
        """Of the tables that are to be captured from now on those that can be."""
        if not self.joining or self.stream is None or time.monotonic() < self.look_at:
            return []
        self.look_at = time.monotonic() + LOOK_SECONDS
        try:
            looked = self.source.look()
        except (Unavailable, EnvironmentFault) as error:
            self.refused = error.in_a_line
            return []
        refused = [looked.unfit[name] for name in sorted(self.joining & looked.unfit.keys())]
        self.refused = "\n".join(error.in_a_line for error in refused)
        return [looked.tables[name] for name in sorted(self.joining & looked.tables.keys())]

    def let_go_of_tables(self) -> None:
        """Other tables are followed from now on."""
        self.is_published = False
        self.disconnect()

    def close(self) -> None:
        """Let go of the source."""
        self.copier.close()
        self.disconnect()

    def stop(self, error: UpwellError) -> None:
        """The source cannot be gone on with, until somebody has it begun anew."""
        self.disconnect()
        self.lost = error
        self.trouble = str(error)
        log.error("source_stopped", source=self.name, what=error.what)

    def lose(self, error: UpwellError) -> None:
        """The source is away, or refuses: it is tried again after a pause."""
        self.disconnect()
        self.trouble = error.what
        self.retry_at = time.monotonic() + self.retry_seconds
        self.retry_seconds = min(self.retry_seconds * 2, RETRY_SECONDS[1])
        log.warning("source_unavailable", source=self.name, what=error.what)
