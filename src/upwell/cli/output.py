"""How a verb answers: for people, or as one JSON object and nothing else (``--json``).

``{"ok": true, "data": …}`` or ``{"ok": false, "error": {"code", "what", "where", "next"}}``. Exit
codes are those of ``core.errors.Exit``.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID

from rich.console import Console

from upwell.core.errors import Exit, UpwellError

console = Console(soft_wrap=True)
errors = Console(stderr=True, soft_wrap=True)


def answer(data: Any, *, as_json: bool, show: Callable[[Any], None], ok: bool = True) -> None:
    """Print ``data``, by ``show`` for people. Exits with 1 where the answer is no."""
    if as_json:
        print(_json({"ok": True, "data": data}))
    else:
        show(data)
    if not ok:
        raise SystemExit(Exit.NO)


def quiet(_data: Any) -> None:
    """Shows nothing, for answers that are JSON in any case."""


def fail(error: UpwellError, *, as_json: bool) -> NoReturn:
    """Print an error with its next step and exit with its code."""
    if as_json:
        print(json.dumps({"ok": False, "error": error.as_dict()}, ensure_ascii=False))
    else:
        errors.print(f"[bold red]error[/] [dim]{error.code}[/]", highlight=False)
        errors.print(str(error), highlight=False, markup=False, soft_wrap=True)
    sys.stdout.flush()
    raise SystemExit(error.exit)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)
    except ValueError:  # JSON has no words for what is not a finite number
        return json.dumps(_without_odd_floats(value), ensure_ascii=False, allow_nan=False)


def _without_odd_floats(value: Any) -> Any:
    """Plain values in which ``NaN``, ``Infinity`` and ``-Infinity`` are texts."""
    match value:
        case float():
            return value if math.isfinite(value) else json.dumps(value)
        case dict():
            return {name: _without_odd_floats(each) for name, each in value.items()}
        case list() | tuple():
            return [_without_odd_floats(each) for each in value]
        case None | bool() | int() | str():
            return value
        case _:
            return _without_odd_floats(_plain(value))


def _plain(value: Any) -> Any:
    """Decimals as strings, times as ISO 8601, bytes as hex. ``_json`` makes odd floats strings."""
    match value:
        case decimal.Decimal() | UUID():
            return str(value)
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case _:
            raise TypeError(f"no JSON for {type(value).__name__}")
