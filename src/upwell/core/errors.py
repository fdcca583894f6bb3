"""The kinds of error, and what each means for the caller.

An error names the operation that failed (``what``), its subject (``where``: a file and line, a
table, an address) and the next step (``next_step``). There are few kinds; the kind alone decides
the exit code and whether trying again can help.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    NO = 1  # the answer is no: a proof failed, a requirement is not met
    USAGE = 2  # wrong use: a bad argument, a project file that does not hold
    ENVIRONMENT = 3  # the world is not ready: a database is down, another engine holds the project


class UpwellError(Exception):
    """Base of every error a user may see. ``code`` is stable and documented."""

    exit: Exit = Exit.ENVIRONMENT
    retry: bool = False

    def __init__(self, code: str, what: str, *, where: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.next_step:
            lines.append(f"  next:  {self.next_step}")
        return "\n".join(lines)

    @property
    def in_a_line(self) -> str:
        """What, where and the next step as sentences, for where there is room for one line."""
        where = f" ({self.where})" if self.where and self.where not in self.what else ""
        return f"{self.what.rstrip('.')}{where}. {self.next_step}".strip()

    def as_dict(self) -> dict[str, str]:
        """The error as the ``--json`` output shows it."""
        return {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "next": self.next_step,
        }


class UsageError(UpwellError):
    """The caller asked for something that cannot be: bad argument, bad query, unknown name."""

    exit = Exit.USAGE


class ProjectError(UsageError):
    """A project file does not hold: unknown key, missing table, cycle, type error."""


class EnvironmentFault(UpwellError):  # noqa: N818 - a fault of the surroundings
    """The surroundings are not ready and will not become so by waiting: rights, settings, locks."""


class Unavailable(UpwellError):  # noqa: N818 - a state, and it passes
    """Something is away for now (database down, connection lost): trying again can help."""

    retry = True


class GapError(UpwellError):
    """Changes between our position and the source's log are gone; going on would lose rows."""


class LayoutChangedError(UpwellError):
    """A table of a source is not what it was when we last looked."""


class IntegrityError(UpwellError):
    """Stored state contradicts itself or what it was derived from."""


#: The code of the ``IntegrityError`` of a source that does not have what was read of it.
LOG_PARTED = "log_parted"
