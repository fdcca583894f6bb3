"""What an owner decides beforehand about sources that change."""

from __future__ import annotations

from typing import Literal

OnChange = Literal["evolve", "freeze", "quarantine"]
"""What happens to a table whose layout changes in its source: it is followed, it stands still, or
it stays as it is and rows that do not fit go to quarantine.
"""

OnFullLog = Literal["warn", "drop"]
"""What happens where a source keeps more of its log for us than it may: it is told, or the log is
given up.
"""

OnLostLog = Literal["stop", "resync"]
"""What happens where a source no longer has the log that we need: its tables stand still until
somebody decides, or they are compared with the source and followed from there.
"""
