"""The web process, wired by hand: the engine's feed, the boards, a port.

``python -m upwell.web_process FOLDER`` is a child of the supervisor.
"""

from __future__ import annotations

import sys
import threading

from upwell.app import run_child
from upwell.core.histogram import Histogram
from upwell.feed.channel import EngineClient
from upwell.project.values import Project
from upwell.serve.web.app import create_app
from upwell.serve.web.server import serve
from upwell.store.place import StatePlace
from upwell.supervise import report


def run_web(project: Project, stop: threading.Event) -> None:
    """Serve the project's boards from the engine's feed until told to stop by a signal."""
    client = EngineClient(StatePlace(project.folder).socket)

    def observe(dashboard: str, minute_us: int, seen: Histogram) -> None:
        client.ask(
            "observe",
            {"dashboard": dashboard, "minute_us": minute_us, "histogram": seen.encode()},
        )

    host, _, port = project.settings.serve.http.rpartition(":")
    app = create_app(project, client, report=observe, gauges=lambda: client.ask("gauges"))
    serve(
        app,
        host,
        int(port),
        ready=lambda address: report("ready", address=address),
        stopped=stop,
    )


if __name__ == "__main__":
    sys.exit(run_child(run_web, sys.argv[1]))
