"""Which line of a cluster's history a server is on, and how far it is the one that was read.

A standby that takes over, and a backup that is recovered, go on under a new timeline: the same
numbers mean another log from there on. A server says where each timeline of its own history ended,
so that two histories can be laid side by side: they are one up to the first end that differs.
A position behind that stands for changes which the server does not have.

Within one timeline a position can only be compared with the end of the server's log. A copy of a
server's files that was put back as it was, and has meanwhile written more than we had read, cannot
be told from a server that was never away.
"""

from __future__ import annotations

from dataclasses import dataclass

from upwell.core.errors import LOG_PARTED, EnvironmentFault, IntegrityError
from upwell.core.position import Position
from upwell.core.protocols import Succession
from upwell.sources.postgres.channel import Channel
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.wal import lsn_of, position_before, position_of

_UNKNOWN = 0
_FIRST = 1


@dataclass(frozen=True, slots=True)
class Line:
    """A cluster by its system identifier, the timeline it is on, and where each one before it
    ended (an LSN), the first of all first. Timeline 0 is not known.
    """

    system: str
    timeline: int = _UNKNOWN
    ended: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        """As it is stored: ``7301234567890123456 3 1:00000000/03000000 2:00000000/05000000``."""
        if self.timeline == _UNKNOWN:
            return self.system
        before = [f"{timeline}:{position_of(lsn)}" for timeline, lsn in self.ended]
        return " ".join([self.system, str(self.timeline), *before])

    def shared_with(self, other: Line) -> int | None:
        """The LSN up to which both lines are one; None if they do not part, or nobody knows."""
        if _UNKNOWN in (self.timeline, other.timeline):
            return None
        begun = 0
        mine, theirs = self._all(), other._all()
        for (timeline, end), (other_timeline, other_end) in zip(mine, theirs, strict=False):
            if timeline != other_timeline:
                return begun
            if end != other_end:
                return min(each for each in (end, other_end) if each is not None)
            begun = end or begun
        return None

    def _all(self) -> tuple[tuple[int, int | None], ...]:
        return (*self.ended, (self.timeline, None))


def line_of(stored: str) -> Line:
    """The line that a text stands for; of what an older Upwell wrote only the system is known."""
    system, *rest = stored.split(" ")
    if not rest:
        return Line(system)
    before = (each.partition(":") for each in rest[1:])
    return Line(
        system, int(rest[0]), tuple((int(number), lsn_of(lsn)) for number, _, lsn in before)
    )


def read_line(channel: Channel) -> tuple[Line, int]:
    """The line of the server at the other end of a replication channel, and the end of its log."""
    found = channel.query("IDENTIFY_SYSTEM")[0]
    system, timeline = found["systemid"] or "", int(found["timeline"] or _UNKNOWN)
    ended: tuple[tuple[int, int], ...] = ()
    if timeline > _FIRST:
        content = channel.query(f"TIMELINE_HISTORY {timeline}")[0]["content"] or ""
        ended = _parsed(content)
    return Line(system, timeline, ended), lsn_of(found["xlogpos"] or "")


def _parsed(history: str) -> tuple[tuple[int, int], ...]:
    """A timeline's history file: on each line a timeline, where it ended, and why."""
    ended = []
    for line in history.splitlines():
        fields = line.split("#")[0].split(maxsplit=2)
        if not fields:
            continue
        if len(fields) < 2 or not fields[0].isdigit():
            corrupt("a timeline's history that cannot be read")
        ended.append((int(fields[0]), lsn_of(fields[1])))
    return tuple(ended)


def require_system(known: Line, found: Line, where: str, *, source: str, anew: str) -> None:
    """Raise ``EnvironmentFault`` for a database of another cluster than the one read so far."""
    if found.system != known.system:
        raise EnvironmentFault(
            "another_database",
            f"source {source} is another database than the one read so far "
            f"(system {found.system}, expected {known.system})",
            where=where,
            next_step=f"correct the URL; if the database was rebuilt, {anew}",
        )


def require_same(
    known: Line, found: Line, end: int, position: Position, where: str
) -> Succession | None:
    """What there is to say of a server on ``found``, whose log ends at ``end``, to someone who has
    read up to ``position`` on ``known``; None if nothing has changed.

    Raises ``IntegrityError`` if the server does not have everything that was read.
    """
    shared = known.shared_with(found)
    has_through = end if shared is None else min(shared, end)
    if lsn_of(position_before(lsn_of(position))) > has_through:
        raise _parted(known, found, position_of(has_through), position, where)
    if found == known:
        return None
    told = _UNKNOWN not in (known.timeline, found.timeline)
    return Succession(
        identity=str(found),
        shared_through=position_of(has_through),
        what=f"the database goes on as timeline {found.timeline} behind "
        f"{position_of(has_through)}, after timeline {known.timeline}"
        if told
        else "",
    )


def _parted(
    known: Line, found: Line, shared: Position, position: Position, where: str
) -> IntegrityError:
    if known.timeline in (_UNKNOWN, found.timeline):
        how = (
            f"the database's log ends at {shared}, before {position}, up to which it was read "
            f"(timeline {found.timeline}, as before): a backup was put back, or the server lost "
            "the end of its log"
        )
    else:
        how = (
            f"the database's log is another one from {shared} on (timeline {found.timeline}), and "
            f"was read up to {position} on timeline {known.timeline}: a standby took over that had "
            "not received everything, or a backup was restored"
        )
    return IntegrityError(
        LOG_PARTED,
        f"{how}. What was changed from {shared} to {position} exists only here",
        where=where,
        next_step="if this is the right server: see what is only here in the tables' "
        f"change logs (`… where _position > '{shared}'`); then `upwell resync` takes over what the "
        "database has now",
    )
