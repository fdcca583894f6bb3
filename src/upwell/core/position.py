"""How far a source has been read.

A position is text that only its source can interpret, and that sorts in reading order, so every
other part may compare two positions of one source and nothing else.
"""

from __future__ import annotations

from typing import NewType

Position = NewType("Position", str)

#: Before everything a source has ever written.
BEGINNING = Position("")
