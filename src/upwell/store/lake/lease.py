"""Who holds a lake in a bucket: a file there that is renewed as long as its holder works.

The lease decides who works; the epoch asserted by each commit decides who wins. So nothing here has
to be certain, and rows stay single whatever two engines believe of one another.

The file is only ever swapped: written if it still is as it was last seen. A holder renews it every
few seconds. Whoever finds it waits until it changes, then the holder lives, or until it has not
changed for the length of a lease, then it is taken. That time runs on the clock of who waits and
that no one sets; the clocks of two machines are never compared.

A holder that was frozen, or cut off, for longer learns at its next renewal that the lease is
somebody else's. While the bucket is away nobody can take it, so that loses no lease. A clean end
gives it back; after any other the next one waits for the length of a lease.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import structlog

from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.store.lake.bucket import Bucket
from upwell.store.lake.catalog import Patience
from upwell.store.lake.holder import Hold, Holder, held_by
from upwell.store.lake.objects import own_file

log = structlog.get_logger(__name__)

#: What the file is called among those of Upwell's own.
FILE = "lease"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease holds when it is not renewed, how often it is, and how often one looks."""

    lease_seconds: float = 10.0
    renew_seconds: float = 3.0
    look_seconds: float = 1.0


class Claim(msgspec.Struct, frozen=True):
    """What the file says. ``term`` names one holding; ``turn`` makes each renewal another text."""

    term: str
    turn: int
    holder: Holder | None  # None: given back

    def as_bytes(self) -> bytes:
        return msgspec.json.encode(self)


class Slate(Protocol):
    """Where a file is swapped: a bucket."""

    def look(self, location: str) -> tuple[bytes, str] | None: ...

    def swap(self, location: str, data: bytes, seen: str | None) -> str | None: ...


class Clock(Protocol):
    """The time that nobody sets, and waiting on it."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> bool:
        """Wait; True at once when there is nothing left to wait for."""
        ...


class Monotonic:
    """The machine's clock, and an event that ends every wait."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        return self.ended.wait(seconds)


class Lease:
    """One holding of the file at ``location``, by its steps; ``bucket_held`` takes them in turn."""

    def __init__(
        self, slate: Slate, location: str, holder: Holder, terms: Terms, clock: Clock
    ) -> None:
        self._slate = slate
        self._location = location
        self._terms = terms
        self._clock = clock
        self._claim = Claim(secrets.token_hex(8), 0, holder)
        self._tag: str | None = None

    def acquire(self) -> None:
        """Take the file, as soon as nobody lives who holds it.

        Raises EnvironmentFault where its holder lives.
        """
        found, tag = self._look()
        since = self._clock.now()
        while found is not None and found.holder is not None:
            if self._clock.now() - since >= self._terms.lease_seconds:
                log.info("lease_expired", where=self._location, holder=str(found.holder))
                break
            self._clock.wait(self._terms.look_seconds)
            latest, latest_tag = self._look()
            if latest_tag != tag and latest is not None and latest.holder is not None:
                raise held_by(str(latest.holder), self._location)
            found, tag = latest, latest_tag
        if not self._write(self._claim, tag):
            taken, _ = self._look()
            who = str(taken.holder) if taken and taken.holder else "one that was quicker"
            raise held_by(who, self._location)

    def renew(self) -> EnvironmentFault | None:
        """Say that we live; the error to end with where the lease is somebody else's by now.

        Raises Unavailable or EnvironmentFault where the bucket could not be asked.
        """
        self._claim = msgspec.structs.replace(self._claim, turn=self._claim.turn + 1)
        if self._write(self._claim, self._tag):
            return None
        found, _ = self._look()
        who = str(found.holder) if found and found.holder else "nobody any more"
        return EnvironmentFault(
            "lake_lost",
            f"Holding the lake: this engine was not heard of for longer than "
            f"{self._terms.lease_seconds:g} s, and the lake is held by {who} now.",
            where=self._location,
            next_step="Let the other one work, or stop it and start this one again. Nothing is "
            "lost.",
        )

    def give_back(self) -> None:
        """Let the next one begin at once; nothing if the lease is not ours any more."""
        self._write(msgspec.structs.replace(self._claim, holder=None), self._tag)

    def _write(self, claim: Claim, seen: str | None) -> bool:
        """Swap the file; also True where an earlier try of ours had done it, unheard."""
        tag = self._slate.swap(self._location, claim.as_bytes(), seen)
        if tag is None:
            found, latest = self._look()
            if found is None or found.term != claim.term:
                return False
            tag = latest
        self._tag = tag
        return True

    def _look(self) -> tuple[Claim | None, str | None]:
        found = self._slate.look(self._location)
        if found is None:
            return None, None
        data, tag = found
        try:
            return msgspec.json.decode(data, type=Claim), tag
        except msgspec.DecodeError:
            log.warning("lease_unreadable", where=self._location)
            return Claim("", 0, None), tag  # nobody keeps it up: it is free


@contextmanager
def bucket_held(bucket: Bucket, holder: Holder, terms: Terms | None = None) -> Iterator[Hold]:
    """Hold a lake in a bucket for as long as the block lasts; ``Hold`` tells when it is lost.

    Raises EnvironmentFault naming the holder where somebody else does, which takes at most about
    the length of a lease to find out, and whatever keeps us from the bucket.
    """
    terms = terms or Terms()
    clock = Monotonic()
    lease = Lease(_hurried(bucket, terms), own_file(bucket.root, FILE), holder, terms, clock)
    lease.acquire()
    hold = Hold()
    thread = threading.Thread(
        target=_keep, args=(lease, hold, terms, clock), name="lake-lease", daemon=True
    )
    thread.start()
    try:
        yield hold
    finally:
        clock.ended.set()
        thread.join()
        with suppress(UpwellError):  # then it expires by itself
            lease.give_back()


def _keep(lease: Lease, hold: Hold, terms: Terms, clock: Clock) -> None:
    while not clock.wait(terms.renew_seconds):
        try:
            lost = lease.renew()
        except (Unavailable, EnvironmentFault) as error:
            log.warning("lease_not_renewed", why=error.what)
            continue
        if lost is not None:
            log.error("lease_lost", why=lost.what)
            hold.lose(lost)
            return


def _hurried(bucket: Bucket, terms: Terms) -> Bucket:
    """The bucket with so little patience that a renewal ends before the next one is due."""
    patience = Patience(terms.renew_seconds, terms.renew_seconds, 0.0)
    return Bucket(bucket.root, replace(bucket.access, patience=patience))
