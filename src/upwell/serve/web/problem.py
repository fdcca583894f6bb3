"""Errors as answers: problem details of RFC 9457 for programs."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from upwell.core.errors import Unavailable, UpwellError, UsageError


def problem(
    status: HTTPStatus,
    code: str,
    what: str,
    next_step: str = "",
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document: ``title`` says what is wrong, ``detail`` the next step."""
    body = {
        "type": f"urn:upwell:error:{code}",
        "title": what,
        "status": int(status),
        "detail": next_step,
    }
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/problem+json",
        headers={"cache-control": "no-store", **(headers or {})},
    )


def problem_of(error: UpwellError) -> Response:
    """The problem document of one of our errors."""
    status = status_of(error)
    headers = {"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem(status, error.code, error.what, error.next_step, headers=headers)


def status_of(error: UpwellError) -> HTTPStatus:
    """The HTTP status that an error stands for."""
    if error.code == "unknown_dashboard":
        return HTTPStatus.NOT_FOUND
    if isinstance(error, UsageError):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, Unavailable):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR
