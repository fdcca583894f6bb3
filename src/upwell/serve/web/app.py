"""The web process as an ASGI application: routes over the boards of one project.

``create_app`` wires feed → follower → replica → boards → hub by hand; the application's lifespan
starts and stops them. A route only translates: an address into a view, a frame into an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from upwell.core.errors import Unavailable, UpwellError
from upwell.core.protocols import Feed, VersionEnd
from upwell.project.values import Project
from upwell.serve.web.assets import load_assets
from upwell.serve.web.board import Boards
from upwell.serve.web.export import file_name, to_csv
from upwell.serve.web.follower import Follower
from upwell.serve.web.freshness import Freshness, Report
from upwell.serve.web.guard import Guard
from upwell.serve.web.live import Hub
from upwell.serve.web.metrics import published_tables
from upwell.serve.web.page import Pages
from upwell.serve.web.problem import problem_of, status_of
from upwell.serve.web.replica import Replica
from upwell.serve.web.telemetry import exposition
from upwell.serve.web.view import View, read_view

VIEWERS_MAX = 500

_REPORT_EVERY_SECONDS = 10.0
#: A scrape does not wait longer for the engine.
_GAUGES_SECONDS = 2.0
_QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99}

Gauges = Callable[[], Mapping[str, Any] | None]
"""The engine's own figures; None where nobody can be asked."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """The parts that the routes speak to; ``app.state.site``."""

    project: Project
    replica: Replica
    boards: Boards
    follower: Follower
    freshness: Freshness
    hub: Hub
    pages: Pages
    gauges: Gauges


def create_app(
    project: Project,
    feed: Feed,
    *,
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    report: Report | None = None,
    gauges: Gauges = lambda: None,
    viewers_max: int = VIEWERS_MAX,
) -> Starlette:
    """The application that serves ``project``'s dashboards from what ``feed`` says.

    ``clock_us`` is the time in microseconds since 1970 UTC. ``report`` is handed the latencies
    counted, every ten seconds and at the end, in a thread of its own; what it raises is logged,
    and the latencies come again with the next. ``gauges`` asks the engine how it is, for
    ``/metrics``; it may raise UpwellError. Raises ProjectError for a dashboard that names an
    unknown metric or dimension.
    """
    assets = load_assets()
    site = _wire(
        project,
        feed,
        Pages(project, assets),
        clock_us=clock_us,
        viewers_max=viewers_max,
        gauges=gauges,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        site.hub.start()
        site.follower.start()
        reporting = asyncio.create_task(_report(site.freshness, report)) if report else None
        try:
            yield
        finally:
            await _stop(site, reporting, report)

    routes = [
        Route("/", _first_board),
        Route("/dashboards/{name}", _board),
        Route("/live", _live),
        Route("/api/v1/dashboards/{name}.csv", _board_csv),
        Route("/api/v1/dashboards/{name}", _board_json),
        Route("/api/v1/freshness", _freshness),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz),
        Route("/metrics", _metrics),
        Route("/static/{digest}/{path:path}", assets.respond),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard)],
        exception_handlers={UpwellError: _answer_fault},
        lifespan=lifespan,
    )
    app.state.site = site
    return app


def _wire(
    project: Project,
    feed: Feed,
    pages: Pages,
    *,
    clock_us: Callable[[], int],
    viewers_max: int,
    gauges: Gauges,
) -> Site:
    replica = Replica(project)
    boards = Boards(project, replica)
    tables = {name: boards.tables(name) for name in project.dashboards}
    freshness = Freshness(project.dashboards)

    def visible(end: VersionEnd, touched: frozenset[str]) -> None:
        showing = [name for name in tables if tables[name] & touched]
        freshness.count(showing, end.committed_at_us, clock_us())
        hub.changed(touched)

    follower = Follower(feed, replica, published_tables(project), visible=visible)
    hub = Hub(
        boards,
        standing=lambda: follower.standing,
        clock_us=clock_us,
        viewers_max=viewers_max,
    )
    return Site(project, replica, boards, follower, freshness, hub, pages, gauges)


