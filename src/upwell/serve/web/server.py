"""Serving the application on a loopback port until told to stop.

Granian runs inside this process, on this thread's event loop; the application's lifespan is ours,
so it ends in order whatever the connections do. Stopping ends the open streams first, because the
server waits for its connections; a connection whose reader has gone to sleep is left behind.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.applications import Starlette

from upwell.core.errors import EnvironmentFault, UsageError
from upwell.serve.web.app import Site

_LISTENING_POLL_SECONDS = 0.01
_GRACE_SECONDS = 0.5
_THREADS_END_SECONDS = 0.05

#: Called with the address, once it answers: ``http://127.0.0.1:8321``.
Ready = Callable[[str], None]


def serve(
    app: Starlette,
    host: str,
    port: int,
    *,
    ready: Ready | None = None,
    stopped: threading.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Runs in the main thread.

    ``port`` 0 takes a free one. ``stopped`` is looked at once signals are ours. Raises
    EnvironmentFault when the port is taken, UsageError when ``host`` is not of this machine's
    loopback.
    """
    asyncio.run(_serve_until_signal(app, host, port, ready, stopped or threading.Event()))


async def serve_until(
    app: Starlette, host: str, port: int, stop: asyncio.Event, *, ready: Ready | None = None
) -> None:
    """Serve on the running event loop until ``stop`` is set; raises as ``serve`` does."""
    address = _loopback(host)
    port = _free_port(address, port)
    server = Server(
        app,
        address=address,
        port=port,
        interface=Interfaces.ASGINL,
        websockets=False,
        log_level=LogLevels.error,
    )
    async with app.router.lifespan_context(app):
        serving = asyncio.create_task(server.serve())
        announcing = asyncio.create_task(_announce(address, port, ready))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        announcing.cancel()
        stopped.cancel()
        _end_streams(app)
        server.stop()  # type: ignore[no-untyped-call]  # Granian leaves it untyped
        await asyncio.wait({serving}, timeout=_GRACE_SECONDS)
    if not serving.done():
        return
    await serving  # raises what made it end early
    # Let the server's native threads end before the interpreter does: they must not outlive it.
    server.wrks.clear()
    del server
    gc.collect()
    await asyncio.sleep(_THREADS_END_SECONDS)


async def _serve_until_signal(
    app: Starlette, host: str, port: int, ready: Ready | None, stopped: threading.Event
) -> None:
    stop = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if stopped.is_set():  # the signal came before these handlers did
        return
    await serve_until(app, host, port, stop, ready=ready)


def _end_streams(app: Starlette) -> None:
    site = app.state.site
    if isinstance(site, Site):
        site.hub.end_streams()


async def _announce(address: str, port: int, ready: Ready | None) -> None:
    """Wait until the port answers, then say so."""
    shown = f"[{address}]" if ":" in address else address
    while True:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(_LISTENING_POLL_SECONDS)
            continue
        writer.close()
        break
    if ready is not None:
        ready(f"http://{shown}:{port}")


def _loopback(host: str) -> str:
    name = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        is_loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise UsageError(
            "not_loopback",
            f"{host} is not an address of this machine's loopback",
            where="upwell.yaml: serve.http",
            next_step="use 127.0.0.1 or [::1]: without access control nothing else is served",
        )
    return name


def _free_port(address: str, port: int) -> int:
    """``port`` if nobody listens there, a free one for 0. The server itself would share a port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()  # Linux lets two bind with SO_REUSEADDR as long as none listens
        except OSError as error:
            raise EnvironmentFault(
                "port_taken",
                f"cannot listen on {address} port {port}: {error.strerror}",
                where=f"{address}:{port}",
                next_step="stop what listens there, or serve another port with --http",
            ) from error
        return int(probe.getsockname()[1])