async def _stop(site: Site, reporting: asyncio.Task[None] | None, report: Report | None) -> None:
    await site.hub.close()
    await asyncio.to_thread(site.follower.stop)
    if reporting is not None and report is not None:
        reporting.cancel()
        await _hand_over(site.freshness, report)
    site.replica.close()


async def _report(freshness: Freshness, report: Report) -> None:
    while True:
        await asyncio.sleep(_REPORT_EVERY_SECONDS)
        await _hand_over(freshness, report)


async def _hand_over(freshness: Freshness, report: Report) -> None:
    try:
        await asyncio.to_thread(freshness.hand_over, report)
    except Unavailable as fault:
        _log.info("freshness is kept to be reported later", **fault.as_dict())
    except Exception:  # noqa: BLE001 - logged, and not lost: the next report holds them
        _log.exception("reporting freshness failed; it is kept to be reported later")


# ── routes ───────────────────────────────────────────────────────────────────────────────────────


def _site(request: Request) -> Site:
    site = request.app.state.site
    assert isinstance(site, Site)  # noqa: S101 - set by create_app, read only here
    return site


def _view(request: Request, name: str, *, apart_from: str = "") -> View:
    query = [pair for pair in request.query_params.multi_items() if pair[0] != apart_from]
    return read_view(_site(request).project, name, query)


async def _first_board(request: Request) -> Response:
    site = _site(request)
    if not site.project.dashboards:
        return HTMLResponse(site.pages.empty())
    return await _page(request, next(iter(site.project.dashboards)))


async def _board(request: Request) -> Response:
    return await _page(request, request.path_params["name"])


async def _page(request: Request, name: str) -> Response:
    site = _site(request)
    view = _view(request, name)
    try:
        payload_json = (await site.hub.frame(view)).json
    except Unavailable:
        payload_json = None  # the page waits for its first numbers on the stream
    page = site.pages.board(view, payload_json)
    return HTMLResponse(page, headers={"cache-control": "no-store"})


async def _live(request: Request) -> Response:
    site = _site(request)
    view = _view(request, request.query_params.get("dashboard", ""), apart_from="dashboard")
    site.hub.check_room()
    return StreamingResponse(
        site.hub.watch(view),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _board_json(request: Request) -> Response:
    frame = await _site(request).hub.frame(_view(request, request.path_params["name"]))
    return Response(
        frame.json, media_type="application/json", headers={"cache-control": "no-store"}
    )


async def _board_csv(request: Request) -> Response:
    frame = await _site(request).hub.frame(_view(request, request.path_params["name"]))
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{file_name(frame.payload)}"',
    }
    return Response(to_csv(frame.payload), media_type="text/csv; charset=utf-8", headers=headers)


async def _freshness(request: Request) -> Response:
    totals = _site(request).freshness.totals()
    boards = {
        name: {key: histogram.quantile(q) for key, q in _QUANTILES.items()}
        | {"count": histogram.count}
        for name, histogram in totals.items()
    }
    return JSONResponse({"dashboards": boards}, headers={"cache-control": "no-store"})


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _readyz(request: Request) -> Response:
    standing = _site(request).follower.standing
    if standing.version is None:
        reason = standing.trouble or "the first data has not arrived yet"
        return PlainTextResponse(f"not ready: {reason}\n", HTTPStatus.SERVICE_UNAVAILABLE)
    return PlainTextResponse(f"ready at version {standing.version}\n")


async def _metrics(request: Request) -> Response:
    site = _site(request)
    try:
        engine = await asyncio.wait_for(asyncio.to_thread(site.gauges), _GAUGES_SECONDS)
    except (UpwellError, TimeoutError):
        engine = None
    text = exposition(site.hub, site.follower.standing, site.freshness.totals(), engine)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answer_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, UpwellError)  # noqa: S101 - registered for this kind only
    if request.url.path.startswith(("/api/", "/live")):
        return problem_of(error)
    status = status_of(error)
    return HTMLResponse(_site(request).pages.fault(status, error), status)
